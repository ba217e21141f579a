"""Check a page in a browser with axe-core."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import axe_playwright_python

_SCRIPT = Path(axe_playwright_python.__file__).parent / "axe.min.js"
# axe-core's default rules, and the rule for the target size (WCAG 2.2, 2.5.8).
OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
#: The rules that depend on colours.
COLOURS = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}


def load_into(context: Any) -> None:
    """Load axe-core into each page that a Playwright context opens after this call.

    To send the script for each page would take longer than to run it.
    """
    context.add_init_script(path=_SCRIPT)


def violations(page: Any, *, colours_only: bool = False) -> list[str]:
    """Return what axe-core finds on a Playwright page, a line for each rule and element.

    The page's context was given to `load_into` before the page was opened.

    :param colours_only: for a page that was checked by every rule in other colours.
    """
    page.wait_for_load_state()  # without its stylesheet, a page has other colours
    options = COLOURS if colours_only else OPTIONS
    found = page.evaluate("options => axe.run(options).then(one => one.violations)", options)
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
