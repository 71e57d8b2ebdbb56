"""Promises of every store about the stream of a reply, in the words of the commands."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from flask_convstore.domain.commands import (
    BeginTurn,
    Closing,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    EventPosition,
    FeedReply,
    MoveConversation,
    Put,
    ReplyPosition,
    Share,
    TakeReply,
)
from flask_convstore.domain.results import ReplyParts, Ring
from flask_convstore.domain.types import ANY, Owner
from flask_convstore.errors import (
    ConvstoreError,
    Forbidden,
    SessionMoved,
    SessionNotFound,
    StreamBehind,
    TurnInProgress,
    TurnLost,
    TurnUnended,
)
from flask_convstore.stores.store import Store

from ..harness import Harness

USER = b'1{"at":1}\n{"role":"user","content":"hi"}'
REPLY = b'1{"at":2}\n{"role":"assistant","content":"yes"}'


def begun(store: Store, *, owner: Owner = ANY, lease_ms: int = 60_000) -> BeginTurn:
    store.apply(Put(session_id="s", owner=owner, mode="replace", shape="full"))
    command = BeginTurn(session_id="s", owner=owner, element=USER, lease_ms=lease_ms)
    store.begin(command)
    return command


def feed(turn: BeginTurn, first: int, *parts: bytes, reply: str = "msg-2", epoch: int = 7) -> FeedReply:
    return FeedReply(
        session_id="s",
        owner=turn.owner,
        turn=turn.attempt,
        lease_ms=turn.lease_ms,
        reply=reply,
        epoch=epoch,
        first=first,
        parts=parts,
    )


def fed(store: Store, command: FeedReply) -> int:
    (answer,) = store.feed([command])
    if isinstance(answer, ConvstoreError):
        raise answer
    return answer


def commit(turn: BeginTurn, first: int, *parts: bytes) -> CommitTurn:
    closing = Closing("msg-2", 7, first, parts, 60_000)
    return CommitTurn(session_id="s", owner=turn.owner, turn=turn.attempt, elements=(REPLY,), closing=closing)


def read(
    store: Store, after: tuple[int, int] | None = None, reply: str = "msg-2", owner: Owner = ANY, limit: int = 1000
) -> ReplyParts:
    (found,) = store.reply_parts([ReplyPosition("s", owner, reply, after, limit)])
    if isinstance(found, ConvstoreError):
        raise found
    return found


def texts(found: ReplyParts) -> list[bytes]:
    return [part.text for part in found.parts]


def test_parts_are_read_from_any_position(harness: Harness) -> None:
    """A follower gets each part once, from exactly where it is."""
    store = harness.store
    turn = begun(store)
    assert fed(store, feed(turn, 1, b"a", b"b")) == 2
    assert fed(store, feed(turn, 3, b"c")) == 3
    found = read(store)
    assert (found.reply, found.epoch, texts(found), found.restarts) == ("msg-2", 7, [b"a", b"b", b"c"], False)
    assert 0 < (found.remaining_ms or 0) <= 60_000
    assert texts(read(store, after=(1, 7))) == [b"b", b"c"]
    assert texts(read(store, after=(3, 7))) == []
    assert texts(read(store, limit=2)) == [b"a", b"b"]
    assert read(store, reply="").reply == "msg-2"


def test_a_position_that_is_not_there_begins_anew(harness: Harness) -> None:
    """A position of another attempt, or beyond the end after a fail-over, is answered by all parts, never by silence."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a", b"b"))
    for after in ((1, 8), (3, 7), (99, 99)):
        found = read(store, after=after)
        assert (found.restarts, texts(found)) == (True, [b"a", b"b"])


