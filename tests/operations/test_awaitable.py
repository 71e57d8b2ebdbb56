"""Awaitable twins: each operation has one, from whatever loop, with the context, and a turn that is given back."""

from __future__ import annotations

import asyncio
import inspect
import threading
import time
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from flask import request

from flask_convstore import Message, SessionNotFound, TurnEnded, TurnInProgress, TurnLost, open_store
from flask_convstore.app.bound import BoundStore
from flask_convstore.operations.awaitable import AwaitableConversations, AwaitableTurn
from flask_convstore.operations.conversations import Conversations
from flask_convstore.operations.turns import Turn

from ..processes import wait_for
from ..service import OwnedService


@pytest.fixture
def store(url: str) -> BoundStore:
    return open_store(url, turn_lease=60)


def test_every_operation_has_a_twin() -> None:
    names = {name for name, _ in inspect.getmembers(Conversations, inspect.isfunction) if name[0] != "_"}
    assert {name for name in dir(AwaitableConversations) if name[0] != "_"} == names
    for name in names - {"turn", "export_owner"}:
        twin = getattr(open_store("memory://").aio, name)
        _, *parameters = inspect.signature(getattr(BoundStore, name)).parameters.values()
        assert list(inspect.signature(twin).parameters.values()) == parameters, name


def test_operations_are_awaited(store: BoundStore) -> None:
    async def main() -> None:
        aio = store.aio
        await aio.save_session("s", {"history": [], "mood": "good"}, owner="ada")
        await asyncio.gather(*(aio.append("s", f"{number}") for number in range(10)))
        session = await aio.get_session("s")
        assert session is not None
        assert sorted(message["content"] for message in session["history"]) == sorted("0123456789")
        session["mood"] = "better"
        await aio.save_session("s", session)
        assert [one["session_id"] async for one in aio.export_owner(owner="ada")] == ["s"]
        async for change in aio.subscribe("s"):
            assert change
            assert change.kind == "snapshot"
            break
        assert await aio.wait("s", until=lambda session: session and session["mood"] == "better")
        assert (await aio.setdefault("s", {}))["mood"] == "better"
        with pytest.raises(SessionNotFound):
            await aio.append("none", "hi")

    asyncio.run(main())


def test_the_loop_goes_on_meanwhile(store: BoundStore, monkeypatch: pytest.MonkeyPatch) -> None:
    is_going_on = threading.Event()
    monkeypatch.setattr(store, "save_session", lambda *_, **__: is_going_on.wait(5))

    async def main() -> object:
        saving = asyncio.create_task(store.aio.save_session("s", {}))
        await asyncio.sleep(0)
        is_going_on.set()
        return await saving

    assert asyncio.run(main()) is True


def test_a_turn_is_awaited(store: BoundStore) -> None:
    async def chunks() -> AsyncIterator[str]:
        for chunk in ("yes", ", ", "ada"):
            yield chunk

    async def main() -> None:
        await store.aio.save_session("s", {"history": []})
        async with store.aio.turn("s", "hi", token="t") as turn:
            assert turn.history == [{"role": "user", "content": "hi"}]
            turn.data["count"] = 1
            await turn.add({"role": "assistant", "content": "one moment"})
            reply = await turn.reply(chunks())
            assert isinstance(reply, Message)
            assert (reply.id, reply["content"]) == (turn.reply_id, "yes, ada")
        with pytest.raises(TurnEnded):
            async with store.aio.turn("s", "hi", token="t"):
                pass
        session = await store.aio.get_session("s")
        assert session is not None
        assert (len(session["history"]), session["count"]) == (3, 1)

    asyncio.run(main())


def test_a_turn_whose_block_raises_has_failed(store: BoundStore) -> None:
    async def main() -> None:
        await store.aio.save_session("s", {"history": []})
        with pytest.raises(ZeroDivisionError):
            async with store.aio.turn("s", "hi"):
                1 / 0  # noqa: B018
        (message,) = (await store.aio.messages("s")).messages
        assert message.status == "failed"

    asyncio.run(main())


def test_a_turn_that_has_not_begun_says_so(store: BoundStore) -> None:
    with pytest.raises(AttributeError, match="async with"):
        _ = store.aio.turn("s", "hi").history


def test_a_cancelled_block_gives_its_turn_back(store: BoundStore) -> None:
    store.save_session("s", {"history": []})
    begun = threading.Event()

    async def hold() -> None:
        async with store.aio.turn("s", "hi"):
            begun.set()
            await asyncio.sleep(60)

    async def main() -> None:
        holding = asyncio.create_task(hold())
        await asyncio.to_thread(begun.wait, 5)
        with pytest.raises(TurnInProgress):
            await store.aio.turn("s", "other").__aenter__()
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding

    asyncio.run(main())
    with store.turn("s", "next"):
        pass


