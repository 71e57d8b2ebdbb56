"""Session: exactly the content that was saved, as a dict or a list that knows its id, version, times and messages.

An app gets it, changes it at any depth, and saves it. ``diff`` finds the difference to the baseline that each session
carries.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from ..domain import json_text, json_types
from ..domain.clock import as_datetime
from ..domain.messages import Message, Usage, stored_message
from ..domain.results import Snapshot
from ..domain.shapes import key_of
from ..errors import CorruptValue
from .baseline import Baseline, base_read
from .content import Content


class Stored:
    """Facts of a session beside its content. A session that was never loaded or saved has none: AttributeError."""

    __slots__ = ()

    _base: Baseline

    if not TYPE_CHECKING:  # to a type checker every misspelt name would be there

        def __getattr__(self, name: str) -> Any:
            if hasattr(type(self), name):  # it needs the base
                reason = "this session was never saved or loaded. Use the session that save_session() returns"
            else:
                reason = f"{type(self).__name__!r} object has no attribute {name!r}"
            raise AttributeError(reason, name=name, obj=self)

    @property
    def session_id(self) -> str:
        """The id under which it was loaded or saved."""
        return self._base.snapshot.session_id

    @property
    def version(self) -> int:
        """Number of writes that the session has had, 1 when created.

        After a merge the unseen writes of others count too. Load the session anew for ``append(expected_version=…)``.
        """
        return self._base.snapshot.version

    @property
    def created_at(self) -> datetime:
        """UTC, by the server's clock."""
        return as_datetime(self._base.snapshot.shown_created_at_ms)

    @property
    def updated_at(self) -> datetime:
        """Last write, UTC, by the server's clock."""
        return as_datetime(self._base.snapshot.updated_at_ms)

    @property
    def expires_at(self) -> datetime:
        """Time when it expires unless somebody interacts, UTC, by the server's clock."""
        return as_datetime(self._base.snapshot.expires_at_ms)

    @property
    def title(self) -> str | None:
        """Its title. None if it has none."""
        return self._base.snapshot.title

    @property
    def moved_to(self) -> str | None:
        """The id of the session in which the conversation continues, if this one was compacted. Else None."""
        return self._base.snapshot.moved_to

    @property
    def usage(self) -> Usage:
        """The cost of its messages in all, in tokens of a model, when it was loaded."""
        return self._base.snapshot.usage

    @property
    def fallback(self) -> str | None:
        """``journal`` or ``memory`` if the fallback served it while the store was away. None: the store itself."""
        return self._base.snapshot.fallback

    @property
    def partial(self) -> bool:
        """The store is away and may have more: this is what this host has written since, and what it remembers."""
        return self._base.snapshot.partial

    @property
    def message_count(self) -> int:
        """Number of messages that were stored when it was loaded, and by this object since."""
        return self._base.snapshot.count

    @property
    def size(self) -> int | None:
        """Bytes of its messages and data fields in the store, when it was loaded, and by this object since.

        None if only a part was loaded, and the store does not tell, or the rest is not known since a write.
        """
        snapshot = self._base.snapshot
        if snapshot.stored_bytes is not None:
            return snapshot.stored_bytes
        if snapshot.read is not None or self._base.is_partial or snapshot.partial:
            return None
        data = sum(len(name.encode()) + len(text) for name, text in snapshot.fields.items())
        return data + sum(map(len, snapshot.elements))

    @property
    def last_seq(self) -> int:
        """The seq of the newest message that was loaded or saved. 0 if there is none."""
        return self._base.seqs[-1] if self._base.seqs else 0

    @property
    def messages(self) -> list[Message]:
        """The messages with their envelopes, as they were loaded or saved, oldest first.

        Raises:
            CorruptValue: An envelope is not ours.
        """
        snapshot, seqs = self._base.snapshot, self._base.seqs
        numbered = zip(snapshot.elements, seqs, strict=True)
        return [stored_message(element, seq, snapshot.history_key) for element, seq in numbered]

    def message(self, seq: int) -> Message | None:
        """Get the message with that number. None if it was not loaded or saved here.

        Raises:
            CorruptValue: Its envelope is not ours.
        """
        index = bisect_left(self._base.seqs, seq)
        return self._message_at(index) if seq in self._base.seqs[index : index + 1] else None

    def message_before(self, seq: int) -> Message | None:
        """Get the message that stands before the one with that number. None if none was loaded or saved here.

        Raises:
            CorruptValue: Its envelope is not ours.
        """
        index = bisect_left(self._base.seqs, seq) - 1
        return self._message_at(index) if index >= 0 else None

    def _message_at(self, index: int) -> Message:
        snapshot = self._base.snapshot
        return stored_message(snapshot.elements[index], self._base.seqs[index], snapshot.history_key)


class Session(Stored, dict[str, Any]):
    """A session that was saved as a dict: exactly the content that was saved, the history included.

    Its copies, and the results of ``|`` on either side, are the same session. Saving one of them merges too.
    """

    __slots__ = ("_base",)

    def copy(self) -> Session:
        return _like(self, Session(self))

    def __or__(self, other: Any) -> Any:
        merged = super().__or__(other)
        return merged if merged is NotImplemented else _like(self, Session(merged))

    def __ror__(self, other: Any) -> Any:
        merged = super().__ror__(other)
        return merged if merged is NotImplemented else _like(self, Session(merged))


