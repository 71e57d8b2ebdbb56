"""Conversations: every operation as a method, the Python surface of a store wherever it is used."""

from __future__ import annotations

import abc
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, overload

from ..domain.messages import Message, Usage
from ..domain.results import Health, Lease, Page, Receipt
from ..domain.types import CALLER, Lifetime, Order, Owner, Role, Scope
from ..domain.validation import check_whole
from ..errors import ConvstoreError
from ..sessions.content import Content
from ..sessions.session import AnySession, ListSession, LoadedSession, Session
from . import (
    aliases,
    branching,
    chats,
    events,
    messages,
    owners,
    rotation,
    salvage,
    sessions,
    streamed,
    transfer,
    turns,
    updates,
)
from .abandoned import Ended
from .access import Access
from .branching import SummaryInput
from .events import Change
from .health import health_of
from .messages import MessagePage
from .owners import Forgotten, OwnerContents
from .replies import TurnEnded, first_exchange
from .streamed import StoredReply, StreamedReply
from .transfer import Imported
from .turns import Policy, Turn


class Conversations(abc.ABC):
    """The operations on conversations. Each takes ``owner=``: a name, None (sessions without owner) or ``ANY``.

    Without ``owner=`` an operation in a request works for the request's owner. Outside of a request there is no restriction.

    Every operation raises ``StoreUnavailable`` when no answer comes in time, ``StoreMisconfigured`` when the server
    refuses us, and ``CorruptValue`` when the stored session is not whole. Each error says whether anything was written.
    """

    @abc.abstractmethod
    def _access(self, owner: Owner | Scope = CALLER) -> Access:
        """Find the store of the sessions, and resolve the owner."""

    @abc.abstractmethod
    def _chats(self, owner: Owner | Scope = CALLER) -> Access:
        """Find the store of the chats, and resolve the owner."""

    def _everywhere(self, owner: Owner | Scope = CALLER) -> dict[str, Access]:
        """Find every store that may hold something of the owner's, the one of the sessions first."""
        return {"sessions": self._access(owner), "chats": self._chats(owner)}

    # ---- sessions

    @overload
    def save_session(
        self, session_id: str, data: Mapping[str, Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> Session: ...

    @overload
    def save_session(
        self, session_id: str, data: Sequence[Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> ListSession: ...

    def save_session(
        self, session_id: str, data: Content, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> LoadedSession:
        """Save a session, and return *data* as a session.

        A session that came from ``get_session`` or ``save_session`` is merged. Only its changes are written, beside the
        writes of others, and the session itself is returned. A plain dict or list replaces the session or creates it.

        Args:
            data: A dict of fields, with the messages, if any, under the key of the history. Or a bare list of messages.
            ttl: Seconds that the session lives from each interaction. None keeps the present lifetime.

        Raises:
            NotSerializable: JSON cannot hold a value. The error has its path. Nothing was written.
            TooLarge: A limit is passed. Nothing was written.
            ConflictError: Since the session was loaded, another write has changed a history that was rewritten here. With
                ``CONVSTORE_CONFLICT=raise`` also a field that was changed here. Nothing was written.
            SessionNotFound: The loaded session was deleted or has expired, and is not brought back. Or the id is another
                owner's. Nothing was written.
        """
        return sessions.save(self._access(owner), session_id, data, ttl)

    def get_session(
        self,
        session_id: str,
        *,
        last: int | None = None,
        fields: Iterable[str] | None = None,
        owner: Owner | Scope = CALLER,
    ) -> LoadedSession | None:
        """Load a session exactly as it was saved, and move its lifetime. None if this owner has no such session.

        Args:
            last: Number of newest messages to load. None loads all. A session that was loaded in part takes new messages
                and changed fields. To drop or rewrite messages, load all.
            fields: Names of the data fields to load, so that large ones stay where they are. None loads all, ``()`` none.
                Saving such a session writes what was changed in it. It can set no field that was not asked for, and be saved
                under no other id.

        Raises:
            InvalidInput: *fields* is no list of names.
        """
        return sessions.known(self._access(owner), session_id, last=last, fields=fields)

    @overload
    def setdefault(
        self, session_id: str, data: Mapping[str, Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> Session: ...

    @overload
    def setdefault(
        self, session_id: str, data: Sequence[Any], *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> ListSession: ...

    def setdefault(
        self, session_id: str, data: Content, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> LoadedSession:
        """Load a session, or create it with *data*. As with a dict, the first caller creates it.

        Raises:
            NotSerializable, TooLarge: *data* cannot be stored. Nothing was written.
            SessionNotFound: The id is another owner's. Nothing was written.
        """
        return sessions.setdefault(self._access(owner), session_id, data, ttl)

    def delete_session(
        self, session_id: str, *, expected: str = "", token: str | None = None, owner: Owner | Scope = CALLER
    ) -> bool:
        """Delete a session for good. False if there was none.

        Args:
            token: Your own name for this call. A repeat gets the first answer, and deletes no session that began since.
            expected: The version that the session must have, or its state (an ETag, ``<created_ms>-<version>``). "": any.

        Raises:
            ConflictError: The session has another version. Nothing was written.
            Forbidden: The session is only shared with this owner. Nothing was written.
        """
        return sessions.delete(self._access(owner), session_id, expected=expected, token=token) is not None

    def append(
        self,
        session_id: str,
        *messages: Any,
        data: Mapping[str, Any] | None = None,
        token: str | None = None,
        expected_version: int | None = None,
        create: bool = False,
        ttl: Lifetime | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Add *messages* at the end and set the fields in *data*, all or nothing, in one round trip for any length.

        Repeating a call with the same *token* changes nothing and returns the first receipt. A message with an ``id`` that a
        message of the session has is left out. Where all are, the call is a repeat too.

        Args:
            messages: Dicts such as ``{"role": "user", "content": "hi"}``, messages of an SDK, or texts, each of which
                becomes a user's message. A single list of messages is taken as these messages. A ``Message`` has an id or
                metadata, and its body may be any JSON value, which is stored as it is.
            data: Fields to set, whatever their values were.
            token: Your own name for this write, 1 to 200 characters. None makes one.
            expected_version: Write only if the session has this version.
            create: Create the session if there is none.
            ttl: Seconds that a session lives from each interaction. Only with *create*. None keeps the present lifetime.

        Raises:
            SessionNotFound: No such session for this owner, or it has expired. With *create*: the id is another owner's.
            ConflictError: The session does not have the expected version. Nothing was written.
            TokenReused: The token came before with other messages or data. Nothing was written.
            InvalidInput: None, a number or a list was given instead of a message. Nothing was written.
            MessageIdReused: The session has another message with one of the ids. Nothing was written.
            NotSerializable, TooLarge: A value cannot be stored. Nothing was written.
        """
        return sessions.append(
            self._access(owner),
            session_id,
            messages,
            data=data,
            token=token,
            expected_version=expected_version,
            create=create,
            ttl=ttl,
        )

    def append_many(
        self,
        messages: Mapping[str, Sequence[Any]],
        *,
        tokens: Mapping[str, str] | None = None,
        owner: Owner | Scope = CALLER,
    ) -> dict[str, Receipt | ConvstoreError]:
        """Add messages to several sessions in one round trip, in a Cluster one for each primary.

        Each session is all or nothing for itself. The answer has a receipt for each session, or the error that it met.

        Args:
            messages: The messages for each session id, as ``append`` takes them.
            tokens: Your own name for the write to a session. One that is missing is made.

        Raises:
            NotSerializable, TooLarge, InvalidInput: A value cannot be stored. Nothing was written to any session.
        """
        return sessions.append_many(self._access(owner), messages, tokens=tokens)

    def update_session(
        self,
        session_id: str,
        data: Mapping[str, Any] | None = None,
        *,
        remove: Iterable[str] = (),
        title: str | None = None,
        ttl: Lifetime | None = None,
        expected_version: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Change fields, title and lifetime of a session in one round trip.

        Args:
            data: Fields to set, whatever their values were.
            remove: Names of fields to remove.
            title: A new title. "" removes the title, None leaves it.
            ttl: Seconds that the session lives from each interaction. None keeps the present lifetime.
            expected_version: Write only if the session has this version.

        Raises:
            SessionNotFound: No such session for this owner.
            ConflictError: The session does not have the expected version. Nothing was written.
            NotSerializable, TooLarge, InvalidInput: Nothing was written.
        """
        if expected_version is not None:
            check_whole(expected_version, "expected_version")
        expected = "" if expected_version is None else str(expected_version)
        access, removed = self._access(owner), tuple(remove)
        return updates.update(access, session_id, data, removed=removed, title=title, ttl=ttl, expected=expected)

    def touch(self, session_id: str, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER) -> bool:
        """Move the lifetime, and change it if *ttl* (seconds) is given. False if there is no such session."""
        return sessions.touch(self._access(owner), session_id, ttl=ttl)

    def salvage(self, session_id: str, *, owner: Owner | Scope = CALLER) -> Any:
        """Read what is left of a damaged session, as a plain dict or list. None if nothing is. That is no interaction.

        The server may have evicted one of its keys, or somebody else may have written into them. ``get_session`` raises
        ``CorruptValue`` then. To mend the session, save a plain dict under its id, or delete it.
        """
        return salvage.salvage(self._access(owner), session_id)

    def exists(self, session_id: str, *, owner: Owner | Scope = CALLER) -> bool:
        """Tell whether there is such a session. Asking is an interaction, and moves the lifetime."""
        return sessions.exists(self._access(owner), session_id)

    def list_sessions(
        self,
        *,
        cursor: str | None = None,
        limit: int = 50,
        order: Order = "updated",
        newest_first: bool = True,
        owner: Owner | Scope = CALLER,
    ) -> Page:
        """List a page of the owner's sessions, without data and messages.

        Listing is no interaction. With ``owner=ANY`` the server walks through all its keys, in no order.

        A session that moves while you page, as somebody changes or reads it, may come twice. Oldest first, every session
        comes at least once. Newest first, a session that has moved before it was shown stands before the first page.

        Args:
            cursor: The ``next`` of the page before, in the same order. None begins.
            limit: Most sessions of a page, 1 to 1,000. A page may be shorter, or empty, and others may follow. The last page
                has ``next`` None.
            order: By last change (``updated``), which reading does not move, or by last interaction to within a minute
                (``active``).
            newest_first: False lists the oldest first.

        Raises:
            InvalidInput: The limit, the order or the cursor is none. Nothing was written.
        """
        return sessions.page(self._access(owner), cursor=cursor, limit=limit, order=order, newest_first=newest_first)

    def share(self, session_id: str, name: str, role: Role = "reader", *, owner: Owner | Scope = CALLER) -> None:
        """Let another owner, *name*, read a session, or write to the session as a ``writer``.

        A writer may not delete, share or compact the session, nor give it a lifetime, an alias or another id. Readers and
        writers may fork the session, and own the new one.

        Raises:
            SessionNotFound: No such session for this owner.
            Forbidden: The session is only shared with this owner.
        """
        updates.share(self._access(owner), session_id, name, role)

    def unshare(self, session_id: str, name: str, *, owner: Owner | Scope = CALLER) -> None:
        """Hide a session from *name* again, from this moment on. Raises as ``share``."""
        updates.share(self._access(owner), session_id, name, None)

    def rotate_id(
        self, session_id: str, *, new_owner: str | None = None, owner: Owner | Scope = CALLER
    ) -> LoadedSession:
        """Give the session a new id, and *new_owner* as its owner. The old id leads nowhere from then on.

        Call this at a login, so that nobody who knew the old id knows the new one. A new owner's session is shared with
        nobody. If the oldest messages were dropped, messages are numbered from 1 again. A turn in progress is lost.

        Raises:
            SessionNotFound: No such session for this owner.
            Forbidden: The session is only shared with this owner.
            SessionMoved: The conversation goes on in another session. Rotate that one.
            ConflictError: Others wrote to the session at every attempt. All is as it was.
        """
        return rotation.rotate_id(self._access(owner), session_id, new_owner=new_owner)

    # ---- turns and messages

    def turn(
        self,
        session_id: str,
        message: Any,
        *,
        last: int | None = None,
        token: str | None = None,
        policy: Policy | None = None,
        replaces: int | str | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Turn:
        """Store *message* and take the turn: ``with convstore.turn(sid, message) as turn: turn.reply(llm(turn.history))``.

        Args:
            message: A dict, a message of an SDK, a ``Message``, or a text, which becomes the user's message.
            last: Most messages in ``turn.history``, the new one included. None: all.
            token: Your own name for this turn. The same token takes a turn again that died or failed, if nobody has written
                since.
            policy: While another turn is in progress ``reject`` this one, ``wait`` (which occupies the worker) or
                ``supersede`` the other. None: as ``CONVSTORE_TURN_POLICY`` says.
            replaces: The seq or the id of a message that gives way to this one, with all behind it.

        Raises:
            NothingToReplace: There is no message to replace. Nothing was written.
            TurnInProgress: Another turn is in progress. Nothing was written, unless the token came before.
            TurnEnded: The turn of this token was ended before. The error has the message and the reply. Nothing was written.
            TurnLost: The turn of this token was not ended, and others have written since. The message was stored.
            SessionNotFound, TokenReused, NotSerializable, TooLarge: Nothing was written.
            InvalidInput: None, a number or a list was given instead of a message. Nothing was written.
        """
        access = self._access(owner)
        message = sessions.as_message(message, "turn")
        turn, begun = turns.begin(access, session_id, message, last=last, token=token, policy=policy, replaces=replaces)
        if turn is None:
            raise TurnEnded(session_id, first_exchange(access, session_id, begun))
        return turn

    def follow_reply(
        self, session_id: str, reply: str = "", *, after: str | None = None, owner: Owner | Scope = CALLER
    ) -> StreamedReply | StoredReply | None:
        """Follow a reply that is streamed, or was, in whatever process. None: none is in progress (without *reply*).

        Args:
            reply: Its id. Without it the one in progress.
            after: The id of the last event that is known. Only what follows comes then.

        Raises:
            MessageNotFound: There is no such reply.
            SessionNotFound: No such session for this owner.
        """
        return streamed.follow(self._access(owner), session_id, reply, after)

    def turn_lease(self, session_id: str, *, owner: Owner | Scope = CALLER) -> Lease | None:
        """Tell who has the turn in progress, and for how long. None: there is no turn. This is no interaction.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        return turns.lease(self._access(owner), session_id)

    def stop_reply(self, session_id: str, reply: str = "", *, owner: Owner | Scope = CALLER) -> Ended:
        """Stop a reply that is streamed, in whatever process, and store what had come. One that has ended stays as it is.

        Args:
            reply: Its id. Without it the one in progress.

        Raises:
            MessageNotFound: There is no such reply, or none is in progress. Nothing was written.
            SessionNotFound: No such session for this owner. Nothing was written.
        """
        return streamed.stop(self._access(owner), session_id, reply)

    def subscribe(
        self, session_id: str, *, after: str | None = None, heartbeat: float = 15.0, owner: Owner | Scope = CALLER
    ) -> Iterator[Change | None]:
        """Iterate over what happens to a session, as it happens. None: nothing has for *heartbeat* seconds.

        Args:
            after: The id of the last change that is known. What was missed comes first then, else a ``snapshot``.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        return events.of_session(self._access(owner), session_id, after, heartbeat)

    def wait(
        self,
        session_id: str,
        *,
        until: Callable[[AnySession | None], Any],
        timeout: float = 30.0,
        owner: Owner | Scope = CALLER,
    ) -> AnySession | None:
        """Read a session after each change, until ``until(session)`` is true. Return it, None if there is none.

        Waiting occupies the worker.

        Raises:
            TimeoutError: It was not so within *timeout* seconds.
        """
        return events.wait(self._access(owner), session_id, until, timeout)

    def messages(
        self,
        session_id: str,
        *,
        before: int | str | None = None,
        after: int | str | None = None,
        limit: int = 50,
        owner: Owner | Scope = CALLER,
    ) -> MessagePage:
        """Read a page of messages, oldest first: the newest, those before one, or those after one, in one round trip.

        Args:
            before: Only messages before that seq or id, the newest of them. The next page is ``before=page.next``. Finding
                an id is a second round trip.
            after: Only messages behind that seq or id, the oldest of them. 0 begins with the oldest message there is. The
                next page is ``after=page.next``.
            limit: Most messages of a page, 1 to 1,000.

        Raises:
            SessionNotFound: No such session for this owner.
            MessageNotFound: No message has that id.
            InvalidInput: *before* or *after* is neither a seq nor an id.
        """
        return messages.shown(self._access(owner), session_id, before=before, after=after, limit=limit)

    def get_message(self, session_id: str, seq: int | str, *, owner: Owner | Scope = CALLER) -> Message | None:
        """Read one message in one round trip, and move the lifetime. None if this owner has no such message.

        Args:
            seq: The seq of the message, or its id.
        """
        return messages.get(self._access(owner), session_id, seq)

    def edit_message(
        self,
        session_id: str,
        seq: int | str,
        body: Any,
        *,
        metadata: dict[str, Any] | None = None,
        keep: bool = False,
        owner: Owner | Scope = CALLER,
    ) -> Message:
        """Replace the body of the message *seq*, and return the edited message. Its seq, its id and its time stay.

        Args:
            seq: The seq of the message, or its id.
            body: Any JSON value, or a ``Message``, whose metadata and tokens are taken too. The new tokens take the place of
                the old ones, also in ``session.usage``.
            metadata: New metadata. None leaves them as they are.
            keep: Keep the old body in ``Message.edits``.

        Raises:
            MessageNotFound: The session has no such message, or there is no such session for this owner.
            ConflictError: Others edited the message at the same time. Nothing was written.
            NotSerializable, TooLarge: Nothing was written.
        """
        return messages.edit(self._access(owner), session_id, seq, body, metadata=metadata, keep=keep)[0]

    def drop(
        self,
        session_id: str,
        *,
        newest: int | None = None,
        after: int | str | None = None,
        message: int | str | None = None,
        token: str | None = None,
        expected_version: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Take messages out: the *newest* so many, all *after* a message, or one *message*. One round trip.

        The other messages keep their seqs and ids. No seq is used again. A turn in progress whose own message goes is lost.
        ``first_seq`` of the receipt is the seq of the oldest message that went (None: there was none).

        Args:
            newest: Number of messages, 1 or more. There may be fewer.
            after: The seq or the id of the message that is the newest then. 0: all messages go.
            message: The seq or the id of the message that goes.
            token: Your own name for this call. A repeat changes nothing and returns the first receipt.
            expected_version: Write only if the session has this version.

        Raises:
            MessageNotFound: The session has no such message. Nothing was written.
            SessionNotFound: No such session for this owner.
            ConflictError: The session does not have the expected version. Nothing was written.
        """
        if expected_version is not None:
            check_whole(expected_version, "expected_version")
        expected = "" if expected_version is None else str(expected_version)
        access = self._access(owner)
        return messages.drop(
            access, session_id, newest=newest, after=after, message=message, expected=expected, token=token
        )

    def pop_message(self, session_id: str, *, owner: Owner | Scope = CALLER) -> Message | None:
        """Take the newest message out, and return it. None if the session has none. Two round trips.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        return messages.pop(self._access(owner), session_id)

    def redact_message(self, session_id: str, seq: int | str, *, owner: Owner | Scope = CALLER) -> Message:
        """Remove content, metadata and earlier bodies of a message, for good. Its place, role, seq and id stay.

        A title that was made of the message is removed too.

        Raises:
            MessageNotFound, ConflictError: As ``edit_message``.
        """
        return messages.redact(self._access(owner), session_id, seq)[0]

    def compact(
        self,
        session_id: str,
        summary: SummaryInput,
        *,
        keep: int = 10,
        policy: Policy | None = None,
        owner: Owner | Scope = CALLER,
    ) -> LoadedSession:
        """Go on in a new session, which begins with a summary and the last *keep* messages, and return the new session.

        The new session has the data, owner, lifetime and aliases of the old one. The old session stays readable until it
        expires, and refuses messages with ``SessionMoved`` (409), which names the new one. Nobody else has the turn
        meanwhile.

        Args:
            summary: A text, which becomes a system message, or a message. Or a function that makes one of them from the
                bodies of the messages that will be left out. There may be none, or an earlier summary among them.
            policy: As in ``turn()``.

        Raises:
            ConflictError: The messages were rewritten or dropped meanwhile. All is as it was.
            TurnInProgress, SessionNotFound, SessionMoved, NotSerializable, TooLarge: All is as it was.
        """
        return branching.compact(self._access(owner), session_id, summary, keep=keep, policy=policy)

    def fork(self, session_id: str, seq: int | None = None, *, owner: Owner | Scope = CALLER) -> LoadedSession:
        """Make a new session with the same data, and the messages up to *seq*, or all. The old one and its aliases stay.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        return branching.fork(self._access(owner), session_id, seq)

    # ---- aliases

    @overload
    def resolve(
        self,
        alias: str,
        *,
        create: Literal[True],
        data: Content | None = None,
        ttl: Lifetime | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> LoadedSession: ...

    @overload
    def resolve(
        self,
        alias: str,
        *,
        create: bool = False,
        data: Content | None = None,
        ttl: Lifetime | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> LoadedSession | None: ...

    def resolve(
        self,
        alias: str,
        *,
        create: bool = False,
        data: Content | None = None,
        ttl: Lifetime | None = None,
        last: int | None = None,
        owner: Owner | Scope = CALLER,
    ) -> LoadedSession | None:
        """Load the session that an outside conversation id leads to, ``"telegram:123"`` for example. None if there is none.

        With *create* a new session is made if the alias leads nowhere, or to a session that was deleted or has expired. Any
        number of callers at once get one and the same new session. The new session counts as a turn of its owner
        (``CONVSTORE_MAX_TURNS_PER_MINUTE``). An alias lives a day longer than its session may. Two owners' aliases of the
        same name are two aliases.

        Args:
            data: The content of a new session, as in ``save_session``. None: no messages.
            ttl: Seconds that a new session lives from each interaction.
            last: Number of newest messages to load, as in ``get_session``. 0 before a turn, which reads them itself.
        """
        return aliases.resolve(self._access(owner), alias, create=create, data=data, ttl=ttl, last=last)

    def link(self, alias: str, session_id: str, *, owner: Owner | Scope = CALLER) -> None:
        """Let *alias* lead to a session, wherever it led before.

        Raises:
            SessionNotFound: No such session for this owner.
        """
        aliases.link(self._access(owner), alias, session_id)

    def unlink(self, alias: str, *, owner: Owner | Scope = CALLER) -> bool:
        """Let *alias* lead nowhere. False if it led nowhere. Its session stays."""
        return aliases.unlink(self._access(owner), alias)

    def aliases(self, session_id: str, *, owner: Owner | Scope = CALLER) -> list[str]:
        """List the aliases that lead to a session, sorted. Empty if there is no such session."""
        return aliases.aliases(self._access(owner), session_id)

    def clear(self, alias: str, *, token: str | None = None, owner: Owner | Scope = CALLER) -> bool:
        """Delete the session that *alias* leads to, and the alias. False if there was no session.

        Args:
            token: Your own name for this call, such as the id of an update. A repeat within a day gets the first answer, and
                deletes no session that began since. It takes another round trip.
        """
        return aliases.clear(self._access(owner), alias, token=token)

    # ---- owners

    def current_session(self, *, last: int | None = None, owner: Owner | Scope = CALLER) -> LoadedSession | None:
        """Load the session that ``set_current_session`` has made the owner's current one.

        None if there is none, or if that session has ended. Where the session was compacted or rotated, its successor is the
        current one. Two round trips.

        Args:
            last: Number of newest messages to load, as in ``get_session``.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
        """
        return owners.current(self._access(owner), last=last)

    def set_current_session(self, session_id: str | None, *, owner: Owner | Scope = CALLER) -> None:
        """Make a session the owner's current one, until another one is, or this one ends. Two round trips.

        Args:
            session_id: The session, which must be the owner's own. None: the owner has no current session from now on.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``. Nothing was written.
            SessionNotFound: No such session for this owner. Nothing was written.
            Forbidden: The session is only shared with this owner. Nothing was written.
        """
        owners.make_current(self._access(owner), session_id)

    def usage(self, *, owner: Owner | Scope = CALLER) -> Usage:
        """Add up the tokens of a model that all the owner's sessions have cost, without sessions that are gone.

        The call walks through the owner's index. The usage of one session is ``session.usage``.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
        """
        return owners.usage(self._access(owner))

    def export_owner(self, *, after: str | None = None, owner: Owner | Scope = CALLER) -> Iterator[dict[str, Any]]:
        """Export all sessions of an owner, one after the other, as JSON values. Exporting is no interaction.

        Args:
            after: The last ``cursor`` of an interrupted export, which goes on behind it. Every hundredth session has one.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
        """
        return transfer.export(self._access(owner), after=after)

    def import_sessions(self, sessions: Iterable[Mapping[str, Any]], *, owner: Owner | Scope = CALLER) -> Imported:
        """Import exported sessions for this owner, and return the number of new sessions.

        Sessions that exist stay as they are, so that repeating the call is harmless. The times of a session are kept, and
        so is its place in lists. An import takes the owner's free places, the newest sessions first, and evicts nothing.
        Each session stands for itself. The result lists those that were not imported in ``failed``, each with its line,
        its id and the error. A session whose id is another owner's gets a random one, which ``renamed`` tells.

        Args:
            sessions: Sessions as ``export_owner`` gives them.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
            InvalidInput: There are sessions, and none of them is an exported one. Nothing was written.
        """
        return transfer.take_in(self._access(owner), sessions)

    def owner_contents(self, *, seconds: float | None = None, owner: Owner | Scope = CALLER) -> OwnerContents:
        """List all that is kept of an owner: sessions, chats, values of mappings, aliases, shares, and journalled sessions.

        The call walks through the owner's indexes, and for aliases and shares through all keys of the server.

        Args:
            seconds: Time after which the search stops. None: no limit.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
        """
        return owners.contents(self._everywhere(owner), seconds=seconds)

    def delete_owner(self, *, seconds: float | None = None, owner: Owner | Scope = CALLER) -> Forgotten:
        """Delete all that ``owner_contents`` lists, and return the number of sessions. After an error, call again.

        The count of turns and the entries of indexes go too. The log of an embedded server is written anew. Out of reach are
        backups, logs and replicas of a server of your own, journals of other hosts, and what was set aside as a file. The
        receipts of writes, without any text, stay for a day.

        Args:
            seconds: Time after which the deletion stops. The result's ``complete`` is False then. None: no limit.

        Raises:
            OwnerRequired: The call has no owner. Log in, or pass ``owner=``.
        """
        return owners.forget(self._everywhere(owner), seconds=seconds)

    # ---- chats

    def save_message(
        self,
        key: Hashable,
        role: str,
        content: Any,
        *,
        metadata: dict[str, Any] | None = None,
        token: str | None = None,
        owner: Owner | Scope = CALLER,
    ) -> Receipt:
        """Add ``{"role": …, "content": …}`` to the chat of *key*, and begin the chat if there is none. One round trip.

        Chats are apart from the sessions. Their keys begin with ``CONVSTORE_CONVERSATION_PREFIX``. They live for
        ``CONVSTORE_CONVERSATION_TTL``, 7 days, from the last interaction.

        Args:
            key: The key of the chat: a text, a number, None, or a tuple of these.
            metadata: The app's own facts about the message, kept beside its body.
            token: Your own name for this message. Repeating the call with the same token changes nothing.

        Raises:
            NotSerializable, TooLarge, TokenReused: Nothing was written.
        """
        return chats.save_message(self._chats(owner), key, role, content, metadata=metadata, token=token)

    def get_conversation(self, key: Hashable, *, last: int | None = None, owner: Owner | Scope = CALLER) -> list[Any]:
        """List the messages of the chat of *key*, its *last* ones or all, oldest first. Empty if there is no chat."""
        return chats.get_conversation(self._chats(owner), key, last=last)

    def clear_conversation(self, key: Hashable, *, token: str | None = None, owner: Owner | Scope = CALLER) -> bool:
        """Delete the chat of *key* in one round trip. False if there was none.

        Args:
            token: As ``delete_session`` has it.
        """
        return chats.clear_conversation(self._chats(owner), key, token=token)

    # ---- operations

    def health(self, *, brief: bool = False) -> Health:
        """Ask the store how it is. A refusal is logged, not raised.

        Args:
            brief: Leave out server, version and role.
        """
        return health_of(self._access().store, brief=brief)

    def close(self) -> None:
        """Close the connections. The next call opens new ones."""
        self._access().store.close()
