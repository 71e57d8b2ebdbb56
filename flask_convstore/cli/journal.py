"""``journal``: the writes that wait on this host for the server."""

from __future__ import annotations

import time
from typing import Any

import click

from ..app.operator import Operator
from ..domain import json_text
from ..domain.clock import as_datetime, monotonic, now_ms
from ..outages import journal_contents
from ..outages.journal import Journal
from .frame import Output, Progress, command, confirmed, yes_option
from .group import CHOSEN, Chosen

_LOOKS = 0.1
_MAPPING = "map:"


@click.group("journal")
@click.option("--folder", metavar="FOLDER", help="The instance folder of the app. Only where there is no app.")
@click.pass_context
def journal_command(ctx: click.Context, folder: str | None) -> None:
    """Look after the writes that wait on this host for the server."""
    chosen: Chosen = ctx.meta.get(CHOSEN) or Chosen(None, None, None)
    ctx.meta[CHOSEN] = chosen._replace(folder=folder)


def _journal_of(operator: Operator) -> Journal:
    journal = operator.state.journal
    if journal is None:
        raise click.UsageError("This store has no journal. Without an app, name the app's instance folder by --folder.")
    return journal


@command("ls")
def ls(operator: Operator, output: Output) -> None:
    """List the sessions whose writes wait, and the writes that were set aside."""
    journal = _journal_of(operator)
    for one in journal_contents.waiting(journal):
        age = 0 if one.oldest_at_ms is None else max(0, round((now_ms() - one.oldest_at_ms) / 1000))
        facts = {
            "state": "waiting",
            "session_id": one.journalled.session_id,
            "owner": one.journalled.owner,
            "part": one.namespace or "sessions",
            "writes": one.commands,
            "oldest_s": age,
        }
        output.tell(facts, f"waiting  {one.commands:>5} writes  {age:>6} s  {one.journalled.session_id}")
    for row in journal_contents.aside(journal):
        facts = {
            "state": "aside",
            "session_id": row.session_id,
            "part": row.namespace or "sessions",
            "number": row.row.number,
            "problem": row.problem,
        }
        output.tell(facts, f"aside    write {row.row.number}  {row.session_id}: {row.problem}")


@command("show")
@click.argument("session_id", metavar="ID")
def show(operator: Operator, output: Output, *, session_id: str) -> None:
    """Show the writes about a session, oldest first. They hold the text of messages."""
    journal, count = _journal_of(operator), 0
    for one in journal_contents.waiting(journal):
        if one.journalled.session_id == session_id:
            for row in journal.rows(one.namespace, one.journalled, 0):
                _tell(output, "waiting", row)
                count += 1
    for found in journal_contents.aside(journal):
        if found.session_id == session_id:
            _tell(output, "aside", found.row)
            count += 1
    if not count:
        output.fail(f"{session_id}: nothing about this session is in the journal.")


def _tell(output: Output, state: str, row: Any) -> None:
    at = as_datetime(row.at_ms).strftime("%Y-%m-%d %H:%M:%S")
    values = {"state": state, "number": row.number, "at": at, "write": json_text.parse(row.text)}
    output.tell(values, f"{at}  {row.number:>6}  {state}  {row.text.decode(errors='replace')}")


@command("drain")
@click.option("--timeout", type=click.FloatRange(0.1), default=60.0, show_default=True, help="Most seconds.")
def drain(operator: Operator, output: Output, *, timeout: float) -> None:
    """Hand over to the server now whatever waits. The exit status is 1 if something is left."""
    journal = _journal_of(operator)
    before = journal.status().pending
    for namespace in journal.namespaces() if journal.exists() else ():
        if namespace.startswith(_MAPPING) and not operator.has_app:
            operator.through_app(f"mapping:{namespace.removeprefix(_MAPPING)}")
    operator.state.hand_over()
    progress, deadline = Progress("writes wait"), monotonic() + timeout
    while (left := journal.status().pending) and monotonic() < deadline:
        progress.show(left)
        time.sleep(_LOOKS)
    progress.end()
    handed_over = before - left
    output.tell({"handed_over": handed_over, "left": left}, f"{handed_over} writes were handed over, {left} are left.")
    if left:
        operator.directly().store.ping()  # tells why, where the server is away
        output.fail("The server answers. Look for the reason with the command doctor, or wait longer.")


@command("drop")
@click.argument("session_id", metavar="ID")
@yes_option
def drop(operator: Operator, output: Output, *, session_id: str, yes: bool) -> None:
    """Drop the writes about a session, without handing them over."""
    journal = _journal_of(operator)
    confirmed(f"Drop all writes about {session_id} that are in the journal for good?", yes=yes)
    count = journal_contents.drop(journal, session_id)
    if not count:
        output.fail(f"{session_id}: nothing about this session is in the journal.")
    output.tell({"session_id": session_id, "dropped": count}, f"{count} writes were dropped.")


for _each in (ls, show, drain, drop):
    journal_command.add_command(_each)