@pytest.mark.parametrize("is_late", [False, True], ids=["while it begins", "when it has just begun"])
def test_a_turn_that_nobody_waits_for_is_given_back(
    store: BoundStore, monkeypatch: pytest.MonkeyPatch, *, is_late: bool
) -> None:
    """The loop may be closed when the thread comes back: Flask closes it behind the view."""
    store.save_session("s", {"history": []})
    enter, is_begun, may_go_on = AwaitableTurn._enter, threading.Event(), threading.Event()

    def slow_begin(turn: Turn) -> Turn:
        is_begun.set()
        if not is_late:
            may_go_on.wait(5)
        return real_enter(turn)

    def slow_return(turn: AwaitableTurn, given_up: threading.Event) -> None:
        enter(turn, given_up)
        if is_late:
            may_go_on.wait(5)

    real_enter = Turn.__enter__
    monkeypatch.setattr(Turn, "__enter__", slow_begin)
    monkeypatch.setattr(AwaitableTurn, "_enter", slow_return)

    async def hold() -> None:
        async with store.aio.turn("s", "hi"):
            raise AssertionError

    async def main() -> None:
        beginning = asyncio.create_task(hold())
        await asyncio.to_thread(is_begun.wait, 5)
        if is_late:
            await asyncio.sleep(0.05)
        beginning.cancel()
        asyncio.get_running_loop().call_later(0.05, may_go_on.set)
        with pytest.raises(asyncio.CancelledError):
            await beginning
        may_go_on.set()

    asyncio.run(main())
    monkeypatch.undo()

    wait_for(lambda: is_free(store), "the turn is kept")
    first, *_ = store.messages("s").messages
    assert first.status == "failed"


def test_async_views_and_threads_at_once(url: str) -> None:
    """Flask makes a loop for each request. A client of asyncio that several share fails at every second one."""
    owned = OwnedService(url)

    @owned.app.post("/say")
    async def say() -> dict[str, Any]:
        aio, own = owned.convstore.aio, request.args["own"]
        await aio.append(own, request.args["text"], create=True)
        async with aio.turn(own, "again") as turn:
            await asyncio.sleep(0)
            await turn.reply("a reply")
        return {"owner": (await aio.list_sessions()).sessions[0].owner, "id": own}

    def client(number: int) -> list[int]:
        own = f"s{number}"
        return [
            owned.app.test_client()
            .post(f"/say?own={own}&text={text}", headers={"X-Owner": f"owner{number}"})
            .status_code
            for text in range(50)
        ]

    with ThreadPoolExecutor(4) as pool:
        statuses = [status for found in pool.map(client, range(4)) for status in found]
    assert statuses == [200] * 200
    store = owned.convstore.on(owned.app)
    for number in range(4):
        session = store.get_session(f"s{number}", owner=f"owner{number}")
        assert session is not None
        assert len(session["history"]) == 150
        assert [m["content"] for m in session["history"]][::3] == [f"{text}" for text in range(50)]


def test_turns_that_wait_do_not_keep_the_one_in_progress_from_its_end(store: BoundStore) -> None:
    """There are more of them than a loop's pool has threads."""
    store.save_session("s", {"history": []})

    async def talk(number: int) -> None:
        async with store.aio.turn("s", f"{number}", policy="wait") as turn:
            await turn.reply("hi")

    async def main() -> None:
        await asyncio.gather(*(talk(number) for number in range(40)))

    asyncio.run(main())
    assert len(store.messages("s", limit=100).messages) == 80


def test_a_waiting_turn_that_nobody_waits_for_leaves_the_line(store: BoundStore) -> None:
    store.save_session("s", {"history": []})

    async def main() -> None:
        async with store.aio.turn("s", "first") as held:
            waiting = store.aio.turn("s", "second", policy="wait")
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(waiting.__aenter__(), 0.3)
            threads = [one for one in threading.enumerate() if one.name == "convstore-turn"]
            for one in threads:
                await asyncio.to_thread(one.join, 5)
            assert not any(one.is_alive() for one in threads), "it goes on waiting"
            await held.reply("hi")

    asyncio.run(main())
    with store.turn("s", "next"):
        pass
    assert [one["content"] for one in store.messages("s").messages] == ["first", "hi", "next"]


def test_an_end_that_is_cancelled_ends_the_turn_all_the_same(store: BoundStore) -> None:
    store.save_session("s", {"history": []})

    async def hold() -> None:
        async with store.aio.turn("s", "hi"):
            pass

    async def main() -> None:
        busy = [asyncio.create_task(asyncio.to_thread(time.sleep, 0.5)) for _ in range(40)]
        holding = asyncio.create_task(hold())
        await asyncio.sleep(0.05)
        holding.cancel()
        await asyncio.gather(holding, *busy, return_exceptions=True)

    asyncio.run(main())
    wait_for(lambda: is_free(store), "the turn is kept")


def test_a_task_that_is_closed_with_its_loop_gives_its_turn_back(store: BoundStore) -> None:
    store.save_session("s", {"history": []})

    async def hold() -> None:
        async with store.aio.turn("s", "hi"):
            await asyncio.sleep(60)

    loop = asyncio.new_event_loop()
    holding = hold()
    task = loop.create_task(holding)
    loop.run_until_complete(asyncio.wait([task], timeout=0.5))
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    holding.close()
    wait_for(lambda: is_free(store), "the turn is kept")


def is_free(store: BoundStore) -> bool:
    try:
        with store.turn("s", "next"):
            return True
    except (TurnInProgress, TurnLost):
        return False
