"""Turns: once, in order, never torn, on every kind of store."""

from __future__ import annotations

import asyncio
import contextlib
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import redis

from flask_convstore import TurnEnded
from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.clock import as_milliseconds
from flask_convstore.domain.commands import BeginTurn, CommitTurn, Delete, MoveConversation, RenewTurn
from flask_convstore.domain.messages import Message, Usage, join_element
from flask_convstore.domain.results import Begun
from flask_convstore.domain.types import ANY, CALLER
from flask_convstore.errors import (
    ConflictError,
    ConvstoreError,
    CorruptValue,
    InvalidInput,
    NotSerializable,
    ReplyFailed,
    SessionNotFound,
    StoreUnavailable,
    TokenReused,
    TooDeep,
    TooLarge,
    TurnInProgress,
    TurnLost,
)
from flask_convstore.operations import leases
from flask_convstore.operations.replies import Replier, converse, first_exchange
from flask_convstore.operations.turns import Turn, begin, hold
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store

from ..harness import SETTINGS, Harness, MemoryHarness, PlainConversations, RedisHarness, in_memory, limits_for
from ..operations.test_sessions import BOT, USER, Recorder, get
from ..processes import wait_for
from ..servers import Server
from ..service import Service


def take(
    conversations: PlainConversations, message: Any = USER, session_id: str = "s", owner: Any = CALLER, **options: Any
) -> Turn:
    turn, _ = begin(conversations.access(owner), session_id, message, **options)
    assert turn
    return turn


def statuses(conversations: PlainConversations, session_id: str = "s") -> list[str | None]:
    return [message.status for message in get(conversations, session_id).messages]


@pytest.fixture
def started(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session("s", {"name": "Ada", "history": []})
    return conversations


# ---- one turn


def test_a_turn(started: PlainConversations) -> None:
    with take(started) as turn:
        assert turn.session_id == "s"
        assert turn.history == [USER]
        assert turn.data == {"name": "Ada"}
        assert (turn.message.seq, turn.message["content"], turn.previous) == (1, "hello", None)
        assert get(started)["history"] == [USER], "stored before the reply is made"
        reply = turn.reply("hi")
    assert reply
    assert (reply.seq, reply.body) == (2, BOT)
    session = get(started)
    assert (session["history"], session.version) == ([USER, BOT], 3)
    assert statuses(started) == [None, None]


@pytest.mark.parametrize(("last", "expected"), [(None, [0, 1, 2, 3, USER]), (1, [USER]), (3, [2, 3, USER]), (99, None)])
def test_the_window(started: PlainConversations, last: int | None, expected: list[Any] | None) -> None:
    started.append("s", *map(Message, range(4)))
    with take(started, last=last) as turn:
        assert turn.history == ([0, 1, 2, 3, USER] if expected is None else expected)
        turn.reply("x")
    with pytest.raises(InvalidInput):
        begin(started.access(), "s", USER, last=0)


def test_a_turn_without_a_reply_is_unanswered(started: PlainConversations) -> None:
    with take(started):
        pass
    with take(started) as turn:
        turn.reply(None)
    assert statuses(started) == ["unanswered", "unanswered"]
    assert get(started).version == 5


def test_a_turn_that_raises_is_failed_and_the_next_works(started: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), take(started) as turn:
        turn.data["name"] = "never written"
        raise ZeroDivisionError
    assert statuses(started) == ["failed"]
    assert get(started)["name"] == "Ada"
    with take(started) as turn:
        turn.reply("hi")
    assert statuses(started) == ["failed", None, None]


def test_data_changed_in_a_turn_are_written_with_its_reply(started: PlainConversations) -> None:
    with take(started) as turn:
        turn.data["goals"] = ["a"]
        del turn.data["name"]
        turn.reply("hi")
    assert get(started) == {"goals": ["a"], "history": [USER, BOT]}


def test_data_that_others_changed_too_collide(started: PlainConversations) -> None:
    with pytest.raises(ConflictError), take(started) as turn:
        turn.data["name"] = "mine"
        started.append("s", data={"name": "theirs"})
        turn.reply("hi")
    assert get(started) == {"name": "theirs", "history": [USER]}
    assert statuses(started) == ["failed"]


def test_a_reply_that_cannot_be_stored(started: PlainConversations) -> None:
    with pytest.raises(NotSerializable), take(started) as turn:
        turn.reply({"content": object()})
    assert statuses(started) == ["failed"]


def test_a_list_session_has_turns_too(conversations: PlainConversations) -> None:
    conversations.save_session("s", ["x"])
    with take(conversations) as turn:
        assert turn.history == ["x", USER]
        turn.reply("hi")
    assert get(conversations) == ["x", USER, BOT]


def test_a_session_deleted_during_its_turn(started: PlainConversations) -> None:
    with pytest.raises(SessionNotFound), take(started) as turn:
        started.delete_session("s")
        started.save_session("s", {"history": ["successor"]})
        started.delete_session("s")
        turn.reply("too late")
    with pytest.raises(TurnLost), take(started_again(started)) as turn:
        started.delete_session("s")
        started_again(started)
        turn.reply("too late")
    assert get(started)["history"] == []


def started_again(conversations: PlainConversations) -> PlainConversations:
    conversations.save_session("s", {"history": []})
    return conversations


def test_no_turn_of_nothing(conversations: PlainConversations) -> None:
    with pytest.raises(SessionNotFound):
        begin(conversations.access(), "s", USER)


def test_owners(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []}, owner="alice")
    with pytest.raises(SessionNotFound):
        begin(conversations.access("bob"), "s", USER)
    with take(conversations, owner="alice") as turn:
        turn.reply("hi")
    assert get(conversations)["history"] == [USER, BOT]


# ---- two turns


