"""SessionMapping, the drop-in for ``conversation_sessions = {}``. Changes of its values are found and written.

In a request or a ``scope()``, ``sessions[sid]`` loads a value once, and is the same object from then on. Its changes are
written at the end of the request or scope (``unit_of_work``). In an app context or a thread outside of requests each
assignment is written at once, and each read takes over what others have written, in the same object.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from typing import TYPE_CHECKING, Any, NoReturn, overload

from ..domain.clock import monotonic
from ..domain.keys import id_of, is_key, key_of
from ..errors import CorruptValue, InvalidInput, NotSerializable
from ..operations.access import Access
from ..operations.events import news
from ..operations.salvage import salvage
from ..operations.sessions import ids, summaries
from ..sessions.session import plain
from .converters import Converter
from .place import NO_VALUE, Place
from .scope import innermost, scoped
from .unit_of_work import Unit

if TYPE_CHECKING:
    from typing_extensions import TypeVar  # type checkers bring it

    _V = TypeVar("_V", default=Any)
else:
    from typing import TypeVar

    _V = TypeVar("_V")

_D = TypeVar("_D")

_LOADED_TOGETHER = 100
"""Values that a loop loads in one round trip."""


class SessionMapping(MutableMapping[Any, _V]):
    """A dict of stored values by their keys: ``convstore.sessions`` or ``convstore.mapping(name)``.

    Keys are texts, whole numbers, None, or tuples of these. Sessions are dicts and lists. Values of a named mapping are any
    JSON values, or the app's objects, which ``load=`` makes from JSON and ``dump=`` turns into JSON.

    To type checkers the values of ``SessionMapping[Conversation]`` are conversations, and those of a bare ``SessionMapping``
    anything.

    Iterating and ``len()`` walk through the caller's values a bounded page at a time. The last interaction comes last, to
    within a minute. Walking is no interaction. Every other access is one.

    ``ConversationStore`` makes the mappings.
    """

    def __init__(
        self,
        access: Callable[[], Access],
        current_unit: Callable[[], Unit],
        *,
        name: str = "",
        default: Callable[[], Any] | None = None,
        converter: Converter | None = None,
    ) -> None:
        self._access = access
        self._current_unit = current_unit
        self._name = name
        self._default = default
        self._converter = converter

    @contextlib.contextmanager
    def scope(self) -> Iterator[SessionMapping[_V]]:
        """Let a block load each value once and write all changes at its end, as a request does. Covers all mappings.

        A block that raises writes nothing.

        Raises:
            ConvstoreError: A change could not be written.
        """
        with scoped(self._current_unit()):
            yield self

    def flush(self) -> None:
        """Write all changes now, before the end of the request or the scope. Of use before a long call."""
        self._unit().flush()

    def refresh(self, key: Any) -> _V:
        """Take over what others have written to the value of *key*, and return the value. Own changes stay.

        A field that both have changed is merged, as a write would do it. Where they collide the own change stays, and the
        write tells of it. So does a history that was rewritten here.

        Raises:
            KeyError: There is no such value, or not any more.
        """
        value: _V = NO_VALUE
        with contextlib.suppress(InvalidInput):
            value = self._unit().reload(self._place(key))
        if value is NO_VALUE:
            raise KeyError(key)
        return value

    def wait(self, key: Any, *, until: Callable[[_V | Any], object], timeout: float = 30.0) -> _V | Any:
        """Write own changes, then read the value of *key* after each change, until ``until(value)`` is true.

        Waiting occupies the worker.

        Args:
            until: A function of the value. None if there is none.
            timeout: Longest wait in seconds.

        Returns:
            The value, None if there is none.

        Raises:
            TimeoutError: The value was not as wanted in time.
        """
        self.flush()
        deadline = monotonic() + timeout
        with news(self._access(), id_of(key)) as changes:
            while True:
                value = None
                with contextlib.suppress(KeyError):
                    value = self.refresh(key)
                if until(value):
                    return value
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError(f"the value of {key!r} was not as wanted within {timeout:g} seconds")
                changes.wait(left)

    # ---- one key

    def __getitem__(self, key: Any) -> _V:
        if self._default is not None:
            return self._set_where_none(key, self._default)
        value = self._value(key)
        if value is NO_VALUE:
            raise KeyError(key)
        return value

    @overload
    def get(self, key: Any, default: None = None) -> _V | None: ...

    @overload
    def get(self, key: Any, default: _V) -> _V: ...

    @overload
    def get(self, key: Any, default: _D) -> _V | _D: ...

    def get(self, key: Any, default: Any = None) -> Any:
        """Return the value of a key, *default* if there is none."""
        value = self._value(key)
        return default if value is NO_VALUE else value

    def __contains__(self, key: object) -> bool:
        return self._value(key) is not NO_VALUE

    def __setitem__(self, key: Any, value: _V) -> None:
        place = self._place(key)
        self._check(value)
        with self._writing(place) as unit:
            unit.assign(place, value)

    def setdefault(self, key: Any, default: Any = None) -> _V:
        """Return the value of a key. If there is none, put *default* there first."""
        return self._set_where_none(key, lambda: default)

    def __delitem__(self, key: Any) -> None:
        self._take(key)

    @overload
    def pop(self, key: Any) -> _V: ...

    @overload
    def pop(self, key: Any, default: _V, /) -> _V: ...

    @overload
    def pop(self, key: Any, default: _D, /) -> _V | _D: ...

    def pop(self, key: Any, *default: Any) -> Any:
        """Remove a key and return its value, *default* if there is none.

        Raises:
            KeyError: There is no such key, and no default.
        """
        if len(default) > 1:
            raise TypeError(f"pop expected at most 2 arguments, got {1 + len(default)}")
        try:
            return self._take(key)
        except KeyError:
            if default:
                return default[0]
            raise

    # ---- all keys

    def move_to_end(self, key: Any, last: bool = True) -> None:
        """Make *key* the last one, as an ``OrderedDict`` does. This is an interaction, like each access.

        Raises:
            KeyError: There is no such key.
            TypeError: *last* is false. The keys are in the order of their last interaction.
        """
        if not last:
            raise TypeError("move_to_end() needs last=True, since the keys are in the order of their last interaction")
        if key not in self:
            raise KeyError(key)

    def popitem(self, *, last: bool = True) -> tuple[Any, _V]:
        """Remove the key with the last interaction, and return it with its value.

        Args:
            last: False takes the key with the oldest interaction.

        Raises:
            KeyError: The mapping is empty.
        """
        for key in reversed(self) if last else iter(self):
            with contextlib.suppress(KeyError):
                return key, self.pop(key)
        raise KeyError("popitem(): the mapping is empty")

    def clear(self, *, confirm: bool = False) -> None:
        """Delete every stored value of the caller.

        Raises:
            TypeError: ``confirm=True`` is missing. Unlike a dict's, these values are stored, and other processes use them.
        """
        if confirm is not True:
            raise TypeError("clear() deletes every stored session of the caller: call clear(confirm=True)")
        stored = filter(is_key, ids(self._access()))
        for session_id in dict.fromkeys([*stored, *self._added(self._unit(), set())]):
            place = self._place_of(session_id)
            with self._writing(place) as unit:
                unit.remove(place)

    def __iter__(self) -> Iterator[Any]:
        return map(key_of, self._ids())

    def __reversed__(self) -> Iterator[Any]:
        return map(key_of, self._ids(newest_first=True))

    def __len__(self) -> int:
        return sum(1 for _ in self._ids())

    def __bool__(self) -> bool:
        return any(True for _ in self._ids())

    def keys(self) -> KeysView[Any]:
        """View the keys of the caller."""
        return _Keys(self)

    def values(self) -> ValuesView[_V]:
        """View the values of the caller."""
        return _Values(self)

    def items(self) -> ItemsView[Any, _V]:
        """View the keys and values of the caller."""
        return _Items(self)

    def copy(self) -> dict[Any, _V]:
        """Copy all values of the caller to a dict."""
        return dict(self.items())

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> dict[Any, _V]:
        return copy.deepcopy(self.copy(), memo)

    def __or__(self, other: Any) -> Any:
        return self.copy() | dict(other) if isinstance(other, Mapping) else NotImplemented

    def __ror__(self, other: Any) -> Any:
        return dict(other) | self.copy() if isinstance(other, Mapping) else NotImplemented

    def __ior__(self, other: Any) -> SessionMapping[_V]:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return f"<SessionMapping {self._name or 'sessions'!r}>"

    def __reduce_ex__(self, protocol: Any) -> NoReturn:
        raise TypeError("a SessionMapping cannot be pickled, since it is a view of a store: pickle copy(), a dict")

    # ---- inside

    def _unit(self) -> Unit:
        return innermost(self._current_unit())

    @contextlib.contextmanager
    def _writing(self, place: Place) -> Iterator[Unit]:
        """Give the running unit of work. Outside of a request its change of *place* is written at once."""
        unit = self._unit()
        yield unit
        if unit.reads_anew:
            unit.flush_one(place)

    def _place(self, key: Any) -> Place:
        return self._place_of(id_of(key))

    def _place_of(self, session_id: str) -> Place:
        return Place(self._access(), self._converter, session_id)

    def _value(self, key: Any) -> _V:
        """Load the value of a key. ``NO_VALUE`` if there is none."""
        try:
            session_id = id_of(key)
            place = Place(self._access(), self._converter, session_id)
        except InvalidInput:
            absent: _V = NO_VALUE  # no stored value has such a key
            return absent
        value: _V = innermost(self._current_unit()).value(place)
        return value

    def _set_where_none(self, key: Any, default: Callable[[], Any]) -> _V:
        """Load the value of a key. If there is none, assign a *default* first."""
        place = self._place(key)
        found: _V = self._unit().value(place)
        if found is NO_VALUE:
            value = default()
            self._check(value)
            with self._writing(place) as unit:
                found = unit.assign_default(place, value)
        return found

    def _take(self, key: Any) -> Any:
        """Remove a key and return its value."""
        try:
            place = self._place(key)
        except InvalidInput:
            raise KeyError(key) from None
        with self._writing(place) as unit:
            value = self._taken(unit, place)
            if value is NO_VALUE:
                raise KeyError(key)
        # A value that is deleted already is returned as a plain one, which may be assigned again.
        return plain(value) if unit.reads_anew else value

    def _taken(self, unit: Unit, place: Place) -> Any:
        """Take a value out of the unit. Of a damaged one, which is removed too, take what is left."""
        try:
            return unit.take(place)
        except CorruptValue:
            left = salvage(place.access, place.session_id)
            unit.remove(place)
            return left

    def _check(self, value: Any) -> None:
        """Refuse at once a value that can never be written. The traceback shows the line that is wrong."""
        if not self._name and not isinstance(value, (dict, list)):
            kind = type(value).__name__
            raise NotSerializable(
                f"a session is a dict or a list, not a {kind}: keep other values in convstore.mapping(name). "
                "Nothing was written."
            )

    def _ids(self, *, newest_first: bool = False) -> Iterator[str]:
        """List the ids of all values of the caller, with the changes of this unit of work."""
        unit = self._unit()
        seen: set[str] = set()
        if newest_first:
            yield from reversed(list(self._added(unit, seen)))
        for session_id in self._stored_ids(unit, newest_first=newest_first):
            if session_id not in seen:
                seen.add(session_id)
                yield session_id
        if not newest_first:
            yield from self._added(unit, seen)

    def _stored_ids(self, unit: Unit, *, newest_first: bool) -> Iterator[str]:
        """List the stored ids without those that this unit has removed. One may come twice."""
        access = self._access()
        kind = (access.store, access.owner, self._converter and self._converter.source)
        known = None if newest_first else unit.take_listing(kind)
        listed: list[str] = []
        for session_id in known or (found.session_id for found in summaries(access, newest_first=newest_first)):
            if self._is_listed(unit, session_id):
                listed.append(session_id)
                yield session_id
        if listed and not known:
            unit.note_listing(kind, listed)

    def _is_listed(self, unit: Unit, session_id: str) -> bool:
        """Tell the ids of keys that this unit has not removed."""
        if not is_key(session_id):
            return False
        entry = unit.found(self._place_of(session_id))
        return entry is None or entry.value is not NO_VALUE or unit.reads_anew

    def _added(self, unit: Unit, seen: set[str]) -> Iterator[str]:
        """List the ids of values that this unit of work has assigned and not yet written."""
        access = self._access()
        for session_id in unit.added(access.store, access.owner):
            if session_id not in seen:
                seen.add(session_id)
                yield session_id

    def _pairs(self, *, newest_first: bool = False) -> Iterator[tuple[Any, Any]]:
        """List the keys and values of the caller. Loading them here is no interaction."""
        unit = self._unit()
        ids = self._ids(newest_first=newest_first)
        while places := [self._place_of(session_id) for session_id in itertools.islice(ids, _LOADED_TOGETHER)]:
            for place, value in unit.entries(places, is_interaction=False):
                if value is not NO_VALUE:
                    yield key_of(place.session_id), value


class _Keys(KeysView[Any]):
    _mapping: SessionMapping

    def __reversed__(self) -> Iterator[Any]:
        keys: Iterator[Any] = reversed(self._mapping)
        return keys

    def __repr__(self) -> str:
        return f"{self._mapping!r}.keys()"


class _Values(ValuesView[Any]):
    _mapping: SessionMapping

    def __iter__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs())

    def __contains__(self, value: object) -> bool:
        return any(found is value or found == value for found in self)

    def __reversed__(self) -> Iterator[Any]:
        return (value for _, value in self._mapping._pairs(newest_first=True))

    def __repr__(self) -> str:
        return f"{self._mapping!r}.values()"


class _Items(ItemsView[Any, Any]):
    _mapping: SessionMapping

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._pairs()

    def __contains__(self, item: object) -> bool:
        if not isinstance(item, tuple) or len(item) != 2:
            return False
        key, value = item
        found = self._mapping._value(key)
        return found is not NO_VALUE and (found is value or bool(found == value))

    def __reversed__(self) -> Iterator[tuple[Any, Any]]:
        return self._mapping._pairs(newest_first=True)

    def __repr__(self) -> str:
        return f"{self._mapping!r}.items()"