def test_a_position_without_a_reply_is_that_of_its_stream(harness: Harness) -> None:
    """Whoever follows what is in progress goes on with it, though another turn has begun since."""
    store = harness.store
    first = begun(store)
    fed(store, feed(first, 1, b"a", b"b"))
    store.apply(commit(first, 3, b"end"))
    second = BeginTurn(session_id="s", owner=ANY, element=USER, lease_ms=60_000)
    store.begin(second)
    fed(store, feed(second, 1, b"x", reply="msg-4", epoch=8))
    found = read(store, after=(1, 7), reply="")
    assert (found.reply, found.remaining_ms, texts(found)) == ("msg-2", None, [b"b", b"end"])
    assert texts(read(store, after=(3, 7), reply="")) == []
    for elsewhere in ((4, 7), (1, 9)):
        found = read(store, after=elsewhere, reply="")
        assert (found.reply, found.restarts, texts(found)) == ("msg-4", True, [b"x"])
    assert read(store, after=(1, 8), reply="").reply == "msg-4"


def test_parts_are_added_once(harness: Harness) -> None:
    """Feeding again after a lost answer doubles nothing."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a", b"b"))
    assert fed(store, feed(turn, 1, b"a", b"b")) == 2
    assert fed(store, feed(turn, 2, b"b", b"c")) == 3
    assert texts(read(store)) == [b"a", b"b", b"c"]


def test_a_gap_is_not_filled_by_later_parts(harness: Harness) -> None:
    """A producer is told from where to feed again, as the server has lost parts."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    assert fed(store, feed(turn, 3, b"c")) == 1
    assert texts(read(store)) == [b"a"]
    with pytest.raises(StreamBehind) as behind:
        store.apply(commit(turn, 3, b"end"))
    assert behind.value.last == 1
    assert store.load("s", ANY).count == 1  # type: ignore[union-attr]
    assert store.apply(commit(turn, 2, b"b", b"end")).first_seq == 2


def test_the_end_of_a_turn_ends_its_stream(harness: Harness) -> None:
    """The reply stands in the history and the stream ends in one step. The last parts know where the reply stands."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    end = commit(turn, 2, b"end")
    receipt = store.apply(end)
    found = read(store)
    assert (texts(found), found.remaining_ms) == ([b"a", b"end"], None)
    assert (found.parts[1].first_seq, found.parts[1].version) == (receipt.first_seq, receipt.version)
    assert found.parts[0].first_seq == 0
    assert read(store, reply="").reply == ""
    with pytest.raises(TurnLost):
        fed(store, feed(turn, 3, b"late"))
    assert store.apply(end).repeated
    assert texts(read(store)) == [b"a", b"end"]


def test_a_turn_without_parts_before_its_end(harness: Harness) -> None:
    """A short reply is fed with its end only."""
    store = harness.store
    turn = begun(store)
    store.apply(commit(turn, 1, b"a", b"end"))
    assert texts(read(store)) == [b"a", b"end"]


def test_a_turn_that_does_not_end_its_stream_takes_it_along(harness: Harness) -> None:
    """Its rest could not be kept. Those who follow it do not wait for an end that never comes."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a", b"b"))
    store.apply(CommitTurn(session_id="s", owner=turn.owner, turn=turn.attempt, elements=(REPLY,)))
    found = read(store, after=(1, 7))
    assert (found.parts, found.remaining_ms) == ([], None)
    assert read(store, reply="").reply == ""


def test_who_takes_a_reply_gets_all_parts_and_fences_the_producer_off(harness: Harness) -> None:
    """Stopping takes the turn: from then on the producer adds nothing."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    take = TakeReply(session_id="s", owner=ANY, turn="stopper", lease_ms=60_000, reply="msg-2", is_over=False)
    found = store.take_reply(take)
    assert (found.epoch, texts(found)) == (7, [b"a"])
    assert texts(store.take_reply(take)) == [b"a"]
    for late in (feed(turn, 2, b"b"), feed(turn, 2)):
        with pytest.raises(TurnLost):
            fed(store, late)
    with pytest.raises(TurnLost):
        store.apply(commit(turn, 2, b"end"))
    stopper = replace(turn, attempt="stopper")
    store.apply(commit(stopper, 2, b"stopped"))
    assert texts(read(store)) == [b"a", b"stopped"]
    with pytest.raises(TurnLost):
        store.take_reply(take)


def test_only_a_turn_that_is_over_is_taken_from_the_dead(harness: Harness) -> None:
    """A follower that saw the lease end takes the turn, unless the producer was faster."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    take = TakeReply(session_id="s", owner=ANY, turn="other", lease_ms=60_000, reply="msg-2", is_over=True)
    with pytest.raises(TurnInProgress):
        store.take_reply(take)
    fed(store, replace(feed(turn, 2, b"b"), lease_ms=0))
    assert read(store).remaining_ms == 0
    assert texts(store.take_reply(take)) == [b"a", b"b"]


