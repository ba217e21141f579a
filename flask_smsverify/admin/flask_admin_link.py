"""The link to the staff pages in the menu of a host's Flask-Admin."""

from __future__ import annotations

from typing import Any

from flask import url_for

from ..web.interface import current_ui
from .blueprint import may_enter


def menu_link(admin: Any, name: str | None = None, category: str | None = None) -> None:
    """Add a link to the staff pages to the menu of a host's Flask-Admin.

    The link is shown to users whom `staff_required` admits.

    :param admin: the host's `flask_admin.Admin`.
    :param name: the text of the link; by default "Mobile verification" in the reader's language.
    :param category: the menu that contains the link.
    """
    # Flask-Admin is the host's; this package does not depend on it.
    from flask_admin.menu import MenuLink

    class StaffPagesLink(MenuLink):  # type: ignore[misc]  # Flask-Admin has no type hints
        @property
        def name(self) -> str:
            return name or current_ui().t("Mobile verification")

        @name.setter
        def name(self, _value: str) -> None:
            """Ignore the name that `MenuLink` stores: the language differs between requests."""

        def get_url(self) -> str:
            return url_for("smsverify_admin.overview")

        def is_accessible(self) -> bool:
            return may_enter()

    admin.add_link(StaffPagesLink("smsverify", category=category))
