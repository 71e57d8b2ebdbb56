"""The errors, in one tree. Each error says whether anything was written.

ConvstoreError
├── ConfigurationError        unknown or bad settings, found by init_app
├── InvalidInput              a value is not accepted
│   ├── InvalidSessionId      no session can have this id
│   ├── NotSerializable       JSON cannot hold a value
│   │   └── TooDeep           a value is nested too deep, or contains itself
│   ├── TokenReused           the token belongs to another request
│   │   └── MessageIdReused   the id belongs to another message
│   └── TooLarge              a limit is passed
├── SessionNotFound           no such session, or expired, or another owner's
│   └── MessageNotFound       the session has no such message
│       └── NothingToReplace  the message that was to give way is not there
├── TooManyTurns              the owner begins too many turns in a minute
├── TooManySessions           the owner has as many sessions as an owner may have
├── CrossOrigin               a page of another site would change something
├── Forbidden                 another owner shares the session, but not for this
├── OwnerRequired             the call needs an owner
├── SessionExists             the id of a new session is taken
├── ConflictError             another write has changed the same thing
├── SessionMoved              the conversation continues in another session
├── TurnInProgress            another turn of the session is in progress
├── TurnUnended               the turn before has died, and its reply was streamed (raised by stores, and caught)
├── StreamBehind              the stream of a reply lacks parts (raised by stores, and caught)
├── TurnLost                  another turn has taken over, or the conversation was replaced
│   └── TurnEnded             the turn of this token has ended, and the error has its reply (``operations.replies``)
├── ReplyFailed               the reply handler failed, and the user's message is stored
│   ├── ReplyStalled          a streamed reply has stopped coming
│   ├── ReplyTooLong          a streamed reply takes too long, or is too large
│   └── ReplyInterrupted      the process that made a streamed reply has died, or another turn has taken over
├── Unstorable                a value in a mapping cannot be stored
├── ChangesDropped            changes of code that has raised were dropped (a signal brings it)
├── NotInstalled              an optional package is missing
└── StoreError                the store failed
    ├── StoreUnavailable      no answer in time, and the call may be repeated
    │   ├── TooSlow           the answer was on its way when the time was over
    │   └── NothingKnown      the store is away, and this host knows nothing of the session (CONVSTORE_OUTAGE=continue)
    ├── StoreMisconfigured    the server refuses us: a password, a permission, a database, or no Redis
    └── CorruptValue          a stored value is not ours
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any


class ConvstoreError(Exception):
    """Base of all errors.

    Attributes:
        written: True if something was written, False if nothing was. None if nobody can know.
        retry_after_ms: Time to wait before a retry. None if a retry does not help.
    """

    written: bool | None = False
    retry_after_ms: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return the facts that a client may know beside the text, as JSON values."""
        return {}

    def __reduce__(self) -> Any:
        # Python would call the class with the text alone.
        return _as_it_was, (type(self), self.args), self.__dict__


def _as_it_was(kind: type[ConvstoreError], args: tuple[Any, ...]) -> ConvstoreError:
    """Make an error that is copied or unpickled. Its facts come behind."""
    return kind.__new__(kind, *args)


@contextlib.contextmanager
def behind_a_write() -> Iterator[None]:
    """Mark every error in this block as one that comes after a write."""
    try:
        yield
    except ConvstoreError as error:
        error.written = True
        raise


def printable(path: str) -> str:
    """Make a path fit for a line of a log. Keys that a client has chosen may hold line ends, or be long."""
    shown = path if path.isprintable() else repr(path)[1:-1]
    return shown if len(shown) <= _LONGEST_SHOWN else f"{shown[:_LONGEST_SHOWN]}…"


_LONGEST_SHOWN = 300


class ConfigurationError(ConvstoreError):
    """Settings are unknown or bad. The error lists all of them.

    Attributes:
        problems: One sentence for each setting.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class InvalidInput(ConvstoreError, ValueError):
    """A value is not accepted.

    Attributes:
        path: Place in the value, as in ``data.profile[3]``. Empty for the whole value.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{printable(path)}: {reason}" if path else reason)

    def facts(self) -> dict[str, Any]:
        return {"errors": {self.path or "body": [self.reason]}}


class InvalidSessionId(InvalidInput):
    """No session can have this id. An id has 1 to 200 characters, without control characters, and is no reserved word.

    Nor has an id a part ``.`` or ``..``, or the end of a route, such as ``/messages``, because no path would lead there.
    """

    def facts(self) -> dict[str, Any]:
        return {}  # a client is told that there is no such session


class NotSerializable(InvalidInput, TypeError):
    """JSON cannot hold a value. ``path`` is its place. Nothing was written."""


