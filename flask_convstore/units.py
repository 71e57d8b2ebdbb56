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
from typing import Any

from . import changes, codecs
from .changes import Base
from .conversations import Backend
from .converters import Converter
from .errors import ConflictError, ConvstoreError, InvalidInput, NotSerializable, SessionNotFound
from .models import Delete, FieldChange, Mode, Owner, Receipt, Save, bodies_of, new_token
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


class Entry:
    """A value that was loaded or assigned, and what the store is known to hold in its place.

    Attributes:
        value: What the app holds; ``NO_VALUE`` if there is none, or no longer.
        base: What was loaded or written last; None if nothing is known, or nothing is there.
        is_absent: It is known that nothing is there.
        default: The fields of what was set where nothing was: two requests may set the same, and go on from it.
    """

    def __init__(self, place: Place, *, is_absent: bool = False) -> None:
        self.place = place
        self.value: Any = NO_VALUE
        self.base: Base | None = None
        self.is_absent = is_absent
        self.default: Mapping[str, bytes] = {}
        self._removed: Base | None = None

    def load(self, *, is_interaction: bool = True) -> None:
        place = self.place
        snapshot = place.backend.store.load(place.session_id, place.owner, is_interaction=is_interaction)
        self.is_absent = snapshot is None
        self.value, self.base = NO_VALUE, None
        if snapshot is None:
            return
        self.base = changes.base_read(snapshot, place.backend.origin)
        content = content_of(snapshot, place.backend.settings.history_key)
        if place.converter:
            self.value = place.converter.load(content)
        else:
            self.value = based(content, self.base) if isinstance(content, (dict, list)) else content

    def assign(self, value: Any) -> None:
        """Put *value* there.

        Raises:
            InvalidInput: It is to be set where nothing was, and cannot be saved.
        """
        self.value = value
        if self.is_absent:
            _, self.default, _ = changes.texts(self._content(), self.place.backend.form)

    def remove(self) -> Any:
        """Take the value out; what it was."""
        self._removed = self.known()
        value, self.value, self.base = self.value, NO_VALUE, None
        return value

    def known(self) -> Base | None:
        """What the value is to be compared with."""
        session = None if self.is_absent else self._session()
        return base_of(session) if session is not None else self.base

    def command(self) -> Save | Delete | None:
        """What must be written; None if nothing has changed.

        Raises:
            InvalidInput: The value cannot be saved.
        """
        place = self.place
        if self.value is NO_VALUE:
            return None if self.is_absent else self._delete()
        base, content = self.known(), self._content()
        if base:
            return changes.difference(base, content, place.backend.form, place.owner, None)
        mode: Mode = "upsert" if self.is_absent else "replace"
        return changes.whole(place.session_id, content, place.backend.form, place.owner, None, mode)

    def write(self, command: Save | Delete) -> None:
        """Write it; from then on the value is compared with what was written."""
        store, origin = self.place.backend.store, self.place.backend.origin
        if isinstance(command, Delete):
            with contextlib.suppress(*(() if command.expected else (SessionNotFound,))):
                store.apply(command)
            self.is_absent = True
            return
        receipt = _merged(self.place.backend, command, self.default)
        before = self.known()
        self.is_absent = False
        if command.mode == "merge" and before:
            self._rebase(changes.base_merged(before, command, receipt))
            return
        self._rebase(changes.base_created(command, receipt, origin))
        if command.mode == "upsert" and receipt.version > 1:
            self.refresh()  # somebody was faster: what they wrote stands beside ours

    def refresh(self) -> None:
        """Take over, in place, what others wrote since; what was changed here and not yet written stays changed."""
        place = self.place
        before = self.known()
        snapshot = place.backend.store.load(place.session_id, place.owner)
        if snapshot is None:
            self.remove()
            self.is_absent = True
        elif self.value is not NO_VALUE and before:
            base = changes.base_read(snapshot, place.backend.origin)
            content = content_of(snapshot, place.backend.settings.history_key)
            if isinstance(self.value, dict) and isinstance(content, dict):
                self._rebase(_take_over(self.value, before, base, content, place.backend))
            elif isinstance(self.value, list) and isinstance(content, list):
                self._rebase(_take_over_history(self.value, before, base, content, place.backend))

    def _delete(self) -> Delete:
        """Where conflicts are errors, only what was seen is deleted, and only by one."""
        place, seen = self.place, self._removed
        strict = seen and place.backend.settings.conflict == "raise"
        expected = f"{seen.created_at_ms}-{seen.version}" if strict and seen else ""
        return Delete(session_id=place.session_id, owner=place.owner, expected=expected)

    def _content(self) -> Any:
        """The value as JSON can hold it."""
        converter = self.place.converter
        if converter is None:
            return self.value
        try:
            return converter.dump(self.value)
        except Exception as error:
            kind = type(self.value).__name__
            raise NotSerializable(f"dump() of a {kind} raised {type(error).__name__}; nothing was written") from error

    def _session(self) -> Session | ListSession | None:
        """The value, if it is a session of this place, and so knows what it is compared with."""
        return as_session(self.value, self.place.session_id, self.place.backend.origin)

    def _rebase(self, base: Base) -> None:
        self.base = base
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
        return entry

    def assign(self, place: Place, value: Any) -> None:
        """Put *value* there, whatever is there."""
        entry = self._entries.get(place.identity)
        if entry is None:
            entry = self._entries[place.identity] = Entry(place)
        entry.assign(value)

    def remove(self, place: Place) -> None:
        """Leave nothing there, whatever is there."""
        self._entries.setdefault(place.identity, Entry(place)).remove()

    def found(self, place: Place) -> Entry | None:
        """The entry of a place, if it is here already."""
        return self._entries.get(place.identity)

    def entries(self, store: Store, owner: Owner) -> list[Entry]:
        """Those of one mapping."""
        return [entry for entry in list(self._entries.values()) if entry.place.identity[:2] == (store, owner)]

    def flush(self) -> None:
        """Write what differs, one session after the other; nothing if one of them cannot be written as JSON.

        Raises:
            ConvstoreError: One could not be written; *written* tells of all.
        """
        if self.is_void:
            return
        commands = [(entry, self._command(entry)) for entry in list(self._entries.values())]
        self._is_writing = True
        is_written = False
        try:
            for entry, command in commands:
                if command:
                    entry.write(command)
                    is_written = True
        except ConvstoreError as error:
            error.written = True if is_written else error.written
            raise
        finally:
            self._is_writing = False

    def _command(self, entry: Entry) -> Save | Delete | None:
        try:
            return entry.command()
        except InvalidInput as error:
            _log.error("session %r of a mapping cannot be written: %s", entry.place.session_id, error)
            raise

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


