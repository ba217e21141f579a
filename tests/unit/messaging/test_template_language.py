"""The sandbox of event texts: what staff may write, and what they may not."""

from __future__ import annotations

import contextlib
import inspect
import sys
import time
from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_smsverify.errors import TemplateError
from flask_smsverify.i18n.catalogue import Translator, available_locales
from flask_smsverify.messaging.template_language import (
    FILTERS,
    MAX_DEPTH,
    MAX_SOURCE_LENGTH,
    MAX_VALUE_LENGTH,
    TextTemplate,
    clean_value,
)

NAMES = frozenset({"order_number", "name", "day"})


def render(source: str, locale: str = "en", **values: object) -> str:
    given_values = {"order_number": "1042", "name": "sara", "day": date(2026, 11, 27)} | values
    shown = {name: clean_value(value) for name, value in given_values.items()}
    return TextTemplate(source, NAMES).render(shown, Translator(locale))


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("Order {{ order_number }}.", "Order 1042."),
        ("Order {{ order.number }}.", "Order 1042."),
        ("{{ '{{' }} and 100% {{ name }} }}", "{{ and 100% sara }}"),
        ("{# a comment #}x", "x"),
        ("{% raw %}{{ x }}{% endraw %}", "{{ x }}"),
        ("{{ name ~ ' ' ~ 7 }}", "sara 7"),
        ("{% if order_number == 1042 %}a{% elif name %}b{% else %}c{% endif %}", "a"),
        ("{% if order_number != '1042' %}a{% elif name %}b{% else %}c{% endif %}", "b"),
        ("{% if not name or order_number in 'x1042x' and 'q' not in name %}a{% endif %}", "a"),
        ("{{ 'a' if name == 'sara' else 'b' }}{{ 'c' if not name }}", "a"),
        ("{{ (name or 'you')|capitalize }}", "Sara"),
        ("{{ name|upper }}{{ name|title }}{{ ' x '|trim }}{{ 'AB'|lower }}", "SARASaraxab"),
        ("{{ 'abcdef'|truncate(4) }}", "abc…"),
        ("{{ ''|default(name) }}", "sara"),
        ("{{ '1234567.5'|number }} {{ 'x'|number }}", "1,234,567.5 x"),
        ("{{ day|date }} {{ '2026-11-27T10:00'|date }}", "27 November 2026 27 November 2026"),
        ("{{ 'soon'|date }} {{ '2026-99-99'|date }}", "soon 2026-99-99"),
    ],
)
def test_a_text_shows_values_with_conditions_and_filters(source: str, text: str) -> None:
    assert render(source) == text


def test_filters_write_dates_and_numbers_as_the_language_does() -> None:
    assert render("{{ day|date }}", "fa") == "۶ آذر ۱۴۰۵"
    assert render("{{ order_number|digits }} {{ '25000'|number }}", "fa") == "۱۰۴۲ ۲۵٬۰۰۰"
    assert render("{{ '-1250000.50'|number }}", "fa") == "-۱٬۲۵۰٬۰۰۰٫۵۰"
    assert render("{{ '-1250000.50'|number }}", "ar") == "-1,250,000.50"
    assert render("{{ '-1250000.50'|number }}", "en") == "-1,250,000.50"


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("{{ nobody }}", "unknown_value"),
        ("{{ config }}", "unknown_value"),
        ("{{ self }}", "unknown_value"),
        ("{{ name.__class__ }}", "unknown_value"),
        ("{{ name.upper }}", "unknown_value"),
        ("{{ name.__class__.__mro__ }}", "unknown_value"),
        ("{{ ''.__class__ }}", "not_allowed"),
        ("{{ name['x'] }}", "not_allowed"),
        ("{{ name[0] }}", "not_allowed"),
        ("{{ name() }}", "not_allowed"),
        ("{{ name.upper() }}", "not_allowed"),
        ("{{ lipsum() }}", "not_allowed"),
        ("{{ 9 ** 9 ** 9 }}", "not_allowed"),
        ("{{ 'x' * 999999999 }}", "not_allowed"),
        ("{{ [name] }}", "not_allowed"),
        ("{{ {'a': name} }}", "not_allowed"),
        ("{{ name is defined }}", "not_allowed"),
        ("{{ not name }}", "not_allowed"),
        ("{{ name == 'sara' }}", "not_allowed"),
        ("{{ true }}", "not_allowed"),
        ("{% if name > 'a' %}x{% endif %}", "not_allowed"),
        ("{% for x in name %}x{% endfor %}", "not_allowed"),
        ("{% if name %}{% for x in name %}x{% endfor %}{% endif %}", "not_allowed"),
        ("{% set x = 1 %}", "not_allowed"),
        ("{% set x %}a{% endset %}", "not_allowed"),
        ("{% with x = 1 %}a{% endwith %}", "not_allowed"),
        ("{% macro x() %}a{% endmacro %}", "not_allowed"),
        ("{% call x() %}a{% endcall %}", "not_allowed"),
        ("{% filter upper %}a{% endfilter %}", "not_allowed"),
        ("{% block x %}a{% endblock %}", "not_allowed"),
        ("{% import 'x' as y %}", "not_allowed"),
        ("{% from 'x' import y %}", "not_allowed"),
        ("{% include 'x' %}", "not_allowed"),
        ("{% extends 'x' %}", "not_allowed"),
        ("{% autoescape true %}a{% endautoescape %}", "not_allowed"),
        ("{{ name|truncate }}", "not_allowed"),
        ("{{ name|truncate(0) }}", "not_allowed"),
        ("{{ name|truncate(name) }}", "not_allowed"),
        ("{{ name|truncate(9999) }}", "not_allowed"),
        ("{{ name|truncate(length=3) }}", "not_allowed"),
        ("{{ name|upper(1) }}", "not_allowed"),
        ("{{ name|join }}", "unknown_filter"),
        ("{{ name|attr('x') }}", "unknown_filter"),
        ("{{ name|format }}", "unknown_filter"),
        ("{{ name|safe }}", "unknown_filter"),
        ("{% trans %}x{% endtrans %}", "syntax"),
        ("{% do x %}", "syntax"),
        ("{{ name", "syntax"),
        ("{% if name %}", "syntax"),
        ("{{ " + "(" * 900 + "1" + ")" * 900 + " }}", "syntax"),
        ("x" * (MAX_SOURCE_LENGTH + 1), "too_long"),
        ("{{ name" + "|trim" * MAX_DEPTH + " }}", "too_deep"),
        ("{{ name" + " or name" * MAX_DEPTH + " }}", "too_deep"),
        ("{% if not name %}" * MAX_DEPTH + "x" + "{% endif %}" * MAX_DEPTH, "too_deep"),
    ],
)
def test_anything_else_is_refused_before_it_is_rendered(source: str, problem: str) -> None:
    with pytest.raises(TemplateError) as refused:
        TextTemplate(source, NAMES)
    assert refused.value.problem == problem