class TooDeep(NotSerializable):
    """A value is nested too deep, or contains itself. Nothing was written."""


class TokenReused(InvalidInput):
    """The token belongs to an earlier, different write of this session. Nothing was written."""

    def __init__(
        self,
        reason: str = "this token came before with another request. Give each request its own. Nothing was written.",
        path: str = "token",
    ) -> None:
        super().__init__(reason, path)


class MessageIdReused(TokenReused):
    """The session has another message with that id. Nothing was written.

    Attributes:
        message_id: The id.
    """

    def __init__(self, message_id: str) -> None:
        super().__init__(
            f"the session has another message with the id {message_id!r}. Give each message its own. Nothing was written.",
            "id",
        )
        self.message_id = message_id


class TooLarge(InvalidInput):
    """A limit is passed. Nothing was written.

    Attributes:
        limit: The largest size that is allowed.
        size: The size that was given, or that would have come about, in the same unit.
    """

    def __init__(self, reason: str, path: str = "", *, limit: int, size: int) -> None:
        self.limit = limit
        self.size = size
        super().__init__(f"{reason}: {size:,}, at most {limit:,} are allowed. Nothing was written.", path)

    def facts(self) -> dict[str, Any]:
        return {"limit": self.limit, "size": self.size}


def too_many_messages(limit: int, size: int) -> TooLarge:
    """Say that the session would get more messages than ``CONVSTORE_MAX_HISTORY`` allows."""
    return TooLarge("the session would have too many messages", limit=limit, size=size)


def too_many_fields(limit: int, size: int) -> TooLarge:
    """Say that one write has more data fields than a session may have."""
    return TooLarge("there are too many data fields", limit=limit, size=size)


def too_many_lines(limit: int, size: int) -> TooLarge:
    """Say that an import has too many sessions."""
    return TooLarge("there are too many sessions in one import: send them in parts", limit=limit, size=size)


def data_too_large(limit: int, size: int) -> TooLarge:
    """Say that the data of a write alone are larger than a session's may be by ``CONVSTORE_MAX_DATA_BYTES``."""
    return TooLarge("the data is too large in bytes of JSON", limit=limit, size=size)


def stored_data_too_large(limit: int, size: int) -> TooLarge:
    """Say that the data of the session would become larger than ``CONVSTORE_MAX_DATA_BYTES`` allows."""
    return TooLarge("the data would be too large in bytes of JSON", limit=limit, size=size)


def session_too_large(limit: int, size: int) -> TooLarge:
    """Say that the session would become larger than ``CONVSTORE_MAX_SESSION_BYTES`` allows."""
    return TooLarge("the session would be too large in bytes of JSON", limit=limit, size=size)


def is_history_key(name: str, place: str = "data") -> InvalidInput:
    """Say that a data field was to be set under the key of the session's history. *place* is that of the fields."""
    reason = "this is the key of the history, not of a field. Choose another name. Nothing was written."
    return InvalidInput(reason, f"{place}.{name}")


def message_too_large(limit: int, size: int, path: str = "") -> TooLarge:
    """Say that a message is larger than ``CONVSTORE_MAX_MESSAGE_BYTES`` allows."""
    return TooLarge("the message is too large in bytes of JSON", path, limit=limit, size=size)


def body_too_large(limit: int, size: int) -> TooLarge:
    """Say that the body of a request is larger than the settings allow."""
    return TooLarge("the body is too large in bytes", limit=limit, size=size)


class SessionNotFound(ConvstoreError, LookupError):
    """This owner has no such session, or the session has expired."""

    def __init__(self, session_id: str, message: str = "") -> None:
        self.session_id = session_id
        gone = f"session {session_id!r} does not exist, was deleted or has expired"
        super().__init__(message or f"{gone}. Save a plain dict to start the session anew. Nothing was written.")


class MessageNotFound(SessionNotFound):
    """The session has no such message, or no longer.

    Attributes:
        seq: Number of the message, or its id where it was asked for by that.
    """

    def __init__(self, session_id: str, seq: int | str) -> None:
        super().__init__(session_id, f"session {session_id!r} has no message {seq}. Nothing was written.")
        self.seq = seq


class NothingToReplace(MessageNotFound):
    """The message that was to give way (``replaces=``) is not there, or no longer. ``seq`` names it. Nothing was written."""


class Forbidden(ConvstoreError):
    """Another owner shares the session, but not for this. A reader may not write. A writer may not delete or share.

    Nothing was written.
    """

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(
            f"session {session_id!r} belongs to another owner, who does not share it for this. Ask the owner. "
            "Nothing was written."
        )


