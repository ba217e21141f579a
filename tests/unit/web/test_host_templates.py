"""The pages and widgets in host apps whose Jinja environment differs from the usual one."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import MakeApp
from flask import Flask, render_template, render_template_string
from jinja2 import ChoiceLoader, DictLoader, Environment, FunctionLoader, StrictUndefined
from visiting import CHECK, MOBILE, PAGE, SEND, browser

from flask_smsverify import SMSVerify
from flask_smsverify.web import templating

ENGLISH = {"Accept-Language": "en", "Accept": "text/html"}
DELIMITERS = {
    "variable_start_string": "[[",
    "variable_end_string": "]]",
    "block_start_string": "[%",
    "block_end_string": "%]",
    "comment_start_string": "[#",
    "comment_end_string": "#]",
    "line_statement_prefix": "%%",
}
LINES = {"line_statement_prefix": "<", "line_comment_prefix": "#"}
TRIMMED = {"trim_blocks": True, "lstrip_blocks": True, "keep_trailing_newline": True}
#: A layout of the host's in its own delimiters, around the pages of the package.
LAYOUT = (
    '<title>[% block title %][% endblock %]</title>[% include "smsverify/assets.html" %]'
    "<main>[% block content %][% endblock %]</main>[[ '<i>' ]] [[ shop ]]"
)
WIDGETS = (
    '[% from "smsverify/widgets.html" import status_badge, status_card %]'
    "[[ status_badge(user) ]][% call status_card(user) %]<b>own</b>[% endcall %][[ '<i>' ]]"
)

Option = Callable[[Flask], None]


def set_options(**options: Any) -> Option:
    """Set options before the environment is created."""

    def apply(app: Flask) -> None:
        app.jinja_options = {**app.jinja_options, **options}

    return apply


def change(**attributes: Any) -> Option:
    """Change the environment itself."""

    def apply(app: Flask) -> None:
        for name, value in attributes.items():
            setattr(app.jinja_env, name, value)

    return apply


def without_autoescape(app: Flask) -> None:
    app.select_jinja_autoescape = lambda _name: False  # type: ignore[method-assign]  # a host's way


ENVIRONMENTS: dict[str, Option] = {
    "delimiters": set_options(**DELIMITERS),
    "delimiters changed": change(**DELIMITERS),
    "line statements": set_options(**LINES),
    "strict": set_options(undefined=StrictUndefined),
    "strict changed": change(undefined=StrictUndefined),
    "trimmed": set_options(**TRIMMED),
    "no autoescape": without_autoescape,
    "no autoescape changed": change(autoescape=False),
    "finalize": set_options(finalize=lambda value: "" if value is None else f"{value}!"),
    "extensions": set_options(extensions=["jinja2.ext.i18n", "jinja2.ext.do"]),
    "cwd loader": lambda app: setattr(app.jinja_env, "loader", DictLoader({})),
}


@pytest.fixture(params=["before init_app", "after init_app"])
def make_host(
    request: pytest.FixtureRequest,
    make_app: MakeApp,
    sqlite: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[Option], Flask]:
    """Return a factory of apps whose environment is set before or after `init_app`."""

    def make(option: Option) -> Flask:
        if request.param == "after init_app":
            app = make_app(sqlite)
            option(app)
            return app
        begin = SMSVerify.init_app

        def with_option(self: SMSVerify, app: Flask, *arguments: Any, **more: Any) -> None:
            option(app)
            begin(self, app, *arguments, **more)

        monkeypatch.setattr(SMSVerify, "init_app", with_option)
        return make_app(sqlite)

    return make


def pages_of(app: Flask) -> dict[str, str]:
    """Return pages in several states, without what changes from one request to the next."""
    client = browser(app)
    pages = {"unsent": client.get(PAGE, headers=ENGLISH).text}
    rejected = client.post(MOBILE, data={"mobile": '"><script>alert(1)</script>'})
    pages["rejected"] = client.get(rejected.location, headers=ENGLISH).text
    client.post(SEND)
    pages["pending"] = client.get(PAGE, headers=ENGLISH).text
    client.post(CHECK, data={"code": "1"})
    pages["invalid code"] = client.get(PAGE, headers=ENGLISH).text
    return {name: re.sub(r'[0-9]+:[0-9]+|"[0-9TZ:.+-]+"', "", page) for name, page in pages.items()}


_usual_pages: dict[str, str] = {}


@pytest.fixture
def usual_pages(make_app: MakeApp, tmp_path: Path) -> dict[str, str]:
    """Return the pages of an app with the usual environment, rendered once for all tests."""
    if not _usual_pages:
        _usual_pages.update(pages_of(make_app(f"sqlite:///{tmp_path / 'usual.sqlite'}")))
    return _usual_pages


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_the_pages_do_not_depend_on_the_environment_of_the_host(
    make_host: Callable[[Option], Flask], usual_pages: dict[str, str], name: str
) -> None:
    found = pages_of(make_host(ENVIRONMENTS[name]))
    for page, text in found.items():
        assert text == usual_pages[page], page
    assert "&lt;script&gt;" in found["rejected"]
    assert "<script>alert" not in found["rejected"]


@pytest.mark.parametrize("autoescape", [True, False])
def test_a_layout_in_delimiters_of_the_host_holds_the_pages(
    make_host: Callable[[Option], Flask], autoescape: bool
) -> None:
    def option(app: Flask) -> None:
        set_options(**DELIMITERS, undefined=StrictUndefined)(app)
        if not autoescape:
            without_autoescape(app)
        app.jinja_loader = DictLoader(
            {"smsverify/base.html": '[% extends "layout.html" %]', "layout.html": LAYOUT}
        )
        app.context_processor(lambda: {"shop": "Chenar {{ x }}"})

    client = browser(make_host(option))
    page = client.get(PAGE, headers=ENGLISH).text
    assert "<title>Confirm your mobile number</title>" in page
    assert '<link rel="stylesheet" href="/verify-mobile/static/smsverify.css">' in page
    assert 'action="/verify-mobile/send"' in page
    assert "Chenar {{ x }}" in page
    assert page.endswith(("&lt;i&gt;" if autoescape else "<i>") + " Chenar {{ x }}")
    rest = page.replace("{{ x }}", "")
    assert not re.search(r"\[\[|\[%|{%|{{", rest)


def test_a_page_in_delimiters_of_the_host_includes_parts_of_the_package(
    make_host: Callable[[Option], Flask],
) -> None:
    source = (
        '[% extends "smsverify/base.html" %][% block content %]'
        '<form>[% include "smsverify/_hidden.html" %][[ verify.state ]]</form>[% endblock %]'
    )

    def option(app: Flask) -> None:
        set_options(**DELIMITERS)(app)
        app.jinja_loader = DictLoader({"smsverify/page.html": source})

    page = browser(make_host(option)).get(f"{PAGE}?next=/a", headers=ENGLISH).text
    assert '<input type="hidden" name="next" value="/a">' in page
    assert "unsent</form>" in page
    assert '<html lang="en" dir="ltr">' in page


@pytest.mark.parametrize("autoescape", [True, False])
def test_widgets_work_in_templates_with_delimiters_of_the_host(
    make_host: Callable[[Option], Flask], autoescape: bool
) -> None:
    def option(app: Flask) -> None:
        set_options(**DELIMITERS, undefined=StrictUndefined)(app)
        if not autoescape:
            without_autoescape(app)
        app.jinja_loader = DictLoader({"card.html": WIDGETS})

        @app.route("/card")
        def card() -> str:
            from flask_login import current_user

            return render_template("card.html", user=current_user)

    card = browser(make_host(option)).get("/card", headers=ENGLISH).text
    assert '<span class="sv-badge sv-unverified" lang="en" dir="ltr">Not confirmed</span>' in card
    assert "<b>own</b>" in card
    assert card.endswith("&lt;i&gt;" if autoescape else "<i>")


def test_the_global_is_there_in_macros_and_strings_of_the_host(app: Flask) -> None:
    macro = "{% macro lang() %}{{ smsverify_ui.locale }}{% endmacro %}"
    app.jinja_loader = DictLoader(
        {"m.html": macro, "a.html": '{% from "m.html" import lang %}{{ lang() }}'}
    )
    with app.test_request_context(headers=ENGLISH):
        assert render_template_string("{{ smsverify_ui.locale }}") == "en"
        assert render_template("a.html") == "en"


def test_filters_globals_and_context_processors_of_the_host_are_there(app: Flask) -> None:
    """Also those that are added after `init_app`, in a template of the package's environment."""
    app.jinja_loader = DictLoader(
        {"smsverify/assets.html": "{{ 'a'|shout }} {{ shop_name() }} {{ late }}"}
    )
    app.add_template_filter(lambda text: text.upper(), "shout")
    app.add_template_global(lambda: "Chenar", "shop_name")
    app.context_processor(lambda: {"late": "late"})
    assert "A Chenar late" in browser(app).get(PAGE, headers=ENGLISH).text


