"""Sessions: save, get, create, start, delete, append, touch and list them.

Each operation checks its values, and makes one command or one read of them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from types import NoneType
from typing import Any

from ..domain.clock import now_ms
from ..domain.commands import (
    ANYTHING,
    Append,
    Delete,
    Extend,
    FieldChange,
    Merge,
    Mode,
    Rewrite,
    Touch,
    digest_if_known,
    digest_of,
    token_or_new,
)
from ..domain.ids import id_named, new_id
from ..domain.messages import Message
from ..domain.results import Page, Receipt, Snapshot, Summary
from ..domain.shapes import full
from ..domain.titles import TITLED_ROLE
from ..domain.types import ORDERS, Lifetime, Order
from ..domain.validation import check_session_id, check_whole
from ..errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    NothingKnown,
    SessionExists,
    SessionNotFound,
    StoreUnavailable,
    TooLarge,
)
from ..sessions import content, diff
from ..sessions.baseline import Pending, base_created, base_merged
from ..sessions.content import Content, ContentLimits
from ..sessions.session import AnySession, as_session, base_of, based, loaded, on_base
from ..stores.store import pages
from .access import NOT_SEEN, Access, Loaded, in_time
from .merging import NOTHING, attempts, behind_theirs, beside_theirs
from .salvage import damage_log

MAX_LOADED = 2**31
"""Most messages that one read asks for. No session holds so many, and every server takes the number."""


@in_time
def save(access: Access, session_id: str, data: Content, ttl: Lifetime | None = None) -> AnySession:
    """Save a session, and return *data* as a session.

    A loaded session is merged, and returned itself. Any other value replaces the session or creates it.
    """
    check_session_id(session_id)
    _check_content(data)
    ttl_ms = access.ttl_ms(ttl)
    origin = access.backend.origin
    session = as_session(data, session_id, origin)
    if session is None:
        command = diff.whole(session_id, data, access.limits, access.owner, ttl_ms)
        command = replace(command, seen_in_part=access.seen_in_part(session_id))
        receipt = access.apply(command)
        if command.seen_in_part is not None:
            access.note_seen_in_part(session_id, len(command.elements))
        return based(data, base_created(command, receipt, origin))
    _finish_pending(access, session)
    base = base_of(session)
    difference = diff.difference(base, data, access.limits, access.owner, ttl_ms)
    if difference is None:
        touch = Touch(
            session_id=session_id, owner=access.owner, created_at_ms=base.snapshot.created_at_ms, ttl_ms=ttl_ms
        )
        receipt = access.apply(touch)
        return on_base(session, base.but(expires_at_ms=receipt.expires_at_ms))
    return _merge(access, session, difference)


def _finish_pending(access: Access, session: AnySession) -> None:
    """Repeat an unacknowledged save with its token. From then on the baseline is known."""
    pending = base_of(session).pending
    if not pending:
        return
    try:
        receipt = _send(access, session, pending)
    except (ConflictError, TooLarge):
        # The save had not landed, and does not fit any more. The next difference starts from the baseline before it.
        on_base(session, replace(base_of(session), pending=None))
    else:
        _landed(access, session, pending, receipt)


def _merge(access: Access, session: AnySession, command: Merge) -> AnySession:
    """Write *command* and rebase *session*. A field that others have changed too is merged, as often as they were faster."""
    attempt = command
    for _ in attempts(access, command.session_id):
        save = Pending(command, attempt)
        try:
            return _landed(access, session, save, _send(access, session, save))
        except ConflictError as conflict:
            if isinstance(command.history, Rewrite):
                raise
            if conflict.is_field and not isinstance(attempt.history, Rewrite):
                attempt = beside_theirs(access, command, attempt, NOTHING, conflict)
            else:
                attempt = behind_theirs(access, command, base_of(session), NOTHING, conflict)
    raise AssertionError("attempts() raises in the end")


def _send(access: Access, session: AnySession, save: Pending) -> Receipt:
    """Send *save*. If it may have landed without an answer, it stays pending."""
    try:
        return access.send(save.attempt)
    except StoreUnavailable as error:
        if error.written is not False:
            on_base(session, replace(base_of(session), pending=save))
        raise


def _landed(access: Access, session: AnySession, save: Pending, receipt: Receipt) -> AnySession:
    """Rebase *session*. The baseline then holds what *session* holds, and nothing of what others wrote."""
    rebased = on_base(session, base_merged(base_of(session), save.command, receipt, save.attempt.token))
    access.tell(save.attempt, receipt)  # not before the session has its new baseline
    return rebased


@in_time
def get(
    access: Access, session_id: str, *, last: int | None = None, fields: Iterable[str] | None = None
) -> AnySession | None:
    """Load a session with its *last* messages, or all, and these data *fields*, or all.

    None if this owner has no such session.
    """
    check_session_id(session_id)
    if last is not None:
        check_whole(last, "last")
        last = min(last, MAX_LOADED)
    origin = access.backend.origin
    is_undecoded = bool(_undecoded) and (origin, session_id) in _undecoded
    names = None if fields is None else _field_names(fields)
    snapshot = access.load(session_id, last, is_interaction=not is_undecoded, fields=names)
    if snapshot is None:
        return None
    access.note_seen(snapshot)
    try:
        session = loaded(snapshot, access.limits.history_key, origin)
    except CorruptValue:
        if len(_undecoded) < _MOST_UNDECODED:
            _undecoded[origin, session_id] = None
        raise
    if is_undecoded:  # somebody has mended it
        _undecoded.pop((origin, session_id), None)
        touch(access, session_id)
    return session


def known(
    access: Access, session_id: str, *, last: int | None = None, fields: Iterable[str] | None = None
) -> AnySession | None:
    """Load a session as ``get``, as far as it is known. None also where the store is away and nothing is known here."""
    try:
        return get(access, session_id, last=last, fields=fields)
    except NothingKnown:
        access.note_seen_in_part(session_id)
        return None


def shown(
    access: Access, session_id: str, *, last: int | None = None, fields: Iterable[str] | None = None
) -> AnySession:
    """Load a session to show it, as ``existing`` does. An empty one where the store is away and nothing is known here."""
    try:
        return existing(access, session_id, last=last, fields=fields)
    except NothingKnown as error:
        return loaded(_empty(access, session_id, error.fallback), access.limits.history_key, access.backend.origin)


def _empty(access: Access, session_id: str, fallback: str) -> Snapshot:
    """A session of which nothing is known."""
    now = now_ms()
    return Snapshot(
        session_id=session_id,
        shape=full(access.limits.history_key),
        version=1,
        created_at_ms=now,
        updated_at_ms=now,
        expires_at_ms=now + round(access.settings.ttl * 1000),
        count=0,
        fallback=fallback,
        partial=True,
    )


_undecoded: dict[tuple[str, str], None] = {}
"""Sessions with a field or a message that this process could not decode, by their stores.

