"""Turns: store the user's message, hold the turn while the reply is made, and store the reply behind the message.

A turn takes two round trips, however long the history is. No other turn of the session can begin meanwhile, and a reply
that comes too late is not written. A lease holds the turn. The lease is renewed while the reply is made, and ends by itself
when the process dies.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from contextvars import ContextVar
from dataclasses import replace
from functools import cached_property
from types import TracebackType
from typing import Any, Literal

from ..domain.clock import monotonic
from ..domain.commands import (
    BeginTurn,
    Closing,
    CommitTurn,
    FieldChange,
    MoveConversation,
    RenewTurn,
    Target,
    digest_if_known,
    digest_of,
    new_token,
    token_or_new,
)
from ..domain.deadlines import OPERATION
from ..domain.messages import Message, message_of, stored_message, with_id, with_status
from ..domain.numbering import id_away, id_of
from ..domain.pairs import are_plain, is_item, is_prompt, whole
from ..domain.parts import Fate, Head, as_models_take, epoch_of
from ..domain.results import Begun, Lease, Receipt, Snapshot
from ..domain.validation import check_session_id, check_target, check_whole
from ..errors import (
    ConvstoreError,
    InvalidInput,
    SessionNotFound,
    StoreError,
    StoreUnavailable,
    StreamBehind,
    TooSlow,
    TurnInProgress,
    TurnLost,
    TurnUnended,
)
from ..sessions import content, diff
from ..sessions.session import AnySession, data_of, history_of, loaded
from ..stores.store import UNTOLD_PAUSE
from . import abandoned
from .access import Access
from .context_window import Count, holes, newest, shown, window
from .leases import Renewer, renewer
from .producer import Producer, drafted, is_stream
from .sdk_replies import is_sdk_object, text_of_response
from .sessions import MAX_LOADED
from .streamed import StreamedReply

_log = logging.getLogger("flask_convstore")

Policy = Literal["reject", "wait", "supersede"]
"""Treatment of a new turn while another is in progress: refuse with TurnInProgress, wait, or take over."""

_LONGEST_WAIT = 0.5
"""Seconds after which a waiter looks by itself, in case that nobody has told it."""

_TICKET_MS = 2000
"""Time for which a waiter keeps its place in line without a sign of life. Those behind one that has died wait so long."""


GIVEN_UP: ContextVar[threading.Event | None] = ContextVar("flask_convstore_given_up", default=None)
"""Set where nobody waits any more for the turn that the running code begins."""


class Turn:
    """A turn in progress. A context manager, made by ``convstore.turn()``.

    A block that ends without ``reply()`` ends the turn ``unanswered``. A block that raises ends the turn ``failed``.

    Attributes:
        session_id: The session of the turn.
        message: The user's message, stored already. ``turn.message["content"]`` reads its body.
        history: The bodies of the messages asked for, oldest first. The last one is the body of the new message. Messages
            that were added come behind it, beside the *last* ones. System messages at the beginning are among them, also
            with ``last=``. A call of a tool and its answer are there together or not at all, as ``CONVSTORE_ORPHANS`` says,
            and a message without content is left out, as are the ``parts`` of a streamed reply. So the history is what a
            model's API takes. It is a list of its own after each ``add()``.
        data: The session's fields. Changes are written with the reply.
        token: The token that makes the turn repeatable.
        reply_id: The id that the reply will have, unless it is a ``Message`` with an id of its own.
        previous: The message before, if its turn was interrupted (its process died) or superseded (by this turn). Else None.
    """

    def __init__(self, access: Access, command: BeginTurn, begun: Begun, last: int | None) -> None:
        assert begun.snapshot
        self._access = access
        self._last = last
        self.attempt = command.attempt
        self._lease_ms = command.lease_ms
        self._begun = begun
        self._snapshot = begun.snapshot
        self._element = command.element
        self._seq = begun.receipt.first_seq or 0
        self._added: list[Any] = []
        self._shown: list[Any] = []
        """The bodies of the messages added, as they will be stored."""
        self._end: tuple[Message | None, Receipt] | None = None
        self._ending = threading.Lock()
        self._lost: CommitTurn | None = None
        """The end whose answer never came. It may be stored."""
        self._producer: Producer | None = None
        self._renewer: Renewer | None = None
        self._inside: AbstractContextManager[object] | None = None
        self.session_id = command.session_id
        self.token = command.token
        # No token of an app has a line end.
        self._end_token = f"{begun.token or command.token}\n{begun.receipt.version}"
        if not (begun.receipt.fallback or begun.receipt.repeated):
            self._began_away = False  # the usual case

    # Session, message, history and data are decoded on first use. A handler may need the message only.

    @cached_property
    def _session(self) -> AnySession:
        return loaded(self._snapshot, self._access.limits.history_key, self._access.backend.origin)

    @cached_property
    def message(self) -> Message:
        if self._element is None:
            return Message(None)
        receipt = self._begun.receipt
        stored = self._session.message(self._seq) if receipt.repeated or receipt.fallback else None
        if stored:
            return replace(stored, status=None)  # as the message was when it was accepted first
        return message_of(self._element, self._seq)

    @cached_property
    def history(self) -> list[Any]:
        stored = self._snapshot
        end = bisect_right(stored.seqs, self._seq)
        begin = 0 if self._last is None else max(0, end - self._last)
        history = history_of(self._session, self._access.limits.history_key)[begin:end]
        older = stored.count - len(stored.elements) + begin
        prompts = self._prompts(older)
        if are_plain(prompts) and are_plain(history):
            found = newest([*prompts, *history], self._last)
        else:
            found = self._whole_pairs(prompts, history, begin, older)
        return whole([*found, *self._shown], self._access.settings.orphans) if self._shown else found

    def _whole_pairs(self, prompts: list[Any], history: list[Any], begin: int, older: int) -> list[Any]:
        """Choose the messages to show where some may belong together. Arguments as ``_cuts``."""
        history = [as_models_take(body) for body in history]
        cuts = [len(prompts) + place for place in self._cuts(history, begin, older)]
        if older > len(prompts):
            cuts.append(len(prompts))
        return shown([*prompts, *history], self._last, self._access.settings.orphans, cuts)

    def _cuts(self, history: list[Any], begin: int, older: int) -> list[int]:
        """Find the places in *history*, which begins behind *older* messages, before which others were taken out."""
        stored = self._snapshot
        if not stored.gaps:
            return [0] if stored.first_seq > 1 else []
        seqs = stored.seqs[begin : begin + len(history)]
        is_behind_a_hole = bool(seqs) and seqs[0] > 1 + older
        found = holes(stored.elements[begin : begin + len(history)], seqs, history)
        return [0, *found] if is_behind_a_hole else found

    def _prompts(self, before: int) -> list[Any]:
        """Read the system messages at the beginning, as far as they are older than the message at the place *before*."""
        bodies = (
            stored_message(element, 0, self._snapshot.history_key).body for element in self._snapshot.head[:before]
        )
        return list(itertools.takewhile(is_prompt, bodies))

    @cached_property
    def data(self) -> dict[str, Any]:
        return data_of(self._session, self._access.limits.history_key)

    @cached_property
    def previous(self) -> Message | None:
        index = bisect_left(self._snapshot.seqs, self._seq) - 1
        is_marked = index >= 0 and b'"status"' in self._snapshot.elements[index].partition(b"\n")[0]
        return left_behind(self._session, self._seq) if is_marked else None

    def window(self, *, last: int | None = None, tokens: int | None = None, count: Count | None = None) -> list[Any]:
        """Choose the newest messages of ``history`` that fit a model: *last* messages at most, and *tokens* at most.

        System messages at the beginning are always chosen. A call of tools and its answers are chosen together or not at
        all. Messages that ``history`` lacks because of ``turn(last=)`` cannot be chosen.

        Args:
            count: A function from a message's body to its number of tokens.

        Raises:
            InvalidInput: A limit is no whole number, or *tokens* is given without *count*.
        """
        return window(self.history, last=last, tokens=tokens, count=count)

    @property
    def reply_id(self) -> str:
        return self._id_away(1) if self._began_away else id_of(self._seq + 1)

    def _id_away(self, place: int) -> str:
        return id_away(self.session_id, self._begun.token or self.token, place)

    @property
    def is_away(self) -> bool:
        """The turn is in the journal. Its reply is streamed here only."""
        return bool(self._begun.receipt.fallback)

    @property
    def partial(self) -> bool:
        """The store is away and may have more of the session: history and data are what this host knows of it."""
        return self._snapshot.partial

    @cached_property
    def _began_away(self) -> bool:
        """The turn was begun while the store was away. The message may have another seq by now, and so may the reply."""
        receipt = self._begun.receipt
        return bool(receipt.fallback) or (receipt.repeated and self.message.id == self._id_away(0))

    def add(self, *messages: Any) -> None:
        """Take messages that come before the reply, such as calls of tools and their results.

        They are in ``history`` and ``window()`` from now on. Elsewhere, as for ``get_session()``, they are there with the
        reply, since both are written in one step. A turn that fails, dies or is superseded leaves nothing of them behind, so
        that its repeat brings nothing twice. A turn that ends without a reply writes them. The lease is renewed.

        Args:
            messages: As ``reply`` has them. Several, or a list of message dicts.

        Raises:
            TurnLost: Another turn has taken over, or the conversation was replaced. Nothing was written.
            NotSerializable, TooLarge: A message cannot be stored. Nothing was written.
            InvalidInput: The turn has ended. Nothing was written.
        """
        given = [body for message in messages for body in as_messages(message, self.session_id)]
        elements = self._accepted(given).elements
        with self._ending:
            if self._end:
                raise _replied_already()
            if self._producer:
                self._producer.note_added(elements)
            else:
                self._access.apply(self._renewal())
            self._added += given
            self._shown += [message_of(element, 0).body for element in elements]
            self.__dict__.pop("history", None)

    def reply(self, reply: Any) -> Message | None:
        """Store a reply behind the message, end the turn, and return the reply as stored. None if *reply* is None.

        Args:
            reply: A text, a message dict, a ``Message``, an iterator of chunks of text, or None. Or a list of message dicts,
                of which the last one is the reply, and the others come before it as with ``add``.

        Raises:
            TurnLost: Another turn has taken over, or the conversation was replaced. Nothing was written.
            ConflictError: A field that was changed in ``data`` was changed by others too. Nothing was written.
            NotSerializable, TooLarge: The reply or a field cannot be stored. Nothing was written.
            SessionNotFound: The session was deleted meanwhile. Nothing was written.
            InvalidInput: The turn has a reply already, perhaps one whose answer was lost. Nothing was written.
        """
        message, _ = self.end(reply)
        return message

    def end(self, reply: Any, bodies: list[Any] | None = None) -> tuple[Message | None, Receipt]:
        """Store a reply as ``reply`` does, and return the receipt too. None after a reply returns that reply again.

        After a reply whose answer was lost, None stores that one, if it is not stored yet.

        Args:
            bodies: The messages of *reply*, where they were made already.
        """
        with self._ending:
            if self._end and reply is None:
                return self._end
            if self._end or self._producer:
                raise _replied_already()
            if bodies is None:
                bodies = as_messages(reply, self.session_id)
            commit = self._lost if self._lost and not bodies else self._commit_of(bodies)
            receipt = self._committed(commit)
            self._end = self._replied(commit, receipt), receipt
            return self._end

    def stream(self, chunks: Any) -> StreamedReply:
        """Store a reply that comes in chunks, in a thread of its own, and let others follow it while it comes.

        The thread ends the turn with the last chunk, and also if nobody reads the reply. The block of the turn can be left
        at once. The chunks become one message, as docs/streaming.md has it. The reply can be followed from anywhere as soon
        as this returns, unless the store does not answer in time.

        Args:
            chunks: An iterator of texts, ``Part`` objects or chunks of an SDK, also an asynchronous one. Or a function that
                makes the reply.

        Raises:
            InvalidInput: The turn has a reply already.
        """
        reply = self.begin_stream(chunks)
        assert self._producer
        self._producer.wait_begun(self._access.settings.budget)
        return reply

    def begin_stream(self, chunks: Any) -> StreamedReply:
        """Do as ``stream``, and return at once. Others can follow the reply once its first event has come."""
        with self._ending:
            if self._end or self._producer:
                raise _replied_already()
            self._producer = producer = Producer(self._access, self, as_messages)
        if self.is_away:
            self._renew_from_now()
        elif self._renewer:
            self._renewer.remove(self)  # the feeder keeps the turn
        message = self.message if self._element else None
        epoch = epoch_of(self.attempt)
        reply = StreamedReply(
            self._access, producer.channel, epoch=epoch, message=message, is_away=self.is_away, partial=self.partial
        )
        producer.start(chunks if callable(chunks) else lambda: chunks)
        return reply

    def head(self) -> Head:
        token, version = self._begun.token or self.token, self._begun.receipt.version
        added = self._added and self._accepted(self._added).elements
        message = self.message.id if self._element else ""
        return Head(message, token, version, tuple(text.decode() for text in added or ()))

    def end_stream(
        self, bodies: list[Any], fate: Fate, closing: Callable[[tuple[bytes, ...]], Closing | None]
    ) -> Receipt:
        with self._ending:
            if self._renewer:
                self._renewer.remove(self)
            commit = self._commit_of(bodies)
            elements, status = commit.elements, commit.status
            if fate in ("stopped", "interrupted"):
                elements = (*elements[:-1], with_status(elements[-1], fate))
            elif fate == "failed":
                elements, status = (), "failed"
            commit = replace(commit, elements=elements, status=status, closing=closing(elements if bodies else ()))
            if fate == "failed":  # the turn can be tried again
                commit = replace(commit, token=new_token(), digest="", fields=())
            try:
                receipt = self._committed(self._lost or commit)
            except StreamBehind:
                self._lost = None  # the end whose answer was lost has not landed, and lacks what a fail-over took away
                raise
            self._end = self._replied(commit, receipt), receipt
            return receipt

    def _replied(self, commit: CommitTurn, receipt: Receipt) -> Message | None:
        """Make the reply as it is stored."""
        if not commit.elements or commit.status:
            return None
        element, seq = commit.elements[-1], receipt.first_seq or 0
        has_its_place = seq == self._seq + 1 and not self._began_away  # the id is made of it
        return message_of(element if has_its_place else with_id(element, self.reply_id), seq)

    def _committed(self, commit: CommitTurn) -> Receipt:
        """Apply *commit*. One whose answer is lost is kept."""
        lost = self._lost
        try:
            return self._access.apply(commit)
        except StoreUnavailable as error:
            if error.written is None:
                self._lost = commit
            raise
        except TurnLost as error:
            if lost and commit is not lost:
                raise _replied_already() from error  # that one has landed
            raise

    def _commit_of(self, bodies: list[Any]) -> CommitTurn:
        """Make the command that ends the turn with the messages added and *bodies*. []: the turn has no reply."""
        elements, _, usage = self._accepted([*self._added, *bodies] if self._added else bodies)
        # Without a look at them, nobody can have changed them.
        fields = self._changed_fields() if "data" in self.__dict__ else ()
        status: Literal["", "unanswered"] = "" if bodies else "unanswered"
        values = tuple([(name, text or b"") for name, _, text in fields]) if fields else ()
        if elements and self._began_away:
            elements = (*elements[:-1], with_id(elements[-1], self.reply_id))
        return CommitTurn(
            session_id=self.session_id,
            owner=self._access.owner,
            turn=self.attempt,
            elements=elements,
            fields=fields,
            status=status,
            usage=usage,
            token=self._end_token,
            digest=digest_of(f"{self.attempt} {status}", elements, values),
        )

    def _accepted(self, bodies: list[Any]) -> content.Added:
        """Convert messages of the turn. Errors name the key of its history."""
        return content.added(bodies, self._access.limits.for_shape(self._snapshot.shape))

    def _changed_fields(self) -> tuple[FieldChange, ...]:
        data: object = self.data
        if not isinstance(data, Mapping):
            reason = (
                "turn.data must stay a dict of fields: change the dict instead of replacing it. Nothing was written."
            )
            raise InvalidInput(reason, "data")
        limits = self._access.limits.for_shape(self._snapshot.shape)
        return diff.changed_fields(self._snapshot.fields, data, limits)

    def move_to(self, session_id: str, version: int) -> None:
        """End the turn by moving the conversation to *session_id*. This session takes no messages from then on.

        Raises:
            ConflictError: This session does not have that *version* any more. Nothing was written.
            TurnLost: Another turn has taken over. Nothing was written.
            SessionNotFound: The session was deleted meanwhile. Nothing was written.
        """
        command = MoveConversation(
            session_id=self.session_id,
            owner=self._access.owner,
            turn=self.attempt,
            moved_to=session_id,
            expected=str(version),
            token=self._end_token,
            digest=self.attempt,
        )
        self._end = None, self._access.apply(command)

    def _renewal(self) -> RenewTurn:
        return RenewTurn(
            session_id=self.session_id, owner=self._access.owner, turn=self.attempt, lease_ms=self._lease_ms
        )

    def keep(self) -> None:
        self._renew_from_now()
        self._access.apply(self._renewal())

    def _renew_from_now(self) -> None:
        store = self._access.store
        self._renewer = renewer(store)
        self._renewer.add(self, store, self._renewal(), self._lease_ms / 3000, self._access.settings.turn_max)

    def __enter__(self) -> Turn:
        try:
            self._renew_from_now()
        except BaseException:
            self._fail()
            raise
        if self._access.backend.inside_turn:
            self.go_inside()
        return self

    def go_inside(self) -> None:
        """Let the running code be inside of the turn, such as for its spans."""
        if self._access.backend.inside_turn:
            self._inside = self._access.backend.inside_turn(self.attempt)
            self._inside.__enter__()

    def go_outside(self) -> None:
        """Let the running code, which has gone inside, be outside again."""
        inside, self._inside = self._inside, None
        if inside:
            inside.__exit__(None, None, None)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._inside:
            self.go_outside()
        if self._producer:
            return  # it ends the turn
        if self._renewer:
            self._renewer.remove(self)
        if self._end:
            return
        try:
            if error is None:
                self.end(None)
        except SessionNotFound:
            return  # a deleted session has no turn to end
        except ConvstoreError:
            self._fail()
            raise
        if error is not None:
            self._fail()

    def _fail(self) -> None:
        _end_as_failed(self._access, self.session_id, self.attempt)


def _end_as_failed(access: Access, session_id: str, attempt: str) -> None:
    """Mark the message of a turn as failed and give the turn back, unless another turn has taken over."""
    try:
        access.apply(CommitTurn(session_id=session_id, owner=access.owner, turn=attempt, status="failed"))
    except (TurnLost, SessionNotFound):
        pass  # another turn marks the message, or the session is gone
    except StoreError as error:
        _log.warning("a failed turn could not be marked, its lease will end by itself: %s", error)


def _replied_already() -> InvalidInput:
    return InvalidInput("the turn has a reply already: reply once in each turn. Nothing was written.", "reply")


def begin(
    access: Access,
    session_id: str,
    message: Any,
    *,
    last: int | None = None,
    token: str | None = None,
    expected: str = "",
    policy: Policy | None = None,
    replaces: Target | None = None,
    is_counted: bool = True,
    follows: bool = False,
) -> tuple[Turn | None, Begun]:
    """Store *message* and take the turn. The turn is None if the turn of this *token* was ended before.

    Args:
        follows: Whoever repeats a turn in progress follows its reply, and does not wait for its end.

    Raises:
        TurnInProgress: Another turn is in progress, and the policy is to reject, or the wait was too long.
        TurnLost: The token is known, its turn was not ended, and others have written since.
        SessionNotFound, ConflictError, TokenReused, NotSerializable, TooLarge: Nothing was written.
    """
    check_session_id(session_id)
    if replaces is not None:
        check_target(replaces, "replaces")
    (element,), first_title, usage = content.added([message], access.limits)
    chosen = _policy(access, policy)
    wait = access.settings.turn_wait if chosen == "wait" else 0
    command = BeginTurn(
        session_id=session_id,
        owner=access.owner,
        element=element,
        lease_ms=round(access.settings.turn_lease * 1000),
        supersede=chosen == "supersede",
        last=None if last is None else _messages_to_read(last),
        expected=expected,
        replaces=replaces or "",
        first_title=first_title,
        usage=usage,
        token=token_or_new(token),
        digest=digest_if_known(token, request_of("turn", replaces), (element,)),
    )
    try:
        with OPERATION.within(access.settings.budget + wait):
            if is_counted:
                access.count_turn()
            begun = _begin_when_free(access, command, wait, follows=follows)
            if begun.reply or begun.snapshot is None:
                return None, begun
            return Turn(access, command, begun, last), begun
    except BaseException as error:
        _give_back_if_interrupted(access, command, error)
        raise


def request_of(kind: str, replaces: Target | None) -> str:
    """Tell a request from others, for the digest of its token."""
    return kind if replaces is None else f"{kind} {replaces!r}"


def hold(access: Access, session_id: str, *, policy: Policy | None = None) -> tuple[Turn, Snapshot]:
    """Take a session's turn without a message, and read the session. No other turn begins until this one ends.

    The operation around it has a deadline, with the time of ``seconds_for``.

    Raises:
        TurnInProgress, SessionNotFound, SessionMoved: Nothing was written.
    """
    check_session_id(session_id)
    chosen = _policy(access, policy)
    command = BeginTurn(
        session_id=session_id,
        owner=access.owner,
        element=None,
        lease_ms=round(access.settings.turn_lease * 1000),
        supersede=chosen == "supersede",
    )
    try:
        begun = _begin_when_free(access, command, access.settings.turn_wait if chosen == "wait" else 0)
        if begun.snapshot is None:
            raise SessionNotFound(session_id)
        return Turn(access, command, begun, None), begun.snapshot
    except BaseException as error:
        _give_back_if_interrupted(access, command, error)
        raise


def _give_back_if_interrupted(access: Access, command: BeginTurn, error: BaseException) -> None:
    """Give the turn back where an exception from elsewhere, such as a signal's, comes before anybody has it."""
    is_from_elsewhere = not isinstance(error, ConvstoreError)
    # The turn is taken, and what it would work on did not arrive.
    is_of_no_use = isinstance(error, TooSlow) and command.element is None
    if is_from_elsewhere or is_of_no_use:
        _end_as_failed(access, command.session_id, command.attempt)


