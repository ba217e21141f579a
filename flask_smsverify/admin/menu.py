"""The navigation between the staff pages."""

from __future__ import annotations

from typing import NamedTuple

from flask import request, url_for

from ..web.interface import Interface


class MenuItem(NamedTuple):
    """A link to a staff page.

    :param current: the value of `aria-current`: `page`, `true` on a page below it, or empty.
    """

    url: str
    label: str
    current: str


def menu(ui: Interface) -> list[MenuItem]:
    """Return the links to every staff page in the reader's language."""
    t = ui.t
    pages = {
        "overview": t("Overview"),
        "verifications": t("Verifications"),
        "messages": t("Messages"),
        "texts": t("Texts"),
        "send": t("Send"),
        "incoming": t("Incoming"),
        "senders": t("Senders"),
        "settings": t("Settings"),
        "audit": t("Activity"),
    }
    view = (request.endpoint or "").partition(".")[2]
    return [
        MenuItem(
            url_for(f"smsverify_admin.{name}"),
            label,
            "page" if view == name else "true" if view.startswith(f"{name}_") else "",
        )
        for name, label in pages.items()
    ]
