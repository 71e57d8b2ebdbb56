"""Sessions in this process: for a first try and for tests, and the readable reference of what every store does.

Nothing survives the process and nothing is shared between processes: with several workers use a server.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from .errors import ConflictError, SessionExists, SessionNotFound, TokenReused
from .models import (
    ANY,
    Append,
    Command,
    Delete,
    Extend,
    Lifetimes,
    Owner,
    Receipt,
    Rewrite,
    Save,
    Shape,
    Snapshot,
    Touch,
)

_Write = Save | Append | Delete

_SWEEP_EVERY_MS = 60_000


def _wall_clock() -> int:
    return time.time_ns() // 1_000_000


@dataclass(slots=True)
class _Session:
    owner: str | None
    shape: Shape
    created: int
    updated: int = 0
    expires: int = 0
    version: int = 0
    ttl: int | None = None
    history_version: int = 0
    first_seq: int = 1
    elements: list[bytes] = field(default_factory=list)
    fields: dict[str, bytes] = field(default_factory=dict)


@dataclass(slots=True)
class _Tokens:
    """The receipts of a session's last writes, with the digest of each; they outlive it."""

    owner: str | None = None
    ended: int = 0
    expires: int = 0
    receipts: OrderedDict[str, tuple[Receipt, str]] = field(default_factory=OrderedDict)


class MemoryStore:
    """A ``Store`` in a dict, under one lock.

    Args:
        lifetimes: How long things live.
        clock: The time in milliseconds since 1970.
    """

    def __init__(self, lifetimes: Lifetimes, clock: Callable[[], int] = _wall_clock) -> None:
        self._lifetimes = lifetimes
        self._clock = clock
        self._lock = threading.RLock()
        self._sessions: dict[str, _Session] = {}
        self._tokens: dict[str, _Tokens] = {}
        self._sweep_at = 64
        self._sweep_time = 0

    def apply(self, command: Command) -> Receipt:
        with self._lock:
            now = self._clock()
            self._sweep(now)
            session = self._visible(command.session_id, command.owner, now)
            if isinstance(command, Touch):
                if not session or _is_another(command, session):
                    raise SessionNotFound(command.session_id)
                session.ttl = command.ttl_ms or session.ttl
                self._move_lifetime(command.session_id, session, now)
                return self._receipt(session, None, None)
            return self._repeated(command, session, now) or self._write(command, session, now)

    def load(self, session_id: str, owner: Owner, last: int | None = None) -> Snapshot | None:
        with self._lock:
            now = self._clock()
            session = self._visible(session_id, owner, now)
            if not session:
                return None
            self._move_lifetime(session_id, session, now)
            count = len(session.elements)
            return Snapshot(
                session_id=session_id,
                version=session.version,
                shape=session.shape,
                created_at_ms=session.created,
                updated_at_ms=session.updated,
                expires_at_ms=session.expires,
                title=None,
                fields=dict(session.fields),
                elements=session.elements[count - min(count, last) :] if last is not None else list(session.elements),
                next_seq=session.first_seq + count,
                count=count,
                history_version=session.history_version,
                key=f"memory://{session_id}",
                history_key=f"memory://{session_id}:history",
            )

    def ping(self) -> float:
        return 0.0

    def close(self) -> None:
        """Nothing to give up: the sessions stay."""

    def _write(self, command: _Write, session: _Session | None, now: int) -> Receipt:
        before = session.history_version if session else 0
        first_seq = None
        if isinstance(command, Save):
            session, first_seq = self._save(command, session, now)
        elif not session or (isinstance(command, Append) and _is_another(command, session)):
            raise SessionNotFound(command.session_id)
        elif isinstance(command, Append):
            first_seq = self._append(command, session, now)
        if isinstance(command, Delete):
            del self._sessions[command.session_id]
            receipt = replace(self._receipt(session, None, before), updated_at_ms=now, expires_at_ms=now)
        else:
            self._move_lifetime(command.session_id, session, now)
            receipt = self._receipt(session, first_seq, before)
        self._remember(command, session, receipt, now)
        return receipt

    def _save(self, command: Save, session: _Session | None, now: int) -> tuple[_Session, int | None]:
        if command.mode == "merge":
            if not session or _is_another(command, session):
                raise SessionNotFound(command.session_id)
            _refuse_collisions(command, session)
        elif session and command.mode == "create":
            raise SessionExists(command.session_id)
        elif session:
            session.fields.clear()
        else:
            session = self._create(command, now)
        for change in command.fields:
            _set_field(session, change.name, change.value)
        session.shape = command.shape or session.shape
        elements = command.history.elements if command.history else None
        _fit_shape(session, bool(elements), any(change.value is not None for change in command.fields))
        session.ttl = command.ttl_ms or session.ttl
        session.version += 1
        session.updated = max(now, session.created)
        if not command.history:
            return session, None
        return session, _change_history(session, command.history)

    def _create(self, command: Save, now: int) -> _Session:
        if command.session_id in self._sessions:
            raise SessionNotFound(command.session_id)  # another owner's
        owner = None if command.owner is ANY else command.owner
        tokens = self._tokens.setdefault(command.session_id, _Tokens(owner))
        if tokens.owner != owner:
            tokens.owner = owner
            tokens.receipts.clear()
        created = max(now, tokens.ended + 1)
        session = self._sessions[command.session_id] = _Session(owner, "full", created)
        return session

    def _append(self, command: Append, session: _Session, now: int) -> int | None:
        if command.expected_version not in (None, session.version):
            raise ConflictError(
                command.session_id, "version", expected=command.expected_version, actual=session.version
            )
        session.version += 1
        session.updated = now
        for name, value in command.fields:
            _set_field(session, name, value)
        if (command.elements and session.shape == "data") or (command.fields and session.shape == "list"):
            session.shape = "full"
        return _change_history(session, Extend(0, command.elements)) if command.elements else None

    def _visible(self, session_id: str, owner: Owner, now: int) -> _Session | None:
        session = self._sessions.get(session_id)
        if session and session.expires <= now:
            del self._sessions[session_id]
            return None
        return session if session and owner in (ANY, session.owner) else None

    def _move_lifetime(self, session_id: str, session: _Session, now: int) -> None:
        complete = session.fields.get("complete") == b"true"
        default = self._lifetimes.ttl_complete_ms if complete else self._lifetimes.ttl_ms
        session.expires = now + (session.ttl or default)
        self._tokens[session_id].expires = session.expires + self._lifetimes.tombstone_ms

    def _repeated(self, command: _Write, session: _Session | None, now: int) -> Receipt | None:
        """The first receipt of a write whose token is known."""
        tokens = self._tokens.get(command.session_id)
        known = tokens and tokens.receipts.get(command.token)
        if not tokens or not known:
            return None
        if not session and (command.session_id in self._sessions or command.owner not in (ANY, tokens.owner)):
            return None
        if session:
            self._move_lifetime(command.session_id, session, now)
        receipt, digest = known
        if digest != command.digest:
            raise TokenReused("this token came before with another request; nothing was written", "token")
        created, expires = (session.created, session.expires) if session else (0, 0)
        return replace(receipt, repeated=True, created_at_ms=created, expires_at_ms=expires)

    def _remember(self, command: _Write, session: _Session, receipt: Receipt, now: int) -> None:
        tokens = self._tokens[command.session_id]
        if isinstance(command, Delete):
            tokens.ended = max(now, session.created)
            tokens.expires = now + self._lifetimes.tombstone_ms
        tokens.receipts[command.token] = receipt, command.digest
        if len(tokens.receipts) > self._lifetimes.max_tokens:
            tokens.receipts.popitem(last=False)

    def _receipt(self, session: _Session, first_seq: int | None, before: int | None) -> Receipt:
        return Receipt(
            version=session.version,
            first_seq=first_seq,
            repeated=False,
            level="memory",
            created_at_ms=session.created,
            updated_at_ms=session.updated,
            expires_at_ms=session.expires,
            history_version_before=before,
        )

    def _sweep(self, now: int) -> None:
        """Forget what has expired: every minute, and each time the number of entries has doubled."""
        if now < self._sweep_time and len(self._tokens) < self._sweep_at:
            return
        self._sweep_time = now + _SWEEP_EVERY_MS
        self._sessions = {key: session for key, session in self._sessions.items() if session.expires > now}
        self._tokens = {key: tokens for key, tokens in self._tokens.items() if tokens.expires > now}
        self._sweep_at = max(64, 2 * len(self._tokens))