def lease(access: Access, session_id: str) -> Lease | None:
    """Look who has the turn, and for how long. None: there is no turn. The holder's name cannot be used to end it."""
    check_session_id(session_id)
    found = access.store.turn_lease(session_id, access.owner)
    return found._replace(holder=f"{epoch_of(found.holder):08x}") if found.holder else None


def _policy(access: Access, given: Policy | None) -> str:
    """Choose the policy *given*, or the one of the settings."""
    policy = given or access.settings.turn_policy
    if policy not in ("reject", "wait", "supersede"):
        reason = f"must be 'reject', 'wait' or 'supersede', not {policy!r}. Nothing was written."
        raise InvalidInput(reason, "policy")
    return policy


def seconds_for(access: Access, policy: Policy | None) -> float:
    """Compute the time of a call that begins a turn. Waiting comes on top."""
    return access.settings.budget + (access.settings.turn_wait if _policy(access, policy) == "wait" else 0)


def _begin_when_free(access: Access, command: BeginTurn, wait: float, *, follows: bool = False) -> Begun:
    """Take the turn. Stand in line until the turn is free, for *wait* seconds at most.

    An earlier try may have stored the message. Then each error says so.
    """
    deadline = monotonic() + wait
    is_stored: bool | None = False
    try:
        while True:
            try:
                return access.begin(_waiting(command, deadline - monotonic()) if wait else command)
            except TurnUnended as before:
                abandoned.end_before(access, command.session_id, before)
            except TurnInProgress as busy:
                is_stored = is_stored or busy.written
                if follows and busy.written:
                    raise
                _wait(access, command, busy, deadline - monotonic())
    except ConvstoreError as error:
        error.written = is_stored or error.written
        raise