def test_options_that_are_set_after_init_app_still_count_for_the_host(app: Flask) -> None:
    set_options(**DELIMITERS)(app)
    with app.test_request_context():
        assert render_template_string("[[ 1 + 1 ]]") == "2"


def test_a_loader_that_the_host_puts_around_its_own_is_used(app: Flask) -> None:
    own = FunctionLoader(lambda name: "own" if name == "smsverify/base.html" else None)
    app.jinja_env.loader = ChoiceLoader([own, app.jinja_env.loader])  # type: ignore[list-item]
    assert browser(app).get(PAGE).text == "own"


def test_templates_are_reloaded_when_the_host_changes_them(
    make_app: MakeApp, sqlite: str, tmp_path: Path
) -> None:
    app = make_app(sqlite, TEMPLATES_AUTO_RELOAD=True)
    templates = {"smsverify/base.html": "one"}
    app.jinja_loader = FunctionLoader(
        lambda name: (templates[name], None, lambda: False) if name in templates else None
    )
    client = browser(app)
    assert client.get(PAGE).text == "one"
    templates["smsverify/base.html"] = "two"
    assert client.get(PAGE).text == "two"


def test_the_apps_of_a_process_compile_the_templates_of_the_package_once(
    make_app: MakeApp, sqlite: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    compile_template = Environment.compile

    def count(environment: Environment, source: Any, name: Any = None, *args: Any) -> Any:
        compiled.append(name)
        return compile_template(environment, source, name, *args)

    monkeypatch.setattr(Environment, "compile", count)
    monkeypatch.setattr(templating._COMPILED, "_codes", {})
    pages = set()
    for app in (make_app(sqlite), make_app(sqlite), make_app(sqlite, users=0)):
        pages.add(re.sub(r'name="csrf_token" value="[^"]*"', "", browser(app).get(PAGE).text))
    assert "smsverify/page.html" in compiled
    assert len(set(compiled)) == len(compiled)
    assert len(pages) == 1
