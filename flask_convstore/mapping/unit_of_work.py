"""Unit of work: the values that one request, app context, thread or scope has loaded and changed, written together."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from ..domain.clock import monotonic
from ..domain.commands import Delete, Merge, Put, Write
from ..domain.results import Receipt, Snapshot
from ..domain.types import Owner
from ..errors import ChangesDropped, ConvstoreError, CorruptValue, InvalidInput, StoreUnavailable
from ..operations.access import NOT_SEEN, State
from ..operations.salvage import damage_log
from ..stores.store import Store
from .place import NO_VALUE, Identity, Place
from .tracked_value import TrackedValue

_log = logging.getLogger("flask_convstore")

_MOST_UNHELD = 1000
"""Values of a long unit after which it first drops those that nobody uses. They would be read anew anyway."""

_MOST_TOLD = 1000
_told: set[str] = set()
"""Lines of the app whose dropped changes are logged already."""

_LOADED_TOGETHER = 100
_FRESH_SECONDS = 0.1

Kind = tuple[Store, Owner, Any]
"""Store, owner and the converter's source: what the places of one mapping have in common."""


def _say_nothing(error: Exception) -> None:
    """Tell nobody of lost changes."""


class Unit:
    """The values that one request, app context, thread or scope has loaded and changed. Safe to use from several threads.

    Args:
        reads_anew: Each read takes over what others wrote, and each assignment is written at once: for code outside of a
            request, which may run for long.
        lost: Called when changes could not be written and nobody is there to be told.

    Attributes:
        is_dispatched: A response will end the unit.
        is_void: Nothing of the unit shall be written any more, since its code has raised.
        is_streamed: The unit goes on while a streamed response is sent.
        is_behind_response: Nobody waits any more: an error is logged and signalled.
        is_over: The unit has ended. Whatever comes now is outside of it.
    """

    def __init__(self, *, reads_anew: bool = False, lost: Callable[[Exception], None] = _say_nothing) -> None:
        self._values: dict[Identity, TrackedValue] = {}
        self._former: list[TrackedValue] = []
        self._most_values = _MOST_UNHELD
        self._listings: dict[Kind, _Listing] = {}
        self._seen: dict[tuple[Store, str], State] = {}
        self._seen_in_part: dict[tuple[Store, str], int] = {}
        self._lock = threading.RLock()
        self._is_writing = False
        self._reason = ""
        self.lost = lost
        self.reads_anew = reads_anew
        self.is_dispatched = self.is_void = self.is_streamed = False
        self.is_behind_response = self.is_over = False

    # ---- values

    def entry(self, place: Place, *, is_interaction: bool = True) -> TrackedValue:
        """Find the value of a place, or load it."""
        with self._lock:
            if self._listings and place.identity not in self._values:
                self._load_listed(place)
            value = self._values.get(place.identity)
            if value is None:
                value = TrackedValue(place)
                value.load(is_interaction=is_interaction)
                if self.reads_anew:
                    self._make_room()
                self._values[place.identity] = value
            elif self.reads_anew or value.is_stale:
                self._reload(value, is_interaction)
            elif is_interaction:
                value.use()
            return value

    def note_listing(self, kind: Kind, session_ids: Sequence[str]) -> None:
        """Note that all ids of a mapping were listed."""
        if not self.reads_anew:
            self._listings[kind] = _Listing(session_ids)

    def take_listing(self, kind: Kind) -> Sequence[str] | None:
        """Take the listing that was made a moment ago, once: ``list(sessions)`` asks for the length first."""
        listing = self._listings.get(kind)
        return listing.take() if listing else None

    def _load_listed(self, place: Place) -> None:
        """Load the values behind *place* in the listing together, when a loop over the listed ids has begun."""
        store, owner, session_id, source = place.identity
        listing = self._listings.get((store, owner, source))
        if listing is None or not listing.is_looped_over(session_id):
            return
        ids = listing.behind(session_id)
        for _ in self.entries([Place(place.access, place.converter, each) for each in ids], is_interaction=True):
            pass

    def entries(self, places: Sequence[Place], *, is_interaction: bool) -> Iterator[tuple[Place, Any]]:
        """Find the values of several places of one mapping. Those that are not here yet are loaded together.

        Yields:
            Each place with its value, ``NO_VALUE`` if there is none. Damaged ones are left out, and logged.

        Raises:
            ConvstoreError: A value could not be loaded. The values before it are given first.
        """
        absent = [place for place in places if place.identity not in self._values]
        ids = [place.session_id for place in absent]
        snapshots = places[0].access.load_many(ids, is_interaction=is_interaction) if ids else []
        loaded = dict(zip(ids, snapshots, strict=True))
        for place in places:
            if place.session_id not in loaded:
                yield place, self.value(place, is_interaction=is_interaction)
                continue
            try:
                value = self._taken(place, loaded[place.session_id], is_interaction)
            except CorruptValue as error:
                damage_log.tell(error)
                continue
            yield place, value

    def _taken(self, place: Place, loaded: Snapshot | ConvstoreError | None, is_interaction: bool) -> Any:
        """Take the value of a place from what was *loaded* with others, unless the value is here by now."""
        with self._lock:
            found = self._values.get(place.identity)
            if found is None:
                found = TrackedValue(place)
                found.take(loaded, is_interaction=is_interaction)
                self._make_room()
                self._values[place.identity] = found
            return found.value

    def value(self, place: Place, *, is_interaction: bool = True) -> Any:
        """Find the value of a place, or load it. ``NO_VALUE`` if there is none."""
        with self._lock:  # until the caller holds the value, it may be taken for one that nobody holds
            return self.entry(place, is_interaction=is_interaction).value

    def reload(self, place: Place) -> Any:
        """Find the value of a place, and take over what others wrote since it was loaded. Unwritten changes stay."""
        with self._lock:
            value = self._values.get(place.identity)
            if value is None:
                return self.value(place)
            self._reload(value)
            return value.value

    def _reload(self, value: TrackedValue, is_interaction: bool = True) -> None:
        former = value.reload(is_interaction=is_interaction)
        if former is not None:
            self._former.append(former)  # the app may hold the old object, and change it

    def assign(self, place: Place, value: Any) -> None:
        """Put *value* in a place, whatever is there."""
        with self._lock:
            self._unloaded(place).assign(value)

    def assign_default(self, place: Place, value: Any) -> Any:
        """Put *value* in a place that was empty. Returns the value that is there now."""
        with self._lock:
            found = self._values.get(place.identity)
            if found is None:  # it was dropped meanwhile, and others may have written
                found = self.entry(place)
                if found.value is not NO_VALUE:
                    return found.value
            found.assign(value, is_default=True)
            return value

    def take(self, place: Place) -> Any:
        """Empty a place, and return its value. ``NO_VALUE`` if there is none."""
        with self._lock:
            found = self.entry(place)
            return NO_VALUE if found.value is NO_VALUE else found.remove()

    def remove(self, place: Place) -> None:
        """Empty a place, whatever is there."""
        with self._lock:
            self._unloaded(place).remove()

    def _unloaded(self, place: Place) -> TrackedValue:
        """Find the value of a place, or make one without loading it."""
        if place.identity not in self._values:
            self._make_room()
            self._values[place.identity] = TrackedValue(place)
        return self._values[place.identity]

    def found(self, place: Place) -> TrackedValue | None:
        """Find the value of a place, if it is here already."""
        return self._values.get(place.identity)

    def added(self, store: Store, owner: Owner) -> list[str]:
        """List the ids of one mapping's values that were assigned, and are perhaps not stored yet."""
        values = [value for value in list(self._values.values()) if value.place.identity[:2] == (store, owner)]
        return [found.place.session_id for found in values if found.value is not NO_VALUE and found.known() is None]

    def _all(self) -> list[TrackedValue]:
        return [*self._former, *self._values.values()]

    # ---- writing

    def flush(self) -> None:
        """Write all changes, one session after the other. Nothing if a value cannot be written as JSON.

        Raises:
            ConvstoreError: A change could not be written. *written* tells of all.
        """
        if self.is_void:
            return
        with self._lock:
            self._write([*self._former, *self._values.values()])
            if self._former:
                self._former = [former for former in self._former if former.is_held()]

    def flush_each(self, *, is_repeated: bool) -> None:
        """Write the change of each value by itself, so that one which cannot be written holds up no other.

        Args:
            is_repeated: A refused value is logged already.

        Raises:
            ConvstoreError: A change could not be written. The first error of several.
        """
        failures: list[ConvstoreError] = []
        with self._lock:
            if self.is_void:
                self._raise_dropped()
            for value in [] if self.is_void else self._all():
                try:
                    self._write([value], is_logged=not is_repeated)
                except StoreUnavailable:
                    raise
                except ConvstoreError as error:
                    failures.append(error)
            self._former = [former for former in self._former if _is_needed(former)]
        if failures:
            raise failures[0]

    def flush_one(self, place: Place) -> None:
        """Write the change of one place, if it is not written yet. A value that cannot be stored leaves the unit.

        Raises:
            ConvstoreError: The change could not be written.
        """
        with self._lock:
            value = self._values.get(place.identity)
            try:
                self._write([value] if value else [])
            except InvalidInput:
                del self._values[place.identity]
                raise

    def drop(self, reason: str, *, is_told: bool = False) -> None:
        """Drop all changes, and tell of them. Later ones of somebody who holds a value are told by ``flush_each``.

        Args:
            reason: The end of a sentence, for the log.
            is_told: An error has told of the changes already.
        """
        with self._lock:
            changed = [] if is_told else [value for value in self._all() if value.is_loss()]
            self.is_void, self._reason = True, reason
            for value in self._all():
                value.drop()
        if changed:
            self.tell_dropped(_dropped(changed, reason))

    def leave_to_parent(self) -> None:
        """Leave the changes to the parent of this process. Those that the child makes in its parent's objects are told."""
        self._lock = threading.RLock()  # another thread of the parent may have had it
        self.is_over = True
        self.drop(
            "a forked process has changed an object of its parent: read the value anew in the child", is_told=True
        )

    def _raise_dropped(self) -> None:
        """Tell by an error of changes since all were dropped. Each is told once."""
        changed = [value for value in self._all() if value.is_changed_since_drop()]
        if changed:
            self._values, self._former = {}, []
            raise _dropped(changed, self._reason)

    def tell_dropped(self, error: ChangesDropped) -> None:
        """Log and signal that changes were dropped. The log has each line of the app once."""
        if not _told.issuperset(error.loaded_at):
            _log.warning("%s", error)
        if len(_told) < _MOST_TOLD:
            _told.update(error.loaded_at)
        self.lost(error)

    def tell_lost(self, occasion: str, error: Exception) -> None:
        """Log and signal that changes are lost."""
        if isinstance(error, ChangesDropped):
            self.tell_dropped(error)
            return
        _log.error("a %s has ended, and its changes were not written: %s", occasion, reason_of(error))
        self.lost(error)

    def _write(self, values: Iterable[TrackedValue], *, is_logged: bool = True) -> None:
        is_written = False
        self._is_writing = True
        self._listings.clear()
        try:
            for value in values:
                if value.pending:
                    value.finish_pending()
            for value, command in [(value, _command(value, is_logged=is_logged)) for value in values]:
                if command:
                    value.write(command)
                    is_written = True
                value.is_stale = True  # the next read sees what others wrote meanwhile
        except ConvstoreError as error:
            error.written = True if is_written else error.written
            raise
        finally:
            self._is_writing = False

    def refresh(self, store: Store, command: Write, receipt: Receipt) -> None:
        """Take over *command*, which came through another door. An error is logged, since merging at the end copes too."""
        place = store, command.session_id
        if place in self._seen and isinstance(command, (Put, Merge)) and not receipt.repeated:
            self._seen[place] = receipt.created_at_ms, receipt.version
        with self._lock:  # another thread may be writing
            if self._is_writing:
                return
            for value in list(self._values.values()):
                if value.place.session_id == command.session_id and value.place.access.store is store:
                    try:
                        value.refresh(command, receipt)
                    except Exception as error:  # the write is done: nothing may make it look undone
                        _log.warning("a loaded session was not brought up to date: %s", reason_of(error))

    # ---- states

    def note_seen(self, store: Store, snapshot: Snapshot) -> None:
        """Note which state of a session the app has read. A unit that reads anew may be long, and does not know."""
        if not self.reads_anew:
            self._seen[store, snapshot.session_id] = snapshot.created_at_ms, snapshot.version
        self.forget_seen_in_part(store, snapshot.session_id)

    def seen(self, store: Store, session_id: str) -> State:
        """Find the state of a session that the app has read last, or made since."""
        return self._seen.get((store, session_id), NOT_SEEN)

    def note_seen_in_part(self, store: Store, session_id: str, messages: int) -> None:
        """Note that the app has read no more than so many messages of a session, as the store is away."""
        self._seen_in_part[store, session_id] = messages

    def forget_seen_in_part(self, store: Store, session_id: str) -> None:
        """Note that the app has read all of a session since."""
        self._seen_in_part.pop((store, session_id), None)

    def seen_in_part(self, store: Store, session_id: str) -> int | None:
        """Count the messages that the app has read of a session, where that was a part of it. None: it was not."""
        return self._seen_in_part.get((store, session_id))

    # ---- values that outlive the unit

    def is_changed(self) -> bool:
        """Tell whether there are changes to write."""
        with self._lock:
            return any(
                map(TrackedValue.is_changed_since_drop if self.is_void else TrackedValue.is_changed, self._all())
            )

    def is_held(self) -> bool:
        """Tell whether somebody else, such as a thread, holds a value or a part of one, and may change it yet."""
        with self._lock:
            return any(map(TrackedValue.is_held, (*self._former, *self._values.values())))

    def forget_unheld(self) -> None:
        """Drop the written values that nobody else holds."""
        with self._lock:
            self._former = [value for value in self._former if _is_needed(value)]
            self._values = {place: value for place, value in self._values.items() if _is_needed(value)}

    def _make_room(self) -> None:
        """Drop values from time to time where each use reads anew: such a unit may run for hours."""
        if self.reads_anew and len(self._values) >= self._most_values:
            self.forget_unheld()
            self._most_values = max(_MOST_UNHELD, 2 * len(self._values))