class TooManySessions(ConvstoreError):
    """The owner has as many sessions as ``CONVSTORE_MAX_SESSIONS`` allows. Nothing was written.

    Attributes:
        limit: Number of sessions that an owner may have.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(f"the owner has {limit} sessions, and may have no more. Delete one. Nothing was written.")

    def facts(self) -> dict[str, Any]:
        return {"limit": self.limit}


class TooManyTurns(ConvstoreError):
    """The owner begins more turns a minute than ``CONVSTORE_MAX_TURNS_PER_MINUTE`` allows. Nothing was written.

    Attributes:
        retry_after_ms: Time until the next turn may begin.
    """

    retry_after_ms: int

    def __init__(self, retry_after_ms: int) -> None:
        self.retry_after_ms = retry_after_ms
        super().__init__(f"too many turns. Try again in {retry_after_ms / 1000:.1f} s. Nothing was written.")


class CrossOrigin(ConvstoreError):
    """A page of another site would change something in the name of this browser's user. Nothing was written.

    Attributes:
        origin: The ``Origin`` of the request. None if it has none.
    """

    def __init__(self, origin: str | None = None) -> None:
        self.origin = origin
        place = "a page of another origin" if origin is None else f"a page of another origin, {printable(repr(origin))}"
        super().__init__(
            f"the request comes from {place}. If the app trusts the page, name its origin in CONVSTORE_TRUSTED_ORIGINS. "
            "Nothing was written."
        )


class OwnerRequired(ConvstoreError):
    """The call needs an owner, and nobody in particular is calling. Nothing was written."""

    def __init__(self, reason: str = "This call needs an owner: log in or pass owner=. Nothing was written.") -> None:
        super().__init__(reason)


class SessionExists(ConvstoreError):
    """The id of a new session is taken. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r} exists already. Choose another id. Nothing was written.")


class SessionMoved(ConvstoreError):
    """The conversation was compacted and continues in another session. This one takes no messages. Nothing was written.

    Attributes:
        moved_to: Id of the session in which the conversation continues.
    """

    def __init__(self, session_id: str, moved_to: str) -> None:
        self.session_id = session_id
        self.moved_to = moved_to
        super().__init__(f"session {session_id!r} continues as {moved_to!r}. Use that session. Nothing was written.")

    def facts(self) -> dict[str, Any]:
        return {"session_id": self.moved_to}


class ConflictError(ConvstoreError):
    """Another write has changed the same thing. Load the session again and repeat the change. Nothing was written.

    Attributes:
        what: ``version``, ``history``, ``message``, or the name of a data field.
        is_field: ``what`` is a data field, even if its name is ``version``.
        expected: Version that this write was made for. None if the write named none.
        actual: Version of the session.
    """

    def __init__(
        self, session_id: str, what: str, *, expected: int | None, actual: int, is_field: bool = False
    ) -> None:
        self.session_id = session_id
        self.what = what
        self.is_field = is_field
        self.expected = expected
        self.actual = actual
        versions = f"version {actual} now" if expected is None else f"version {expected} expected, {actual} found"
        super().__init__(
            f"session {session_id!r}: {printable(what)} was changed by another write ({versions}). Load the session again "
            "and repeat the change. Nothing was written."
        )


class TurnInProgress(ConvstoreError):
    """Another turn of this session is in progress, or the first attempt at this one.

    Nothing was written, unless this turn was begun before: its message was stored then, and ``written`` is True.

    Attributes:
        retry_after_ms: Time until the other turn's lease ends, if nobody renews the lease.
    """

    retry_after_ms: int

    def __init__(self, session_id: str, retry_after_ms: int, *, is_stored: bool = False) -> None:
        self.session_id = session_id
        self.retry_after_ms = retry_after_ms
        self.written = is_stored
        done = "The message was stored" if is_stored else "Nothing was written"
        super().__init__(f"session {session_id!r}: a turn is in progress. Try again later. {done}.")


class TurnLost(ConvstoreError):
    """Another turn has taken over or has written behind this turn's message, or the conversation was replaced.

    Nothing was written. Where a turn was begun before and is begun again, its message was stored, and ``written`` is True.
    """

    def __init__(self, session_id: str, *, is_stored: bool = False) -> None:
        self.session_id = session_id
        self.written = is_stored
        reason = "another turn has taken over, or the conversation was replaced"
        done = "The message was stored, and has no reply" if is_stored else "This reply was not written"
        super().__init__(f"session {session_id!r}: {reason}. {done}.")


class TurnUnended(ConvstoreError):
    """The turn before was not ended, and its *reply* was streamed. What is there of the reply is stored first."""

    def __init__(self, session_id: str, reply: str, is_over: bool) -> None:
        self.session_id = session_id
        self.reply = reply
        self.is_over = is_over
        super().__init__(f"session {session_id!r}: the turn before was not ended. Nothing was written.")


