"""The table of all texts on the page about events."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hostapp import create_app

from flask_smsverify.messaging.template_language import FILTERS

PAGE = Path(__file__).parents[3] / "docs/events.md"


def lines(database_url: str) -> Iterator[str]:
    """Yield the lines of the table, from the code."""
    yield "| event | to | values | English | Persian | parts |"
    yield "| --- | --- | --- | --- | --- | --- |"
    app = create_app(database_url)
    texts = app.extensions["smsverify"].event_texts
    with app.app_context():
        for event in texts.catalogue.values():
            for audience in event.audiences:
                sources = [event.default_text(audience, locale) for locale in ("en", "fa")]
                parts = [
                    texts.preview(event.name, audience, source, locale).parts
                    for source, locale in zip(sources, ("en", "fa"), strict=True)
                ]
                values = ", ".join(f"`{name}`" for name in event.values) or "–"
                cells = " | ".join(source.replace("|", "\\|") for source in sources)
                yield (
                    f"| `{event.name}` | {audience} | {values} | {cells} | {parts[0]}, {parts[1]} |"
                )


def test_the_page_has_every_text_with_its_values_and_parts(sqlite: str) -> None:
    page = PAGE.read_text("utf-8")
    expected = "\n".join(lines(sqlite))
    assert page.endswith(f"\n\n{expected}\n"), (
        f"replace the last table of {PAGE.name} by:\n{expected}"
    )


def test_the_page_has_every_filter() -> None:
    page = PAGE.read_text("utf-8")
    for name in FILTERS:
        assert f"`{name}`" in page or f"`{name}(" in page, name
