"""Tracked value: one value of a mapping, with the baseline that its changes are measured from.

The app loads, assigns or removes a value. Its changes are found by comparing (`sessions.diff`),
written, and merged with the writes of others (`operations.merging`).
A write through another door brings the value up to date.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import replace
from typing import Any, NamedTuple

from ..domain.commands import Append, CommitTurn, Delete, Merge, Put, Rewrite, Touch, Update
from ..domain.messages import join_element
from ..domain.results import Receipt, Snapshot
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
from ..operations.merging import NOTHING, attempts, behind_theirs, beside_theirs, made_by_both
from ..sessions import content, diff, merge
from ..sessions.baseline import Baseline, base_created, base_merged, base_read
from ..sessions.content import Texts
from ..sessions.merge import Began
from ..sessions.session import (
    ListSession,
    Session,
    Stored,
    as_session,
    base_of,
    based,
    content_of,
    content_of_base,
    on_base,
)
from .held import is_held
from .loading import loading_place
from .place import NO_VALUE, Place


class _Pending(NamedTuple):
    """A write whose answer never came.

    Attributes:
        command: The write that was wanted.
        attempt: The write that was sent: a merge of *command* with the writes of others.
        given: The texts of the value at that moment, if it has a converter.
    """

    command: Put | Merge | Delete
    attempt: Put | Merge | Delete
    given: Texts | None


class TrackedValue:
    """A value that was loaded or assigned, and its baseline.

    Attributes:
        value: The value in the app's hands. ``NO_VALUE`` if there is none, or no longer.
        is_absent: The store is known to hold nothing there.
        is_looked_at: The value was loaded in passing. Its use is an interaction still to come.
        is_stale: The next read takes over the writes of others.
        loaded_at: The line of the app that has loaded or assigned the value.
        pending: A write that may have landed.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.value: Any = NO_VALUE
        self.is_absent = False
        self.is_looked_at = False
        self.is_stale = False
        self.loaded_at = loading_place()
        self._base: Baseline | None = None  # of the last load or write. A saved session may know a later one
        self._began = NOTHING
        self._given: Texts | None = None  # the texts of the object that load= has made: perhaps less than is stored
        self._removed: Baseline | None = None  # of the removed value
        self._refreshed: Baseline | None = None  # the state that was taken over last
        self.pending: _Pending | None = None
        self._is_behind = False  # others wrote between the baseline and our last write
        self._dropped: Texts | None = None  # the texts of the value when it was dropped
        self._is_refused = False  # the changes were made in what was replaced or deleted meanwhile

    # ---- changes of the app

    def load(self, *, is_interaction: bool = True) -> None:
        """Load the value, and forget the one before."""
        place = self.place
        self.is_looked_at = not is_interaction
        self._take(place.access.known(place.session_id, is_interaction=is_interaction))

    def take(self, found: Snapshot | ConvstoreError | None, *, is_interaction: bool) -> None:
        """Take the value from a session that was read with others.

        Raises:
            ConvstoreError: The session could not be read.
        """
        if isinstance(found, ConvstoreError):
            raise found
        self.is_looked_at = not is_interaction
        self._take(found)

    def use(self) -> None:
        """Move the lifetime, if the value was only loaded in passing before."""
        if self.is_looked_at and self._base:
            self.is_looked_at = False
            place, created = self.place, self._base.snapshot.created_at_ms
            with contextlib.suppress(SessionNotFound):
                place.access.apply(Touch(session_id=place.session_id, owner=place.access.owner, created_at_ms=created))

    def assign(self, value: Any, *, is_default: bool = False) -> None:
        """Put *value* in the place.

        Args:
            is_default: The value is only set for want of another.

        Raises:
            InvalidInput: There was no value, and this one cannot be saved.
        """
        if self.is_absent and self.value is NO_VALUE:
            _, fields, history = self._texts(value)
            self._began = Began(fields, [body for body, _ in history or ()], is_default)
        if self._base is None and not self.is_absent:
            self._meet(value)
        self._catch_up(value)
        self.value = value

    def remove(self) -> Any:
        """Take the value out, and return it."""
        self._removed = self.known()
        value, self.value, self._base = self.value, NO_VALUE, None
        return value

    # ---- writing

    def known(self) -> Baseline | None:
        """Find the baseline: the state that was loaded or written last, here or by saving the session itself."""
        base = self._base
        if isinstance(self.value, Stored) and getattr(self.value, "_base", None) is base:
            return base  # the usual case
        session = None if self.is_absent else self._session()
        own = base_of(session) if session is not None else None
        if own is None:
            return base
        if base is None or own.state > base.state:
            return own
        return base

    def command(self) -> Put | Merge | Delete | None:
        """Make the command that writes the changes. None if nothing has changed.

        Raises:
            InvalidInput: The value cannot be saved.
        """
        place = self.place
        if self.value is NO_VALUE:
            return None if self.is_absent else self._delete()
        base = self.known()
        content = self.value
        if place.converter:
            content = self._content(content, base.snapshot if base else None)
        if base:
            return diff.difference(base, content, place.limits, place.access.owner, None, given=self._given)
        if self.is_absent:
            return diff.joining(place.session_id, content, place.limits, place.access.owner, None)
        whole = diff.whole(place.session_id, content, place.limits, place.access.owner, None)
        return replace(whole, seen_in_part=place.access.seen_in_part(place.session_id))

    def write(self, command: Put | Merge | Delete) -> None:
        """Write *command*, which becomes the baseline."""
        if not isinstance(command, Delete):
            self._save(command)
            if self.place.converter:
                self.place.look_at(self.value)
            return
        try:
            self._send(command, command, None)
        except SessionNotFound:
            if command.expected:
                raise
        self.is_absent = True

    def finish_pending(self) -> None:
        """Repeat an unacknowledged write with its token, so that the baseline is known."""
        if self.pending is None:
            return
        command, attempt, given = self.pending
        try:
            receipt = self._send(command, attempt, given)
        except (ConflictError, TooLarge, SessionNotFound, SessionExists, SessionMoved):
            return  # the write had not landed, and no longer fits
        if isinstance(command, Delete) or isinstance(attempt, Delete):
            self.is_absent = True
        else:
            self._landed(command, attempt, receipt, given)

    def is_changed(self) -> bool:
        """Tell whether there is something to write. A value that cannot be stored counts as changed."""
        try:
            return self.pending is not None or self.command() is not None
        except InvalidInput:
            return True

    def is_loss(self) -> bool:
        """Tell whether something is lost when the value is dropped. An unchanged default is nothing."""
        if self._began.is_default:
            with contextlib.suppress(InvalidInput):
                _, fields, history = self._texts(self.value)
                return (fields, [body for body, _ in history or ()]) != (self._began.fields, self._began.bodies)
        return self.is_changed()

    def drop(self) -> None:
        """Write nothing of the value any more. Changes from now on are told, not written."""
        self.pending = None
        with contextlib.suppress(InvalidInput):
            self._dropped = None if self.value is NO_VALUE else self._texts(self.value)

    def is_changed_since_drop(self) -> bool:
        """Tell whether somebody has changed the value since it was dropped."""
        try:
            return self._dropped is not None and self._texts(self.value) != self._dropped
        except InvalidInput:
            return True

    # ---- writes of others

    def reload(self, *, is_interaction: bool = True) -> TrackedValue | None:
        """Take over what others wrote since the value was loaded. Unwritten changes stay.

        Returns:
            The former value, if a new object had to take its place, which the app may still hold and change.
        """
        self.is_stale = False
        place, before = self.place, self.known()
        if self.pending is not None or self._is_unwritten(before):
            return None
        snapshot = place.access.known(place.session_id, is_interaction=is_interaction)
        if snapshot is None:
            self._lose()
        elif self._is_up_to(snapshot, before):
            return None
        elif self.value is NO_VALUE or before is None:
            self._take(snapshot)
        elif _is_replaced(before, snapshot) and self.is_changed():
            self._keep_until_refused(snapshot)
        elif place.converter:
            return self._replaced(snapshot)
        else:
            self._take_over(snapshot, before, None, None)
        return None

    def _keep_until_refused(self, snapshot: Snapshot) -> None:
        """Keep changes of a conversation that was replaced by *snapshot*, until they are refused when they are written."""
        if self._is_refused:
            self._take(snapshot)
            self._is_refused = False

    def _is_up_to(self, snapshot: Snapshot, before: Baseline | None) -> bool:
        """Tell whether nobody has written since the baseline was known."""
        is_same = before is not None and (snapshot.created_at_ms, snapshot.version) == before.state
        return is_same and not self._is_behind

    def _is_unwritten(self, before: Baseline | None) -> bool:
        """Tell a value that was assigned or removed, and is not written yet."""
        return before is None and (self.value is not NO_VALUE or not self.is_absent)

    def _replaced(self, snapshot: Snapshot) -> TrackedValue | None:
        """Put a new object in the place of an unchanged one. A changed one stays, and is merged when it is written."""
        if self.is_changed():
            return None
        former = copy.copy(self)
        self._take(snapshot)
        return former if former.is_held() else None

    def is_held(self) -> bool:
        """Tell whether anybody else holds the value, or a list or dict near its top."""
        return is_held(self, is_object=self.place.converter is not None)

    def refresh(self, command: Any, receipt: Receipt) -> None:
        """Take over the writes of others in place, *command* last. Unwritten changes stay.

        An object of the app's class stays as it is, since the app holds its parts too. It is merged when it is written.
        """
        place, before = self.place, self.known()
        snapshot = place.access.known(place.session_id)
        if snapshot is None:
            self._lose()
        elif self.value is NO_VALUE:
            self._take(snapshot)
        elif before and not place.converter:
            self._take_over(snapshot, before, command, receipt)

    # ---- inside

    def _take_over(self, snapshot: Snapshot, before: Baseline, command: Any, receipt: Receipt | None) -> None:
        """Bring the value, whose baseline is *before*, up to *snapshot*, which *command* has left."""
        place, limits = self.place, self.place.limits
        base, content = base_read(snapshot, place.origin), content_of(snapshot, place.first_key)
        self._refreshed = base
        if receipt and _is_of_fields(command):
            before = merge.with_written(self.value, before, command, receipt, limits)
        elif isinstance(command, (Put, Merge)) and not self._differs(base, self.value):
            self._rebase(base)  # the app itself has put this content there
            return
        if _are_alike(self.value, content):
            merges = place.access.settings.conflict != "raise"
            self._rebase(merge.take_over(self.value, before, base, content, limits, merges=merges))
        elif not self._differs(before, self.value):
            self._take(snapshot)

    def _differs(self, base: Baseline, value: Any) -> bool:
        return diff.difference(base, value, self.place.limits, None, None) is not None

    def _lose(self) -> None:
        """Note that the store holds nothing any more."""
        self.remove()
        self.is_absent = True

    def _take(self, snapshot: Snapshot | None) -> None:
        """Take the value as it is stored, or none."""
        place = self.place
        self.is_absent = snapshot is None
        self.value, self._base, self._given, self._is_behind = NO_VALUE, None, None, False
        if snapshot is None:
            return
        place.access.note_seen(snapshot)
        self._base = base_read(snapshot, place.origin)
        content = content_of(snapshot, place.first_key, is_tracked=True)
        if place.converter is None:
            self.value = based(content, self._base) if isinstance(content, (dict, list)) else content
            return
        self.value = place.load(content, snapshot)
        with contextlib.suppress(InvalidInput):
            self._given = self._texts(self.value)

    def _meet(self, value: Any) -> None:
        """Find the baseline of a session that was loaded elsewhere and is put here. A changed session is merged."""
        place = self.place
        session = as_session(value, place.session_id, place.origin)
        if session is None:
            return
        snapshot = place.access.known(place.session_id)
        self.is_absent = snapshot is None
        if snapshot is None:
            return
        base = base_of(session)
        if snapshot.created_at_ms != base.snapshot.created_at_ms or not self._differs(base, value):
            self._base = base_read(snapshot, place.origin)

    def _catch_up(self, value: Any) -> None:
        """Bring a copy or a slice up to date that was made before the writes of others were taken over."""
        session = as_session(value, self.place.session_id, self.place.origin)
        if session is None or value is self.value or self._refreshed is None or self._base is None:
            return
        base = base_of(session)
        is_same_session = base.snapshot.created_at_ms == self._base.snapshot.created_at_ms
        if is_same_session and base.snapshot.version < self._refreshed.snapshot.version:
            content = content_of_base(self._base, self.place.first_key)
            if isinstance(content, dict if isinstance(session, dict) else list):
                limits = self.place.limits
                self._base = merge.take_over(session, base, self._base, content, limits, held=self.value)
                on_base(session, self._base)

    def _save(self, command: Put | Merge) -> None:
        """Write *command*, merged anew each time that others were faster."""
        given = self._texts(self.value) if self.place.converter else None
        self._is_refused = True
        # A history that began the same must not begin twice.
        attempt: Put | Merge = command
        if isinstance(command, Merge) and command.creates and self._began.bodies:
            attempt = command.as_put()
        for _ in attempts(self.place.access, self.place.session_id):
            try:
                receipt = self._send(command, attempt, given)
            except SessionExists:
                assert isinstance(command, Merge)
                attempt = made_by_both(self.place.access, command, self._began)
            except ConflictError as error:
                attempt = self._merged_anew(command, attempt, error)
            else:
                self._landed(command, attempt, receipt, given)
                self._is_refused = False
                return

    def _merged_anew(self, command: Put | Merge, attempt: Put | Merge, conflict: ConflictError) -> Merge:
        """Make *attempt*, which is for *command*, anew from what is stored now. Raises *conflict* where it must stay."""
        if not isinstance(command, Merge) or not isinstance(attempt, Merge):
            raise conflict
        if not conflict.is_field and conflict.what != "history":
            raise conflict
        access, base, is_rewrite = self.place.access, self.known(), isinstance(attempt.history, Rewrite)
        if command.creates and is_rewrite:
            return self._created_anew(command, conflict)
        if conflict.is_field and not is_rewrite:
            return beside_theirs(access, command, attempt, self._began, conflict)
        if base is None:
            raise conflict
        return behind_theirs(access, command, base, self._began, conflict)

    def _created_anew(self, command: Merge, conflict: ConflictError) -> Merge:
        attempt = made_by_both(self.place.access, command, self._began)
        return (
            beside_theirs(self.place.access, command, attempt, self._began, conflict) if conflict.is_field else attempt
        )

    def _send(self, command: Put | Merge | Delete, attempt: Put | Merge | Delete, given: Texts | None) -> Receipt:
        """Apply *attempt*, which is for *command*. A write that may have landed without an answer stays pending."""
        self.pending = None
        try:
            return self.place.access.apply(attempt)
        except StoreUnavailable as error:
            self.pending = _Pending(command, attempt, given) if error.written is not False else None
            raise

    def _landed(self, command: Put | Merge, attempt: Put | Merge, receipt: Receipt, given: Texts | None) -> None:
        """Note that *attempt* is written. The baseline is the state that *command* wanted."""
        before = self.known()
        self.is_absent, self._began, self._given = False, NOTHING, given
        if isinstance(command, Merge) and isinstance(attempt, Merge) and not command.creates and before:
            rebased = base_merged(before, command, receipt, attempt.token)
            if attempt.history != command.history:
                # The stored history is a merge with others' messages: a later rewrite must not take them for known.
                rebased = rebased.but(history_version=before.snapshot.history_version)
            self._rebase(rebased, is_behind=receipt.version != before.snapshot.version + 1)
            return
        self._rebase(base_created(command, receipt, self.place.origin))
        if isinstance(command, Merge) and command.creates and receipt.version > 1:
            self._join(receipt.first_seq, attempt)

    def _join(self, first_seq: int | None, attempt: Put | Merge) -> None:
        """Take over the content of a faster writer, which now stands beside ours."""
        place = self.place
        snapshot = place.access.known(place.session_id)
        if snapshot is None:
            self._lose()
            return
        base, content = base_read(snapshot, place.origin), content_of(snapshot, place.first_key)
        self._given = self._given or self._texts(self.value)
        if not place.converter and _are_alike(self.value, content):
            ours = _our_part(base, self._given, attempt, first_seq or 0)
            base = merge.take_over(self.value, ours, base, content, place.limits)
            self._given = None
        self._rebase(base)

    def _delete(self) -> Delete:
        """Make the command that deletes the session that was seen. Where conflicts are errors, only in the state seen."""
        place, seen = self.place, self._removed
        if seen is None:
            return Delete(session_id=place.session_id, owner=place.access.owner)
        created_at_ms, version = seen.state
        expected = f"{created_at_ms}-{version}" if place.access.settings.conflict == "raise" else ""
        return Delete(
            session_id=place.session_id,
            owner=place.access.owner,
            expected=expected,
            created_at_ms=created_at_ms,
            loaded_version=version,
        )

    def _content(self, value: Any, stored: Snapshot | None) -> Any:
        """Turn *value* into JSON, in place of the session as it is *stored*."""
        if self.place.converter is None:
            return value
        try:
            return self.place.dump(value, stored)
        except Exception as error:
            kind = type(value).__name__
            raise NotSerializable(f"dump() of a {kind} raised {type(error).__name__}. Nothing was written.") from error

    def _texts(self, value: Any) -> Texts:
        base = self.known()
        stored = base.snapshot if base else None
        return content.texts(self._content(value, stored), self.place.limits, stored=stored)

    def _session(self) -> Session | ListSession | None:
        """Find the value's own session, if it belongs to this place."""
        return as_session(self.value, self.place.session_id, self.place.origin)

    def _rebase(self, base: Baseline, *, is_behind: bool = False) -> None:
        value, before = self.value, self._base
        self._base, self._is_behind = base, is_behind
        is_own = before is not None and isinstance(value, Stored) and getattr(value, "_base", None) is before
        session = value if is_own else self._session()
        if session is not None:
            session._base = base


