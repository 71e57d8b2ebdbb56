"""``export`` and ``import``: all sessions of all owners, as JSON Lines."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import IO, Any

import click

from ..app.operator import Operator
from ..domain import json_text
from ..errors import ConvstoreError
from ..operations import backup
from ..operations.access import Access
from ..stores.redis.census import mapping_names
from .frame import Output, Progress, command, written

_SHOWN_EVERY = 100


def _places(operator: Operator) -> dict[str, Access]:
    """Give direct access to every part of the store, also to the mappings of apps that are not loaded."""
    names = set(operator.places())
    if operator.state.client is not None:
        found = mapping_names(operator.state.client, operator.settings.prefix)
        names.update(f"mapping:{name}" for name in found)
    return {name: operator.directly(name) for name in sorted(names)}


@command("export")
@click.argument("target", default="-", metavar="[FILE]")
def export_command(operator: Operator, output: Output, *, target: str) -> None:
    """Export all sessions of all owners as JSON Lines, to a file or to stdout.

    The lines stand in a stable order, and hold nothing that is of one server only, so that equal stores make equal text. A
    damaged session is told on stderr, and the exit status is 1. A file appears when all is written.
    """
    places = _places(operator)
    ids = backup.ids_of(places)
    progress = Progress("sessions", len(ids))
    count = 0
    with written(target) as file:
        for one in backup.saved(places, ids):
            if one.line is None:
                output.fail(f"{one.session_id} is damaged, and was not exported: {one.problem}")
                continue
            file.write(json_text.write(one.line) + b"\n")
            count += 1
            if count % _SHOWN_EVERY == 0:
                progress.show(count)
    progress.end()
    output.note(f"{count} sessions were exported.")


@command("import")
@click.argument("source", metavar="FILE")
@click.option(
    "--owner", metavar="OWNER", help="Owner of sessions whose lines name none, as in the export of one owner."
)
@click.option("--dry-run", is_flag=True, help="Only read the file, and look which sessions exist.")
def import_command(operator: Operator, output: Output, *, source: str, owner: str | None, dry_run: bool) -> None:
    """Import what `export` has written, from a file or from stdin ("-").

    Sessions that exist stay as they are. An import that was interrupted is simply repeated. Their lifetimes begin anew. A
    line that cannot be imported is told on stderr, the others are imported, and the exit status is 1.
    """
    places = _direct(operator)
    places(backup.SESSIONS).store.ping()
    counts: Counter[str] = Counter()
    progress = Progress("lines")
    try:
        file = click.open_file(source, "rb")
    except OSError as error:
        raise click.BadParameter(f"{source} cannot be read: {error.strerror}", param_hint="FILE") from error
    with file:
        for taken in backup.take_in(places, _lines(file), owner=owner, dry_run=dry_run):
            counts[taken.outcome] += 1
            if taken.outcome == "failed":
                output.fail(f"line {taken.number}, {taken.session_id or 'no id'}: {taken.problem}")
            if counts.total() % _SHOWN_EVERY == 0:
                progress.show(counts.total())
    progress.end()
    facts = {"new": counts["new"], "existing": counts["existing"], "failed": counts["failed"], "dry_run": dry_run}
    would = "would be " if dry_run else ""
    text = (
        f"{counts['new']} sessions {would or 'were '}imported, {counts['existing']} exist, {counts['failed']} failed."
    )
    output.tell(facts, text)


def _direct(operator: Operator) -> Callable[[str], Access]:
    return cache(operator.directly)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, Mapping[str, Any] | ConvstoreError]]:
    for number, text in enumerate(file, 1):
        if text.strip():
            yield number, _line(number, text)


def _line(number: int, text: bytes) -> Mapping[str, Any] | ConvstoreError:
    try:
        line = json_text.parse(text)
    except ValueError as error:
        return backup.no_line(number, str(error))
    return line if isinstance(line, dict) else backup.no_line(number, "it is no object")
