"""Export and import of sessions. A line of an export is one session, with all its facts as JSON values."""

from __future__ import annotations

import hashlib
import heapq
import itertools
import logging
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain import json_text, value_types
from ..domain.clock import LATEST_MS
from ..domain.commands import Put
from ..domain.messages import STATUSES, Message, Usage, bodies_of, facts_of, join_element, message_of
from ..domain.numbering import Gaps, gaps_between, id_of, seq_in
from ..domain.results import Page, Snapshot
from ..domain.shapes import is_shape, key_of
from ..domain.validation import MAX_SEQ, check_session_id, check_title, is_message_id, without_controls
from ..errors import (
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    SessionExists,
    SessionNotFound,
    StoreError,
    TooManySessions,
    TooSlow,
    is_history_key,
)
from ..sessions import content
from ..sessions.content import ContentLimits
from ..stores.store import pages
from . import aliases
from .access import Access, whole
from .owners import Watch, required

_log = logging.getLogger("flask_convstore")


def export(access: Access, *, after: str | None = None, seconds: float | None = None) -> Iterator[dict[str, Any]]:
    """Export all sessions of an owner, one after the other, as JSON values.

    Args:
        after: The last ``cursor`` of an interrupted export, which goes on behind it.
        seconds: Time after which the export ends behind the next session, which has a ``cursor``. None: no limit.
    """
    watch = Watch(seconds)
    for page in pages(access.store, required(access), after):
        done: set[str] = set()
        ids = _ids(page)
        for session_id in ids:
            line = _line(access, session_id)
            done.add(session_id)
            if line is None:
                continue
            cursor = page.next if len(done) == len(ids) else None
            if not watch.is_running():
                cursor = cursor or _cursor_behind(access, after, done)
            yield {**line, "cursor": cursor} if cursor else line
            if cursor and not watch.is_running():
                return
        after = page.next


def _ids(page: Page) -> list[str]:
    """List the ids of all sessions on a page, those of damaged ones first."""
    return [*page.damaged, *(summary.session_id for summary in page.sessions)]


def _cursor_behind(access: Access, after: str | None, done: Collection[str]) -> str | None:
    """Find the cursor behind the sessions that are *done*, of the page that begins behind *after*. None if there is none.

    A session that was active since stands elsewhere, so that the next one must not be left out in its place.
    """
    count = len(done)
    while count:
        page = access.store.page(required(access), after, count)
        ids = _ids(page)
        known = sum(session_id in done for session_id in ids)
        if known == len(ids):
            return page.next if ids else None
        count = min(known, count - 1)
    return None


def _line(access: Access, session_id: str) -> dict[str, Any] | None:
    """Export one session. None if the session is gone. A damaged session is named, and its damage is logged."""
    try:
        snapshot = whole(access.load(session_id, is_interaction=False))
        return line_of(snapshot) if snapshot else None
    except (CorruptValue, ValueError, TypeError, LookupError) as error:
        _log.error("session %r cannot be exported: %s", session_id, error)
        return {"session_id": session_id, "corrupt": True}


class Failed(NamedTuple):
    """A line that was not imported.

    Attributes:
        line: Its number, from 1.
        session_id: Its session's id. None where the line has none.
        error: The reason.
    """

    line: int
    session_id: str | None
    error: ConvstoreError


class Imported(int):
    """The number of new sessions of an import, which knows the rest of the result.

    Attributes:
        existing: Number of sessions that existed already. They stay as they are.
        failed: The lines that were not imported, each with its reason.
        renamed: The new id of each session whose own id was not free, by the own one.
        complete: False if the time was over before the last line. Import the same again then.
    """

    existing: int
    failed: list[Failed]
    renamed: dict[str, str]
    complete: bool


Given = tuple[int, Mapping[str, Any] | ConvstoreError]
"""A line of an import with its number: an exported session, or the reason why it is none."""


def take_in(access: Access, sessions: Iterable[Mapping[str, Any]]) -> Imported:
    """Import exported sessions, as ``take_in_lines`` does. The lines are counted from 1."""
    return take_in_lines(access, enumerate(sessions, 1))


