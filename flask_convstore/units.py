"""What a request, or a scope, has loaded and changed: found by comparing, written at its end, merged with what others wrote.

The values of all mappings of a request are the entries of one unit. Each entry knows what was loaded, so that only the
differences travel.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from . import changes, codecs, merging
from .changes import Base, Texts
from .conversations import Backend
from .converters import Converter
from .errors import (
    ConflictError,
    ConvstoreError,
    InvalidInput,
    NotSerializable,
    SessionNotFound,
    StoreUnavailable,
    TooLarge,
)
from .models import Delete, FieldChange, Mode, Owner, Receipt, Save, Snapshot, Touch, new_token
from .sessions import ListSession, Session, as_session, base_of, based, content_of, on_base
from .store import Store

_log = logging.getLogger("flask_convstore")

NO_VALUE: Any = object()
"""The value where there is none; None is one."""

_ATTEMPTS = 20
"""How often a save is merged anew when others were faster each time."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value lies, and how it becomes JSON and comes back; None: it is JSON."""

    backend: Backend
    converter: Converter | None
    session_id: str
    owner: Owner

    @property
    def identity(self) -> tuple[Store, Owner, str]:
        return self.backend.store, self.owner, self.session_id

    @property
    def history_key(self) -> str:
        return self.backend.settings.history_key


class _Began(NamedTuple):
    """The fields of what was set where nothing was; as a default, another one's would have done as well."""

    fields: Mapping[str, bytes] = {}
    is_default: bool = False


_EMPTY = (b"null", b"false", b"0", b"0.0", b'""', b"[]", b"{}")


def _settled(change: FieldChange, began: _Began, stored: bytes | None) -> tuple[FieldChange, str]:
    """*change* as it must be now that others have *stored* something: "as it was", "theirs", "added" or "overwritten"."""
    if stored == change.loaded:
        return change, "as it was"
    start = change.loaded
    if start is None:
        start = began.fields.get(change.name)
        if start == change.value and (began.is_default or start in _EMPTY):
            return FieldChange(change.name, stored, stored), "theirs"  # only they have made something of it
    numbers = [merging.whole_number(text) for text in (start, change.value, stored)]
    if None not in numbers:
        loaded, mine, theirs = numbers
        added = codecs.encode(theirs + mine - loaded, change.name)  # type: ignore[operator]
        return FieldChange(change.name, stored, added), "added"
    kind = "theirs" if stored == change.value else "overwritten"
    return FieldChange(change.name, stored, change.value), kind