def _waiting(command: BeginTurn, seconds: float) -> BeginTurn:
    """Let *command* stand in line for so long, if at all."""
    wait_ms = min(round(seconds * 1000), _TICKET_MS)
    return replace(command, wait_ms=wait_ms) if wait_ms > 0 else command


def _wait(access: Access, command: BeginTurn, busy: TurnInProgress, left: float) -> None:
    """Wait until the turn may be free, *left* seconds at most.

    Raises:
        TurnInProgress: No time is left.
    """
    if left <= 0:
        raise busy
    if (given_up := GIVEN_UP.get()) and given_up.is_set():
        raise asyncio.CancelledError from busy
    seconds = min(left, max(UNTOLD_PAUSE, busy.retry_after_ms / 1000), _LONGEST_WAIT)
    access.store.wait_for_turn(command.session_id, command.attempt, seconds)


def _messages_to_read(last: int) -> int:
    """Count the messages to read: the *last* ones, and the one before, whose status tells how its turn ended."""
    check_whole(last, "last", 1)
    return min(max(last, 2), MAX_LOADED)


def left_behind(session: AnySession, seq: int) -> Message | None:
    """Find the message before *seq*, if its turn was interrupted or superseded."""
    before = session.message_before(seq)
    return before if before and before.status in ("interrupted", "superseded") else None