def take_in_lines(
    access: Access,
    lines: Iterable[Given],
    *,
    keeps_id: Callable[[str], bool] = lambda session_id: True,
    watch: Watch | None = None,
) -> Imported:
    """Import exported sessions, the newest first. Sessions that exist stay as they are.

    Each line stands for itself. An import takes the free places of its owner, and evicts nothing. Repeating it does no harm.

    Args:
        keeps_id: Tells whether a session keeps its own id, if that is free.
        watch: Time after which no more sessions are created. None: no limit.

    Raises:
        InvalidInput: There are lines, and none holds an exported session. Nothing was written.
        TooSlow: Reading the lines takes too long. Nothing was written, and the same lines would take as long again.
    """
    required(access)
    watch = watch or Watch(None)
    wanted = _Import(access, keeps_id, watch)
    try:
        for number, save in wanted.newest(lines):
            if not watch.is_running():
                wanted.complete = False
                break
            wanted.take(number, save)
    except TooSlow:
        if not wanted.has_begun:
            raise
        wanted.complete = False
    return wanted.result()


class _Import:
    """An import on its way.

    Attributes:
        complete: No line was left out because the time was over.
    """

    def __init__(self, access: Access, keeps_id: Callable[[str], bool], watch: Watch) -> None:
        self.complete = True
        self._watch = watch
        self._access = access
        self._keeps_id = keeps_id
        self._count = self._existing = 0
        self._failed: list[Failed] = []
        self._renamed: dict[str, str] = {}

    @property
    def has_begun(self) -> bool:
        """Tell whether a session of the import is there."""
        return bool(self._count or self._existing)

    def newest(self, lines: Iterable[Given]) -> Iterator[tuple[int, Put]]:
        """Give the sessions of *lines* that may find a place, the newest first. The order of equals is kept."""
        most = self._access.settings.max_sessions
        kept: list[tuple[int, int, Put]] = []  # a heap: the oldest first
        for number, line in lines:
            save = self._read(number, line)
            if save is None:
                continue
            if not most:
                yield number, save
                continue
            ranked = save.changed_at_ms or 0, -number, save
            if len(kept) < most:
                heapq.heappush(kept, ranked)
            else:
                _, place, beyond = heapq.heappushpop(kept, ranked)
                self._failed.append(Failed(-place, beyond.session_id, TooManySessions(most)))
        for _, place, save in sorted(kept, reverse=True):
            yield -place, save

    def _read(self, number: int, line: Mapping[str, Any] | ConvstoreError) -> Put | None:
        """Make the command for a line. None if it is no exported session, which is noted."""
        session_id = None
        try:
            if isinstance(line, ConvstoreError):
                raise line
            session_id = line.get("session_id")
            if line.get("corrupt"):
                raise InvalidInput("this session was damaged when it was exported. Nothing was written.")
            return put_of(self._access, line, self._watch)
        except TooSlow:
            raise
        except ConvstoreError as error:
            refused = error
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            refused = _no_export(_in_words(error))
        self._failed.append(Failed(number, session_id if isinstance(session_id, str) else None, refused))
        return None

    def take(self, number: int, save: Put) -> None:
        """Create one session, under its own id if that is free."""
        try:
            if not self._keeps_id(save.session_id) or not self._create(save):
                self._create_renamed(save)
        except StoreError as error:
            error.written = True if self._count else error.written
            raise
        except ConvstoreError as error:
            self._failed.append(Failed(number, save.session_id, error))

    def _create(self, save: Put) -> bool:
        """Create a session, unless it exists. False if its id is another owner's."""
        try:
            self._count += not self._access.apply(save).repeated
        except SessionExists:
            self._existing += 1
        except SessionNotFound:
            return False
        return True

    def _create_renamed(self, save: Put) -> None:
        """Create a session whose own id is not free, under a random one, which nobody could take before.

        An alias in the owner's scope finds the id again when the import is repeated.
        """
        digest = hashlib.blake2b(save.session_id.encode(), digest_size=16).hexdigest()
        alias, renamed = aliases.lead(self._access, f"import:{digest}")
        try:
            if not self._create(replace(save, session_id=renamed)):
                raise SessionNotFound(save.session_id)
        except ConvstoreError as error:
            if error.written is False and not isinstance(error, StoreError):
                aliases.move(self._access, [alias], renamed, None)  # nothing stays of a line that found no place
            raise
        self._renamed[save.session_id] = renamed

    def result(self) -> Imported:
        """Give the result.

        Raises:
            InvalidInput: No line holds an exported session.
        """
        self._failed.sort(key=lambda failed: failed.line)
        is_no_export = not (self._count or self._existing or any(not _is_bad(one.error) for one in self._failed))
        if self._failed and is_no_export and self.complete:
            first, more = self._failed[0], len(self._failed) - 1
            raise _refused(first, more) from first.error
        imported = Imported(self._count)
        imported.existing, imported.failed, imported.renamed = self._existing, self._failed, self._renamed
        imported.complete = self.complete
        return imported


