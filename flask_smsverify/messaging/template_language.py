"""The template language of texts that staff can edit: values, conditions and filters of Jinja.

Jinja parses a text, and this module renders the syntax tree itself. It compiles nothing and calls
only the filters below, so a text cannot reach an attribute, an item, a function or an object of the
app. A text can use the values of its event only.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import lru_cache
from typing import NoReturn

from jinja2 import Environment, TemplateSyntaxError, nodes

from ..errors import TemplateError
from ..i18n.catalogue import Translator
from ..i18n.formats import format_date
from ..i18n.numbers import group_digits

#: The most characters in the source of a text.
MAX_SOURCE_LENGTH = 2000
#: How many characters of a value a text shows. A longer value is cut, so that the time and the
#: memory of rendering are bounded.
MAX_VALUE_LENGTH = 255
#: The most parts of a text. Raygan sends at most ten (its web-service guide, error 2006).
MAX_PARTS = 10
#: Levels of nested conditions, filters and expressions. Each one takes several frames of the stack
#: of Python, and `notify` may be called when most of it is used.
MAX_DEPTH = 50
#: The most characters that one text may produce: more than fit into ten parts.
_MAX_OUTPUT = 20_000

#: Control characters, line and paragraph separators, direction overrides and lone surrogates. A
#: value must not start a new line: the last line of a text can be read as a code (WebOTP).
_UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]+")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d(?:[T ]\d\d:\d\d.*)?", re.ASCII | re.DOTALL)
_NUMBER = re.compile(r"(-?)(\d{1,30})(\.\d{1,30})?", re.ASCII)

_environment = Environment(autoescape=False)  # noqa: S701 -- the result is an SMS, not markup


def clean_value(value: object, *, limit: int = MAX_VALUE_LENGTH) -> str:
    """Return a value in the form that texts show: one line of at most `limit` characters.

    :param value: text, or an object whose `str` is shown; None is shown as nothing.
    """
    text = "" if value is None else str(value)
    text = _UNPRINTABLE.sub(" ", text[: limit + 1]).strip()
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


# --- filters --------------------------------------------------------------------------------------


def _format_date(text: str, translator: Translator) -> str:
    """Write an ISO 8601 date in the style of the language. Any other text is unchanged."""
    if not _ISO_DATE.fullmatch(text):
        return text
    try:
        day = datetime.fromisoformat(text).date() if len(text) > 10 else date.fromisoformat(text)
    except ValueError:
        return text
    return format_date(day, translator)


def _group_digits(text: str, translator: Translator) -> str:
    """Write a number with thousands separators. Any other text is unchanged."""
    number = _NUMBER.fullmatch(text)
    if number is None:
        return text
    sign, whole, fraction = number.groups(default="")
    return sign + group_digits(whole, fraction.removeprefix("."), translator)


def _title(text: str) -> str:
    """Capitalize each word. `str.title` would capitalize the letter after an apostrophe too."""
    return " ".join(word[:1].upper() + word[1:] for word in text.split(" "))


#: Filters without arguments.
_FILTERS: Mapping[str, Callable[[str, Translator], str]] = {
    "capitalize": lambda text, _: text[:1].upper() + text[1:],
    "date": _format_date,
    "digits": lambda text, translator: translator.digits(text),
    "lower": lambda text, _: text.lower(),
    "number": _group_digits,
    "title": lambda text, _: _title(text),
    "trim": lambda text, _: text.strip(),
    "upper": lambda text, _: text.upper(),
}
#: The filters that a text may use. `default` and `truncate` take one argument.
FILTERS = tuple(sorted([*_FILTERS, "default", "truncate"]))


# --- templates ------------------------------------------------------------------------------------


class TextTemplate:
    """A text that was parsed and checked.

    :param source: the text as staff wrote it.
    :param names: the values that it may show. `{{ order.number }}` is another spelling of
        `{{ order_number }}`.
    :raises TemplateError: the text contains something that is not allowed.
    """

    def __init__(self, source: str, names: Collection[str]) -> None:
        if len(source) > MAX_SOURCE_LENGTH:
            raise TemplateError("too_long", limit=MAX_SOURCE_LENGTH)
        self._names = frozenset(names)
        try:
            tree = _environment.parse(source)
            _check_depth(tree)
            self._check(tree.body)
            #: The values that the text shows, at least under some condition.
            self.shown = frozenset(map(_read_name, _find_shown(tree.body)))
        except TemplateSyntaxError as error:
            raise TemplateError("syntax", line=error.lineno) from None
        except RecursionError:
            raise TemplateError("syntax") from None
        self._body = tree.body

    def render(self, values: Mapping[str, str], translator: Translator) -> str:
        """Return the text with its values.

        :param values: the result of `clean_value` for each name.
        :raises TemplateError: a value is missing, or the text is empty or much too long.
        """
        text = _Rendering(values, translator).body(self._body).strip()
        if not text:
            raise TemplateError("empty")
        return text

    # --- what is allowed --------------------------------------------------------------------------

    def _check(self, body: Sequence[nodes.Node]) -> None:
        for node in body:
            if isinstance(node, nodes.Output):
                for part in node.nodes:
                    if not isinstance(part, nodes.TemplateData):
                        self._check_text(part)
            elif isinstance(node, nodes.If):
                self._check_condition(node.test)
                self._check(node.body)
                self._check(node.elif_)
                self._check(node.else_)
            else:
                _refuse(node)

    def _check_text(self, node: nodes.Node | None) -> None:
        match node:
            case nodes.Name() | nodes.Getattr():
                name = _read_name(node)
                if name not in self._names:
                    raise TemplateError("unknown_value", name=name, line=node.lineno)
            case nodes.Const():
                if isinstance(node.value, bool) or not isinstance(node.value, str | int):
                    _refuse(node)
            case nodes.Concat():
                for part in node.nodes:
                    self._check_text(part)
            case nodes.And() | nodes.Or():
                self._check_text(node.left)
                self._check_text(node.right)
            case nodes.CondExpr():
                self._check_condition(node.test)
                self._check_text(node.expr1)
                if node.expr2 is not None:
                    self._check_text(node.expr2)
            case nodes.Filter():
                self._check_filter(node)
            case _:
                _refuse(node)

    def _check_condition(self, node: nodes.Node) -> None:
        match node:
            case nodes.Not():
                self._check_condition(node.node)
            case nodes.And() | nodes.Or():
                self._check_condition(node.left)
                self._check_condition(node.right)
            case nodes.Compare():
                self._check_text(node.expr)
                for operand in node.ops:
                    if operand.op not in ("eq", "ne", "in", "notin"):
                        _refuse(operand)
                    self._check_text(operand.expr)
            case _:
                self._check_text(node)

    def _check_filter(self, node: nodes.Filter) -> None:
        if node.name not in FILTERS:
            raise TemplateError("unknown_filter", name=node.name, line=node.lineno)
        self._check_text(node.node)
        if node.kwargs or node.dyn_args or node.dyn_kwargs:
            _refuse(node)
        match node.name, node.args:
            case "default", [alternative]:
                self._check_text(alternative)
            case "truncate", [nodes.Const(value=int(length))] if 1 <= length <= MAX_VALUE_LENGTH:
                pass
            case "default" | "truncate", _:
                _refuse(node)
            case _, [_, *_]:
                _refuse(node)


class _Rendering:
    """One rendering of a checked syntax tree."""

    def __init__(self, values: Mapping[str, str], translator: Translator) -> None:
        self._values = values
        self._translator = translator
        self._room = _MAX_OUTPUT

    def body(self, body: Sequence[nodes.Node]) -> str:
        parts: list[str] = []
        for node in body:
            if isinstance(node, nodes.If):
                parts.append(self._if(node))
            elif isinstance(node, nodes.Output):
                parts += (
                    part.data if isinstance(part, nodes.TemplateData) else self._text(part)
                    for part in node.nodes
                )
        return "".join(parts)

    def _if(self, node: nodes.If) -> str:
        for branch in (node, *node.elif_):
            if self._condition(branch.test):
                return self.body(branch.body)
        return self.body(node.else_)

    def _text(self, node: nodes.Node | None) -> str:
        match node:
            case nodes.Name() | nodes.Getattr():
                name = _read_name(node)
                if name not in self._values:
                    raise TemplateError("missing_value", name=name, line=node.lineno)
                text = self._values[name]
            case nodes.Const():
                text = str(node.value)
            case nodes.Concat():
                text = "".join(map(self._text, node.nodes))
            case nodes.And():
                text = self._text(node.left) and self._text(node.right)
            case nodes.Or():
                text = self._text(node.left) or self._text(node.right)
            case nodes.CondExpr():
                chosen = node.expr1 if self._condition(node.test) else node.expr2
                text = self._text(chosen) if chosen is not None else ""
            case nodes.Filter():
                text = self._filter(node)
            case _:
                _refuse(node)
        self._room -= len(text)
        if self._room < 0:
            raise TemplateError("too_long", limit=_MAX_OUTPUT)
        return text

    def _condition(self, node: nodes.Node) -> bool:
        match node:
            case nodes.Not():
                return not self._condition(node.node)
            case nodes.And():
                return self._condition(node.left) and self._condition(node.right)
            case nodes.Or():
                return self._condition(node.left) or self._condition(node.right)
            case nodes.Compare():
                return self._compare(node)
            case _:
                return bool(self._text(node))

    def _compare(self, node: nodes.Compare) -> bool:
        left = self._text(node.expr)
        for operand in node.ops:
            right = self._text(operand.expr)
            is_true = left in right if operand.op in ("in", "notin") else left == right
            if is_true is (operand.op in ("ne", "notin")):
                return False
            left = right
        return True

    def _filter(self, node: nodes.Filter) -> str:
        text = self._text(node.node)
        match node.name, node.args:
            case "default", [alternative]:
                return text or self._text(alternative)
            case "truncate", [nodes.Const(value=int(length))]:
                return clean_value(text, limit=length)
        return _FILTERS[node.name](text, self._translator)


@lru_cache(maxsize=512)
def load_template(source: str, names: frozenset[str]) -> TextTemplate:
    """Return the template of a text, which is parsed once.

    :raises TemplateError: the text contains something that is not allowed.
    """
    return TextTemplate(source, names)


def _check_depth(tree: nodes.Node) -> None:
    level: list[nodes.Node] = [tree]
    for _ in range(MAX_DEPTH):
        level = [child for node in level for child in node.iter_child_nodes()]
        if not level:
            return
    raise TemplateError("too_deep", line=level[0].lineno)


def _find_shown(body: Sequence[nodes.Node]) -> Iterator[nodes.Name | nodes.Getattr]:
    """Yield the values in a text, without those that only conditions compare."""
    for node in body:
        if isinstance(node, nodes.Name | nodes.Getattr):
            yield node
        elif isinstance(node, nodes.If):
            yield from _find_shown([*node.body, *node.elif_, *node.else_])
        elif isinstance(node, nodes.CondExpr):
            yield from _find_shown([part for part in (node.expr1, node.expr2) if part])
        else:
            yield from _find_shown(list(node.iter_child_nodes()))


def _read_name(node: nodes.Name | nodes.Getattr) -> str:
    """Return the name of a value. `order.number` is the name `order_number`, not an attribute."""
    attributes: list[str] = []
    inner: nodes.Node = node
    while isinstance(inner, nodes.Getattr):
        attributes.append(inner.attr)
        inner = inner.node
    if not isinstance(inner, nodes.Name):
        _refuse(inner)
    return "_".join([inner.name, *reversed(attributes)])


#: Syntax that is not allowed → its name in an error. Anything else is "this expression".
_CONSTRUCTS: Mapping[type[nodes.Node], str] = {
    nodes.Call: "( )",
    nodes.CallBlock: "{% call %}",
    nodes.FilterBlock: "{% filter %}",
    nodes.For: "{% for %}",
    nodes.FromImport: "{% from %}",
    nodes.Getitem: "[ ]",
    nodes.Import: "{% import %}",
    nodes.Include: "{% include %}",
    nodes.Extends: "{% extends %}",
    nodes.Block: "{% block %}",
    nodes.Macro: "{% macro %}",
    nodes.Assign: "{% set %}",
    nodes.AssignBlock: "{% set %}",
    nodes.With: "{% with %}",
    nodes.Test: "is",
}


def _refuse(node: nodes.Node | None) -> NoReturn:
    name = _CONSTRUCTS.get(type(node), "") if node is not None else ""
    if isinstance(node, nodes.Filter):
        name = node.name
    raise TemplateError("not_allowed", name=name, line=node.lineno if node is not None else None)