A store does not look into values, and has moved the lifetime by then. From then on reading such a session is no interaction.
Otherwise it would live for as long as somebody tries.
"""
_MOST_UNDECODED = 1000


def _field_names(fields: Iterable[str]) -> tuple[str, ...]:
    """Check names of data fields that are asked for. Each is taken once.

    Raises:
        InvalidInput: *fields* is no collection of texts.
        TooLarge: There are too many.
    """
    names = () if isinstance(fields, (str, bytes)) else tuple(dict.fromkeys(fields))
    if isinstance(fields, (str, bytes)) or not all(isinstance(name, str) for name in names):
        raise InvalidInput(f"must be a list of names of fields, not {fields!r}", "fields")
    content.check_count(len(names))
    return names


def existing(
    access: Access, session_id: str, *, last: int | None = None, fields: Iterable[str] | None = None
) -> AnySession:
    """Load a session.

    Raises:
        SessionNotFound: This owner has no such session.
    """
    session = get(access, session_id, last=last, fields=fields)
    if session is None:
        raise SessionNotFound(session_id)
    return session


@in_time
def setdefault(access: Access, session_id: str, data: Content, ttl: Lifetime | None = None) -> AnySession:
    """Load a session, or create it with *data*. As with a dict, the first caller creates it."""
    _check_content(data)
    for _ in attempts(access, session_id):
        session = known(access, session_id)
        if session is not None:
            return session
        with contextlib.suppress(SessionExists):  # another caller was faster
            return create(access, session_id, data, ttl=ttl)[0]
    raise AssertionError("attempts() raises in the end")


@in_time
def create(
    access: Access,
    session_id: str,
    data: Content,
    message: Message | None = None,
    *,
    ttl: Lifetime | None = None,
    token: str | None = None,
    digest: str = "",
    is_first: bool = False,
    may_start_away: bool = False,
) -> tuple[AnySession, Receipt]:
    """Create a session, once, and return it with the receipt.

    Args:
        message: The message that will follow. Too large a message is refused before anything is written.
        digest: Tells this request from other requests with the same *token*.
        is_first: Create only if there has been no such session within the last day either.
        may_start_away: While the store is away the session may be started in the fallback, under an id that says so.

    Raises:
        SessionExists: There is such a session, and this *token* did not make it. Nothing was written.
        SessionNotFound: The id is another owner's. With *is_first*, there was such a session. Nothing was written.
        NotSerializable, TooLarge: Nothing was written.
    """
    check_session_id(session_id)
    if message:
        content.added([message], access.limits)
    mode: Mode = "first" if is_first else "create"
    command = diff.whole(session_id, data, access.limits, access.owner, access.ttl_ms(ttl), mode)
    if token:
        command = replace(command, may_start_away=may_start_away, token=token, digest=digest)
    elif may_start_away:
        command = replace(command, may_start_away=True)
    receipt = access.apply(command)
    return based(data, base_created(command, receipt, access.backend.origin)), receipt


def start(
    access: Access,
    data: Content,
    message: Message | None = None,
    *,
    ttl: Lifetime | None = None,
    token: str | None = None,
    digest: str = "",
) -> tuple[AnySession, Receipt]:
    """Create a session under a new id, as ``create`` does.

    The same *token*, which needs a *digest*, leads to the same session. While the store is away the session may be
    started in the fallback, under an id that says so.
    """
    session_id = id_named(token) if token else new_id()
    access.count_turn()
    return create(access, session_id, data, message, ttl=ttl, token=token, digest=digest, may_start_away=True)


@in_time
def delete(access: Access, session_id: str, *, expected: str = "", token: str | None = None) -> Receipt | None:
    """Delete a session for good. None if there was none.

    Args:
        token: Names this call. A repeat gets the first answer, and deletes no session that was begun since.
        expected: The version that the session must have, or its state (an ETag, ``<created_ms>-<version>``). "": any.

    Raises:
        ConflictError: The session has another version. Nothing was written.
    """
    check_session_id(session_id)
    try:
        return access.apply(
            Delete(
                session_id=session_id,
                owner=access.owner,
                expected=expected,
                token=token_or_new(token),
                digest="" if token is None else digest_of("delete", ()),
            )
        )
    except SessionNotFound:
        return None


@in_time
def append(
    access: Access,
    session_id: str,
    messages: tuple[Any, ...],
    *,
    data: Mapping[str, Any] | None = None,
    token: str | None = None,
    expected_version: int | None = None,
    create: bool = False,
    ttl: Lifetime | None = None,
) -> Receipt:
    """Add *messages* at the end and set the fields in *data*, all or nothing, in one round trip for any length."""
    units = access.units()
    command = appending(access, units, session_id, messages, data, token, expected_version)
    if not create:
        if ttl is not None:
            raise InvalidInput("is for a session that append(create=True) makes. Nothing was written.", "ttl")
        return access.apply(command, units)
    if expected_version is not None:
        reason = "a session that may have to be created has no version yet. Nothing was written."
        raise InvalidInput(reason, "expected_version")
    return access.apply(_creating(command, access.ttl_ms(ttl), access.limits), units)


def appending(
    access: Access,
    units: Sequence[Loaded],
    session_id: str,
    messages: tuple[Any, ...],
    data: Mapping[str, Any] | None = None,
    token: str | None = None,
    expected_version: int | None = None,
) -> Append:
    """Make the command that adds *messages* and sets the fields in *data*."""
    check_session_id(session_id)
    if not _DICT.issuperset(map(type, messages)):
        messages = _as_meant(messages)
    if not messages and not data:
        raise InvalidInput("append needs a message or data. Nothing was written.")
    if expected_version is not None:
        check_whole(expected_version, "expected_version")
    limits = access.limits
    elements, first_title, usage = content.added(messages, limits)
    fields = content.fields_to_set(data, limits) if data else ()
    created_at_ms, loaded_version = access.seen(units, session_id) if units else NOT_SEEN
    return Append(
        session_id=session_id,
        owner=access.owner,
        elements=elements,
        fields=fields,
        expected="" if expected_version is None else str(expected_version),
        created_at_ms=created_at_ms,
        loaded_version=loaded_version,
        first_title=first_title,
        usage=usage,
        token=token_or_new(token),
        digest=digest_if_known(token, "append", elements, fields),
    )


def _creating(command: Append, ttl_ms: int | None, limits: ContentLimits) -> Merge:
    """Make of *command* one that creates the session where there is none."""
    return Merge(
        session_id=command.session_id,
        owner=command.owner,
        fields=tuple(FieldChange(name, ANYTHING, text) for name, text in command.fields),
        history=Extend(0, command.elements),
        shape=full(limits.history_key) if command.elements else "data",
        creates=True,
        ttl_ms=ttl_ms,
        first_title=command.first_title,
        usage=command.usage,
        token=command.token,
        digest=command.digest,
    )


@in_time
def append_many(
    access: Access, messages: Mapping[str, Sequence[Any]], *, tokens: Mapping[str, str] | None = None
) -> dict[str, Receipt | ConvstoreError]:
    """Add messages to several sessions in one round trip, each all or nothing for itself."""
    if not isinstance(messages, Mapping):
        raise InvalidInput("append_many takes a dict: a list of messages for each session id. Nothing was written.")
    known, units = tokens or {}, access.units()
    commands = [
        appending(
            access, units, session_id, (added,) if isinstance(added, str) else tuple(added), token=known.get(session_id)
        )
        for session_id, added in messages.items()
    ]
    return dict(zip(messages, access.apply_each(commands), strict=True))


@in_time
def touch(access: Access, session_id: str, *, ttl: Lifetime | None = None) -> bool:
    """Move the lifetime, and change it if *ttl* (seconds) is given. False if there is no such session."""
    check_session_id(session_id)
    try:
        access.apply(Touch(session_id=session_id, owner=access.owner, ttl_ms=access.ttl_ms(ttl)))
    except SessionNotFound:
        return False
    return True


def exists(access: Access, session_id: str) -> bool:
    """Tell whether there is such a session, as far as is known. It moves the lifetime."""
    try:
        return touch(access, session_id)
    except NothingKnown:
        access.note_seen_in_part(session_id)
        return False


@in_time
def page(
    access: Access,
    *,
    cursor: str | None = None,
    limit: int = 50,
    order: Order = "updated",
    newest_first: bool = True,
) -> Page:
    """List a page of the owner's sessions, by last change (``updated``) or last interaction (``active``)."""
    check_whole(limit, "limit", 1, 1000)
    if order not in ORDERS:
        raise InvalidInput(f"must be one of {', '.join(ORDERS)}, not {order!r}", "order")
    found = access.store.page(access.owner, cursor, limit, newest_first=newest_first, order=order)
    tell_of_damaged(access, found)
    return found