class Entry:
    """A value that was loaded or assigned, and what the store is known to hold in its place.

    Attributes:
        value: What the app holds; ``NO_VALUE`` if there is none, or no longer.
        is_absent: It is known that nothing is there.
        is_looked_at: It was loaded in passing; to use it is an interaction still to come.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.value: Any = NO_VALUE
        self.is_absent = False
        self.is_looked_at = False
        self._base: Base | None = None
        self._began = _Began()
        self._given: Texts | None = None
        self._removed: Base | None = None
        self._pending: tuple[Save | Delete, Save | Delete] | None = None

    # ---- what the app does

    def load(self, *, is_interaction: bool = True) -> None:
        """Load the value, whatever was here."""
        place = self.place
        self.is_looked_at = not is_interaction
        self._take(place.backend.store.load(place.session_id, place.owner, is_interaction=is_interaction))

    def use(self) -> None:
        """To be used after having been looked at is an interaction."""
        if self.is_looked_at and self._base:
            self.is_looked_at = False
            place, created = self.place, self._base.created_at_ms
            with contextlib.suppress(SessionNotFound):
                place.backend.store.apply(Touch(session_id=place.session_id, owner=place.owner, created_at_ms=created))

    def assign(self, value: Any, *, is_default: bool = False) -> None:
        """Put *value* there; *is_default*: for want of another.

        Raises:
            InvalidInput: It is to be set where nothing was, and cannot be saved.
        """
        if self.is_absent and self.value is NO_VALUE:
            self._began = _Began(self._texts(value)[1], is_default)
        self.value = value

    def remove(self) -> Any:
        """Take the value out; what it was."""
        self._removed = self.known()
        value, self.value, self._base = self.value, NO_VALUE, None
        return value

    # ---- what is written

    def known(self) -> Base | None:
        """What the value is to be compared with: what was loaded or written last, here or by saving the session itself."""
        session = None if self.is_absent else self._session()
        bases = [base for base in (self._base, session and base_of(session)) if base]
        return max(bases, key=lambda base: (base.created_at_ms, base.version), default=None)

    def command(self) -> Save | Delete | None:
        """What must be written; None if nothing has changed.

        Raises:
            InvalidInput: The value cannot be saved.
        """
        place = self.place
        if self.value is NO_VALUE:
            return None if self.is_absent else self._delete()
        base, content = self.known(), self._content(self.value)
        if base:
            return changes.difference(base, content, place.backend.form, place.owner, None, given=self._given)
        mode: Mode = "upsert" if self.is_absent else "replace"
        return changes.whole(place.session_id, content, place.backend.form, place.owner, None, mode)

    def write(self, command: Save | Delete) -> None:
        """Write it; from then on the value is compared with what was written."""
        store = self.place.backend.store
        if isinstance(command, Delete):
            try:
                self._noting(command, command)
            except SessionNotFound:
                if command.expected:
                    raise
            self.is_absent = True
            return
        attempt = command
        for _ in range(_ATTEMPTS):
            try:
                self._landed(command, self._noting(command, attempt))
                return
            except ConflictError as error:
                if not error.is_field:
                    raise
                conflict = error
            snapshot = store.load(command.session_id, command.owner, last=0)
            if snapshot is None:
                raise SessionNotFound(command.session_id)
            strict = self.place.backend.settings.conflict == "raise"
            fields = [_settled(change, self._began, snapshot.fields.get(change.name)) for change in command.fields]
            if strict and any(kind in ("added", "overwritten") for _, kind in fields):
                raise conflict
            attempt = replace(
                command,
                fields=tuple(change for change, _ in fields),
                overwrites=tuple(change.name for change, kind in fields if kind == "overwritten"),
                token=new_token(),
            )
        raise conflict

    def finish_pending(self) -> None:
        """Repeat a write whose answer never came, with its token: only then is it known what to compare with."""
        if self._pending is None:
            return
        command, attempt = self._pending
        try:
            receipt = self._noting(command, attempt)
        except (ConflictError, TooLarge, SessionNotFound):
            return  # it had not landed, and does not fit any more
        if isinstance(command, Save):
            self._landed(command, receipt)
        else:
            self.is_absent = True

    # ---- what others write

    def refresh(self) -> None:
        """Take over, in place, what others wrote since; what was changed here and not yet written stays changed."""
        place, before = self.place, self.known()
        snapshot = place.backend.store.load(place.session_id, place.owner)
        if snapshot is None:
            self.remove()
            self.is_absent = True
        elif self.value is NO_VALUE:
            if self.is_absent:
                self._take(snapshot)
        elif before:
            base, content = changes.base_read(snapshot, place.backend.origin), content_of(snapshot, place.history_key)
            same_kind = isinstance(content, dict if isinstance(self.value, dict) else list)
            if same_kind and isinstance(self.value, (dict, list)) and not place.converter:
                self._rebase(merging.take_over(self.value, before, base, content, place.backend.form))
            elif changes.difference(before, self._content(self.value), place.backend.form, None, None) is None:
                self._take(snapshot)

    # ---- inside

    def _take(self, snapshot: Snapshot | None) -> None:
        """The value as it was stored, or none."""
        place = self.place
        self.is_absent = snapshot is None
        self.value, self._base, self._given = NO_VALUE, None, None
        if snapshot is None:
            return
        self._base = changes.base_read(snapshot, place.backend.origin)
        content = content_of(snapshot, place.history_key)
        if place.converter is None:
            self.value = based(content, self._base) if isinstance(content, (dict, list)) else content
            return
        self.value = place.converter.load(content)
        with contextlib.suppress(InvalidInput):
            self._given = self._texts(self.value)

    def _noting(self, command: Save | Delete, attempt: Save | Delete) -> Receipt:
        """Write *attempt*; what *command* wants is pending if no answer comes: it may have landed."""
        self._pending = None
        try:
            return self.place.backend.store.apply(attempt)
        except StoreUnavailable as error:
            self._pending = (command, attempt) if error.written is None else None
            raise

    def _landed(self, command: Save, receipt: Receipt) -> None:
        before = self.known()
        self.is_absent, self._began = False, _Began()
        with contextlib.suppress(InvalidInput):
            self._given = self._texts(self.value) if self.place.converter else None
        if command.mode == "merge" and before:
            self._rebase(changes.base_merged(before, command, receipt))
            return
        self._rebase(changes.base_created(command, receipt, self.place.backend.origin))
        if command.mode == "upsert" and receipt.version > 1:
            self.refresh()  # somebody was faster: what they wrote stands beside ours

    def _delete(self) -> Delete:
        """Where conflicts are errors, only what was seen is deleted, and only by one."""
        place, seen = self.place, self._removed
        strict = seen and place.backend.settings.conflict == "raise"
        expected = f"{seen.created_at_ms}-{seen.version}" if strict and seen else ""
        return Delete(session_id=place.session_id, owner=place.owner, expected=expected)

    def _content(self, value: Any) -> Any:
        """*value* as JSON can hold it."""
        converter = self.place.converter
        if converter is None:
            return value
        try:
            return converter.dump(value)
        except Exception as error:
            kind = type(value).__name__
            raise NotSerializable(f"dump() of a {kind} raised {type(error).__name__}; nothing was written") from error

    def _texts(self, value: Any) -> Texts:
        return changes.texts(self._content(value), self.place.backend.form)

    def _session(self) -> Session | ListSession | None:
        """The value, if it is a session of this place, and so knows what it is compared with."""
        return as_session(self.value, self.place.session_id, self.place.backend.origin)

    def _rebase(self, base: Base) -> None:
        self._base = base
        session = self._session()
        if session is not None:
            on_base(session, base)


class Unit:
    """What one request, or one scope, has loaded and changed.

    Attributes:
        is_void: Nothing of it shall be written any more.
    """

    def __init__(self) -> None:
        self._entries: dict[tuple[Store, Owner, str], Entry] = {}
        self._is_writing = False
        self.is_void = False

    def entry(self, place: Place, *, is_interaction: bool = True) -> Entry:
        """The entry of a place; loaded if it is not here yet."""
        entry = self._entries.get(place.identity)
        if entry is None:
            entry = Entry(place)
            entry.load(is_interaction=is_interaction)
            entry = self._entries.setdefault(place.identity, entry)
        elif is_interaction:
            entry.use()
        return entry

    def assign(self, place: Place, value: Any) -> None:
        """Put *value* there, whatever is there."""
        self._entries.setdefault(place.identity, Entry(place)).assign(value)

    def remove(self, place: Place) -> None:
        """Leave nothing there, whatever is there."""
        self._entries.setdefault(place.identity, Entry(place)).remove()

    def found(self, place: Place) -> Entry | None:
        """The entry of a place, if it is here already."""
        return self._entries.get(place.identity)

    def added(self, store: Store, owner: Owner) -> list[str]:
        """The ids of one mapping's values that were assigned, and are perhaps not stored yet."""
        entries = [entry for entry in list(self._entries.values()) if entry.place.identity[:2] == (store, owner)]
        return [e.place.session_id for e in entries if e.value is not NO_VALUE and e.known() is None]

    def flush(self) -> None:
        """Write what differs, one session after the other; nothing if one of them cannot be written as JSON.

        Raises:
            ConvstoreError: One could not be written; *written* tells of all.
        """
        if self.is_void:
            return
        entries = list(self._entries.values())
        is_written = False
        self._is_writing = True
        try:
            for entry in entries:
                entry.finish_pending()
            for entry, command in [(entry, _command(entry)) for entry in entries]:
                if command:
                    entry.write(command)
                    is_written = True
        except ConvstoreError as error:
            error.written = True if is_written else error.written
            raise
        finally:
            self._is_writing = False

    def refresh(self, store: Store, session_id: str) -> None:
        """Others have written to a session: take that over. What fails is logged: merging at the end copes with it too."""
        if self._is_writing:
            return
        for entry in list(self._entries.values()):
            if entry.place.session_id == session_id and entry.place.backend.store is store:
                try:
                    entry.refresh()
                except ConvstoreError as error:
                    _log.warning("a loaded session was not brought up to date: %s", error)


def _command(entry: Entry) -> Save | Delete | None:
    try:
        return entry.command()
    except InvalidInput as error:
        _log.error("session %r of a mapping cannot be written: %s", entry.place.session_id, error)
        raise


class _Scope(NamedTuple):
    """A scope's unit, that of the request in which it was opened, and the scope around it."""

    unit: Unit
    request_unit: Unit | None
    outer: _Scope | None


_innermost: ContextVar[_Scope | None] = ContextVar("flask_convstore_scope", default=None)


@contextlib.contextmanager
def scoped(request_unit: Unit | None) -> Iterator[None]:
    """A unit for a block, written at its end unless it raises."""
    scope = _Scope(Unit(), request_unit, _innermost.get())
    before = _innermost.set(scope)
    try:
        yield
    finally:
        _innermost.reset(before)
    scope.unit.flush()


def units(request_unit: Unit | None) -> list[Unit]:
    """The units of the running code, the one that counts first."""
    found, scope = [], _innermost.get()
    while scope and scope.request_unit is request_unit:
        found.append(scope.unit)
        scope = scope.outer
    return found + ([request_unit] if request_unit else [])