def _no_export(reason: str) -> InvalidInput:
    return InvalidInput(f"this is no exported session, since {reason}. Mend or remove the line. Nothing was written.")


def _in_words(error: Exception) -> str:
    """Tell why Python could not read a line as an exported session."""
    if isinstance(error, KeyError):
        return f"a part named {error} is missing"
    return f"a part has another form than in an export ({error})"


def _is_bad(error: ConvstoreError) -> bool:
    """Tell whether a line itself is bad, and not the moment."""
    return not isinstance(error, TooManySessions)


def _refused(failed: Failed, more: int) -> ConvstoreError:
    """Make the error for an import without any session, from the first line that failed."""
    error = failed.error
    if not isinstance(error, InvalidInput):
        return error
    others = f" {more} more lines are refused too." if more else ""
    place = f"line {failed.line}"
    return InvalidInput(f"{error.reason}{others}", f"{place}, {error.path}" if error.path else place)


def line_of(snapshot: Snapshot, *, is_exact: bool = False) -> dict[str, Any]:
    """Make a line of an export from a session.

    Args:
        is_exact: Values whose types JSON lacks stay tagged, as they are stored. Else they are plain JSON.

    Raises:
        ValueError, TypeError, LookupError: A stored value is damaged.
    """
    bodies = bodies_of(snapshot.elements)
    messages = [message_of(element, seq) for element, seq in zip(snapshot.elements, snapshot.seqs, strict=True)]
    line: dict[str, Any] = {
        "session_id": snapshot.session_id,
        "created_at_ms": snapshot.shown_created_at_ms,
        "updated_at_ms": snapshot.updated_at_ms,
        "shape": snapshot.shape,
        "title": snapshot.title,
        "ttl_ms": snapshot.own_ttl_ms,
        "tokens": snapshot.usage._asdict(),
        "data": {name: json_text.decode(text) for name, text in snapshot.fields.items()},
        "messages": [_exported_message(message) for message in messages],
        "next_seq": snapshot.next_seq,
    }
    has_tags = any(map(value_types.has_tags, itertools.chain(snapshot.fields.values(), snapshot.elements)))
    if has_tags and is_exact:
        line["data"] = {name: json_text.parse(text) for name, text in snapshot.fields.items()}
        for message, body in zip(line["messages"], bodies, strict=True):
            message["body"] = json_text.parse(body)
        return line
    return json_text.parse(json_text.dump(line)) if has_tags else line


def _exported_message(message: Message) -> dict[str, Any]:
    known = {
        "id": facts_of(message).get("id"),
        "metadata": message.metadata,
        "tokens": message.tokens and message.tokens._asdict(),
        "status": message.status,
        "edited_at_ms": message.edited_at_ms,
        "edits": list(message.edits) or None,
    }
    facts = {name: value for name, value in known.items() if value is not None}
    return {"seq": message.seq, "created_at_ms": message.created_at_ms, "body": message.body, **facts}


def put_of(access: Access, line: Mapping[str, Any], watch: Watch, *, is_exact: bool = False) -> Put:
    """Make the command that creates a session from a line of an export, under its own id.

    Args:
        is_exact: The line is one of ``line_of`` with *is_exact*. It may be that of a value of a mapping.

    Raises:
        ConvstoreError, ValueError, TypeError, LookupError, AttributeError: This is no line of an export.
    """
    limits, encode = access.limits, json_text.write if is_exact else json_text.encode
    check_session_id(line["session_id"])
    fields = _stored_fields(line["data"]) if is_exact else content.fields_to_set(line["data"], limits)
    elements = tuple(_imported_element(message, limits, encode) for message in watch.reading(line["messages"]))
    if not (is_exact and line["shape"] == "value"):
        _check_shape(line["shape"], fields, access.limits.history_key, has_messages=bool(elements))
    usage = Usage(**line["tokens"]) if line.get("tokens") else None
    content.check_facts({"tokens": usage or ()}, "session", limits)
    title, ttl_ms = line.get("title"), line.get("ttl_ms")
    began_at_ms, changed_at_ms = _times(line)
    first_seq, gaps = _numbers(line)
    return Put(
        session_id=line["session_id"],
        owner=access.owner,
        mode="create",
        shape=line["shape"],
        fields=fields,
        elements=elements,
        ttl_ms=None if ttl_ms is None else access.ttl_ms(ttl_ms / 1000),
        first_title="" if title is None else check_title(without_controls(title)),
        usage=usage,
        began_at_ms=began_at_ms,
        changed_at_ms=changed_at_ms,
        first_seq=first_seq,
        gaps=gaps,
    )


