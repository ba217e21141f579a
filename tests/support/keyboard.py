"""A visitor without a mouse.

At each stop of Tab, the focus must be visible: in the window, not covered, with an outline.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from playwright.sync_api import Locator, Page, expect

#: More controls than any page has.
STOPS = 80
#: The controls that a visitor can use, numbered.
CONTROLS = """() => {
  const all = document.querySelectorAll("a[href], button, input, select, textarea, summary");
  const usable = [...all].filter(
    one => one.type !== "hidden" && !one.disabled && one.checkVisibility());
  usable.forEach((one, number) => { one.dataset.number = number; });
  return usable.map(one => one.outerHTML.slice(0, 120));
}"""
#: Returns why the focus is not visible; null if it is visible.
UNSEEN = """() => {
  const one = document.activeElement;
  const box = one.getBoundingClientRect();
  const style = getComputedStyle(one);
  if (box.width < 2 || box.height < 2) return "it has no size";
  if (box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth)
    return "it is outside the window";
  const x = Math.max(0, Math.min(innerWidth - 1, box.left + box.width / 2));
  const y = Math.max(0, Math.min(innerHeight - 1, box.top + box.height / 2));
  const top = document.elementFromPoint(x, y);
  if (top && !one.contains(top) && !top.contains(one)) return `${top.outerHTML} covers it`;
  if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1) return "no outline";
  return null;
}"""


@dataclass(frozen=True)
class Keyboard:
    """A visitor without a mouse."""

    page: Page

    def tab_to(self, target: Locator) -> None:
        """Press Tab until the target has the focus, and check that it is visible at each stop."""
        expect(target).to_be_visible()
        for _ in range(STOPS):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("document.activeElement === document.body"):
                continue  # between the last control and the first
            element = self.page.evaluate("document.activeElement.outerHTML")
            assert self.page.evaluate(UNSEEN) is None, element
            if target.evaluate("one => one === document.activeElement"):
                return
        pytest.fail(f"Tab does not lead to {target}")

    def visit_all(self) -> None:
        """Press Tab from the first control to the last, and check the focus at each stop."""
        controls = self.page.evaluate(CONTROLS)
        self.page.evaluate("document.activeElement.blur()")
        reached = set()
        for _ in range(len(controls) + 1):
            self.page.keyboard.press("Tab")
            number, unseen = self.page.evaluate(
                f"[document.activeElement.dataset.number, ({UNSEEN})()]"
            )
            if number is not None:  # it is None between the last control and the first
                assert unseen is None, (self.page.url, controls[int(number)], unseen)
                reached.add(int(number))
        missed = [control for number, control in enumerate(controls) if number not in reached]
        assert missed == [], self.page.url

    def press(self, target: Locator, key: str = "Enter") -> None:
        """Move the focus to a control and press it."""
        self.tab_to(target)
        self.page.keyboard.press(key)

    def write(self, text: str) -> None:
        """Replace the text of the focused field."""
        self.page.keyboard.press("ControlOrMeta+A")
        self.page.keyboard.type(text)
