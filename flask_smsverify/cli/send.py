"""`flask smsverify send`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TextIO

import click

from ..db.models import Batch
from ..messaging.bulk import Preview
from ..messaging.worker import DispatchProcess
from ..state import AppState, get_state
from .dispatch import stopped_by_signals
from .group import smsverify
from .output import format_amount, print_lines

_FINISHED = (Batch.DONE, Batch.INCOMPLETE, Batch.STOPPED)


@smsverify.command("send")
@click.option("--text", help="The text, without signature and footer.")
@click.option("--to", "numbers", multiple=True, metavar="NUMBER", help="A number; repeatable.")
@click.option("--all", "to_all", is_flag=True, help="Send to all users.")
@click.option("--group", help="Send to the users of a group.")
@click.option(
    "--file",
    "file",
    # Windows editors begin a file with a byte order mark.
    type=click.File(encoding="utf-8-sig", errors="replace"),
    help="A file with a number in each line.",
)
@click.option("--name", help="A name of the batch, for staff.")
@click.option("--key", "dedupe_key", help="A key; a second send with it continues the first.")
@click.option("--dry-run", is_flag=True, help="Show what would be sent, and send nothing.")
@click.option("--yes", is_flag=True, help="Send without asking.")
@click.option("--resume", "resumed", metavar="BATCH", help="Send a batch on that was interrupted.")
def send(
    text: str | None,
    numbers: tuple[str, ...],
    to_all: bool,
    group: str | None,
    file: TextIO | None,
    name: str | None,
    dedupe_key: str | None,
    dry_run: bool,
    yes: bool,
    resumed: str | None,
) -> None:
    """Send one text to many."""
    state = get_state()
    if resumed is not None:
        with state.inline_workers[1].suspended():
            state.batches.resume(resumed)
            _send_to_end(state, state.batches.expand_again(resumed))
        return
    chosen = [bool(numbers), to_all, group is not None, file is not None]
    if text is None or not text.strip() or sum(chosen) != 1:
        raise click.UsageError("give --text and one of --to, --all, --group, --file or --resume")
    lines: list[str] = list(_lines(file)) if file is not None else list(numbers)
    to: object = "all" if to_all else f"group:{group}" if group is not None else lines
    preview = state.batches.preview(text, to)
    _print(preview)
    if preview.invalid_count and not (preview.recipients or preview.opted_out):
        raise click.ClickException("no number is valid")
    if dry_run or not preview.recipients:
        return
    if not yes and not click.confirm("Send?"):
        return
    # An inline worker would still hold texts when this command has no more to send and ends.
    with state.inline_workers[1].suspended():
        batch = state.batches.send(
            text,
            to,
            batch=name,
            dedupe_key=dedupe_key,
            started_by="flask smsverify send",
            progress=_OnceShown(),
            at_once=True,
        )
        _send_to_end(state, batch)


class _OnceShown:
    """Prints the id of a batch as soon as it exists, so that it can be resumed after a crash."""

    def __init__(self) -> None:
        self._is_shown = False

    def __call__(self, batch: Batch) -> None:
        if not self._is_shown:
            click.echo(f"Added to batch {batch.id}")
            self._is_shown = True


def _lines(file: TextIO) -> Iterator[str]:
    for line in file:
        if line.strip():
            yield line.strip()


def _print(preview: Preview) -> None:
    cost = "unknown" if preview.cost is None else format_amount(preview.cost)
    rows = [
        ("text", preview.text),
        ("recipients", str(preview.recipients)),
        ("parts", f"{preview.parts} each, {preview.parts * preview.recipients} in all"),
        ("cost", cost),
        ("duplicates", str(preview.duplicates)),
        ("opted out", str(preview.opted_out)),
        ("invalid", str(preview.invalid_count)),
    ]
    if preview.invalid:
        more = ", …" if preview.invalid_count > len(preview.invalid) else ""
        rows.append(("such as", ", ".join(preview.invalid) + more))
    print_lines(*rows)


def _send_to_end(state: AppState, batch: Batch) -> None:
    """Send a batch here, with a progress bar, unless it is paused or stopped elsewhere."""
    queue = state.queues[1]

    def advance() -> None:
        bar.update(_done(state, batch.id) - bar.pos)

    process = DispatchProcess((queue,), on_wait=advance)
    with (
        stopped_by_signals(process),
        click.progressbar(length=batch.recipients, label="sending", file=sys.stderr) as bar,
    ):
        process.run(watch=False)
        advance()
    batch = state.batches.get(batch.id)
    print_lines(
        ("batch", batch.id),
        ("state", batch.state),
        ("sent", str(batch.sent)),
        ("failed", str(batch.failed)),
        ("unknown", str(batch.unknown)),
        ("skipped", str(batch.skipped)),
    )
    if batch.phase in (Batch.EXPANDING, Batch.INCOMPLETE):
        click.echo(
            "Not all recipients were added. If no other process is adding them, run the\n"
            "first command again with the same --key."
        )
    if batch.state not in _FINISHED:
        click.echo(f"Continue with: flask smsverify send --resume {batch.id}")


def _done(state: AppState, batch_id: str) -> int:
    batch = state.batches.get(batch_id)
    return batch.sent + batch.failed + batch.unknown + batch.skipped