def _refuse_collisions(command: Save, session: _Session) -> None:
    def conflict(what: str) -> ConflictError:
        return ConflictError(command.session_id, what, expected=command.loaded_version, actual=session.version)

    if isinstance(command.history, Rewrite) and command.history.history_version != session.history_version:
        raise conflict("history")
    for change in command.fields:
        stored = session.fields.get(change.name)
        if stored != change.loaded and (stored != change.value or _may_hide_changes(stored)):
            raise conflict(change.name)


def _may_hide_changes(text: bytes | None) -> bool:
    """Whether two changes may be hidden in one value that two writers made the same: both may have counted, or appended."""
    return text is not None and text[:1] in b"-0123456789[{"


def _is_another(command: Save | Append | Touch, session: _Session) -> bool:
    """Whether *session* is not the one that is meant, but its successor."""
    return command.created_at_ms not in (None, session.created)


def _fit_shape(session: _Session, messages_given: bool, fields_set: bool) -> None:
    """A session without a history has one with its first message; a bare list is a dict with its first field."""
    if (session.shape == "data" and messages_given) or (session.shape == "list" and fields_set):
        session.shape = "full"


def _change_history(session: _Session, change: Extend | Rewrite) -> int | None:
    """Change the messages; the seq of the first one given."""
    given: Sequence[bytes] = change.elements or ()
    first_given = session.first_seq + len(session.elements)
    oldest = change.drop_below if isinstance(change, Extend) else first_given
    dropped = max(0, min(oldest - session.first_seq, len(session.elements)))
    session.elements = [*session.elements[dropped:], *given]
    session.first_seq += dropped
    session.history_version = session.version
    return first_given if given else None


def _set_field(session: _Session, name: str, value: bytes | None) -> None:
    if value is None:
        session.fields.pop(name, None)
    else:
        session.fields[name] = value