def test_the_next_turn_is_told_of_a_reply_that_was_not_ended(harness: Harness) -> None:
    """A streamed reply is stored before the next turn begins, whether its producer died or is superseded."""
    store = harness.store
    turn = begun(store)
    fed(store, replace(feed(turn, 1, b"a"), lease_ms=0))
    following = BeginTurn(session_id="s", owner=ANY, element=USER, lease_ms=60_000)
    with pytest.raises(TurnUnended) as unended:
        store.begin(following)
    assert (unended.value.reply, unended.value.is_over) == ("msg-2", True)
    fed(store, feed(turn, 2, b"b"))
    with pytest.raises(TurnInProgress):
        store.begin(following)
    with pytest.raises(TurnUnended) as unended:
        store.begin(replace(following, supersede=True))
    assert not unended.value.is_over
    store.apply(commit(turn, 3, b"end"))
    assert store.begin(following).receipt.first_seq == 3


def test_a_new_attempt_begins_the_stream_anew(harness: Harness) -> None:
    """The stream of a turn that is tried again holds the parts of the last attempt only."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a", b"b"))
    store.apply(replace(commit(turn, 3, b"failed"), elements=(), status="failed"))
    again = replace(turn, attempt="again")
    store.begin(again)
    assert fed(store, feed(again, 1, b"x", epoch=8)) == 1
    found = read(store, after=(2, 7))
    assert (found.epoch, texts(found), found.restarts) == (8, [b"x"], True)


def test_a_session_keeps_four_streams(harness: Harness) -> None:
    """Streams are kept for those who come back, and do not pile up."""
    store = harness.store
    turn = begun(store)
    for number in range(2, 12, 2):
        fed(store, feed(turn, 1, b"a", reply=f"msg-{number}"))
        closing = Closing(f"msg-{number}", 7, 2, (b"end",), 60_000)
        store.apply(CommitTurn(session_id="s", owner=ANY, turn=turn.attempt, elements=(REPLY,), closing=closing))
        turn = BeginTurn(session_id="s", owner=ANY, element=USER, lease_ms=60_000)
        store.begin(turn)
    kept = [number for number in range(2, 12, 2) if texts(read(store, reply=f"msg-{number}"))]
    assert kept == [4, 6, 8, 10]


@pytest.mark.parametrize("was_fed", [True, False])
@pytest.mark.parametrize("kind", ["drop", "edit", "replace"])
def test_a_message_that_goes_takes_the_streams_along(harness: Harness, kind: str, was_fed: bool) -> None:
    """Streams do not hold a message that was changed or taken out. The stream of a fast reply has its end only."""
    store = harness.store
    turn = begun(store)
    if was_fed:
        fed(store, feed(turn, 1, b"secret"))
    store.apply(commit(turn, 2, b"end") if was_fed else commit(turn, 1, b"secret", b"end"))
    if kind == "drop":
        store.apply(Drop(session_id="s", owner=ANY, newest=1))
    elif kind == "edit":
        edited = b'1{"at":2}\n{"role":"assistant","content":"no"}'
        loaded = store.load("s", ANY).elements[1]  # type: ignore[union-attr]
        store.apply(Edit(session_id="s", owner=ANY, seq=2, loaded=loaded, element=edited))
    else:
        store.apply(Put(session_id="s", owner=ANY, mode="replace", shape="full"))
    assert texts(read(store)) == []


def test_a_deleted_session_has_no_streams(harness: Harness) -> None:
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"secret"))
    store.apply(Delete(session_id="s", owner=ANY))
    for ask in (lambda: read(store), lambda: fed(store, feed(turn, 2, b"b"))):
        with pytest.raises(SessionNotFound):
            ask()
    store.apply(Put(session_id="s", owner=ANY, mode="create", shape="full"))
    assert texts(read(store)) == []


def test_a_new_conversation_in_place_of_one_ends_its_turn(harness: Harness) -> None:
    """A reply to a conversation that is gone is not streamed on."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    store.apply(Put(session_id="s", owner=ANY, mode="replace", shape="full"))
    with pytest.raises(TurnLost):
        fed(store, feed(turn, 2, b"b"))
    assert (texts(read(store)), read(store).remaining_ms) == ([], None)


