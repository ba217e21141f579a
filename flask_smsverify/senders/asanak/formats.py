"""Read the three formats of v1rest: JSON, text and XML."""

from __future__ import annotations

import contextlib
import json
import re
from typing import NoReturn
from xml.parsers import expat

from ..http import Answer


def read_any_format(answer: Answer) -> object:
    """Return an answer as JSON types, or as its text if it is in none of the formats.

    In XML, a `<response>` of `MsgID` elements is a list of texts, one of `MsgStatus` elements is a
    list of objects, one of other elements is an object, and one without elements is its text: the
    guide, 3-1 and 3-2.

    :raises Unknown: the XML has a DTD, is nested too deeply, or is incomplete.
    """
    text = answer.text.strip()
    if text.startswith("<"):
        response_text, rows = _read_xml(answer)
        if not rows:
            return response_text
        if all(tag == "MsgID" and isinstance(value, str) for tag, value in rows):
            return [value for _, value in rows]
        if all(tag == "MsgStatus" and isinstance(value, dict) for tag, value in rows):
            return [value for _, value in rows]
        return dict(rows)
    if text[:1] in ("[", "{") or re.fullmatch(r"-?\d{1,30}(\.\d{1,30})?", text):
        return answer.json()
    if text[:1] == text[-1:] == '"' and len(text) > 1:
        # A sentence means the same with and without quotes.
        return str(json.loads(text)) if _is_json(text) else text
    return text


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


class _UnexpectedXml(Exception):
    """The XML does not have the structure of Asanak's answers."""


def _read_xml(answer: Answer) -> tuple[str, list[tuple[str, str | dict[str, str]]]]:
    """Return the text of `<response>`, and its children by name.

    A child is a text, or an object of its own children. expat does not load external documents. A
    DTD is refused, so there are no entities.
    """
    answer.raise_for_costly_xml()
    rows: list[tuple[str, str | dict[str, str]]] = []
    path: list[str] = []
    texts: list[list[str]] = [[]]
    children: dict[str, str] = {}

    def refuse(*_: object) -> NoReturn:
        raise _UnexpectedXml

    def start_element(tag: str, _attributes: object) -> None:
        path.append(tag)
        texts.append([])
        if len(path) > 3 or path[0] != "response":
            raise _UnexpectedXml

    def end_element(tag: str) -> None:
        text = "".join(texts.pop()).strip()
        path.pop()
        if len(path) == 2:
            children[tag] = text
        elif len(path) == 1:
            rows.append((tag, dict(children) if children else text))
            children.clear()
        else:
            texts[0].append(text)

    def add_text(text: str) -> None:
        texts[-1].append(text)

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start_element
    parser.EndElementHandler = end_element
    parser.CharacterDataHandler = add_text
    with contextlib.suppress(expat.ExpatError, _UnexpectedXml, ValueError, LookupError):
        parser.Parse(answer.xml, True)
        return "".join(texts[0]), rows
    return answer.raise_unreadable("Asanak's XML")
