"""The errors: one tree, and each says whether anything was written.

ConvstoreError
├── ConfigurationError        the settings do not fit; raised by init_app
├── InvalidInput              a value that is not accepted as it is
│   ├── InvalidSessionId
│   ├── NotSerializable       JSON cannot hold it
│   │   └── TooDeep           nested too deep, or containing itself
│   ├── TokenReused           the token came before, with another request
│   └── TooLarge              over a limit
├── SessionNotFound           none, expired, or another owner's: they cannot be told apart
│   └── MessageNotFound       the session has no such message
├── TooManyTurns              the owner begins turns faster than it may
├── TooManySessions           the owner has as many as it may have
├── CrossOrigin               a page of another site would change something
├── Forbidden                 another owner shares it: it may be read, or written to, but not this
├── OwnerRequired             nobody in particular is calling, and this is about the caller's own
├── SessionExists             there is one already, where only a new one was wanted
├── ConflictError             somebody else wrote first
├── SessionMoved              its conversation goes on in another session
├── TurnInProgress            another turn of the session is in progress
├── TurnLost                  another turn has taken over; the reply was not written
│   └── TurnEnded             the turn of this token was ended before: here is the reply (``exchanges``)
├── ReplyFailed               the reply handler raised; the user's message is stored
├── Unstorable                what the app left in a mapping cannot be stored
├── NotInstalled              an optional package is needed
└── StoreError
    ├── StoreUnavailable      no answer in time; the call may be repeated
    ├── StoreMisconfigured    refused: password, permissions, not a Redis
    └── CorruptValue          what is stored is not what we wrote
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any


class ConvstoreError(Exception):
    """The root.

    Attributes:
        written: False, nothing was written; True, it was; None, it cannot be known.
        retry_after_ms: When to try again, if that helps; None: it does not.
    """

    written: bool | None = False
    retry_after_ms: int | None = None

    def facts(self) -> dict[str, Any]:
        """What a client may know beside the text, as values of JSON."""
        return {}


@contextlib.contextmanager
def behind_a_write() -> Iterator[None]:
    """What goes wrong in this block comes behind a write that is done: the error says so."""
    try:
        yield
    except ConvstoreError as error:
        error.written = True
        raise


class ConfigurationError(ConvstoreError):
    """One or more settings are unknown or bad; lists them all.

    Attributes:
        problems: One sentence for each.
    """

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        super().__init__("; ".join(problems))


class InvalidInput(ConvstoreError, ValueError):
    """A value is not accepted.

    Attributes:
        path: Where in the value, as in ``data.profile[3]``; empty for the whole.
    """

    def __init__(self, reason: str, path: str = "") -> None:
        self.reason = reason
        self.path = path
        super().__init__(f"{path}: {reason}" if path else reason)

    def facts(self) -> dict[str, Any]:
        return {"errors": {self.path or "body": [self.reason]}}


class InvalidSessionId(InvalidInput):
    """A session id is 1 to 200 characters, none of them a control character, and not a reserved word."""

    def facts(self) -> dict[str, Any]:
        return {}  # to a client it is a session that is not there


class NotSerializable(InvalidInput, TypeError):
    """JSON cannot hold a value; *path* says where it is. Nothing was written."""


class TooDeep(NotSerializable):
    """A value is nested too deep, or contains itself. Nothing was written."""


class TokenReused(InvalidInput):
    """The token belongs to an earlier, different write of this session. Nothing was written."""

    def __init__(
        self,
        reason: str = "this token came before with another request; nothing was written: give each request its own",
        path: str = "token",
    ) -> None:
        super().__init__(reason, path)


class TooLarge(InvalidInput):
    """A limit is passed. Nothing was written.

    Attributes:
        limit: The limit.
        size: What was given, or what it would have become, in the same unit.
    """

    def __init__(self, reason: str, path: str = "", *, limit: int, size: int) -> None:
        self.limit = limit
        self.size = size
        super().__init__(f"{reason}: {size:,} instead of {limit:,} at most; nothing was written", path)

    def facts(self) -> dict[str, Any]:
        return {"limit": self.limit, "size": self.size}


def too_many_messages(limit: int, size: int) -> TooLarge:
    """The session would get more messages than ``CONVSTORE_MAX_HISTORY`` allows."""
    return TooLarge("the session would have too many messages", limit=limit, size=size)


def too_many_fields(limit: int, size: int) -> TooLarge:
    """One write has more data fields than a session may have."""
    return TooLarge("there are too many data fields", limit=limit, size=size)


def data_too_large(limit: int, size: int) -> TooLarge:
    """The data of one write are larger than ``CONVSTORE_MAX_DATA_BYTES`` allows."""
    return TooLarge("the data is too large in bytes of JSON", limit=limit, size=size)


def stored_data_too_large(limit: int, size: int) -> TooLarge:
    """The data of the session would become larger than ``CONVSTORE_MAX_DATA_BYTES`` allows."""
    return TooLarge("the data would be too large in bytes of JSON", limit=limit, size=size)


def session_too_large(limit: int, size: int) -> TooLarge:
    """The session would become larger than ``CONVSTORE_MAX_SESSION_BYTES`` allows."""
    return TooLarge("the session would be too large in bytes of JSON", limit=limit, size=size)


def message_too_large(limit: int, size: int, path: str = "") -> TooLarge:
    """A message is larger than ``CONVSTORE_MAX_MESSAGE_BYTES`` allows."""
    return TooLarge("the message is too large in bytes of JSON", path, limit=limit, size=size)


def body_too_large(limit: int, size: int) -> TooLarge:
    """The body of a request is larger than the settings allow."""
    return TooLarge("the body is too large in bytes", limit=limit, size=size)


class SessionNotFound(ConvstoreError, LookupError):
    """No such session for this owner, or it has expired."""

    def __init__(self, session_id: str, message: str = "") -> None:
        self.session_id = session_id
        gone = f"no session {session_id!r}, or it was deleted or has expired; nothing was written"
        super().__init__(message or f"{gone} (saving a plain dict starts it anew)")


class MessageNotFound(SessionNotFound):
    """The session has no such message, or not any more.

    Attributes:
        seq: Its number.
    """

    def __init__(self, session_id: str, seq: int) -> None:
        super().__init__(session_id, f"session {session_id!r} has no message {seq}; nothing was written")
        self.seq = seq


class Forbidden(ConvstoreError):
    """Another owner shares the session: a reader may not write, a writer not delete or share it. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(
            f"session {session_id!r} is another owner's, who shares it, but not for this; nothing was written: ask them"
        )