def test_owners_of_a_stream(harness: Harness) -> None:
    """A stranger sees no stream, a reader may not stop one, a writer may."""
    store = harness.store
    turn = begun(store, owner="ann")
    fed(store, feed(turn, 1, b"a"))
    for name, role in (("reader", "reader"), ("writer", "writer")):
        store.apply(Share(session_id="s", owner="ann", name=name, role=role))  # type: ignore[arg-type]
    take = TakeReply(session_id="s", owner="ann", turn="t", lease_ms=60_000, reply="msg-2", is_over=False)
    for stranger in (None, "eve"):
        with pytest.raises(SessionNotFound):
            read(store, owner=stranger)
        with pytest.raises(SessionNotFound):
            store.take_reply(replace(take, owner=stranger))
    assert texts(read(store, owner="reader")) == [b"a"]
    with pytest.raises(Forbidden):
        store.take_reply(replace(take, owner="reader"))
    assert texts(store.take_reply(replace(take, owner="writer"))) == [b"a"]


def test_a_guest_of_a_moved_conversation_is_sent_on(harness: Harness) -> None:
    """The session in which it goes on tells who shares it."""
    store = harness.store
    turn = begun(store, owner="ann")
    store.apply(Share(session_id="s", owner="ann", name="bob", role="reader"))
    store.apply(MoveConversation(session_id="s", owner="ann", turn=turn.attempt, moved_to="elsewhere"))
    for answers in (
        store.reply_parts([ReplyPosition("s", "bob", "msg-2")]),
        store.session_events([EventPosition("s", "bob")]),
    ):
        assert isinstance(answers[0], SessionMoved)


def test_many_streams_at_once(harness: Harness) -> None:
    """Several streams are fed, and read, in one call. One that fails spoils no other."""
    store = harness.store
    turn = begun(store)
    answers = store.feed([feed(turn, 1, b"a"), replace(feed(turn, 1, b"a"), session_id="none"), feed(turn, 2, b"b")])
    assert answers[0] == 1
    assert isinstance(answers[1], SessionNotFound)
    assert answers[2] == 2
    found = store.reply_parts([ReplyPosition("none", ANY, "x"), ReplyPosition("s", ANY, "msg-2")])
    assert isinstance(found[0], SessionNotFound)
    assert isinstance(found[1], ReplyParts)


def test_feeding_moves_the_lifetime(harness: Harness) -> None:
    """A session does not expire while its reply is made."""
    store = harness.store
    turn = begun(store)
    fed(store, feed(turn, 1, b"a"))
    ends = harness.ends("s")
    assert len(set(ends[:2])) == 1


def test_the_bell_rings(harness: Harness) -> None:
    """Whoever listens to a session is woken by each part, by the end, and by the deletion."""
    store = harness.store
    turn = begun(store)
    bell = store.bell()
    bell.listen([("session", "s")])
    bell.wait(0.2)  # subscribes
    for act in (
        lambda: fed(store, feed(turn, 1, b"a")),
        lambda: store.apply(commit(turn, 2, b"end")),
        lambda: store.apply(Delete(session_id="s", owner=ANY)),
    ):
        heard: list[Ring] = []
        listener = threading.Thread(target=lambda heard=heard: heard.extend(bell.wait(5)))
        listener.start()
        act()
        listener.join()
        assert {ring.source for ring in heard} == {("session", "s")}
    bell.listen([])
    bell.wait(0.1)
    bell.close()
