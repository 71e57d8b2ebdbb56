"""One value of a mapping: what the app holds, what the store is known to hold in its place, and how one becomes the other.

It is loaded, assigned or removed by the app; found changed by comparing, written, and merged with what others wrote; and
brought up to date when something is written through another door.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain.commands import Delete, Extend, Merge, Put, Rewrite, Touch
from ..domain.messages import bodies_of, join_element
from ..domain.results import Receipt, Snapshot
from ..domain.types import Owner
from ..errors import (
    ConflictError,
    ConvstoreError,
    InvalidInput,
    NotSerializable,
    SessionExists,
    SessionMoved,
    SessionNotFound,
    StoreUnavailable,
    TooLarge,
)
from ..operations.access import Access
from ..operations.merging import behind_theirs, beside_theirs
from ..sessions import content, diff, merge
from ..sessions.baseline import Baseline, base_created, base_merged, base_read
from ..sessions.content import Texts
from ..sessions.merge import Began
from ..sessions.session import ListSession, Session, as_session, base_of, based, content_of, content_of_base, on_base
from ..stores.store import Store
from .converters import Converter

NO_VALUE: Any = object()
"""The value where there is none; None is one."""

Identity = tuple[Store, Owner, str, Any]
"""Store, owner, session id, and the converter's source."""

_ATTEMPTS = 1000
"""How often a save is merged anew when others were faster each time: more than can happen by chance."""


class Place:
    """The place of a value in a store.

    Attributes:
        converter: Turns the value into JSON and back. None: the value is JSON.
        identity: Tells places apart in one unit of work.
    """

    __slots__ = ("access", "converter", "history_key", "identity", "origin", "session_id")

    def __init__(self, access: Access, converter: Converter | None, session_id: str) -> None:
        self.access = access
        self.converter = converter
        self.session_id = session_id
        self.identity: Identity = (access.store, access.owner, session_id, converter and converter.source)
        self.history_key = access.settings.history_key
        self.origin = access.backend.origin


class _Pending(NamedTuple):
    """A write whose answer never came: what it was for, what was sent, and the value's texts then, if it has a converter."""

    command: Put | Merge | Delete
    attempt: Put | Merge | Delete
    given: Texts | None