class TooManySessions(ConvstoreError):
    """The owner has as many sessions as ``CONVSTORE_MAX_SESSIONS`` allows. Nothing was written.

    Attributes:
        limit: How many that is.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        super().__init__(
            f"there are {limit} sessions, the most that an owner may have; nothing was written: delete one"
        )

    def facts(self) -> dict[str, Any]:
        return {"limit": self.limit}


class TooManyTurns(ConvstoreError):
    """The owner begins more turns a minute than ``CONVSTORE_MAX_TURNS_PER_MINUTE`` allows. Nothing was written.

    Attributes:
        retry_after_ms: When the next one may begin.
    """

    retry_after_ms: int

    def __init__(self, retry_after_ms: int) -> None:
        self.retry_after_ms = retry_after_ms
        super().__init__(f"too many turns; nothing was written: try again in {retry_after_ms / 1000:.1f} s")


class CrossOrigin(ConvstoreError):
    """A page of another site would change something in the name of the browser's owner. Nothing was written."""

    def __init__(self) -> None:
        super().__init__("the request comes from a page of another origin; nothing was written")


class OwnerRequired(ConvstoreError):
    """What is asked for belongs to an owner, and nobody in particular is calling."""

    def __init__(self) -> None:
        super().__init__("nobody in particular is calling: this needs an owner; nothing was written: pass owner=")


class SessionExists(ConvstoreError):
    """There is such a session already. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r} exists already; nothing was written: name another id")


class SessionMoved(ConvstoreError):
    """The conversation was compacted and goes on in another session; this one takes no messages. Nothing was written.

    Attributes:
        moved_to: The id of the session in which it goes on.
    """

    def __init__(self, session_id: str, moved_to: str) -> None:
        self.session_id = session_id
        self.moved_to = moved_to
        super().__init__(f"session {session_id!r} goes on as {moved_to!r}; nothing was written: use that one")

    def facts(self) -> dict[str, Any]:
        return {"session_id": self.moved_to}


class ConflictError(ConvstoreError):
    """Somebody else changed the same thing meanwhile. Nothing was written; load the session again and repeat the change.

    Attributes:
        what: ``version``, ``history``, or the name of a data field.
        is_field: It is a data field, whatever its name.
        expected: The version this write was made for; None if it named none.
        actual: The version the session has.
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
            f"session {session_id!r}: {what} was changed by another write ({versions}); nothing was written: load it again "
            "and repeat the change"
        )


class TurnInProgress(ConvstoreError):
    """Another turn of this session is in progress, or the first attempt at this one. Nothing was written.

    Attributes:
        retry_after_ms: When its lease ends if nobody renews it.
    """

    retry_after_ms: int

    def __init__(self, session_id: str, retry_after_ms: int) -> None:
        self.session_id = session_id
        self.retry_after_ms = retry_after_ms
        super().__init__(f"session {session_id!r}: a turn is in progress; nothing was written: try again later")


class TurnLost(ConvstoreError):
    """The turn is not ours any more: another one has taken over, or written behind its message. Nothing was written."""

    def __init__(self, session_id: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r}: another turn has taken over; this reply was not written")


class ReplyFailed(ConvstoreError):
    """The reply handler raised, or returned what is no reply. The user's message is stored."""

    written = True

    def __init__(self, session_id: str, reason: str) -> None:
        self.session_id = session_id
        super().__init__(f"session {session_id!r}: {reason}; the user's message is stored")

    def facts(self) -> dict[str, Any]:
        return {"session_id": self.session_id}


class Unstorable(ConvstoreError):
    """What the app has put into a session through a mapping cannot be stored. Only clients are told of it by this error."""


class NotInstalled(ConvstoreError):
    """What is asked for needs an optional package, which is not there."""


class StoreError(ConvstoreError):
    """The store itself failed."""


class StoreUnavailable(StoreError):
    """No answer in time, or the server refuses work for now. The call may be repeated, a write with the same token.

    Attributes:
        is_down: Nobody answers, or nobody who could serve anything.
    """

    retry_after_ms = 1000

    def __init__(self, reason: str, *, written: bool | None, is_down: bool = False) -> None:
        self.reason = reason
        self.written = written
        self.is_down = is_down
        effect = "it is written" if written else "nothing was written"
        if written is None:
            effect = (
                "a write may have happened: to repeat it, append with the same token or save the same session again"
            )
        super().__init__(f"{reason}; {effect}")


class StoreMisconfigured(StoreError):
    """The server refuses us: a wrong password, a missing permission, or it is no Redis. Repeating does not help, until
    somebody has mended it."""

    retry_after_ms = 60_000


class CorruptValue(StoreError):
    """A stored value is not what we write; only this session is affected.

    Attributes:
        key: Where it lies in the store.
    """

    def __init__(self, key: str, reason: str) -> None:
        self.key = key
        super().__init__(f"{key}: {reason}; nothing was written: restore or remove the key")
