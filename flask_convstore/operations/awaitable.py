"""Awaitable twins of the operations. Each runs in a thread, and the event loop goes on meanwhile.

Flask makes an event loop for each ``async def`` view, so that an asyncio client of one request is of no use to the next one.
Threads belong to no loop. They carry the context, so that request, owner and unit of work are those of the awaiting code.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from functools import partial, update_wrapper
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from ..domain.messages import Message
from ..domain.types import CALLER, Lifetime, Owner, Scope
from ..sessions.content import Content
from ..sessions.session import AnySession, LoadedSession
from .conversations import Conversations
from .events import Change
from .turns import GIVEN_UP, Turn

_P = ParamSpec("_P")
_T = TypeVar("_T")

_END: Any = object()


class _Twin(Generic[_P, _T]):
    """A method that runs the one of its name in a thread."""

    def __init__(self, method: Callable[Concatenate[Conversations, _P], _T]) -> None:
        self._name = method.__name__
        self.__doc__ = method.__doc__

    def __get__(self, twins: AwaitableConversations, kind: type) -> Callable[_P, Coroutine[Any, Any, _T]]:
        method = getattr(twins._conversations, self._name)
        return update_wrapper(partial(asyncio.to_thread, method), method)


class AwaitableConversations:
    """The operations of a store, awaited: ``await convstore.aio.append(session_id, "hi")``.

    Each takes what the operation of its name takes, returns what it returns and raises what it raises. Where a task is
    cancelled, a write that was on its way may land. A token makes its repeat safe.
    """

    def __init__(self, conversations: Conversations) -> None:
        self._conversations = conversations

    get_session = _Twin(Conversations.get_session)
    delete_session = _Twin(Conversations.delete_session)
    append = _Twin(Conversations.append)
    append_many = _Twin(Conversations.append_many)
    update_session = _Twin(Conversations.update_session)
    touch = _Twin(Conversations.touch)
    salvage = _Twin(Conversations.salvage)
    exists = _Twin(Conversations.exists)
    list_sessions = _Twin(Conversations.list_sessions)
    share = _Twin(Conversations.share)
    unshare = _Twin(Conversations.unshare)
    rotate_id = _Twin(Conversations.rotate_id)
    follow_reply = _Twin(Conversations.follow_reply)
    turn_lease = _Twin(Conversations.turn_lease)
    stop_reply = _Twin(Conversations.stop_reply)
    messages = _Twin(Conversations.messages)
    get_message = _Twin(Conversations.get_message)
    edit_message = _Twin(Conversations.edit_message)
    drop = _Twin(Conversations.drop)
    pop_message = _Twin(Conversations.pop_message)
    redact_message = _Twin(Conversations.redact_message)
    compact = _Twin(Conversations.compact)
    fork = _Twin(Conversations.fork)
    resolve = _Twin(Conversations.resolve)
    link = _Twin(Conversations.link)
    unlink = _Twin(Conversations.unlink)
    aliases = _Twin(Conversations.aliases)
    clear = _Twin(Conversations.clear)
    current_session = _Twin(Conversations.current_session)
    set_current_session = _Twin(Conversations.set_current_session)
    usage = _Twin(Conversations.usage)
    import_sessions = _Twin(Conversations.import_sessions)
    owner_contents = _Twin(Conversations.owner_contents)
    delete_owner = _Twin(Conversations.delete_owner)
    save_message = _Twin(Conversations.save_message)
    get_conversation = _Twin(Conversations.get_conversation)
    clear_conversation = _Twin(Conversations.clear_conversation)
    health = _Twin(Conversations.health)
    close = _Twin(Conversations.close)

    async def save_session(
        self, session_id: str, data: Content, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> LoadedSession:
        """Save a session as ``Conversations.save_session`` does."""
        return await asyncio.to_thread(self._conversations.save_session, session_id, data, ttl=ttl, owner=owner)

    async def setdefault(
        self, session_id: str, data: Content, *, ttl: Lifetime | None = None, owner: Owner | Scope = CALLER
    ) -> LoadedSession:
        """Load a session, or create it, as ``Conversations.setdefault`` does."""
        return await asyncio.to_thread(self._conversations.setdefault, session_id, data, ttl=ttl, owner=owner)

    async def export_owner(self, **options: Any) -> AsyncIterator[dict[str, Any]]:
        """Export as ``Conversations.export_owner`` does: ``async for session in aio.export_owner(owner="ada")``."""
        sessions: Iterator[Any] = await asyncio.to_thread(self._conversations.export_owner, **options)
        while (session := await asyncio.to_thread(next, sessions, _END)) is not _END:
            yield session

    async def subscribe(
        self, session_id: str, *, after: str | None = None, heartbeat: float = 15.0, owner: Owner | Scope = CALLER
    ) -> AsyncIterator[Change | None]:
        """Subscribe as ``Conversations.subscribe`` does: ``async for change in aio.subscribe(session_id)``."""
        subscribe = partial(self._conversations.subscribe, session_id, after=after, heartbeat=heartbeat, owner=owner)
        changes: Iterator[Any] = await _in_thread(subscribe)
        while (change := await _in_thread(partial(next, changes, _END))) is not _END:
            yield change

    async def wait(
        self,
        session_id: str,
        *,
        until: Callable[[AnySession | None], Any],
        timeout: float = 30.0,
        owner: Owner | Scope = CALLER,
    ) -> AnySession | None:
        """Wait as ``Conversations.wait`` does, in a thread of its own."""
        return await _in_thread(
            partial(self._conversations.wait, session_id, until=until, timeout=timeout, owner=owner)
        )

    def turn(self, session_id: str, message: Any, **options: Any) -> AwaitableTurn:
        """Begin a turn as ``Conversations.turn`` does: ``async with convstore.aio.turn(sid, message) as turn:``."""
        return AwaitableTurn(partial(self._conversations.turn, session_id, message, **options))


class AwaitableTurn:
    """A turn whose ``reply`` and ``add`` are awaited. ``history``, ``data`` and all else is as ``Turn`` has it.

    Each step has a thread of its own. In a pool, turns that wait would take the threads by which the turn in progress ends.
    """

    _turn: Turn

    def __init__(self, begin: Callable[[], Turn]) -> None:
        self._begin = begin
        self._is_decided = threading.Lock()

    async def __aenter__(self) -> AwaitableTurn:
        given_up = threading.Event()
        try:
            await _in_thread(partial(self._enter, given_up))
        except asyncio.CancelledError:
            given_up.set()
            if not self._is_decided.acquire(blocking=False):
                await self.__aexit__(None, asyncio.CancelledError(), None)
            raise
        self._turn.go_inside()
        return self

    def _enter(self, given_up: threading.Event) -> None:
        """Begin the turn. Give it back if nobody waits for it any more."""
        GIVEN_UP.set(given_up)  # in the context of this thread
        self._turn = self._begin().__enter__()
        self._turn.go_outside()  # of this thread's context
        if not self._is_decided.acquire(blocking=False):
            self._turn.__exit__(None, asyncio.CancelledError(), None)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._turn.go_outside()
        end = partial(self._turn.__exit__, kind, error, trace)
        if isinstance(error, GeneratorExit):  # a task is closed whose loop is gone, and nothing can be awaited
            threading.Thread(target=end).start()
        else:
            await _in_thread(end)

    def __getattr__(self, name: str) -> Any:
        if name == "_turn":
            raise AttributeError("the turn has not begun: write `async with convstore.aio.turn(…) as turn:`")
        return getattr(self._turn, name)

    async def add(self, *messages: Any) -> None:
        """Take messages that come before the reply, as ``Turn.add`` does."""
        await _in_thread(partial(self._turn.add, *messages))

    async def reply(self, reply: Any) -> Message | None:
        """Store the reply as ``Turn.reply`` does. It may also be an async iterator of chunks."""
        if isinstance(reply, AsyncIterator):
            reply = iter([chunk async for chunk in reply])
        return await _in_thread(partial(self._turn.reply, reply))


async def _in_thread(function: Callable[[], _T]) -> _T:
    """Run *function* to its end in a new thread, with this context, whatever becomes of the task that awaits it."""
    loop, done = asyncio.get_running_loop(), asyncio.Event()
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(context.run(function))
        except BaseException as error:
            outcome.set_exception(error)
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(done.set)

    context = contextvars.copy_context()
    threading.Thread(target=run, name="convstore-turn").start()
    await done.wait()
    return outcome.result()