def summaries(access: Access, *, newest_first: bool = False) -> Iterator[Summary]:
    """Walk through all sessions of the owner, a page at a time. A session may come twice."""
    for found in pages(access.store, access.owner, newest_first=newest_first):
        tell_of_damaged(access, found)
        yield from found.sessions


def tell_of_damaged(access: Access, found: Page) -> None:
    """Warn of the damaged sessions that a page leaves out."""
    for session_id in found.damaged:
        key = f"{access.settings.prefix}{{{session_id}}}"
        damage_log.tell(CorruptValue(key, "it has lost its messages, or is not a session of flask-convstore"))


def ids(access: Access) -> Iterator[str]:
    """Walk through the ids of all sessions of the owner, also of damaged ones. An id may come twice."""
    for found in pages(access.store, access.owner):
        yield from (summary.session_id for summary in found.sessions)
        yield from found.damaged


_ROLES = frozenset({"user", "assistant", "system", "tool", "developer", "model"})

_RIGHT_LINE = '(session_id, {"role": "user", "content": …})'

_DICT = frozenset({dict})

_NO_MESSAGES = (bool, int, float, bytes, list, tuple, set, frozenset, NoneType)
"""Types of bodies that an app only means if it puts them into a ``Message``."""


def _as_meant(messages: tuple[Any, ...]) -> tuple[Any, ...]:
    """Spread a single list of messages, and make the user's messages of bare texts.

    Raises:
        InvalidInput: Something else was given instead of messages.
    """
    if len(messages) == 1 and isinstance(messages[0], (list, tuple)):
        return _of_list(messages[0])
    if len(messages) == 2 and all(isinstance(one, str) for one in messages) and not _ROLES.isdisjoint(messages):
        raise _no_message("a role and a text", f"append{_RIGHT_LINE}")
    return tuple(map(as_message, messages))