def _stored_fields(data: Mapping[str, Any]) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, json_text.write(value)) for name, value in data.items())


def _do_rise(seqs: list[Any]) -> bool:
    """Tell whether these are the numbers of messages, each greater than the one before."""
    are_seqs = all(type(seq) is int and 1 <= seq < MAX_SEQ for seq in seqs)
    return are_seqs and all(seq < later for seq, later in itertools.pairwise(seqs))


def _check_ids(ids: list[str], following: Any) -> None:
    """Refuse ids of which two are the same, or one will be that of a message to come.

    Raises:
        InvalidInput: They are refused.
    """
    if len(set(ids)) < len(ids):
        raise _no_export("two of its messages have the same id")
    if any((seq_in(name) or 0) >= following for name in ids):
        raise _no_export("one of its messages has the id of a later one")


def _numbers(line: Mapping[str, Any]) -> tuple[int, Gaps]:
    """Read the seqs of an exported session. Those of a line that has none, or none that rise, begin at 1."""
    seqs = [message.get("seq") for message in line["messages"]]
    last = seqs[-1] if seqs and isinstance(seqs[-1], int) else 0
    following = line.get("next_seq", last + 1)
    if not _do_rise([*seqs, following]):
        seqs = [*range(1, len(seqs) + 1)]
        following = len(seqs) + 1
    numbered = zip(line["messages"], seqs, strict=True)
    _check_ids([message.get("id") or id_of(seq) for message, seq in numbered], following)
    return (seqs[0] if seqs else following), gaps_between(seqs, following)


def _times(line: Mapping[str, Any]) -> tuple[int | None, int]:
    """Read when an exported session was created and last written. A line may lack both."""
    began, changed = line.get("created_at_ms"), line.get("updated_at_ms")
    for time_ms in (began, changed):
        if time_ms is not None:
            _check_time(time_ms)
    return began and max(began, 1), LATEST_MS if changed is None else max(changed, 1)


def _check_shape(shape: Any, fields: Iterable[tuple[str, bytes]], first_key: str, *, has_messages: bool) -> None:
    """Check the shape of an exported session.

    Raises:
        InvalidInput: There is no such shape, the shape has no place for messages, or a field has the key of the history.
    """
    if not is_shape(shape) or shape == "value":
        raise _no_export(f"its shape is {shape!r}")
    if shape == "data" and has_messages:
        raise _no_export("its shape has no messages")
    key = key_of(shape, first_key)
    if key in dict(fields):
        raise is_history_key(str(key))


def _imported_element(line: Mapping[str, Any], limits: ContentLimits, encode: Callable[[Any], bytes]) -> bytes:
    """Make the element of a message from its part of an export."""
    names = ("id", "metadata", "tokens", "edits", "edited_at_ms", "status")  # the status stands last in an envelope
    facts = {name.removesuffix("_ms"): line[name] for name in names if line.get(name) is not None}
    if "tokens" in facts:
        facts["tokens"] = list(Usage(**facts["tokens"]))
    _check_imported(facts, line["created_at_ms"])
    content.check_facts(facts, "message", limits)
    element = join_element(line["created_at_ms"], encode(line["body"]), facts)
    content.check_element(element, message_of(element, 1), limits)
    return element


def _check_imported(facts: Mapping[str, Any], created_at_ms: object) -> None:
    """Check the facts of an exported message beside its body.

    Raises:
        InvalidInput: No export of ours has such a fact.
    """
    for time_ms in (created_at_ms, facts.get("edited_at", 0)):
        _check_time(time_ms)
    if "id" in facts:
        _check_id(facts["id"])
    if facts.get("status", "failed") not in STATUSES:
        raise _no_export(f"one of its messages has the status {facts['status']!r}")
    if not isinstance(facts.get("metadata", {}), dict):
        raise _no_export("the metadata of one of its messages is no object")
    if not isinstance(facts.get("edits", []), list):
        raise _no_export("the edits of one of its messages are no list")


def _check_id(message_id: object) -> None:
    """Check the id of an exported message. It may be ``msg-7``: the message keeps it where its session forgets its seq."""
    if is_message_id(message_id) and not re.fullmatch("[0-9]+", str(message_id)):
        return
    raise _no_export(f"one of its messages has the id {message_id!r}, which no message may have")


def _check_time(time_ms: object) -> None:
    if type(time_ms) is not int or not 0 <= time_ms < LATEST_MS:
        raise _no_export(f"{time_ms!r} is no time in milliseconds")