def _our_part(stored: Baseline, given: Texts, attempt: Put | Merge, first_seq: int) -> Baseline:
    """Make the baseline of our own part of a session that a faster writer has begun.

    Args:
        given: The texts of our value.
        first_seq: The number of the first message that *attempt* has added.
    """
    _, fields, history = given
    bodies = [body for body, _ in history or ()]
    added = attempt.elements if isinstance(attempt, Put) else attempt.history and attempt.history.elements
    count = len(added or ())
    seqs = [*stored.seqs[: len(bodies) - count], *range(first_seq, first_seq + count)]
    return replace(stored.but(fields=fields, elements=[join_element(0, body) for body in bodies]), seqs=seqs)


def _is_replaced(before: Baseline, snapshot: Snapshot) -> bool:
    """Tell whether a later conversation than the one that was loaded is stored."""
    created_at_ms, version = before.state
    return snapshot.created_at_ms != created_at_ms or version < snapshot.history_replaced


def _is_of_fields(command: Any) -> bool:
    """Tell a write that changes fields of a session that is there."""
    return isinstance(command, (Append, Update, CommitTurn)) or (isinstance(command, Merge) and not command.creates)


def _are_alike(value: Any, content: Any) -> bool:
    """Tell whether both are dicts, or both are lists, so that one can be taken over into the other."""
    return type(content) in (dict, list) and isinstance(value, type(content))