_scope: ContextVar[tuple[Unit, Unit | None] | None] = ContextVar("flask_convstore_scope", default=None)
"""The innermost scope's unit, and that of the request in which it was opened."""


@contextlib.contextmanager
def scoped(request_unit: Unit | None) -> Iterator[None]:
    """A unit for a block, written at its end unless it raises."""
    unit = Unit()
    before = _scope.set((unit, request_unit))
    try:
        yield
    finally:
        _scope.reset(before)
    unit.flush()


def units(request_unit: Unit | None) -> list[Unit]:
    """The units of the running code, the one that counts first."""
    scope = _scope.get()
    inner = [scope[0]] if scope and scope[1] is request_unit else []
    return inner + ([request_unit] if request_unit else [])


# ---- merging


def _merged(backend: Backend, save: Save, default: Mapping[str, bytes]) -> Receipt:
    """Write *save*. Where a field was changed by others too: equal is equal, whole numbers add up, else the last wins.

    Where nothing was, all began with *default*: what is still that was not changed.
    """
    store = backend.store
    command = save
    for _ in range(_ATTEMPTS):
        try:
            return store.apply(command)
        except ConflictError as error:
            if not error.is_field:
                raise
            conflict = error
        snapshot = store.load(save.session_id, save.owner, last=0)
        if snapshot is None:
            raise SessionNotFound(save.session_id)
        settled = []
        for change in save.fields:
            stored = snapshot.fields.get(change.name)
            began = default.get(change.name) if change.loaded is None else change.loaded
            if backend.settings.conflict == "raise" and stored not in (change.loaded, began) and change.value != began:
                raise conflict
            settled.append(_settled(change, began, stored))
        command = replace(
            save,
            fields=tuple(change for change, _ in settled),
            overwrites=tuple(change.name for change, overwrites in settled if overwrites),
            token=new_token(),
        )
    raise conflict


def _settled(change: FieldChange, began: bytes | None, stored: bytes | None) -> tuple[FieldChange, bool]:
    """*change* as it must be now that others have *stored* something; and whether that is overwritten."""
    if stored == change.loaded:
        return change, False
    if change.value == began:  # it was others who changed it
        return FieldChange(change.name, stored, stored), False
    numbers = [_whole_number(text) for text in (began, change.value, stored)]
    if None not in numbers:
        loaded, mine, theirs = numbers
        return FieldChange(change.name, stored, codecs.encode(theirs + mine - loaded, change.name)), False  # type: ignore[operator]
    return FieldChange(change.name, stored, change.value), stored not in (change.value, began)


def _whole_number(text: bytes | None) -> int | None:
    return int(text) if text is not None and text.removeprefix(b"-").isdigit() else None


def _take_over(value: dict[str, Any], before: Base, base: Base, content: dict[str, Any], backend: Backend) -> Base:
    """Bring *value*, loaded as *before*, up to *content*, which is *base*; what it is to be compared with from now on."""
    form = backend.form
    _, fields, _ = changes.texts(value, form)
    for name in {**before.fields, **base.fields}:
        if fields.get(name) == before.fields.get(name) != base.fields.get(name):
            if name in content:
                value[name] = content[name]
            else:
                value.pop(name, None)
    theirs, mine = content.get(form.history_key), value.get(form.history_key)
    if theirs is None:
        return base
    if isinstance(mine, list):
        return _take_over_history(mine, before, base, theirs, backend)
    if before.shape != "full":
        value[form.history_key] = theirs
    return base


def _take_over_history(mine: list[Any], before: Base, base: Base, theirs: list[Any], backend: Backend) -> Base:
    """The same for a history. One that was rewritten here stays so, and conflicts in the end if theirs has changed."""
    _, _, given = changes.texts(list(mine), backend.form)
    was, now = bodies_of(before.elements), bodies_of(base.elements)
    dropped = changes.dropped_of(was, [body for body, _ in given or ()])
    if dropped is None:
        return replace(
            base,
            elements=before.elements,
            seqs=before.seqs,
            first_seq=before.first_seq,
            count=before.count,
            history_version=before.history_version,
        )
    kept = len(was) - dropped
    first_kept = [*before.seqs, before.seqs[-1] + 1 if was else 0][dropped]
    start = next((index for index, seq in enumerate(base.seqs) if seq >= first_kept), len(base.seqs))
    if now[start : start + kept] == was[dropped:]:
        mine[kept:kept] = theirs[start + kept :]  # the objects that the app may hold stay in their places
    else:
        mine[:kept] = theirs[start:]
    return base