def as_message(message: Any, call: str = "append") -> Any:
    """Make the user's message of a text. Dicts, messages of an SDK, and ``Message`` objects stay.

    Raises:
        InvalidInput: It is no message.
    """
    if isinstance(message, str):
        return {"role": TITLED_ROLE, "content": message}
    if isinstance(message, _NO_MESSAGES):
        kind = type(message).__name__
        raise _no_message("None" if message is None else f"one of type {kind}", f"{call}{_RIGHT_LINE}", call)
    return message


def _of_list(messages: Sequence[Any]) -> tuple[Any, ...]:
    """Check the messages of a list. Texts and parts of a content in a list are refused, since they may be one message."""
    for message in messages:
        if isinstance(message, dict) and "type" in message and "role" not in message:
            raise _no_message("the parts of one", f"append{_RIGHT_LINE.replace('…', 'parts')}")
        if isinstance(message, str):
            each = 'append(session_id, *({"role": "user", "content": text} for text in texts))'
            raise _no_message("a list of texts", each)
    return tuple(map(as_message, messages))


def _no_message(given: str, cure: str, call: str = "append") -> InvalidInput:
    own = "For a body of your own shape write Message(body)"
    return InvalidInput(f"{call} takes messages, not {given}: write {cure}. {own}. Nothing was written.")


def _check_content(data: object) -> None:
    if not isinstance(data, (Mapping, list)):
        raise InvalidInput(f"a session is a dict or a list, not a {type(data).__name__}. Nothing was written.")