def test_a_turn_in_progress_rejects_another(
    started: PlainConversations, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    with take(started) as turn:
        with monkeypatch.context() as patched, pytest.raises(TurnInProgress) as caught:
            patched.setattr(harness.store, "wait_for_turn", pytest.fail)
            begin(started.access(), "s", "other")
        assert 29_000 < caught.value.retry_after_ms <= 30_000
        assert get(started)["history"] == [USER]
        turn.reply("hi")


def test_a_wait_that_fails_tells_what_its_turn_has_stored(
    started: PlainConversations, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first try has landed unheard, its lease has ended, and a turn without a message is in progress."""

    def away(*_: Any) -> bool:
        raise StoreUnavailable("no answer", written=False)

    take(started, token="T")
    end_lease(harness)
    other, _ = hold(started.access(), "s")
    with other, monkeypatch.context() as patched:
        patched.setattr(harness.store, "wait_for_turn", away)
        for token, is_stored in (("T", True), ("U", False)):
            with pytest.raises(StoreUnavailable) as caught:
                begin(started.access(), "s", USER, token=token, policy="wait")
            assert caught.value.written is is_stored


@pytest.mark.parametrize("owner", [None, "alice"])
def test_a_turn_can_wait(conversations: PlainConversations, owner: str | None) -> None:
    conversations.save_session("s", {"history": []}, owner=owner)
    done: list[Any] = []

    def other() -> None:
        with take(conversations, "other", policy="wait", owner=owner) as turn:
            done.append(turn.history)
            turn.reply("second")

    with take(conversations, owner=owner) as turn:
        waiting = threading.Thread(target=other)
        waiting.start()
        waiting.join(0.1)
        assert not done
        turn.reply("hi")
    waiting.join(10)
    assert done == [[USER, BOT, "other"]]


def test_waiting_has_an_end(harness: Harness) -> None:
    conversations = PlainConversations(harness.store, Settings(turn_wait=0.05))
    conversations.save_session("s", {"history": []})
    with take(conversations) as turn:
        with pytest.raises(TurnInProgress):
            begin(conversations.access(), "s", "other", policy="wait")
        turn.reply("hi")


def test_who_waits_is_told(
    conversations: PlainConversations, harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself a waiter looks again, too."""
    monkeypatch.setattr("flask_convstore.operations.turns._LONGEST_WAIT", 60)
    conversations.save_session("s", {"history": []})
    is_waiting, told = threading.Event(), []
    real = harness.store.wait_for_turn

    def wait(session_id: str, attempt: str, seconds: float) -> bool:
        is_waiting.set()
        told.append(real(session_id, attempt, seconds))
        return told[-1]

    def other() -> None:
        with take(conversations, "other", policy="wait") as turn:
            turn.reply("second")

    monkeypatch.setattr(harness.store, "wait_for_turn", wait)
    with take(conversations) as turn:
        waiting = threading.Thread(target=other)
        waiting.start()
        assert is_waiting.wait(10)
        waiting.join(0.1)
        turn.reply("hi")
    waiting.join(10)
    assert not waiting.is_alive()
    assert told == [True]


def line_up(conversations: PlainConversations, others: Iterable[Callable[[], None]]) -> None:
    """Run *others* in threads, which come one after the other while a turn is in progress, to their end."""
    with take(conversations) as turn:
        waiting = [threading.Thread(target=other) for other in others]
        for one in waiting:
            one.start()
            one.join(0.06)
        turn.reply("hi")
    for one in waiting:
        one.join(20)
        assert not one.is_alive()


def test_who_waits_is_served_in_order(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})
    served: list[int] = []

    def other(number: int) -> None:
        with take(conversations, f"{number}", policy="wait") as turn:
            served.append(number)
            turn.reply("hi")

    line_up(conversations, (partial(other, number) for number in range(6)))
    assert served == [0, 1, 2, 3, 4, 5]


def test_all_who_wait_get_their_share(conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": []})
    shares = [0] * 4
    is_over = threading.Event()

    def talk(number: int) -> None:
        while not is_over.is_set():
            with take(conversations, "hi", policy="wait") as turn:
                time.sleep(0.01)  # else a thread may have all its turns before another one comes
                turn.reply("hi")
            shares[number] += 1

    talking = [threading.Thread(target=talk, args=(number,)) for number in range(len(shares))]
    for one in talking:
        one.start()
    wait_for(lambda: sum(shares) >= 60, "nobody gets a turn")
    is_over.set()
    for one in talking:
        one.join(20)
    assert max(shares) - min(shares) <= 5, shares  # who has just been served is last in line, if it is back in time


@pytest.mark.server
@pytest.mark.slow
def test_eight_who_wait_on_two_hosts_get_their_share(valkey: Server) -> None:
    """Turns of 0.15 seconds for half a minute: each thread has as many as any other, and none waits in vain."""
    clients = [redis.Redis.from_url(valkey.url) for _ in range(2)]
    hosts = [PlainConversations(RedisHarness(client, SETTINGS).store, SETTINGS) for client in clients]
    hosts[0].save_session("s", {"history": []})
    shares, failures = [0] * 8, list[Exception]()
    until = time.monotonic() + 30

    def talk(number: int) -> None:
        try:
            while time.monotonic() < until:
                with take(hosts[number % 2], "hi", policy="wait") as turn:
                    time.sleep(0.15)
                    turn.reply("hello")
                shares[number] += 1
        except ConvstoreError as error:
            failures.append(error)

    talking = [threading.Thread(target=talk, args=(number,)) for number in range(8)]
    for one in talking:
        one.start()
    for one in talking:
        one.join(60)
    for client in clients:
        client.close()
    mean = sum(shares) / 8
    assert failures == []
    assert mean > 10, shares
    assert all(abs(share - mean) <= 2 for share in shares), shares


def test_a_repeat_in_line_leaves_its_place(conversations: PlainConversations, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tries of one turn wait, and another turn behind them. The second try hears of the end of the first."""
    monkeypatch.setattr("flask_convstore.operations.turns._TICKET_MS", 60_000)
    conversations.save_session("s", {"history": []})
    done: list[str] = []

    def other(text: str, token: str | None) -> None:
        turn, _ = begin(conversations.access(), "s", text, token=token, policy="wait")
        if turn:
            with turn:
                turn.reply("hi")
        done.append(text)

    line_up(conversations, (partial(other, *given) for given in (("a", "T"), ("a", "T"), ("b", None))))
    assert sorted(done) == ["a", "a", "b"]
    with take(conversations, "next", policy="reject") as turn:
        turn.reply("hi")


def test_a_waiter_that_is_cut_short_leaves_the_line(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    conversations = PlainConversations(harness.store)
    conversations.save_session("s", {"history": []})

    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with take(conversations) as turn:
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            patched.setattr(harness.store, "wait_for_turn", interrupted)
            begin(conversations.access(), "s", "other", policy="wait")
        turn.reply("hi")
    with take(conversations, "next", policy="reject") as turn:
        turn.reply("hi")


def begun_with(store: Store, wait_ms: int, **more: Any) -> BeginTurn:
    command = BeginTurn(session_id="s", owner=ANY, element=None, lease_ms=60_000, wait_ms=wait_ms, **more)
    store.begin(command)
    return command


def test_a_ticket_that_nobody_renews_passes(harness: Harness) -> None:
    """Those with another policy do not pass by either, but for one that supersedes."""
    conversations, store = PlainConversations(harness.store), harness.store
    conversations.save_session("s", {"history": []})
    with take(conversations) as turn:
        with pytest.raises(TurnInProgress):
            begun_with(store, 500)  # it dies
        with pytest.raises(TurnInProgress):
            begun_with(store, 60_000, attempt="second")
        turn.reply("hi")
    others: tuple[dict[str, Any], ...] = ({"attempt": "second"}, {})
    for ahead in others:
        with pytest.raises(TurnInProgress) as caught:
            begun_with(store, 60_000, **ahead)
        assert caught.value.retry_after_ms == 500
    harness.age(600)
    time.sleep(0.6)
    with pytest.raises(TurnInProgress):
        begun_with(store, 0, attempt="third")
    command = begun_with(store, 60_000, attempt="second")
    store.apply(CommitTurn(session_id="s", owner=ANY, turn=command.attempt))
    command = begun_with(store, 0, supersede=True)
    store.apply(CommitTurn(session_id="s", owner=ANY, turn=command.attempt))


def test_a_turn_without_a_message_can_wait(started: PlainConversations) -> None:
    with take(started) as turn, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(hold, started.access(), "s", policy="wait")
        with pytest.raises(TimeoutError):
            waiting.result(0.1)
        turn.reply("hi")
        held, snapshot = waiting.result(10)
    with held:
        assert len(snapshot.elements) == 2, "it is read when it is free"


def test_a_turn_can_be_superseded(started: PlainConversations) -> None:
    first = take(started)
    with take(started, "newer", policy="supersede") as second:
        assert second.previous
        assert (second.previous.seq, second.previous.status) == (1, "superseded")
        with pytest.raises(TurnLost), first:
            first.reply("late")
        second.reply("hi")
    assert get(started)["history"] == [USER, "newer", BOT]
    assert statuses(started) == ["superseded", None, None]


def test_the_turn_of_a_dead_worker_is_taken_over(started: PlainConversations, harness: Harness) -> None:
    dead = take(started)  # its lease is never renewed: nobody entered the block
    end_lease(harness)
    with take(started, "next", last=1) as turn:
        assert turn.previous
        assert (turn.previous.body, turn.previous.status) == (USER, "interrupted")
        assert turn.history == ["next"]
        with pytest.raises(TurnLost):
            dead.reply("late")
        turn.reply("hi")
    assert statuses(started) == ["interrupted", None, None]


def test_a_lease_past_its_deadline_that_nobody_took_still_commits(
    started: PlainConversations, harness: Harness
) -> None:
    turn = take(started)
    end_lease(harness)
    turn.reply("hi")
    assert get(started)["history"] == [USER, BOT]


def end_lease(harness: Harness, session_id: str = "s") -> None:
    """Let the lease of the turn in progress end, as time would."""
    store = harness.store
    if isinstance(store, MemoryStore):
        turn = store._sessions[session_id].turn
        assert turn
        turn.until_ms = 0
    else:
        assert isinstance(store, RedisStore)
        store._calls._client.hset(store._keys(session_id)[0], "turn_until", 1)


@pytest.mark.parametrize("owner", [None, "alice"])
def test_a_lease_is_renewed_while_the_handler_runs(harness: Harness, owner: str | None) -> None:
    renewed = threading.Event()

    class Watching(Recorder):
        renewals = 0

        def renew(self, commands: Any) -> Any:
            failed = super().renew(commands)
            self.renewals += 1
            if self.renewals == 3:
                renewed.set()
            return failed

    conversations = PlainConversations(Watching(harness.store), Settings(turn_lease=0.3))
    conversations.save_session("s", {"history": []}, owner=owner)
    with take(conversations, owner=owner) as turn:
        assert renewed.wait(10)
        with pytest.raises(TurnInProgress):
            begin(conversations.access(owner), "s", "other")
        turn.reply("hi")
    with pytest.raises(TurnLost):
        harness.store.apply(RenewTurn(session_id="s", owner=ANY, turn=turn.attempt, lease_ms=1))


def test_a_renewal_that_fails_is_tried_again(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    renewed = threading.Event()

    class Flaky(Recorder):
        failures = 2

        def renew(self, commands: Any) -> Any:
            if self.failures:
                self.failures -= 1
                raise StoreUnavailable("away", written=None)
            renewed.set()
            return super().renew(commands)

    conversations = PlainConversations(Flaky(harness.store), Settings(turn_lease=0.3))
    conversations.save_session("s", {"history": []})
    with take(conversations) as turn:
        assert renewed.wait(10)
        turn.reply("hi")
    ours = [
        record for record in caplog.records if "could not be renewed" in record.message and "away" in record.message
    ]
    assert len(ours) == 2, "turns of other tests may end late"


@pytest.mark.parametrize("policy", ["wait", "supersede"])
def test_turns_of_many_are_never_torn(started: PlainConversations, policy: Any) -> None:
    lost = 0

    def work(name: str) -> None:
        nonlocal lost
        for number in range(8):
            try:
                with take(started, f"{name}{number}", policy=policy) as turn:
                    turn.reply(f"re:{turn.history[-1]}")
            except TurnLost:
                lost += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, "abcdefgh"))
    messages = get(started).messages
    replies = 0
    for before, message in zip([None, *messages], messages, strict=False):
        if isinstance(message.body, dict):
            assert before
            assert message.body["content"] == f"re:{before.body}", "torn"
            replies += 1
    users = [message.body for message in messages if isinstance(message.body, str)]
    assert len(users) == 64
    assert replies == 64 - lost
    assert lost == 0 or policy == "supersede"
    for name in "abcdefgh":
        assert [user for user in users if user[0] == name] == [f"{name}{number}" for number in range(8)]


# ---- once


def test_a_token_makes_a_turn_once(started: PlainConversations) -> None:
    with take(started, token="T") as turn:
        with pytest.raises(TurnInProgress):
            begin(started.access(), "s", USER, token="T")
        turn.reply("hi")
    again, begun = begin(started.access(), "s", USER, token="T")
    assert again is None
    assert begun.reply
    assert (begun.receipt.first_seq, begun.reply.first_seq, begun.reply.version) == (1, 2, 3)
    with pytest.raises(TokenReused):
        begin(started.access(), "s", "another", token="T")
    assert get(started)["history"] == [USER, BOT]


def test_a_failed_turn_can_be_taken_again(started: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), take(started, token="T"):
        raise ZeroDivisionError
    with take(started, token="T") as turn:
        assert turn.history == [USER]
        assert (turn.message.seq, turn.message.status) == (1, None)
        turn.reply("hi")
    assert get(started)["history"] == [USER, BOT]
    assert statuses(started) == [None, None]


def test_the_turn_of_a_dead_worker_can_be_taken_again(started: PlainConversations, harness: Harness) -> None:
    take(started, token="T")
    with pytest.raises(TurnInProgress):
        begin(started.access(), "s", USER, token="T")
    end_lease(harness)
    with take(started, token="T") as turn:
        turn.reply("hi")
    assert get(started)["history"] == [USER, BOT]


def test_a_block_that_deletes_its_session_ends_well(started: PlainConversations) -> None:
    with take(started):
        started.delete_session("s")
    assert started.get_session("s") is None


def test_a_turn_that_was_ended_gives_what_was_said(url: str) -> None:
    service = Service(url)
    with service.app.app_context():
        service.convstore.save_session("s", {"history": []})
        for reply in ({"role": "assistant", "content": "hi"}, None):
            token = f"update {reply}"
            with service.convstore.turn("s", USER, token=token) as turn:
                turn.reply(reply)
            with pytest.raises(TurnEnded) as caught:
                service.convstore.turn("s", USER, token=token)
            ended = caught.value
            assert ended.session_id == "s"
            assert ended.message is not None
            assert (ended.message.body, ended.message.seq) == (USER, turn.message.seq)
            assert (ended.reply and ended.reply.body) == reply
            assert ended.written is False
            assert "ended before" in str(ended)
        session = service.convstore.get_session("s")
        assert session is not None
        assert session.message_count == 3


def test_a_turn_that_others_wrote_behind_is_lost(started: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), take(started, token="T"):
        raise ZeroDivisionError
    started.append("s", Message("somebody else"))
    with pytest.raises(TurnLost):
        begin(started.access(), "s", USER, token="T")
    assert get(started)["history"] == [USER, "somebody else"]


def test_only_one_of_two_attempts_ends_a_turn(started: PlainConversations, harness: Harness) -> None:
    """The first was thought dead and was only slow: its reply is refused, not acknowledged as if it were the other's."""
    slow = take(started, token="T")
    end_lease(harness)
    with take(started, token="T") as quick:
        quick.reply("quick")
    with pytest.raises(TurnLost):
        slow.reply("slow")
    assert [message.body for message in get(started).messages] == [USER, {"role": "assistant", "content": "quick"}]


def test_a_token_that_was_forgotten_begins_anew(harness: Harness) -> None:
    conversations = limited(harness, max_tokens=3)
    conversations.save_session("s", {"history": []})
    with take(conversations, token="T") as turn:
        conversations.append("s", data={"a": 1})
        conversations.append("s", data={"a": 2})
        turn.reply("first")
    with take(conversations, token="T") as turn:
        turn.reply("second")
    texts = [m.get("content") for m in get(conversations).messages]
    assert texts == ["hello", "first", "hello", "second"]
    take(conversations)  # the turn was given back


def test_a_predecessors_token_leads_nowhere(started: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), take(started, token="T"):
        raise ZeroDivisionError
    started.append("s", Message("x"), token="A")
    started.delete_session("s")
    started.save_session("s", {"history": ["the successor's"]})
    with pytest.raises(SessionNotFound) as caught:
        converse(started.access(), "s", Message(USER), Replier(lambda turn: "hi"), token="T")
    assert caught.value.session_id == "s"
    with pytest.raises(SessionNotFound):
        converse(started.access(), "s", Message("x"), None, token="A")
    assert started.append("s", Message("x"), token="A").repeated
    assert get(started)["history"] == ["the successor's"]


def test_a_turn_has_one_reply(started: PlainConversations) -> None:
    with take(started) as turn:
        turn.reply("a")
        with pytest.raises(InvalidInput):
            turn.reply("b")
        again = turn.reply(None)
        assert again
        assert again["content"] == "a"
    exchange = converse(started.access(), "s", Message(USER), Replier(lambda turn: turn.reply("x") and None), token="T")
    assert exchange.reply
    assert exchange.reply["content"] == "x"


@pytest.mark.parametrize("spoil", [lambda turn: turn.data.update(x=object()), lambda turn: setattr(turn, "data", 5)])
def test_a_turn_whose_data_cannot_be_written_is_given_back(started: PlainConversations, spoil: Any) -> None:
    with pytest.raises(InvalidInput), take(started) as turn:
        spoil(turn)
    assert statuses(started) == ["failed"]
    take(started)


def test_a_status_is_a_change_of_the_history(started: PlainConversations) -> None:
    with pytest.raises(ZeroDivisionError), take(started):
        stale = get(started)
        raise ZeroDivisionError
    stale["history"][0] = "edited"
    with pytest.raises(ConflictError):
        started.save_session("s", stale)
    assert statuses(started) == ["failed"]


@in_memory
@pytest.mark.parametrize("options", [{"last": "3"}, {"last": 1.5}, {"last": True}, {"policy": "wiat"}])
def test_bad_options_are_refused(started: PlainConversations, options: Any) -> None:
    with pytest.raises(InvalidInput):
        begin(started.access(), "s", USER, **options)
    assert get(started)["history"] == []


def test_an_endless_window(started: PlainConversations) -> None:
    with take(started, last=2**64) as turn:
        assert turn.history == [USER]
        turn.reply("hi")


def test_a_short_lease_beside_a_long_one(harness: Harness) -> None:
    renewed = threading.Event()

    class Watching(Recorder):
        def renew(self, commands: Any) -> Any:
            if any(command.session_id == "short" for command in commands):
                renewed.set()
            return super().renew(commands)

    store = Watching(harness.store)
    long, short = (
        PlainConversations(store, Settings(turn_lease=60)),
        PlainConversations(store, Settings(turn_lease=0.2)),
    )
    for session_id in ("long", "short"):
        long.save_session(session_id, {"history": []})
    with take(long, session_id="long") as first, take(short, session_id="short") as second:
        assert renewed.wait(10)
        first.reply("hi")
        second.reply("hi")


def test_a_thread_that_cannot_start_locks_nothing(started: PlainConversations, monkeypatch: pytest.MonkeyPatch) -> None:
    leases._renewers.pop(started.backend.store, None)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", lambda thread: (_ for _ in ()).throw(RuntimeError("no thread")))
        with pytest.raises(RuntimeError), take(started):
            raise AssertionError("not reached")
    assert statuses(started) == ["failed"]
    with take(started) as turn:
        turn.reply("hi")


def test_a_repeat_after_a_delete_never_revives(started: PlainConversations) -> None:
    with take(started, token="T") as turn:
        turn.reply("hi")
    started.delete_session("s")
    again, begun = begin(started.access(), "s", USER, token="T")
    assert (again, begun.snapshot) == (None, None)
    assert begun.receipt.repeated
    assert not started.exists("s")


def test_a_turn_without_a_message_whose_session_is_deleted_before_its_answer_comes(harness: Harness) -> None:
    class Slow(Recorder):
        """The first answer is lost, and the client asks again."""

        def begin(self, command: BeginTurn) -> Begun:
            super().begin(command)
            super().apply(Delete(session_id=command.session_id, owner=ANY))
            return super().begin(command)

    conversations = PlainConversations(Slow(harness.store))
    conversations.save_session("s", {"history": []})
    with pytest.raises(SessionNotFound) as caught:
        hold(conversations.access(), "s")
    assert caught.value.session_id == "s"


@pytest.mark.parametrize("lose", [1, 2, 3])
def test_every_reply_of_the_store_lost_leaves_one_copy(
    started: PlainConversations, harness: Harness, lose: int
) -> None:
    element = join_element(1, b'"m"')
    command = BeginTurn(session_id="s", owner=ANY, element=element, lease_ms=0, token="T", attempt="A")
    for _ in range(lose + 1):
        begun = harness.store.begin(command)
    assert begun.receipt.first_seq == 1
    commit = CommitTurn(session_id="s", owner=ANY, turn="A", elements=(element,), token="T\n2", digest="A")
    for _ in range(lose + 1):
        receipt = harness.store.apply(commit)
    assert (receipt.first_seq, receipt.version) == (2, 3)
    assert get(started)["history"] == ["m", "m"]


# ---- conversing


async def async_handler(turn: Turn) -> str:
    return f"async {len(turn.history)}"


async def async_chunks(turn: Turn) -> AsyncIterator[str]:
    yield "one "
    yield "two"


async def async_chunks_of_a_task(turn: Turn) -> AsyncIterator[str]:
    task = asyncio.create_task(asyncio.sleep(0, "late"))

    async def chunks() -> AsyncIterator[str]:
        yield await task

    return chunks()


async def cancelled(turn: Turn) -> None:
    task = asyncio.create_task(asyncio.sleep(5))
    task.cancel()
    await task


def test_a_cancelled_handler_is_a_failed_one(started: PlainConversations) -> None:
    with pytest.raises(ReplyFailed):
        converse(started.access(), "s", Message(USER), Replier(cancelled))
    assert statuses(started) == ["failed"]


@pytest.mark.parametrize(
    ("handler", "content"),
    [
        (lambda turn: "plain", "plain"),
        (async_handler, "async 1"),
        (async_chunks, "one two"),
        (async_chunks_of_a_task, "late"),
    ],
)
def test_handlers(started: PlainConversations, handler: Any, content: str) -> None:
    exchange = converse(started.access(), "s", Message(USER), Replier(handler))
    assert exchange.reply
    assert exchange.reply["content"] == content


@pytest.mark.parametrize("reply", [None, Message(BOT), "iterator"])
def test_what_is_not_async_needs_no_event_loop(started: PlainConversations, reply: Any) -> None:
    """The thread of an async view has one already, and a second cannot run in it."""

    async def view() -> None:
        converse(
            started.access(), "s", Message(USER), Replier(lambda turn: iter("hi") if reply == "iterator" else reply)
        )

    asyncio.run(view())
    assert get(started)["history"] == ([USER, BOT] if reply else [USER])


@pytest.mark.parametrize("replier", [None, Replier(lambda turn: "hi")])
def test_the_first_message_makes_the_title(started: PlainConversations, replier: Replier | None) -> None:
    for content in ("hello", "more"):
        converse(started.access(), "s", Message({"role": "user", "content": content}), replier)
    assert get(started).title == "hello"


@pytest.mark.parametrize("replier", [None, Replier(lambda turn: "hi")])
def test_a_message_for_another_version_is_refused(started: PlainConversations, replier: Replier | None) -> None:
    with pytest.raises(ConflictError):
        converse(started.access(), "s", Message(USER), replier, expected="2")
    assert get(started)["history"] == []
    converse(started.access(), "s", Message(USER), replier, expected="1")


def test_conversing_is_repeatable(started: PlainConversations) -> None:
    calls: list[int] = []

    def handler(turn: Turn) -> str | None:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return "hi"

    with pytest.raises(ReplyFailed):
        converse(started.access(), "s", Message(USER, {"m": 1}), Replier(handler), token="T")
    first = converse(started.access(), "s", Message(USER, {"m": 1}), Replier(handler), token="T")
    assert len(calls) == 2
    started.append("s", Message("later"))
    again = converse(started.access(), "s", Message(USER, {"m": 1}), Replier(handler), token="T")
    assert len(calls) == 2
    assert (again.message, again.reply) == (first.message, first.reply)
    assert again.receipt.version == first.receipt.version


def test_conversing_without_a_handler_is_repeatable(started: PlainConversations) -> None:
    first = converse(started.access(), "s", Message(USER), None, token="T")
    started.append("s", Message("later"))
    again = converse(started.access(), "s", Message(USER), None, token="T")
    assert (again.message, again.reply, again.receipt.version) == (first.message, None, first.receipt.version)


# ---- what is told


@in_memory
@pytest.mark.parametrize(
    ("options", "path", "given"),
    [({"last": "3"}, "last", "'3'"), ({"last": 0}, "last", "0"), ({"policy": "wiat"}, "policy", "'wiat'")],
)
def test_a_refused_option_is_named(started: PlainConversations, options: Any, path: str, given: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        begin(started.access(), "s", USER, **options)
    assert caught.value.path == path
    assert re.search(rf"not {given}[.;] [Nn]othing was written", caught.value.reason)


@in_memory
@pytest.mark.parametrize("instead", [None, 5, []])
def test_data_that_were_replaced_by_something_else_are_refused(started: PlainConversations, instead: Any) -> None:
    turn = take(started)
    turn.data = instead
    with pytest.raises(InvalidInput, match="instead of replacing"):
        turn.reply("a")


def test_a_corrupt_message_before_is_not_told_as_if_nothing_was_written(valkey: Server) -> None:
    """It is found only when the reply is stored: the message before was interrupted, and the answer tells of it."""
    harness = RedisHarness(valkey.client)
    conversations = PlainConversations(harness.store)
    conversations.save_session("corrupt", ["old"])
    take(conversations, session_id="corrupt")
    session, history, _ = harness.keys("corrupt")
    valkey.client.hset(session, "turn_until", 1)
    valkey.client.lset(history, 0, '1{"at":1800000000000}\nno JSON')
    with pytest.raises(CorruptValue, match="seq 1") as caught:
        converse(conversations.access(), "corrupt", Message(USER), Replier(lambda turn: "r"))
    assert caught.value.written
    assert b'"r"' in valkey.client.lrange(history, -1, -1)[0]


class Unheard(Recorder):
    """A store whose next end of a turn lands, or does not, without an answer."""

    lands: bool | None = None

    def apply(self, command: Any) -> Any:
        if self.lands is not None and isinstance(command, CommitTurn):
            lands, self.lands = self.lands, None
            if lands:
                super().apply(command)
            raise StoreUnavailable("the answer was lost", written=None)
        return super().apply(command)


@pytest.mark.parametrize("lands", [True, False])
def test_another_reply_is_not_told_as_stored_where_the_first_one_is(harness: Harness, lands: bool) -> None:
    store = Unheard(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"history": []})
    with take(conversations) as turn:
        store.lands = lands
        with pytest.raises(StoreUnavailable):
            turn.reply("a")
        if lands:
            with pytest.raises(InvalidInput, match="a reply already"):
                turn.reply("b")
        else:
            turn.reply("b")
    assert get(conversations)["history"][1:] == [{"role": "assistant", "content": "a" if lands else "b"}]


@pytest.mark.parametrize("lands", [True, False])
@pytest.mark.parametrize("again", ["the same reply", "the end of the block"])
def test_a_reply_whose_answer_was_lost_is_stored_once(harness: Harness, lands: bool, again: str) -> None:
    store = Unheard(harness.store)
    conversations = PlainConversations(store)
    conversations.save_session("s", {"n": 0, "history": []})
    with take(conversations) as turn:
        turn.data["n"] += 1
        store.lands = lands
        with pytest.raises(StoreUnavailable):
            turn.reply("a")
        if again == "the same reply":
            told = turn.reply("a")
            assert told
            assert (told.seq, told["content"]) == (2, "a")
    assert get(conversations) == {"n": 1, "history": [USER, {"role": "assistant", "content": "a"}]}
    assert statuses(conversations) == [None, None]


def test_of_threads_that_reply_at_once_one_is_told_that_it_is_stored(started: PlainConversations) -> None:
    for _ in range(20):
        with take(started) as turn, ThreadPoolExecutor(4) as pool:
            barrier = threading.Barrier(4)

            def reply(text: str, turn: Turn = turn, barrier: threading.Barrier = barrier) -> str | None:
                barrier.wait()
                try:
                    told = turn.reply(text)
                except InvalidInput:
                    return None
                assert told
                return str(told["content"])

            told = [text for text in pool.map(reply, "abcd") if text]
        assert told == [get(started)["history"][-1]["content"]]


def test_a_refused_reply_is_named(started: PlainConversations) -> None:
    with take(started) as turn:
        turn.reply("a")
        with pytest.raises(InvalidInput, match="a reply already") as caught:
            turn.reply("b")
        assert caught.value.path == "reply"
    other = take(started)
    other.data = 5  # type: ignore[assignment]
    with pytest.raises(InvalidInput, match="instead of replacing") as caught:
        other.reply("c")
    assert caught.value.path == "data"


def test_a_reply_that_cannot_be_stored_tells_whose_it_was(
    started: PlainConversations, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ReplyFailed, match="cannot be stored") as caught:
        converse(started.access(), "s", Message(USER), Replier(lambda turn: {"content": object()}))
    assert caught.value.session_id == "s"
    assert "returned what cannot be stored: history[0].content" in caplog.text
    with pytest.raises(SessionNotFound) as missing:
        converse(started.access(), "gone", Message(USER), None)
    assert missing.value.session_id == "gone"


def test_a_failed_turn_that_cannot_be_marked_is_told(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    class Away(Recorder):
        def apply(self, command: Any) -> Any:
            if isinstance(command, CommitTurn):
                raise StoreUnavailable("gone for lunch", written=None)
            return super().apply(command)

    conversations = PlainConversations(Away(harness.store))
    conversations.save_session("s", {"history": []})
    with pytest.raises(ZeroDivisionError), take(conversations):
        raise ZeroDivisionError
    assert "could not be marked" in caplog.text
    assert "gone for lunch" in caplog.text


def test_a_failed_renewal_tells_why(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    class Away(Recorder):
        def renew(self, commands: Any) -> Any:
            raise StoreUnavailable("gone for lunch", written=None)

    conversations = PlainConversations(Away(harness.store), Settings(turn_lease=0.1))
    conversations.save_session("s", {"history": []})
    with take(conversations):
        wait_for(lambda: "gone for lunch" in caplog.text, "it is told")


@pytest.mark.parametrize(
    ("reply", "stored"),
    [
        ("text", {"role": "assistant", "content": "text"}),
        ({"content": "dict"}, {"role": "assistant", "content": "dict"}),
        ({"role": "tool", "content": "4"}, {"role": "tool", "content": "4"}),
        (("one ", "two"), {"role": "assistant", "content": "one two"}),
    ],
)
def test_what_a_handler_returns_becomes_a_message(started: PlainConversations, reply: Any, stored: Any) -> None:
    with take(started) as turn:
        turn.reply(iter(reply) if isinstance(reply, tuple) else reply)
    assert get(started)["history"] == [USER, stored]


def test_a_reply_with_a_role_is_stored_as_it_is(started: PlainConversations) -> None:
    with take(started) as turn:
        turn.reply({"content": "4", "role": "tool", "id": 1})
    assert list(get(started)["history"][-1]) == ["content", "role", "id"], "what is hashed is its JSON, in its order"


@in_memory
@pytest.mark.parametrize(("reply", "kind"), [(5, "int"), (b"b", "bytes"), (["a"], "list"), (("a",), "tuple")])
def test_what_is_no_reply_is_named(started: PlainConversations, reply: Any, kind: str) -> None:
    with pytest.raises(TypeError, match=f"not a {kind}$"), take(started) as turn:
        turn.reply(reply)
    assert get(started)["history"] == [USER]
    assert statuses(started) == ["failed"]


def test_a_token_without_a_handler_comes_with_one_message_only(started: PlainConversations) -> None:
    converse(started.access(), "s", Message(USER), None, token="T")
    with pytest.raises(TokenReused):
        converse(started.access(), "s", Message({"role": "user", "content": "another"}), None, token="T")
    converse(started.access(), "s", Message(USER), None)
    assert get(started)["history"] == [USER, USER]


def test_a_repeat_without_a_handler_finds_a_deleted_session_gone(started: PlainConversations) -> None:
    converse(started.access(), "s", Message(USER), None, token="T")
    started.delete_session("s")
    with pytest.raises(SessionNotFound) as caught:
        converse(started.access(), "s", Message(USER), None, token="T")
    assert caught.value.session_id == "s"


def test_no_more_is_read_than_was_asked_for(started: PlainConversations) -> None:
    """The messages asked for, and the one before, which tells what became of its turn."""
    started.append("s", *map(Message, range(10)))
    for last, read in ((1, 2), (3, 3), (None, 13)):
        turn, begun = begin(started.access(), "s", USER, last=last)
        assert turn
        assert begun.snapshot
        assert len(begun.snapshot.elements) == read
        with turn:
            turn.reply(None)


def test_a_turn_can_choose_by_tokens(started: PlainConversations) -> None:
    started.append("s", *({"role": "user", "content": f"{number}"} for number in range(5)))
    with take(started) as turn:
        assert turn.window(tokens=2, count=lambda body: 1) == turn.history[-2:]
        assert turn.window(tokens=5, last=3, count=lambda body: 1) == turn.history[-3:]


def test_no_lease_is_renewed_before_its_time_or_after_its_turn(harness: Harness) -> None:
    conversations = PlainConversations(recorder := Recorder(harness.store), Settings(turn_lease=60))
    conversations.save_session("s", {"history": []})
    conversations.save_session("t", {"history": []})
    renewer = leases.renewer(recorder)
    with take(conversations), take(conversations, session_id="t"):
        threads = [thread for thread in threading.enumerate() if thread.name == "convstore-leases"]
        assert renewer._thread in threads
        assert len(renewer._turns) == 2
        assert all(0 < every <= 20 for _, every, *_ in renewer._turns.values())
    assert not renewer._turns
    assert not any(isinstance(command, RenewTurn) for command in recorder.commands)


def test_a_lease_is_as_long_as_it_says() -> None:
    harness = MemoryHarness()
    conversations = PlainConversations(harness.store, Settings(turn_lease=60))
    conversations.save_session("s", {"history": []})
    with take(conversations) as turn:
        assert harness.store.turn_lease("s", ANY).remaining_ms == 60_000
        turn.reply("hi")
    held, _ = hold(conversations.access(), "s")
    with held:
        assert harness.store.turn_lease("s", ANY).remaining_ms == 60_000


def test_a_lease_tells_who_has_the_turn(started: PlainConversations) -> None:
    assert started.turn_lease("s") is None
    with pytest.raises(TurnLost), take(started) as turn:
        one = started.turn_lease("s")
        assert one
        assert 0 < one.remaining_ms <= 30_000
        assert one.holder
        assert one.holder not in turn.attempt, "nobody can end the turn by what is told"
        other = take(started, policy="supersede")
        two = started.turn_lease("s")
        assert two
        assert two.holder != one.holder
    other.reply("hi")
    assert started.turn_lease("s") is None
    with pytest.raises(SessionNotFound):
        started.turn_lease("gone")


def test_only_what_was_left_behind_is_the_previous_message(started: PlainConversations) -> None:
    with take(started) as turn:
        assert turn.previous is None
        turn.reply(None)
    with pytest.raises(TurnLost), take(started) as turn:
        assert turn.previous is None, "it is unanswered, and nobody interrupted it"
        other = take(started, policy="supersede")
    assert other.previous
    assert (other.previous.seq, other.previous.status) == (turn.message.seq, "superseded")


def test_a_move_is_ended_by_the_token_of_its_turn(harness: Harness) -> None:
    """So that whoever begins the turn again, as its answer was lost, finds its end."""
    conversations = PlainConversations(recorder := Recorder(harness.store))
    conversations.save_session("s", {"history": [1]})
    turn, _ = hold(conversations.access(), "s")
    with turn:
        turn.move_to("t", 2)
    command = recorder.commands[-1]
    assert isinstance(command, MoveConversation)
    assert (command.token, command.moved_to) == (f"{turn.token}\n2", "t")


def test_a_message_without_a_handler_is_counted_too(started: PlainConversations) -> None:
    converse(started.access(), "s", Message(USER, tokens=Usage(3, 0)), None)
    assert get(started).usage == Usage(3, 0)


@pytest.mark.parametrize("replier", [None, Replier(lambda turn: "hi")])
def test_a_bad_token_is_named(started: PlainConversations, replier: Replier | None) -> None:
    with pytest.raises(InvalidInput) as caught:
        converse(started.access(), "s", Message(USER), replier, token="a\nb")
    assert caught.value.path == "token"
    assert get(started)["history"] == []


def test_an_exchange_whose_session_is_gone_names_it(started: PlainConversations) -> None:
    _, begun = begin(started.access(), "s", USER)
    started.delete_session("s")
    with pytest.raises(SessionNotFound) as caught:
        first_exchange(started.access(), "s", begun)
    assert caught.value.session_id == "s"


def test_an_exchange_is_read_again_for_whom_it_was(harness: Harness) -> None:
    """Not for whoever asks, as a worker does for others."""
    worker = PlainConversations(harness.store, owner="worker")
    worker.save_session("s", {"history": []}, owner="alice")
    with take(worker, token="T", owner="alice") as turn:
        turn.reply("hi")
    _, begun = begin(worker.access("alice"), "s", USER, token="T")
    exchange = first_exchange(worker.access("alice"), "s", begun)
    assert exchange.reply
    assert exchange.reply.body == BOT
    with pytest.raises(SessionNotFound):
        first_exchange(worker.access(), "s", begun)


def test_a_handler_that_fails_is_told(started: PlainConversations, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ReplyFailed, match="the reply handler failed"):
        converse(started.access(), "s", Message(USER), Replier(lambda turn: 1 // 0))
    assert "the reply handler failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


# ---- limits


def limited(harness: Harness, **settings: Any) -> PlainConversations:
    """The operations on a store of the same kind with other limits."""
    chosen = Settings(**settings)
    if isinstance(harness.store, MemoryStore):
        return PlainConversations(MemoryStore(limits_for(chosen), harness.store._clock), chosen)
    assert isinstance(harness.store, RedisStore)
    return PlainConversations(RedisStore(harness.store._calls._client, chosen.prefix, limits_for(chosen)), chosen)


def test_too_many_messages_are_refused(harness: Harness) -> None:
    conversations = limited(harness, max_history=3)
    conversations.save_session("s", {"history": [1, 2]})
    for call in (
        lambda: conversations.append("s", Message(3), Message(4), data={"a": 1}),
        lambda: conversations.save_session("s", {"history": [1, 2, 3, 4]}),
        lambda: conversations.save_session("t", [1, 2, 3, 4]),
    ):
        with pytest.raises(TooLarge) as caught:
            call()
        assert (caught.value.limit, caught.value.size, caught.value.written) == (3, 4, False)
    assert not conversations.exists("t")
    with pytest.raises(TooLarge) as caught:
        begin(conversations.access(), "s", "the third, and there is no room for its reply")
    assert (caught.value.limit, caught.value.size) == (3, 4)
    assert get(conversations) == {"history": [1, 2]}
    conversations.append("s", data={"a": 1})
    session = get(conversations)
    session["history"] = session["history"][-1:]
    conversations.save_session("s", session)
    with take(conversations) as turn:
        turn.reply("hi")
    assert get(conversations)["history"] == [2, USER, BOT]


def test_a_history_can_be_trimmed(harness: Harness) -> None:
    conversations = limited(harness, max_history=4, history_policy="trim")
    conversations.save_session("s", {"history": [1, 2, 3]})
    assert conversations.append("s", Message(4), Message(5)).first_seq == 4
    assert get(conversations)["history"] == [2, 3, 4, 5]
    with take(conversations) as turn:
        assert turn.history == [3, 4, 5, USER]
        turn.reply("hi")
    assert get(conversations)["history"] == [4, 5, USER, BOT]
    assert [message.seq for message in get(conversations).messages] == [4, 5, 6, 7]
    session = get(conversations)
    session["history"] += [8, 9]
    conversations.save_session("s", session)
    assert get(conversations)["history"] == [USER, BOT, 8, 9]
    with pytest.raises(TooLarge):
        conversations.append("s", *map(Message, range(5)))
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), take(conversations):
            raise ZeroDivisionError
    assert statuses(conversations) == [None, "failed", "failed", "failed"]


def test_the_first_system_messages_stay_where_the_oldest_go(harness: Harness) -> None:
    """Up to three of them, wherever their role stands, and none for which there is no place."""
    conversations = limited(harness, max_history=5, history_policy="trim")
    prompts = [{"role": "system", "content": "a"}, {"content": "b", "role": "developer"}]
    for number in range(1, 5):
        session_id = f"s{number}"
        conversations.save_session(session_id, {"history": [prompts[0]] * number})
        conversations.append(session_id, *(Message(place) for place in range(5 - number)))
        conversations.append(session_id, Message("x"), Message("y"))
        kept = min(2, number)
        history: Any = conversations.get_session(session_id)
        assert history["history"][:kept] == [prompts[0]] * kept
        assert history["history"][-2:] == ["x", "y"]
    conversations.save_session("s", {"history": [*prompts, 1, 2, 3]})
    for text in "abcdef":
        conversations.append("s", Message(text))
    session: Any = conversations.get_session("s")
    assert session["history"] == [*prompts, "d", "e", "f"]
    assert [(message.seq, message.id) for message in session.messages] == [
        (seq, f"msg-{seq}") for seq in (1, 2, 9, 10, 11)
    ]
    with conversations.turn("s", "hi") as turn:
        assert turn.history == [*prompts, "e", "f", {"role": "user", "content": "hi"}]
        turn.reply("you")
    assert conversations.append("s", Message("g")).first_seq == 14
    conversations.append("s", *map(Message, range(5)))
    session = conversations.get_session("s")
    assert session["history"] == [0, 1, 2, 3, 4]


def test_a_turn_whose_message_is_a_system_message_is_marked_where_it_stays(harness: Harness) -> None:
    conversations = limited(harness, max_history=3, history_policy="trim")
    conversations.save_session("s", {"history": []})
    turn = conversations.turn("s", {"role": "system", "content": "a"})
    conversations.append("s", Message(1), Message(2))
    with turn:
        turn.reply(None)
    conversations.append("s", Message(3))
    session: Any = conversations.get_session("s")
    assert [(message.seq, message.status) for message in session.messages] == [(1, "unanswered"), (4, None), (5, None)]


def test_a_limit_is_what_there_may_be(harness: Harness) -> None:
    """The limit itself is in, from the first write on."""
    conversations = limited(harness, max_data_bytes=10, max_history=4, history_policy="trim")
    conversations.save_session("s", {"a": "1234567", "history": []})  # a name of 1, a text of 9
    with pytest.raises(TooLarge):
        conversations.save_session("t", {"a": "12345678", "history": []})
    conversations.append("s", Message(1), Message(2), Message(3), Message(4))
    conversations.append("s", Message(5), Message(6), Message(7), Message(8))
    assert get(conversations)["history"] == [5, 6, 7, 8]


def test_a_failed_turn_is_taken_again_where_the_history_is_trimmed(harness: Harness) -> None:
    conversations = limited(harness, max_history=3, history_policy="trim")
    conversations.save_session("s", {"history": [1, 2]})
    with pytest.raises(ZeroDivisionError), take(conversations, token="T"):
        raise ZeroDivisionError
    assert statuses(conversations) == [None, None, "failed"]
    with take(conversations, token="T") as turn:
        turn.reply("hi")
    assert get(conversations)["history"] == [2, USER, BOT]
    assert statuses(conversations) == [None, None, None]


def test_large_sessions_are_refused(harness: Harness) -> None:
    conversations = limited(harness, max_session_bytes=2_000, max_data_bytes=500)
    conversations.save_session("s", {"a": "x" * 300, "history": ["m" * 500]})
    with pytest.raises(TooLarge, match="data") as caught:
        conversations.append("s", data={"b": "x" * 300})
    assert (caught.value.limit, caught.value.size) == (500, 301 + 2 + 301 + 2)
    with pytest.raises(TooLarge, match="session"):
        conversations.append("s", Message("m" * 1_200))
    session = get(conversations)
    session["b"] = "x" * 300
    with pytest.raises(TooLarge, match="data"):
        conversations.save_session("s", session)
    del session["b"]
    session["a"] = "x" * 200
    session["history"].append("m" * 1_000)
    conversations.save_session("s", session)
    with pytest.raises(TooLarge, match="session"):
        begin(conversations.access(), "s", "m" * 400)
    session["history"].pop(0)
    conversations.save_session("s", session)
    conversations.append("s", Message("m" * 500), data={"a": "y" * 250})
    conversations.save_session("s", {"history": []})
    conversations.append("s", Message("m" * 1_900))


def test_bytes_are_counted_exactly(harness: Harness) -> None:
    """Counting step by step finds the true size: the limit is met to the byte, whatever came before."""
    conversations = limited(harness, max_session_bytes=3_000, max_history=20, history_policy="trim")
    conversations.save_session("s", {"a": 1, "history": ["x"] * 15})
    for number in range(6):
        with pytest.raises(ZeroDivisionError), take(conversations, f"ü{number}"):
            raise ZeroDivisionError
        with take(conversations, f"ü{number}") as turn:
            turn.data["n"] = number
            turn.reply("é" * number)
        session = get(conversations)
        session["history"] = session["history"][2:]
        session["history"][0] = "edited"
        session["b"] = ["y"] * number
        conversations.save_session("s", session)
    snapshot = harness_load(conversations)
    used = sum(map(len, snapshot.elements)) + sum(len(k.encode()) + len(v) for k, v in snapshot.fields.items())
    envelope = len(join_element(1_800_000_000_000, b'""'))
    room = 3_000 - used - envelope
    if snapshot.count == 20:
        room += len(snapshot.elements[0])
    with pytest.raises(TooLarge):
        conversations.append("s", Message("z" * (room + 1)))
    conversations.append("s", Message("z" * room))


def harness_load(conversations: PlainConversations) -> Any:
    snapshot = conversations.backend.store.load("s", ANY)
    assert snapshot
    return snapshot


def test_metadata_depth_is_limited(harness: Harness) -> None:
    conversations = limited(harness, max_metadata_depth=2)
    conversations.save_session("s", {"history": []})
    conversations.append("s", Message("x", {"a": [1]}))
    with pytest.raises(TooDeep):
        conversations.append("s", Message("x", {"a": [[1]]}))
    assert get(conversations).message_count == 1


def test_a_session_ends_at_its_greatest_age(harness: Harness) -> None:
    conversations = limited(harness, ttl=100, max_age=150)
    receipt_of = conversations.backend.store.load
    session = conversations.save_session("s", {"complete": True, "history": []}, ttl=5_000)
    assert (session.expires_at - session.created_at).total_seconds() == 150
    conversations.append("s", Message("x"))
    snapshot = receipt_of("s", ANY)
    assert snapshot
    assert snapshot.expires_at_ms - snapshot.created_at_ms == 150_000
    conversations.save_session("t", {})
    with harness.moment() as moment:
        short = get(conversations, "t")
    assert as_milliseconds(short.expires_at) - 100_000 in moment
    if isinstance(conversations.backend.store, MemoryStore):
        return
    outlived = limited(harness, ttl=100, max_age=1)
    turn = take(conversations)
    age(conversations, harness)
    assert outlived.get_session("s") is None
    renewal = RenewTurn(session_id="s", owner=ANY, turn=turn.attempt, lease_ms=1000)
    for call in (
        lambda: outlived.append("s", Message("x")),
        lambda: begin(outlived.access(), "s", USER),
        lambda: outlived.backend.store.apply(renewal),
    ):
        with pytest.raises(SessionNotFound):
            call()
    assert not outlived.exists("s")


def age(conversations: PlainConversations, harness: Harness) -> None:
    """Let a session be two seconds old."""
    store = conversations.backend.store
    if isinstance(store, RedisStore):
        created = int(store._calls._client.hget(store._keys("s")[0], "created") or 0)
        store._calls._client.hset(store._keys("s")[0], "created", created - 2000)


def test_the_renewer_is_one_per_store() -> None:
    store = MemoryStore(limits_of(Settings()))
    assert leases.renewer(store) is leases.renewer(store)
    assert leases.renewer(MemoryStore(limits_of(Settings()))) is not leases.renewer(store)


# ---- several messages in one turn

CALL = {"role": "assistant", "content": None, "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "{}"}}]}
RESULT = {"role": "tool", "tool_call_id": "c", "content": "42"}


def history(conversations: PlainConversations) -> list[Any]:
    found: list[Any] = get(conversations, "s")["history"]
    return found


def test_a_turn_writes_calls_and_results_with_its_reply(started: PlainConversations) -> None:
    with take(started) as turn:
        turn.add(CALL)
        turn.add([RESULT])
        reply = turn.reply("done")
    assert reply
    stored = history(started)
    assert stored == [USER, CALL, RESULT, {"role": "assistant", "content": "done"}]
    assert (reply.seq, reply.id) == (5, turn.reply_id)
    with take(started) as turn:
        assert turn.history == [*stored, USER]
        turn.reply([CALL, RESULT])
    assert history(started)[5:] == [CALL, RESULT]


def test_a_turn_shows_what_it_has_added(started: PlainConversations) -> None:
    """A loop that asks the model again needs no list of its own. Others see the messages with the reply."""
    started.append("s", "earlier")
    with started.turn("s", USER, last=1) as turn:
        first = turn.history
        first.append("mine")
        turn.add(CALL)
        assert turn.history == [USER]
        turn.add(Message(RESULT, {"seconds": 2}))
        assert turn.history == turn.window() == [USER, CALL, RESULT]
        assert turn.window(last=2) == [CALL, RESULT]
        assert first == [USER, "mine"]
        assert len(history(started)) == 2
        turn.reply("done")
    assert history(started)[2:4] == [CALL, RESULT]


def test_a_turn_without_a_reply_gives_its_id_to_nothing(started: PlainConversations) -> None:
    """The id was promised to a reply. No result of a tool has it."""
    for added in ([CALL, RESULT], [RESULT]):
        with take(started) as turn:
            turn.add(*added)
        session: Any = get(started, "s")
        assert turn.reply_id not in [message.id for message in session.messages]
        assert [message.seq for message in session.messages][-1] == turn.message.seq + 1 + len(added)


@pytest.mark.parametrize("how", ["appended", "in a turn"])
def test_what_needed_a_dropped_reasoning_is_left_out(started: PlainConversations, how: str) -> None:
    """OpenAI refuses an item without its reasoning. A seq that was kept for a reply is no dropped message."""
    said = {"type": "message", "role": "assistant", "id": "m", "content": "hi"}
    items = [{"type": "reasoning", "id": "r", "summary": []}, said]
    if how == "appended":
        started.append("s", USER, {"role": "assistant", "content": "yes"}, *items)
    else:
        with take(started) as turn:
            turn.reply(items)
    session: Any = get(started, "s")
    started.drop("s", message=session.messages[-2].seq)
    for _ in range(2):
        with take(started) as turn:
            assert said not in turn.history
            turn.reply([{**said, "id": "n"}, {**said, "id": "o"}])
            kept = turn.message.seq
    with take(started) as turn:
        assert turn.history[-3:] == [{**said, "id": "n"}, {**said, "id": "o"}, USER]
    assert kept + 1 not in [message.seq for message in get(started, "s").messages]


def test_a_repeat_of_a_turn_with_several_messages_gets_its_reply(started: PlainConversations) -> None:
    with started.turn("s", USER, token="k") as turn:
        turn.reply([CALL, RESULT, {"role": "assistant", "content": "done"}])
    with pytest.raises(TurnEnded) as caught:
        started.turn("s", USER, token="k")
    assert caught.value.reply
    assert caught.value.reply["content"] == "done"
    with started.turn("s", USER, token="l") as turn:
        turn.add(CALL, RESULT)
    with pytest.raises(TurnEnded) as caught:
        started.turn("s", USER, token="l")
    assert (caught.value.message and caught.value.message.status, caught.value.reply) == ("unanswered", None)
    assert history(started)[-3:] == [USER, CALL, RESULT]


def test_a_failed_turn_leaves_nothing_twice(started: PlainConversations) -> None:
    with pytest.raises(RuntimeError), started.turn("s", USER, token="k") as turn:
        turn.add(CALL, RESULT)
        raise RuntimeError
    assert history(started) == [USER]
    with started.turn("s", USER, token="k") as turn:
        assert turn.history == [USER]
        turn.add(CALL, RESULT)
        turn.reply("done")
    assert history(started) == [USER, CALL, RESULT, {"role": "assistant", "content": "done"}]


def test_a_superseded_turn_adds_nothing(started: PlainConversations) -> None:
    with contextlib.suppress(TurnLost), take(started) as turn:
        turn.add(CALL)
        with take(started, "next", policy="supersede") as other:
            with pytest.raises(TurnLost):
                turn.add(RESULT)
            other.reply("other")
    assert history(started) == [USER, "next", {"role": "assistant", "content": "other"}]


def test_a_message_that_cannot_be_stored_is_not_added(started: PlainConversations) -> None:
    with take(started) as turn:
        with pytest.raises(NotSerializable):
            turn.add({"role": "tool", "content": object()})
        with pytest.raises(TypeError):
            turn.add([1, 2])
        turn.reply({"type": "function_call_output", "call_id": "c", "output": "42"})
        with pytest.raises(InvalidInput):
            turn.add(RESULT)
    assert history(started) == [USER, {"type": "function_call_output", "call_id": "c", "output": "42"}]
