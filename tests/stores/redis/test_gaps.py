"""Messages that were taken out leave gaps between the seqs. Many gaps make no other answers, and no slow writes."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from flask_convstore.config import Settings
from flask_convstore.domain.commands import Append, BeginTurn, CommitTurn, Drop, Extend, Merge, Put
from flask_convstore.domain.messages import join_element, own_id
from flask_convstore.domain.numbering import gaps_between, gaps_in, id_of, text_of
from flask_convstore.domain.types import ANY
from flask_convstore.errors import ConvstoreError, MessageNotFound
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore

from ...harness import limits_for
from ...servers import Server

ELEMENT = join_element(1, b'"x"')
RECEIPTS = "chat:session:{s}:receipts"


def started(seqs: list[int], **settings: Any) -> Put:
    elements = tuple(join_element(1, b"%d" % seq, {"id": f"x{seq}"} if seq % 3 == 0 else None) for seq in seqs)
    gaps = gaps_between(seqs, seqs[-1] + 1)
    return Put(
        session_id="s",
        owner=ANY,
        mode="create",
        shape="full",
        elements=elements,
        first_seq=seqs[0],
        gaps=gaps,
        **settings,
    )


def a_command(chance: random.Random, store: MemoryStore, number: int) -> Any:
    session = store._sessions["s"]
    near = max(session.first_seq - 2, session.next_seq - chance.choice([3, 30, 300, 3000]))
    target: Any = chance.randint(max(1, near), session.next_seq + 1)
    if target % 3 == 0:
        target = chance.choice([f"x{target}", id_of(target)])
    fresh = join_element(1, b"%d" % number, {"id": f"n{number}"} if chance.random() < 0.3 else None)
    attempt = session.turn.attempt if session.turn else "A"
    command: Any = chance.choice(
        [
            Drop(session_id="s", owner=ANY, message=target),
            Drop(session_id="s", owner=ANY, message=target),
            Drop(session_id="s", owner=ANY, message=target),
            Drop(session_id="s", owner=ANY, newest=chance.randint(1, 3)),
            Append(session_id="s", owner=ANY, elements=(fresh, ELEMENT)),
            Append(
                session_id="s", owner=ANY, elements=(fresh,), replaces=session.seqs[-1] if chance.random() < 0.5 else ""
            ),
            BeginTurn(session_id="s", owner=ANY, element=fresh, lease_ms=10**6, supersede=True, attempt=f"A{number}"),
            CommitTurn(session_id="s", owner=ANY, turn=attempt, elements=(ELEMENT,) * chance.randint(0, 2)),
            CommitTurn(session_id="s", owner=ANY, turn=attempt, status="failed"),
            Merge(session_id="s", owner=ANY, history=Extend(session.seqs[chance.randint(0, 2)], ())),
        ]
    )
    if chance.random() < 0.004:
        command = Drop(session_id="s", owner=ANY, after=session.seqs[-chance.randint(20, 60)])
    return command


def done(store: Any, command: Any) -> Any:
    try:
        receipt = store.begin(command).receipt if isinstance(command, BeginTurn) else store.apply(command)
    except ConvstoreError as error:
        return type(error)
    return receipt.version, receipt.first_seq


@pytest.mark.parametrize("seed", range(2))
def test_many_gaps_are_as_in_memory(server: Server, seed: int) -> None:
    """No seq is used twice, either, and the store knows the ids of messages that are there, and of no others."""
    chance, limits = random.Random(seed), limits_for(Settings(max_history=2000))
    memory, redis = MemoryStore(limits), RedisStore(server.client, "chat:session:", limits)
    start = sorted(chance.sample(range(900, 3000), 700))
    stores: list[Any] = [memory, redis]
    for store in stores:
        store.apply(started(start))
    seen: dict[int, bytes] = {}
    for number in range(700):
        command = a_command(chance, memory, number)
        assert done(memory, command) == done(redis, command), command
        before, after = chance.choice(
            [(None, None), (chance.randint(900, 3000), None), (None, chance.randint(900, 3000))]
        )
        pages = [store.messages("s", ANY, before, 7, after) for store in stores]
        assert (pages[0].elements, [*pages[0].seqs]) == (pages[1].elements, [*pages[1].seqs])
        if number % 100 == 0:
            there, found = (store.load("s", ANY) for store in stores)
            assert (there.first_seq, there.gaps, there.next_seq) == (found.first_seq, found.gaps, found.next_seq)
            assert there.elements == found.elements
        session = memory._sessions["s"]
        for seq, element in zip(session.seqs[-5:], session.elements[-5:], strict=True):
            assert seen.setdefault(seq, element.partition(b"\n")[2]) == element.partition(b"\n")[2]
    found = redis.load("s", ANY)
    assert found
    ids = {f"m:{own_id(element)}" for element in found.elements if own_id(element)}
    names: Any = server.client.hkeys(RECEIPTS)
    stored = {name.decode() for name in names if name.startswith(b"m:")}
    assert stored >= ids
    kept: Any = [server.client.hget(RECEIPTS, name) for name in stored - ids]
    seqs = {int(value.split()[0]) for value in kept}
    assert all(seq < found.first_seq for seq in seqs), "what was trimmed is forgotten now and then"
    assert gaps_in(text_of(found.gaps)) == found.gaps


@pytest.mark.parametrize("how", ["append", "turn", "pop", "page"])
def test_gaps_cost_no_time_at_the_end(server: Server, how: str) -> None:
    """20,000 gaps took a second of each turn, in which the server answered nobody. They cost some copying."""
    store = RedisStore(server.client, "chat:session:", limits_for(Settings()))
    store.apply(started(list(range(1, 40_001, 2))))

    def once() -> None:
        if how == "append":
            store.apply(Append(session_id="s", owner=ANY, elements=(ELEMENT,)))
        elif how == "page":
            store.messages("s", ANY, None, 10)
        elif how == "pop":
            store.apply(Drop(session_id="s", owner=ANY, newest=1))
        else:
            store._calls.call(begun())
            store.apply(CommitTurn(session_id="s", owner=ANY, turn="A", elements=(ELEMENT,)))

    def begun() -> Any:
        from flask_convstore.stores.redis.arguments import beginning
        from flask_convstore.stores.redis.calls import Call

        command = BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=10**6, attempt="A")
        return Call("begin_turn", store._keys("s"), (*store._head(command), *beginning(command)))

    once()
    took = []
    server.client.config_set("slowlog-log-slower-than", 0)
    for _ in range(7):
        server.client.slowlog_reset()
        once()
        took.append(sum(entry["duration"] for entry in server.client.slowlog_get(10) if b"EVALSHA" in entry["command"]))
    server.client.config_set("slowlog-log-slower-than", 10_000)
    assert 0 < min(took) < 4_000, "microseconds in the server"


def test_ids_of_a_forked_session_with_gaps_are_found_in_one_pass(server: Server) -> None:
    store = RedisStore(server.client, "chat:session:", limits_for(Settings()))
    seqs = list(range(3, 30_000, 6))
    at = time.perf_counter()
    store.apply(started(seqs))
    assert time.perf_counter() - at < 1
    found = store.message("s", ANY, f"x{seqs[-1]}")
    assert found
    assert [*found.seqs] == seqs[-1:]


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_ids_of_messages_that_were_taken_out_are_forgotten(server: Server, kind: str) -> None:
    """A reply that is made again and again leaves none behind, though the oldest message stays."""
    limits = limits_for(Settings(max_tokens=20))
    store: Any = MemoryStore(limits) if kind == "memory" else RedisStore(server.client, "chat:session:", limits)
    store.apply(started([1]))
    for number in range(400):
        element = join_element(1, b"1", {"id": f"n{number}"})
        replaces = f"n{number - 1}" if number % 4 == 1 else ""
        store.apply(Append(session_id="s", owner=ANY, elements=(element,), replaces=replaces))
        if number % 4 == 2:
            store.apply(Drop(session_id="s", owner=ANY, message=f"n{number}"))
        if number % 4 == 3:
            store.apply(Append(session_id="s", owner=ANY, elements=(ELEMENT,)))
            store.apply(Drop(session_id="s", owner=ANY, message=f"n{number}"))
            store.apply(Drop(session_id="s", owner=ANY, after=1))
    kept = len(store._tokens["s"].ids) if kind == "memory" else server.client.hlen(RECEIPTS)
    assert kept < 120


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_the_reply_has_its_id_also_where_its_seq_is_before_all_that_is_there(server: Server, kind: str) -> None:
    """Others have written so much meanwhile that the seq that was kept for it was trimmed away."""
    limits = limits_for(Settings(max_history=3, history_policy="trim"))
    store: Any = MemoryStore(limits) if kind == "memory" else RedisStore(server.client, "chat:session:", limits)
    store.apply(Put(session_id="s", owner=ANY, mode="create", shape="full"))
    store.begin(BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=10**6, attempt="A"))
    for _ in range(5):
        store.apply(Append(session_id="s", owner=ANY, elements=(ELEMENT,)))
    store.apply(CommitTurn(session_id="s", owner=ANY, turn="A", elements=(ELEMENT,)))
    found = store.message("s", ANY, "msg-2")
    assert [*found.seqs] == [8]
    assert own_id(found.elements[0]) == "msg-2"


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_no_message_has_the_seq_0(server: Server, kind: str) -> None:
    limits = limits_for(Settings())
    store: Any = MemoryStore(limits) if kind == "memory" else RedisStore(server.client, "chat:session:", limits)
    store.apply(started([1, 2]))
    with pytest.raises(MessageNotFound):
        store.apply(Drop(session_id="s", owner=ANY, message=0))
    assert store.load("s", ANY).count == 2


@pytest.mark.parametrize("kind", ["memory", "redis"])
def test_a_message_to_replace_that_is_not_there_is_told_before_a_field_in_the_way(server: Server, kind: str) -> None:
    limits = limits_for(Settings())
    store: Any = MemoryStore(limits) if kind == "memory" else RedisStore(server.client, "chat:session:", limits)
    store.apply(Put(session_id="s", owner=ANY, mode="create", shape="data", fields=(("history", b"1"),)))
    with pytest.raises(MessageNotFound):
        store.begin(BeginTurn(session_id="s", owner=ANY, element=ELEMENT, lease_ms=10**6, replaces=4))