class StreamBehind(ConvstoreError):
    """The stream of a reply lacks the parts behind *last*, since the server has lost them. Nothing was written."""

    def __init__(self, session_id: str, last: int) -> None:
        self.session_id = session_id
        self.last = last
        super().__init__(f"session {session_id!r}: parts of the reply are missing. Nothing was written.")


class ReplyFailed(ConvstoreError):
    """The reply handler raised, or did not return a reply. The user's message is stored.

    Of a streamed reply what had come is stored too.

    Attributes:
        kind: Name of the kind of failure.
    """

    written = True
    kind = "reply-failed"

    def __init__(self, session_id: str, reason: str) -> None:
        self.session_id = session_id
        self.reason = reason
        super().__init__(f"session {session_id!r}: {reason}. The user's message is stored.")

    def facts(self) -> dict[str, Any]:
        return {"session_id": self.session_id}


class ReplyStalled(ReplyFailed):
    """The model gave nothing for ``CONVSTORE_STREAM_IDLE``."""

    kind = "reply-stalled"


class ReplyTooLong(ReplyFailed):
    """The reply took longer than ``CONVSTORE_TURN_MAX``, or is larger than ``CONVSTORE_MAX_MESSAGE_BYTES``."""

    kind = "reply-too-long"


class ReplyInterrupted(ReplyFailed):
    """The process that made the reply has died, or another turn has taken over."""

    kind = "reply-interrupted"


class ChangesDropped(ConvstoreError):
    """Changes of loaded values were dropped, since the code that made them has raised, or goes on behind such code.

    Comes with the signal ``changes_lost``, and is never raised.

    Attributes:
        session_ids: The sessions that were changed.
        loaded_at: The line of the app that has loaded each of them.
    """

    def __init__(self, loaded: Mapping[str, object], reason: str) -> None:
        self.session_ids = tuple(loaded)
        self.loaded_at = tuple(map(str, loaded.values()))
        self.written = False
        named = ", ".join(f"{session_id!r}, loaded at {place}" for session_id, place in loaded.items())
        super().__init__(f"changes of session {named}, were dropped, since {reason}. Nothing was written.")


class Unstorable(ConvstoreError):
    """A value that the app has put into a mapping cannot be stored. Clients see this error, the app sees the cause."""


class NotInstalled(ConvstoreError):
    """The call needs an optional package, which is missing."""


class StoreError(ConvstoreError):
    """The store failed."""


_EFFECTS = {
    True: "The write is done.",
    False: "Nothing was written.",
    None: "The write may be done. To repeat it, append with the same token or save the same session again.",
}


class StoreUnavailable(StoreError):
    """No answer came in time, or the server refuses work for now. Repeat the call, a write with the same token.

    Attributes:
        is_down: No server answers, or none that could serve anything. None: there was too little time to tell.
        is_unexplained: The server says something that nobody knows. Where it repeats itself, it becomes
            ``StoreMisconfigured``.
    """

    retry_after_ms: int | None = 1000
    is_unexplained = False

    def __init__(self, reason: str, *, written: bool | None, is_down: bool | None = False) -> None:
        self.reason = reason
        self.written = written
        self.is_down = is_down
        super().__init__(f"{reason}. {_EFFECTS[written]}")


class TooSlow(StoreUnavailable):
    """Too much for the time of a call: a part of it was on its way when the time was over. The server is not away.

    Read less of the session, or give calls more time (``CONVSTORE_BUDGET``). Repeating the same does not help.
    """

    retry_after_ms = None


class NothingKnown(StoreUnavailable):
    """The store is away, and this host has written nothing to the session since. With ``CONVSTORE_OUTAGE=continue`` only.

    Nobody can say here if there is such a session. Writes to the session are taken, and handed over later.

    Attributes:
        fallback: As a ``Receipt`` has it.
    """

    def __init__(self, reason: str, *, fallback: str, is_down: bool | None = True) -> None:
        self.fallback = fallback
        super().__init__(reason, written=False, is_down=is_down)


class StoreMisconfigured(StoreError):
    """The server refuses us: a wrong password or database, a missing permission or command, or no Redis.

    Somebody has to mend this first.
    """

    retry_after_ms = 60_000


_MEND = "Save a plain dict, or delete the session. salvage() reads what is left"


class CorruptValue(StoreError):
    """A stored value is not ours. Only this session is affected.

    Attributes:
        key: Key of the value in the store.
    """

    def __init__(self, key: str, reason: str, cure: str = _MEND) -> None:
        self.key = key
        super().__init__(f"{key}: {reason}. {cure}. Nothing was written.")
