"""Check a page in a browser with axe-core."""

from __future__ import annotations

from typing import Any

from axe_playwright_python.sync_playwright import Axe

# Every rule that axe-core turns on by itself, and the size of targets of WCAG 2.2, 2.5.8.
OPTIONS = {"resultTypes": ["violations"], "rules": {"target-size": {"enabled": True}}}
#: The rules that depend on colours.
COLOURS = {
    "resultTypes": ["violations"],
    "runOnly": {"type": "rule", "values": ["color-contrast", "link-in-text-block"]},
}


def violations(page: Any, *, colours_only: bool = False) -> list[str]:
    """Return what axe-core finds on a Playwright page, a line for each rule and element.

    :param colours_only: for a page that was checked by every rule in other colours.
    """
    options = COLOURS if colours_only else OPTIONS
    found = Axe().run(page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:200]} {node['failureSummary']}"
        for rule in found
        for node in rule["nodes"]
    ]