class TrackedValue:
    """A value that was loaded or assigned, and what the store is known to hold in its place.

    Attributes:
        value: What the app holds; ``NO_VALUE`` if there is none, or no longer.
        is_absent: It is known that nothing is there.
        is_looked_at: It was loaded in passing; to use it is an interaction still to come.
        is_stale: The next read takes over what others wrote.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.value: Any = NO_VALUE
        self.is_absent = False
        self.is_looked_at = False
        self.is_stale = False
        self._base: Baseline | None = (
            None  # of the value as it was loaded or written last; a saved session may know more
        )
        self._began = Began()
        self._given: Texts | None = None  # what load= has made of what is stored: it may hold less, or in another form
        self._removed: Baseline | None = None  # of the value that was taken out
        self._refreshed: Baseline | None = None  # what others wrote, as it was taken over last
        self._pending: _Pending | None = None
        self._is_behind = False  # others wrote between the baseline and our last write

    # ---- what the app does

    def load(self, *, is_interaction: bool = True) -> None:
        """Load the value, whatever was here."""
        place = self.place
        self.is_looked_at = not is_interaction
        self._take(place.access.load(place.session_id, is_interaction=is_interaction))

    def use(self) -> None:
        """To be used after having been looked at is an interaction."""
        if self.is_looked_at and self._base:
            self.is_looked_at = False
            place, created = self.place, self._base.snapshot.created_at_ms
            with contextlib.suppress(SessionNotFound):
                place.access.apply(Touch(session_id=place.session_id, owner=place.access.owner, created_at_ms=created))

    def assign(self, value: Any, *, is_default: bool = False) -> None:
        """Put *value* there; *is_default*: for want of another.

        Raises:
            InvalidInput: It is to be set where nothing was, and cannot be saved.
        """
        if self.is_absent and self.value is NO_VALUE:
            _, fields, history = self._texts(value)
            self._began = Began(fields, [body for body, _ in history or ()], is_default)
        if self._base is None and not self.is_absent:
            self._meet(value)
        self._catch_up(value)
        self.value = value

    def remove(self) -> Any:
        """Take the value out; what it was."""
        self._removed = self.known()
        value, self.value, self._base = self.value, NO_VALUE, None
        return value

    # ---- what is written

    def known(self) -> Baseline | None:
        """What the value is to be compared with: what was loaded or written last, here or by saving the session itself."""
        session = None if self.is_absent else self._session()
        base, own = self._base, base_of(session) if session is not None else None
        if own is None or base is own:
            return base
        if base is None or own.state > base.state:
            return own
        return base

    def command(self) -> Put | Merge | Delete | None:
        """What must be written; None if nothing has changed.

        Raises:
            InvalidInput: The value cannot be saved.
        """
        place = self.place
        if self.value is NO_VALUE:
            return None if self.is_absent else self._delete()
        base, content = self.known(), self._content(self.value)
        if base:
            return diff.difference(base, content, place.access.limits, place.access.owner, None, given=self._given)
        whole = diff.joining if self.is_absent else diff.whole
        return whole(place.session_id, content, place.access.limits, place.access.owner, None)

    def write(self, command: Put | Merge | Delete) -> None:
        """Write it; from then on the value is compared with what was written."""
        if not isinstance(command, Delete):
            self._save(command)
            return
        try:
            self._send(command, command, None)
        except SessionNotFound:
            if command.expected:
                raise
        self.is_absent = True

    def finish_pending(self) -> None:
        """Repeat a write that was not acknowledged, with its token: only then is it known what to compare with."""
        if self._pending is None:
            return
        command, attempt, given = self._pending
        try:
            receipt = self._send(command, attempt, given)
        except (ConflictError, TooLarge, SessionNotFound, SessionExists, SessionMoved):
            return  # it had not landed, and does not fit any more
        if isinstance(command, Delete) or isinstance(attempt, Delete):
            self.is_absent = True
        else:
            self._landed(command, attempt, receipt, given)

    def is_changed(self) -> bool:
        """Tell whether there is something to write. A value that cannot be stored counts as changed."""
        try:
            return self._pending is not None or self.command() is not None
        except InvalidInput:
            return True

    # ---- what others write

    def reload(self, *, is_interaction: bool = True) -> TrackedValue | None:
        """Take over what others wrote since the value was loaded. Unwritten changes stay.

        Returns:
            The former value, if a new object had to take its place, which the app may still hold and change.
        """
        self.is_stale = False
        if self._pending is not None:
            return None
        place, before = self.place, self.known()
        is_unwritten = before is None and (self.value is not NO_VALUE or not self.is_absent)
        if is_unwritten:  # assigned or removed here
            return None
        snapshot = place.access.load(place.session_id, is_interaction=is_interaction)
        is_known = before and snapshot and (snapshot.created_at_ms, snapshot.version) == before.state
        if is_known and not self._is_behind:
            return None
        if snapshot is None:
            self._lose()
        elif self.value is NO_VALUE or before is None:
            self._take(snapshot)
        elif place.converter:
            return self._replaced(snapshot)
        else:
            self._take_over(snapshot, before, None, None)
        return None

    def _replaced(self, snapshot: Snapshot) -> TrackedValue | None:
        """Put a new object in the place of an unchanged one. A changed one stays, and is merged when it is written."""
        if self.is_changed():
            return None
        former = copy.copy(self)
        self._take(snapshot)
        return former if former.is_held() else None

    def is_held(self) -> bool:
        """Tell whether anybody else holds the value, or a list or dict near its top."""
        return is_held(self)

    def refresh(self, command: Any, receipt: Receipt) -> None:
        """Take over, in place, what others wrote since, *command* last; what was changed here and not written stays changed.

        An object of the app's class stays as it is: who holds it holds its parts too. It is merged when it is written.
        """
        place, before = self.place, self.known()
        snapshot = place.access.load(place.session_id)
        if snapshot is None:
            self._lose()
        elif self.value is NO_VALUE:
            self._take(snapshot)
        elif before and not place.converter:
            self._take_over(snapshot, before, command, receipt)

    # ---- inside

    def _take_over(self, snapshot: Snapshot, before: Baseline, command: Any, receipt: Receipt | None) -> None:
        """What was stored as *before* becomes what *command* has left; see ``refresh``."""
        place, form = self.place, self.place.access.limits
        base, content = base_read(snapshot, place.origin), content_of(snapshot, place.history_key)
        self._refreshed = base
        if receipt and isinstance(command, Merge) and not command.creates:
            before = merge.with_written(self.value, before, command, receipt, form)
        elif isinstance(command, (Put, Merge)) and not self._differs(base, self.value):
            self._rebase(base)  # it was put in its place by the app itself
            return
        if _are_alike(self.value, content):
            self._rebase(merge.take_over(self.value, before, base, content, form))
        elif not self._differs(before, self.value):
            self._take(snapshot)

    def _differs(self, base: Baseline, value: Any) -> bool:
        return diff.difference(base, value, self.place.access.limits, None, None) is not None

    def _lose(self) -> None:
        """Nothing is there any more."""
        self.remove()
        self.is_absent = True

    def _take(self, snapshot: Snapshot | None) -> None:
        """The value as it was stored, or none."""
        place = self.place
        self.is_absent = snapshot is None
        self.value, self._base, self._given, self._is_behind = NO_VALUE, None, None, False
        if snapshot is None:
            return
        self._base = base_read(snapshot, place.origin)
        content = content_of(snapshot, place.history_key)
        if place.converter is None:
            self.value = based(content, self._base) if isinstance(content, (dict, list)) else content
            return
        self.value = place.converter.load(content)
        with contextlib.suppress(InvalidInput):
            self._given = self._texts(self.value)

    def _meet(self, value: Any) -> None:
        """A session that was loaded elsewhere is put here: merged if it was changed since, else it is what shall be."""
        place = self.place
        session = as_session(value, place.session_id, place.origin)
        if session is None:
            return
        snapshot = place.access.load(place.session_id)
        self.is_absent = snapshot is None
        if snapshot is None:
            return
        base = base_of(session)
        if snapshot.created_at_ms != base.snapshot.created_at_ms or not self._differs(base, value):
            self._base = base_read(snapshot, place.origin)

    def _catch_up(self, value: Any) -> None:
        """A copy or a slice that was made before others' changes were taken over: it takes them over too."""
        session = as_session(value, self.place.session_id, self.place.origin)
        if session is None or value is self.value or self._refreshed is None or self._base is None:
            return
        base = base_of(session)
        is_same_session = base.snapshot.created_at_ms == self._base.snapshot.created_at_ms
        if is_same_session and base.snapshot.version < self._refreshed.snapshot.version:
            content = content_of_base(self._base, self.place.history_key)
            if isinstance(content, dict if isinstance(session, dict) else list):
                form = self.place.access.limits
                self._base = merge.take_over(session, base, self._base, content, form, held=self.value)
                on_base(session, self._base)

    def _save(self, command: Put | Merge) -> None:
        """Write it, merged anew each time that others were faster."""
        given = self._texts(self.value) if self.place.converter else None
        # A history that began the same must not begin twice.
        attempt: Put | Merge = command
        if isinstance(command, Merge) and command.creates and self._began.bodies:
            attempt = command.as_put()
        for _ in range(_ATTEMPTS):
            try:
                receipt = self._send(command, attempt, given)
            except SessionExists as error:
                refused: ConvstoreError = error
                assert isinstance(command, Merge)
                attempt = self._behind_theirs(command)
            except ConflictError as error:
                refused = error
                attempt = self._merged_anew(command, attempt, error)
            else:
                self._landed(command, attempt, receipt, given)
                return
        raise refused

    def _merged_anew(self, command: Put | Merge, attempt: Put | Merge, conflict: ConflictError) -> Merge:
        """Make *attempt*, which is for *command*, anew from what is stored now. Raises *conflict* where it must stay."""
        if not isinstance(command, Merge) or not isinstance(attempt, Merge):
            raise conflict
        access, base = self.place.access, self.known()
        if conflict.is_field and not isinstance(attempt.history, Rewrite):
            return beside_theirs(access, command, attempt, self._began, conflict)
        if base is None or not (conflict.is_field or conflict.what == "history"):
            raise conflict
        return behind_theirs(access, command, base, self._began, conflict)

    def _behind_theirs(self, command: Merge) -> Merge:
        """*command* for a session that others have made meanwhile: what theirs has begun with too is not added again."""
        began = self._began.bodies
        snapshot = self.place.access.load(command.session_id)
        if snapshot is None:
            raise SessionNotFound(command.session_id)
        ours = command.history.elements or () if command.history else ()
        same = bodies_of(snapshot.elements)[: len(began)] == began == bodies_of(ours)[: len(began)]
        return replace(command, history=Extend(0, ours[len(began) :])) if same else command

    def _send(self, command: Put | Merge | Delete, attempt: Put | Merge | Delete, given: Texts | None) -> Receipt:
        """Apply *attempt*, which is for *command*; that is pending if it may have landed unacknowledged."""
        self._pending = None
        try:
            return self.place.access.apply(attempt)
        except StoreUnavailable as error:
            self._pending = _Pending(command, attempt, given) if error.written is not False else None
            raise

    def _landed(self, command: Put | Merge, attempt: Put | Merge, receipt: Receipt, given: Texts | None) -> None:
        """*attempt* is written: from now on the value is compared with what *command* wanted."""
        before = self.known()
        self.is_absent, self._began, self._given = False, Began(), given
        if isinstance(command, Merge) and isinstance(attempt, Merge) and not command.creates and before:
            rebased = base_merged(before, command, receipt)
            if attempt.history != command.history:
                # The stored history is a merge with others' messages: a later rewrite must not take them for known.
                rebased = rebased.but(history_version=before.snapshot.history_version)
            self._rebase(rebased, is_behind=receipt.version != before.snapshot.version + 1)
            return
        self._rebase(base_created(command, receipt, self.place.origin))
        if isinstance(command, Merge) and command.creates and receipt.version > 1:
            self._join(receipt.first_seq, attempt)

    def _join(self, first_seq: int | None, attempt: Put | Merge) -> None:
        """Somebody was faster: what they wrote stands beside what we just wrote, and is taken over."""
        place = self.place
        snapshot = place.access.load(place.session_id)
        if snapshot is None:
            self._lose()
            return
        base, content = base_read(snapshot, place.origin), content_of(snapshot, place.history_key)
        self._given = self._given or self._texts(self.value)
        if not place.converter and _are_alike(self.value, content):
            _, fields, history = self._given
            bodies = [body for body, _ in history or ()]
            added = attempt.elements if isinstance(attempt, Put) else attempt.history and attempt.history.elements
            count = len(added or ())
            seqs = [*range(base.snapshot.first_seq, base.snapshot.first_seq + len(bodies) - count)]
            seqs += range(first_seq or 0, (first_seq or 0) + count)
            before = replace(base.but(fields=fields, elements=[join_element(0, body) for body in bodies]), seqs=seqs)
            base = merge.take_over(self.value, before, base, content, place.access.limits)
            self._given = None
        self._rebase(base)

    def _delete(self) -> Delete:
        """Only the session that was seen; where conflicts are errors, only as it was seen, and only by one."""
        place, seen = self.place, self._removed
        if seen is None:
            return Delete(session_id=place.session_id, owner=place.access.owner)
        created_at_ms, version = seen.state
        expected = f"{created_at_ms}-{version}" if place.access.settings.conflict == "raise" else ""
        return Delete(
            session_id=place.session_id, owner=place.access.owner, expected=expected, created_at_ms=created_at_ms
        )

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
        return content.texts(self._content(value), self.place.access.limits)

    def _session(self) -> Session | ListSession | None:
        """The value, if it is a session of this place, and so knows what it is compared with."""
        return as_session(self.value, self.place.session_id, self.place.origin)

    def _rebase(self, base: Baseline, *, is_behind: bool = False) -> None:
        self._base, self._is_behind = base, is_behind
        session = self._session()
        if session is not None:
            on_base(session, base)


def _are_alike(value: Any, content: Any) -> bool:
    """Whether both are dicts, or both are lists: the one can be taken over into the other."""
    return type(content) in (dict, list) and isinstance(value, type(content))


_MOST_PARTS = 100
"""Most parts of a value that are asked whether somebody holds them."""


def is_held(tracked: TrackedValue) -> bool:
    """Count the references to a value and to the lists and dicts near its top. More than ours: somebody else holds one."""
    value = tracked.value
    if not isinstance(value, (dict, list)):
        # An object of the app's class: its parts are not known.
        return value is not NO_VALUE and tracked.place.converter is not None and _references(value) > _OWN
    if _references(value) > _OWN:
        return True
    parts = [*(value.values() if isinstance(value, dict) else value)][-_MOST_PARTS:]
    # The list of parts refers to each of them, too.
    return any(_references(part) > _OWN + 1 for part in parts if isinstance(part, (dict, list)))


def _references(value: object) -> int:
    return sys.getrefcount(value)


def _own_references() -> int:
    """Count what ``_references`` finds for a value that one container holds."""
    holder: list[list[object]] = [[]]
    return next(_references(part) for part in holder)


_OWN = _own_references()