def as_messages(reply: Any, session_id: str) -> list[Any]:
    """List the messages that a handler returned: those of a list of message dicts, or one, or none."""
    if isinstance(reply, (list, tuple)) and reply and all(map(_is_message, reply)):
        return list(reply)
    if isinstance(reply, str):
        return [{"role": "assistant", "content": reply}]  # the usual case, as ``as_message`` has it
    body = reply if is_item(reply) else as_message(reply, session_id)
    return [] if body is None else [body]


def _is_message(value: object) -> bool:
    return isinstance(value, Message) or (isinstance(value, Mapping) and "role" in value) or is_item(value)


def as_message(reply: object, session_id: str) -> Any:
    """Make a message of what a handler returned. A text, and a dict without a role, are the assistant's.

    The response of a model vendor's SDK, and its stream of chunks, give their text.

    Raises:
        TypeError: The reply is none of these.
    """
    if reply is None or isinstance(reply, Message):
        return reply
    if isinstance(reply, str):
        return {"role": "assistant", "content": reply}
    if isinstance(reply, Mapping):
        return dict(reply) if "role" in reply else {"role": "assistant", **reply}
    if isinstance(reply, StreamedReply):
        raise TypeError(
            "the turn's reply is streamed already: a reply handler returns the chunks, without turn.stream()"
        )
    if is_stream(reply):
        return drafted(reply, session_id)
    text = text_of_response(reply) if is_sdk_object(reply) else None
    if text is None:
        kind = type(reply).__name__
        raise TypeError(f"a reply is a text, a message dict, an iterator of texts, or None, not a {kind}")
    return {"role": "assistant", "content": text}
