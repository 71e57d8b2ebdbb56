"""``migrate``: takes over conversations that other code has written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click

from ..app.operator import Operator
from ..config import Settings
from ..operations.migrating.formats import FORMATS, Format
from ..operations.migrating.taking import Choice, Moved, Source, counted, take_over
from ..stores.connect import client_of
from ..stores.redis.foreign import ForeignKey, foreign_keys
from .frame import Output, Progress, access_in, command, place_option

_SHOWN_EVERY = 100


@command("migrate")
@click.argument("form", type=click.Choice(sorted(FORMATS)), metavar="FORMAT")
@click.option("--pattern", metavar="TEXT", help="The keys, with one * for the id: user:*:chat.")
@click.option("--from", "source_url", metavar="URL", help="The server that has them, if it is another one.")
@click.option(
    "--field", "fields", metavar="NAME", multiple=True, help="Take the value under this key. May be repeated."
)
@click.option("--history", metavar="NAME", default="", help="The key of the messages in a dict, if it is another one.")
@click.option("--owner", metavar="OWNER", help="The owner of the sessions.")
@click.option("--owner-field", metavar="NAME", default="", help="The key of a dict that names the owner.")
@click.option("--bare", is_flag=True, help="Let a list be a bare list, not the history of a dict.")
@click.option("--dry-run", is_flag=True, help="Only read, and look which sessions exist.")
@place_option
def migrate_command(
    operator: Operator,
    output: Output,
    *,
    form: str,
    pattern: str | None,
    source_url: str | None,
    fields: tuple[str, ...],
    history: str,
    owner: str | None,
    owner_field: str,
    bare: bool,
    dry_run: bool,
    place: str,
) -> None:
    """Take over conversations that other code has written. Its keys stay as they are.

    FORMAT is json (a JSON text or a pickled dict for each session), list (a list of JSON texts), flask-session, langchain
    (RedisChatMessageHistory of langchain-community) or langchain-redis. Repeat it as often as you like, also while an app
    serves: new messages at the end of a session are added, and a session that has gone on here stays as it is.
    """
    access = access_in(operator, place)
    found = FORMATS[form]
    around = _parts(pattern or found.pattern or f"{access.settings.prefix}*")
    keys = foreign_keys(_server(operator, source_url), around, found.kind, access.settings.prefix)
    choice = Choice(fields, owner, owner_field, history, bare)
    progress = Progress("sessions")
    seen: list[str] = []

    def told(moved: Moved) -> None:
        seen.append(moved.session_id)
        if moved.outcome == "failed":
            output.fail(f"{moved.session_id}: {moved.problem}")
        if len(seen) % _SHOWN_EVERY == 0:
            progress.show(len(seen))

    counts = counted(take_over(access, _sources(found, keys), found, choice, dry_run=dry_run), told)
    progress.end()
    outcomes = ("new", "extended", "existing", "empty", "failed")
    facts: dict[str, Any] = {outcome: counts[outcome] for outcome in outcomes}
    text = ", ".join(f"{counts[outcome]} {outcome}" for outcome in outcomes)
    output.tell({**facts, "dry_run": dry_run}, f"{'Nothing was written. ' if dry_run else ''}Sessions: {text}.")


def _server(operator: Operator, url: str | None) -> Any:
    """Return a client of the server that has the keys: of *url*, or of the app's own."""
    client = operator.state.client if url is None else client_of(Settings(url=url), None, Path())
    if client is None:
        raise click.UsageError("The memory of a process has no keys of other code: name a server by --from.")
    return client


def _parts(pattern: str) -> tuple[str, str]:
    if pattern.count("*") != 1:
        raise click.BadParameter(
            "name the keys with one *, which stands for the id: user:*:chat", param_hint="--pattern"
        )
    before, _, behind = pattern.partition("*")
    return before, behind


def _sources(form: Format, keys: Iterable[ForeignKey]) -> Iterator[Source]:
    if not form.is_spread:
        yield from (Source(key.name, key.values) for key in keys)
        return
    together: dict[str, list[bytes]] = {}
    for key in keys:
        together.setdefault(key.name.rpartition(":")[0], []).extend(key.values)
    yield from (Source(name, values) for name, values in together.items())
