"""``ls``, ``show``, ``tail``, ``stats`` and ``rm``: sessions as an operator sees them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import fields
from typing import Any

import click

from ..app.operator import Operator
from ..domain import json_text
from ..domain.clock import as_datetime, now_ms
from ..domain.figures import Figures
from ..domain.messages import Message
from ..domain.results import Snapshot, Summary
from ..domain.types import ANY
from ..errors import CorruptValue, SessionNotFound
from ..operations import events, sessions
from ..operations.access import Access, whole
from ..operations.diagnosis import size
from ..operations.messages import page as messages_page
from ..operations.salvage import salvage
from ..operations.transfer import line_of
from ..stores.redis.census import census
from .frame import Output, access_in, command, confirmed, place_option, yes_option

_PAGE = 100
_SHOWN_AT_FIRST = 10
_LOOKS = 1.0
"""Seconds between two looks at a session of which no bell tells."""


def _time(milliseconds: int) -> str:
    return as_datetime(milliseconds).strftime("%Y-%m-%d %H:%M:%S")


def _facts(summary: Summary) -> dict[str, Any]:
    return {
        "session_id": summary.session_id,
        "owner": summary.owner,
        "title": summary.title,
        "messages": summary.message_count,
        "version": summary.version,
        "created_at": _time(summary.created_at_ms if summary.began_at_ms is None else summary.began_at_ms),
        "updated_at": _time(summary.updated_at_ms),
        "expires_in_s": max(0, round((summary.expires_at_ms - now_ms()) / 1000)),
    }


def _row(facts: dict[str, Any]) -> str:
    title = "" if facts["title"] is None else f"  {facts['title']}"
    owner = "-" if facts["owner"] is None else facts["owner"]
    return f"{facts['updated_at']}  {facts['messages']:>6}  {owner:<16}  {facts['session_id']}{title}"


@command("ls")
@click.option("--owner", metavar="OWNER", help="Only this owner's sessions, the last changed first.")
@click.option("--nobody", is_flag=True, help="Only sessions without an owner, the last changed first.")
@click.option("--limit", type=click.IntRange(1), default=_PAGE, show_default=True, help="Most sessions.")
@click.option("--all", "is_all", is_flag=True, help="All sessions, however many.")
@click.option("--cursor", metavar="TEXT", help="Go on behind a page. The page before has told it.")
@place_option
def ls_command(
    operator: Operator,
    output: Output,
    *,
    owner: str | None,
    nobody: bool,
    limit: int,
    is_all: bool,
    cursor: str | None,
    place: str,
) -> None:
    """List sessions: last change (UTC), messages, owner, id and title.

    Without an owner the server walks through its keys, a few at a time, and the order is none.
    """
    access = access_in(operator, place).of(owner if owner is not None else None if nobody else ANY)
    count = 0
    for summary, following in _listed(access, limit, cursor):
        if isinstance(summary, str):
            output.fail(f"{summary} is damaged, and not listed. The command show tells what is left of it.")
            continue
        facts = _facts(summary)
        output.tell(facts, _row(facts))
        count += 1
        if following and count >= limit and not is_all:
            output.note(f"More follow: --cursor {following!r}")
            return


def _listed(access: Access, limit: int, cursor: str | None) -> Iterator[tuple[Summary | str, str | None]]:
    """Give the sessions of each page, the last one of a page with the cursor behind it. A damaged one is an id."""
    while True:
        found = access.store.page(access.owner, cursor, min(limit, 1000), newest_first=True, order="updated")
        cursor = found.next
        yield from ((name, None) for name in found.damaged)
        for number, summary in enumerate(found.sessions, 1):
            yield summary, cursor if number == len(found.sessions) else None
        if cursor is None:
            return


@command("show")
@click.argument("session_id", metavar="ID")
@click.option("--last", type=click.IntRange(0), metavar="N", help="Only the last messages.")
@place_option
def show_command(operator: Operator, output: Output, *, session_id: str, last: int | None, place: str) -> None:
    """Show a session: what is known of it, its data and its messages. That is no interaction."""
    access = access_in(operator, place)
    try:
        snapshot = whole(access.load(session_id, last, is_interaction=False))
        facts, line = (_known_facts(snapshot), line_of(snapshot)) if snapshot else ({}, {})
    except (CorruptValue, ValueError, TypeError, LookupError) as error:
        left = salvage(access, session_id)
        output.fail(f"{session_id} is damaged ({error}). This is left of it:")
        output.tell({"session_id": session_id, "left": left}, json_text.dump(left).decode())
        return
    if not facts:
        output.fail(f"{session_id}: there is no such session.")
        return
    if output.is_json:
        output.tell({**facts, "data": line["data"], "messages": line["messages"]}, "")
        return
    for name, value in facts.items():
        click.echo(f"{name}: {'-' if value is None else value}")
    click.echo(f"data: {json_text.dump(line['data']).decode()}")
    for message in line["messages"]:
        click.echo(f"{_time(message['created_at_ms'])}  {message['seq']:>5}  {_text(message['body'])}")


def _known_facts(snapshot: Snapshot) -> dict[str, Any]:
    return {
        "session_id": snapshot.session_id,
        "owner": snapshot.owner,
        "title": snapshot.title,
        "shape": snapshot.shape,
        "count": snapshot.count,
        "version": snapshot.version,
        "created_at": _time(snapshot.shown_created_at_ms),
        "updated_at": _time(snapshot.updated_at_ms),
        "expires_at": _time(snapshot.expires_at_ms),
        "moved_to": snapshot.moved_to,
        "shared": dict(snapshot.shared),
        "aliases": [alias.name for alias in snapshot.aliases],
    }


@command("tail")
@click.argument("session_id", metavar="ID")
@click.option("-f", "--follow", is_flag=True, help="Go on, and show each message as it comes.")
@click.option(
    "-n", "--last", type=click.IntRange(0), default=_SHOWN_AT_FIRST, show_default=True, help="Messages at first."
)
@place_option
def tail_command(operator: Operator, output: Output, *, session_id: str, follow: bool, last: int, place: str) -> None:
    """Show the last messages of a session, and with -f those that come, until it ends or Ctrl-C."""
    access = access_in(operator, place)
    # Before the look, so that no message is missed between the two.
    changes = events.of_session(access, session_id, heartbeat=_LOOKS) if follow else None
    first = messages_page(access, session_id, limit=max(1, min(last, 1000))).messages
    seen = _told(output, first, 0) if last else first[-1].seq if first else 0
    if changes is not None:
        with contextlib.suppress(KeyboardInterrupt):
            _follow(output, access, session_id, changes, seen)


def _follow(
    output: Output, access: Access, session_id: str, changes: Iterator[events.Change | None], seen: int
) -> None:
    """Print each message behind *seen*, until the session ends."""
    with contextlib.suppress(SessionNotFound):  # it has ended between a change and the look at it
        for change in changes:
            if change is not None and change.kind == "ended":
                break
            if change is not None:
                seen = _told(output, _behind(access, session_id, seen), seen)
    output.note("The session has ended.")


def _behind(access: Access, session_id: str, seen: int) -> Iterator[Message]:
    """Read the messages behind a seq, a page at a time."""
    while True:
        found = messages_page(access, session_id, after=seen, limit=_PAGE).messages
        yield from found
        if len(found) < _PAGE:
            return
        seen = found[-1].seq


def _told(output: Output, messages: Any, seen: int) -> int:
    """Print messages. Return the seq of the last one."""
    for message in messages:
        values = {"seq": message.seq, "created_at": _time(message.created_at_ms), "body": message.body}
        output.tell(values, f"{values['created_at']}  {message.seq:>5}  {_text(message.body)}")
        seen = message.seq
    return seen


def _text(body: Any) -> str:
    """Write a message for people, in one line, and without anything that a terminal would obey."""
    if isinstance(body, dict) and isinstance(body.get("content"), str):
        text = f"{body.get('role', '-')}: {' '.join(body['content'].split())}"
        return "".join(character if character.isprintable() else "\ufffd" for character in text)
    return json_text.dump(body).decode()


@command("stats")
@click.option("--owner", metavar="OWNER", help="Only this owner's sessions.")
@click.option("--census", "is_census", is_flag=True, help="Walk through the keys instead, and count them by kind.")
@click.option(
    "--most", type=click.IntRange(1), default=100_000, show_default=True, help="Most keys that the walk looks at."
)
def stats_command(operator: Operator, output: Output, *, owner: str | None, is_census: bool, most: int) -> None:
    """Tell how many sessions there are, how large, and where they are counted, how many have started and ended.

    What is many is estimated, so that the cost has a bound.
    """
    if is_census:
        _tell_census(operator, output, most)
        return
    found = operator.figures(ANY if owner is None else owner)
    values = {field.name: getattr(found, field.name) for field in fields(found)}
    places = {place: one._asdict() for place, one in found.places.items()}
    output.tell({**values, "average_size": found.average_size, "places": places}, "\n".join(_figure_lines(found)))


def _figure_lines(found: Figures) -> Iterator[str]:
    """Write figures for people, one a line."""
    about = "" if found.is_exact else "about "
    error = "" if found.is_exact else f" (standard error {found.error:.1%})"
    yield f"alive: {about}{found.alive}{error}"
    yield f"messages: {about}{found.messages}"
    yield f"size: {about}{size(found.size)}, {size(found.average_size)} a session"
    if found.since_ms is not None and found.started is not None:
        since = _time(found.since_ms)
        yield f"since {since}: {found.started} started, {found.deleted} deleted, {about}{found.expired} expired"
    for place, one in found.places.items():
        yield f"{place}: {about}{one.alive} alive, {one.messages} messages, {size(one.size)}"


def _tell_census(operator: Operator, output: Output, most: int) -> None:
    client = operator.state.client
    if client is None:
        count = sum(1 for _ in sessions.ids(operator.directly()))
        output.tell({"sessions": count, "whole": True}, f"sessions: {count}")
        return
    found = census(client, operator.settings.prefix, most)
    values = {**found.counts, "keys": found.keys, "whole": found.is_whole, "memory": found.memory}
    lines = [f"{name}: {count}" for name, count in sorted(found.counts.items())]
    lines += [f"memory of {name}: {size(used)}" for name, used in found.memory.items()]
    if not found.is_whole:
        lines.append(f"These are the counts of the first {found.keys} keys. Raise --most for more.")
    output.tell(values, "\n".join(lines))


@command("rm")
@click.argument("session_ids", nargs=-1, required=True, metavar="ID...")
@yes_option
@place_option
def rm_command(operator: Operator, output: Output, *, session_ids: Sequence[str], yes: bool, place: str) -> None:
    """Delete sessions for good. An id that is not there is told, and the exit status is 1."""
    count = len(session_ids)
    confirmed(f"Delete {count} {'session' if count == 1 else 'sessions'} for good?", yes=yes)
    access_in(operator, place)
    access = operator.through_app(place)
    for session_id in session_ids:
        receipt = sessions.delete(access, session_id)
        if receipt is None:
            output.fail(f"{session_id}: there is no such session.")
        else:
            output.tell({"session_id": session_id, "deleted": True}, f"{session_id}: deleted.")