class _Listing:
    """The listed ids of a mapping. The second one that is looked up tells a loop, as in a sweep of expired sessions."""

    def __init__(self, session_ids: Sequence[str]) -> None:
        self._ids = session_ids
        self._fresh_until = monotonic() + _FRESH_SECONDS
        self._indexes = {session_id: index for index, session_id in enumerate(session_ids)}
        self._lookups = 0

    def take(self) -> Sequence[str] | None:
        """Give the ids, once and only soon."""
        is_fresh = monotonic() < self._fresh_until
        self._fresh_until = 0.0
        return self._ids if is_fresh else None

    def is_looped_over(self, session_id: str) -> bool:
        """Count a look-up. True from the second one on."""
        if session_id in self._indexes:
            self._lookups += 1
            return self._lookups > 1
        return False

    def behind(self, session_id: str) -> Sequence[str]:
        """List the id and those behind it, as many as are loaded together."""
        start = self._indexes[session_id]
        return self._ids[start : start + _LOADED_TOGETHER]


def reason_of(error: Exception) -> ConvstoreError | str:
    """Tell an error in a log. The text of one that is not ours may hold an app's data."""
    return error if isinstance(error, ConvstoreError) else type(error).__name__


def _dropped(values: Iterable[TrackedValue], reason: str) -> ChangesDropped:
    return ChangesDropped({value.place.session_id: value.loaded_at for value in values}, reason)


def _is_needed(value: TrackedValue) -> bool:
    # In this order: a value that nobody holds changes no more.
    return value.is_held() or value.is_changed()


def _command(value: TrackedValue, *, is_logged: bool) -> Put | Merge | Delete | None:
    try:
        return value.command()
    except InvalidInput as error:
        if is_logged:
            _log.error("session %r of a mapping cannot be written: %s", value.place.session_id, error)
        raise