class ListSession(Stored, list[Any]):
    """A session that was saved as a bare list of messages. It has no data fields.

    Its copies and slices, and ``session + messages``, are the same session: ``session = session[-20:]`` can be saved, and
    merges. ``messages + session`` is a plain list, since no class can take that from a list without taking
    ``messages += session`` too.
    """

    __slots__ = ("_base",)

    def copy(self) -> ListSession:
        return _like(self, ListSession(self))

    def __getitem__(self, index: Any) -> Any:
        found = super().__getitem__(index)
        return _like(self, ListSession(found)) if isinstance(index, slice) else found

    def __add__(self, other: Any) -> Any:
        if not isinstance(other, list):
            return NotImplemented  # list itself would raise before *other* is asked
        return _like(self, ListSession(super().__add__(other)))


AnySession = Session | ListSession

LoadedSession = Session | Any
"""A loaded session, to type checkers. Only the app knows whether it has saved a dict, the common form, or a list."""

_S = TypeVar("_S", bound=AnySession)


def on_base(session: _S, base: Baseline) -> _S:
    """Let *session* be measured from *base* from now on. Return it."""
    session._base = base
    return session


def _like(original: AnySession, session: _S) -> _S:
    return on_base(session, original._base) if hasattr(original, "_base") else session


def based(content: Content, base: Baseline) -> AnySession:
    """Make a session with *content*, which measures its changes from *base*."""
    if isinstance(content, dict) and type(content) is not dict:
        content = json_types.plain(content)
    session = Session(content) if isinstance(content, Mapping) else ListSession(content)
    session._base = base
    return session


def as_session(content: object, session_id: str, origin: str) -> AnySession | None:
    """Return *content* if it was loaded from or saved in that store under that id, so that saving it merges.

    None: it has to be saved as a whole.
    """
    if isinstance(content, (Session, ListSession)) and hasattr(content, "_base"):
        base = content._base
        return content if (base.snapshot.session_id, base.origin) == (session_id, origin) else None
    return None


def base_of(session: AnySession) -> Baseline:
    """Get the baseline of *session*."""
    return session._base


def plain(content: Any) -> Any:
    """Make a dict or list of *content* that belongs to no session. Any other value stays as it is."""
    if isinstance(content, Session):
        return dict(content)
    return list(content) if isinstance(content, ListSession) else content


def loaded(snapshot: Snapshot, first_key: str, origin: str) -> AnySession:
    """Make the session that *snapshot* holds. *origin* names its store.

    Raises:
        CorruptValue: A field or a message is not ours.
    """
    return based(content_of(snapshot, first_key), base_read(snapshot, origin))


def content_of_base(base: Baseline, first_key: str) -> Any:
    """Decode the content that was saved, as *base* knows it. *first_key* as in ``content_of``."""
    known = base.snapshot
    content: dict[str, Any] = {name: json_text.decode(text) for name, text in known.fields.items()}
    history = known.joined.decode()
    if known.shape == "list":
        return history
    key = key_of(known.shape, first_key)
    return content if key is None else content | {key: history}


def content_of(snapshot: Snapshot, first_key: str, *, is_tracked: bool = False) -> Any:
    """Decode the content that was saved.

    Args:
        first_key: The first key of the settings, for a session that does not remember the key of its history.
        is_tracked: It will be compared with what was saved.

    Raises:
        CorruptValue: A field or a message is not ours.
    """
    content: dict[str, Any] = {}
    for name, text in snapshot.fields.items():
        try:
            content[name] = json_text.decode(text)
        except ValueError as error:
            raise CorruptValue(snapshot.key, f"its field d:{name} is not JSON ({error})") from None
    try:
        history = snapshot.joined.decode(is_tracked=is_tracked)
    except ValueError as error:
        reason, index = error.args
        seq = snapshot.seqs[index]
        raise CorruptValue(snapshot.history_key, f"its message with seq {seq} is corrupt ({reason})") from None
    if snapshot.shape == "list":
        return history
    if snapshot.shape == "value" and "" in content:
        return content[""]
    key = key_of(snapshot.shape, first_key)
    if key is not None:
        content[key] = history
    return content


def history_of(session: AnySession, first_key: str) -> list[Any]:
    """List the bodies of a session's messages, oldest first. [] where it has no history."""
    if not isinstance(session, dict):
        return list(session)
    key = _key_of(session, first_key)
    return [] if key is None else list(session.get(key, ()))


def data_of(session: AnySession, first_key: str) -> dict[str, Any]:
    """Give a session's fields without the history. {} for a bare list."""
    if isinstance(session, dict):
        key = _key_of(session, first_key)
        return {name: value for name, value in session.items() if name != key}
    return {}


def _key_of(session: AnySession, first_key: str) -> str | None:
    return key_of(base_of(session).snapshot.shape, first_key)