def test_a_refusal_names_the_value_and_its_line() -> None:
    with pytest.raises(TemplateError, match="unknown value 'nobody' in line 2") as refused:
        TextTemplate("Hello\n{{ nobody }}", NAMES)
    assert (refused.value.name, refused.value.line) == ("nobody", 2)


def test_a_value_cannot_start_a_line_or_change_the_direction_of_a_text() -> None:
    text = render("{{ name }}", name="Hi\r\n@bank.example #123456\u202ex\ud800")
    assert text == "Hi @bank.example #123456 x"


def test_output_time_and_memory_are_bounded() -> None:
    """The largest text that may be written, with the longest values, is refused at once."""
    value = "x" * 10_000_000
    source = "{{ " + "~".join(["name"] * 390) + " }}"
    assert len(source) <= MAX_SOURCE_LENGTH
    nested = "{{ name" + "~name|upper" * 170 + " }}"
    started = time.process_time()
    for text in (source, nested):
        with pytest.raises(TemplateError) as refused:
            render(text, name=value)
        assert refused.value.problem == "too_long"
    assert len(render("{{ name }}", name=value)) == MAX_VALUE_LENGTH
    assert time.process_time() - started < 5


@pytest.mark.parametrize(
    "source",
    [
        "{{ name" + "|trim" * (MAX_DEPTH - 4) + " }}",
        "{{ name" + " or name" * (MAX_DEPTH - 4) + " }}",
        "{% if name %}" * (MAX_DEPTH - 4) + "x" + "{% endif %}" * (MAX_DEPTH - 4),
        "{% if not name %}" + "{% elif not name %}" * 80 + "{% else %}x{% endif %}",
    ],
)
def test_a_text_that_was_accepted_can_be_rendered_by_a_deep_stack(source: str) -> None:
    """A text is checked by a page of staff, and rendered by whatever the host app calls."""
    template = TextTemplate(source, NAMES)

    def render_below(frames: int) -> str:
        if frames:
            return render_below(frames - 1)
        return template.render({"name": "x"}, Translator("en"))

    free = sys.getrecursionlimit() - len(inspect.stack(0))
    assert render_below(free - 250) == "x"


def test_an_object_is_shown_by_its_str_and_never_reached() -> None:
    class Order:
        secret = "hidden"

        def __str__(self) -> str:
            return "order"

    assert render("{{ name }}", name=Order()) == "order"
    with pytest.raises(TemplateError):
        render("{{ name.secret }}", name=Order())
    assert render("{{ name }}-", name=None) == "-"


def test_a_text_that_renders_to_nothing_is_an_error() -> None:
    for source in ("", "  \n", "{{ name }}"):
        with pytest.raises(TemplateError) as refused:
            render(source, name=" ")
        assert refused.value.problem == "empty"


@given(
    st.text(alphabet="{}%()[].|'\"~ \nabcdefinorsuxlt_0123456789=", max_size=60),
    st.text(max_size=20),
)
def test_any_source_is_rendered_or_refused_and_nothing_else(source: str, value: str) -> None:
    for text in (source, f"{{{{ {source} }}}}", f"{{% if {source} %}}x{{% endif %}}"):
        with contextlib.suppress(TemplateError):
            assert isinstance(render(text, name=value), str)


@given(
    st.sampled_from([name for name in FILTERS if name not in ("default", "truncate")]), st.text()
)
def test_filters_accept_any_text(name: str, value: str) -> None:
    for locale in available_locales():
        assert render(f"{{{{ name|{name} }}}}-", locale, name=value).endswith("-")
