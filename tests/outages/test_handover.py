"""The hand-over of many sessions at once: their order, nothing twice, nobody held up, and its round trips."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flask_convstore.config import Settings, limits_of
from flask_convstore.domain.commands import BeginTurn, CommitTurn, Update
from flask_convstore.errors import ConflictError, ConvstoreError, StoreUnavailable
from flask_convstore.outages import handover
from flask_convstore.outages.command_json import command_of
from flask_convstore.outages.journal import Journal
from flask_convstore.outages.replay import Replayer
from flask_convstore.outages.session_replay import Replayed
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore
from flask_convstore.stores.store import Store, StoreAround, one_by_one, written

from ..servers import Server
from .test_fallback import LIMITS, Host, append, said, start, texts_in

ROOMY = limits_of(Settings())


class Crash(Exception):
    """The process ends here."""


class Watched(StoreAround):
    """A store that tells what it is asked to do together, and calls *before* and *behind* each time."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.rounds: list[Sequence[Any]] = []
        self.alone: list[str] = []
        self.before: Callable[[Sequence[Any]], None] = lambda _: None
        self.behind: Callable[[Sequence[Any]], None] = lambda _: None
        self.refused: dict[str, list[ConvstoreError]] = {}
        self.places: dict[str, str] = {}

    def apply(self, command: Any) -> Any:
        self.alone.append(command.session_id)
        return super().apply(command)

    def apply_each(self, commands: Sequence[Any]) -> Any:
        self.rounds.append(commands)
        self.before(commands)
        answers = one_by_one(self._answered, commands)
        self.behind(commands)
        return answers

    def _answered(self, command: Any) -> Any:
        errors = self.refused.get(command.token)
        if errors:
            raise errors.pop(0)
        return written(self._store, command)

    def place_of(self, session_id: str) -> str:
        return self.places.get(session_id, "")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(MemoryStore(ROOMY), tmp_path / "journal", 1, ROOMY)
    yield made
    made.close()


def handed_over(host: Host, store: Store) -> None:
    """One pass over the journal, as that of a process that has just been started."""
    host.switch.is_away = False
    part = Replayed("", store, host.workers[0], host.told.append)
    Replayer(host.journals[0], host.circuit, lambda: [part], 50)._replay()


def filled(host: Host, sessions: int, appends: int) -> dict[str, list[str]]:
    """Sessions that go on at once in the journal, and what they say."""
    worker = host.workers[0]
    said_in: dict[str, list[str]] = {f"s{number}": [] for number in range(sessions)}
    for session_id in said_in:
        worker.apply(start(session_id))
    for number in range(appends):
        for session_id, texts in said_in.items():
            worker.apply(append(session_id, f"{number}"))
            texts.append(f"{number}")
    return said_in


def assert_said(host: Host, said_in: dict[str, list[str]]) -> None:
    inner = host.switch._store
    assert {session_id: texts_in(inner, session_id) for session_id in said_in} == said_in
    assert host.journals[0].status()[:4] == (0, None, 0, 0)
    assert not host.told


def test_sessions_go_over_together(host: Host) -> None:
    said_in = filled(host, 8, 40)
    watched = Watched(host.switch)
    handed_over(host, watched)
    assert_said(host, said_in)
    assert len(watched.rounds) == 2
    assert not watched.alone


def test_a_round_is_bounded(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    said_in = filled(host, 12, 9)
    monkeypatch.setattr(handover, "_SESSIONS", 5)
    monkeypatch.setattr(handover, "_COMMANDS", 10)
    watched = Watched(host.switch)
    handed_over(host, watched)
    assert_said(host, said_in)
    assert max(map(len, watched.rounds)) <= 10
    assert max(len({command.session_id for command in commands}) for commands in watched.rounds) == 5


def test_commands_that_are_large_go_over_one_by_one(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    said_in = filled(host, 2, 3)
    monkeypatch.setattr(handover, "_ROUND_BYTES", 2)
    watched = Watched(host.switch)
    handed_over(host, watched)
    assert_said(host, said_in)
    assert [len(commands) for commands in watched.rounds] == [2] * 4


def test_the_place_of_a_session_that_has_ended_is_taken_at_once(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_SESSIONS", 2)
    monkeypatch.setattr(handover, "_COMMANDS", 2)
    worker = host.workers[0]
    for session_id in ("long", "a", "b", "c"):
        worker.apply(start(session_id))
    for number in range(6):
        worker.apply(append("long", f"{number}"))
    watched = Watched(host.switch)
    handed_over(host, watched)
    together = [[command.session_id for command in commands] for commands in watched.rounds]
    assert together[:4] == [["long", "a"], ["long", "b"], ["long", "c"], ["long", "long"]]


def test_what_fails_in_the_middle_is_not_overtaken(host: Host) -> None:
    said_in = filled(host, 4, 6)
    watched = Watched(host.switch)
    tokens = [(command.session_id, command.token) for command in _commands_in(host)]
    (third,) = [token for name, token in tokens if name == "s1"][3:4]
    watched.refused = {third: [StoreUnavailable("no answer", written=None)]}
    with pytest.raises(StoreUnavailable):
        handed_over(host, watched)
    assert texts_in(host.switch._store, "s1") == ["0", "1"]
    assert texts_in(host.switch._store, "s2") == said_in["s2"]
    handed_over(host, watched)
    assert_said(host, said_in)


def test_what_others_write_between_lets_nothing_overtake(host: Host) -> None:
    """A version would be that which the next command expects as soon as others have made it."""
    said_in = filled(host, 3, 6)
    inner = host.switch._store
    watched = Watched(host.switch)
    fourth = [command.token for command in _commands_in(host) if command.session_id == "s1"][4]
    watched.refused = {fourth: [ConflictError("s1", "version", expected=None, actual=1)]}

    def theirs(_: Sequence[Any]) -> None:
        if inner.load("s1", None):
            inner.apply(append("s1", "theirs"))

    watched.before = theirs
    handed_over(host, watched)
    own = [text for text in texts_in(inner, "s1") or [] if text != "theirs"]
    assert own == said_in["s1"]


def test_a_message_that_is_known_by_its_id_breaks_no_order(host: Host) -> None:
    worker, inner = host.workers[0], host.switch._store
    worker.apply(start("s"))
    named = [f'1{{"at":1,"id":"m{number}"}}\n"{number}"'.encode() for number in range(5)]
    for element in named:
        command = append("s")
        worker.apply(type(command)(session_id="s", owner=None, elements=(element,), digest="d"))
    inner.apply(start("s", mode="create"))
    inner.apply(type(command)(session_id="s", owner=None, elements=(named[2],), digest="e"))
    handed_over(host, Watched(host.switch))
    found = inner.load("s", None)
    assert found
    assert sorted(found.elements) == named
    assert [element for element in found.elements if element != named[2]] == [*named[:2], *named[3:]]


@pytest.mark.parametrize("when", ["before", "behind"])
@pytest.mark.parametrize("dies_in", range(4))
def test_a_crash_leaves_each_command_once(host: Host, monkeypatch: pytest.MonkeyPatch, when: str, dies_in: int) -> None:
    monkeypatch.setattr(handover, "_COMMANDS", 24)
    said_in = filled(host, 8, 12)
    worker = host.workers[0]
    for session_id in ("s1", "s5"):
        turn = BeginTurn(session_id=session_id, owner=None, element=said("ask"), lease_ms=60_000)
        worker.begin(turn)
        worker.apply(CommitTurn(session_id=session_id, owner=None, turn=turn.attempt, elements=(said("reply"),)))
        said_in[session_id] += ["ask", "reply"]
    watched = Watched(host.switch)

    def die(_: Sequence[Any]) -> None:
        if len(watched.rounds) > dies_in:
            raise Crash

    setattr(watched, when, die)
    with pytest.raises(Crash):
        handed_over(host, watched)
    handed_over(host, Watched(host.switch))
    assert_said(host, said_in)
    found = host.switch._store.load("s1", None)
    assert found
    assert found.version == len(said_in["s1"]) + 1


def test_turns_go_over_together_and_each_begins_at_the_end_of_a_round(host: Host) -> None:
    worker = host.workers[0]
    for session_id in ("s", "t"):
        worker.apply(start(session_id))
        for number in range(4):
            turn = BeginTurn(session_id=session_id, owner=None, element=said(f"{number}"), lease_ms=60_000)
            worker.begin(turn)
            worker.apply(append(session_id, "and"))
            worker.apply(CommitTurn(session_id=session_id, owner=None, turn=turn.attempt, elements=(said("re"),)))
    watched = Watched(host.switch)
    handed_over(host, watched)
    assert_said(host, {name: [text for number in range(4) for text in (f"{number}", "and", "re")] for name in "st"})
    for commands in watched.rounds:
        for _, own in itertools.groupby(commands, key=lambda command: command.session_id):
            assert not any(isinstance(command, BeginTurn) for command in list(own)[:-1])
    assert len(watched.rounds) == 9
    assert not watched.alone


def test_a_turn_of_another_host_holds_up_its_session_only(host: Host) -> None:
    worker, inner = host.workers[0], host.switch._store
    save = start("busy", "a")
    host.switch.written = None
    worker.apply(save)
    worker.begin(BeginTurn(session_id="busy", owner=None, element=said("ours"), lease_ms=60_000))
    said_in = filled(host, 5, 3)
    inner.apply(save)
    theirs = BeginTurn(session_id="busy", owner=None, element=said("theirs"), lease_ms=60_000)
    inner.begin(theirs)
    handed_over(host, Watched(host.switch))
    assert {name: texts_in(inner, name) for name in said_in} == said_in
    assert texts_in(inner, "busy") == ["a", "theirs"]
    assert host.journals[0].status().pending == 2
    inner.apply(CommitTurn(session_id="busy", owner=None, turn=theirs.attempt, elements=(said("re"),)))
    handed_over(host, Watched(host.switch))
    assert texts_in(inner, "busy") == ["a", "theirs", "re", "ours"]


def test_continuations_among_the_sessions_are_added_to_what_is_there(host: Host) -> None:
    worker, inner = host.workers[0], host.switch._store
    for number in range(3):
        inner.apply(start(f"there{number}", "old"))
    worker._continues = True
    for number in range(3):
        worker.apply(append(f"there{number}", "new"))
    worker._continues = False
    said_in = filled(host, 3, 2)
    for number in range(3):
        said_in[f"there{number}"] = ["old", "new"]
    handed_over(host, Watched(host.switch))
    assert_said(host, said_in)


def test_a_part_of_the_store_that_is_away_is_asked_once_and_holds_up_nobody(host: Host) -> None:
    said_in = filled(host, 10, 3)
    watched = Watched(host.switch)
    watched.places = {name: ("even" if int(name[1:]) % 2 == 0 else "odd") for name in said_in}
    watched.refused = {
        command.token: [StoreUnavailable("its primary is away", written=False)] * 9
        for command in _commands_in(host)
        if watched.places[command.session_id] == "odd"
    }
    with pytest.raises(StoreUnavailable, match="its primary is away"):
        handed_over(host, watched)
    asked = Counter(watched.places[commands[0].session_id] for commands in watched.rounds)
    assert asked["odd"] == 1
    assert {watched.places[name] for name in said_in if texts_in(host.switch._store, name)} == {"even"}
    watched.refused.clear()
    handed_over(host, watched)
    assert_said(host, said_in)


def test_a_part_that_knows_of_an_owner_and_is_away_holds_up_the_sessions_of_that_owner_only(host: Host) -> None:
    worker, inner = host.workers[0], host.switch._store

    class Part(StoreAround):
        """A store of which a part is away."""

        is_away = True

        def forgotten_at_ms(self, owners: Sequence[str]) -> dict[str, int]:
            if self.is_away and "ann" in owners:
                raise StoreUnavailable("its primary is away", written=False)
            return super().forgotten_at_ms(owners)

    for name, owner in (("a", "ann"), ("b", "bob"), ("c", None)):
        worker.apply(start(name, name, owner=owner))
    part = Part(host.switch)
    with pytest.raises(StoreUnavailable):
        handed_over(host, part)
    assert [texts_in(inner, name, owner) for name, owner in (("a", "ann"), ("b", "bob"), ("c", None))] == [
        None,
        ["b"],
        ["c"],
    ]
    part.is_away = False
    handed_over(host, part)
    assert texts_in(inner, "a", "ann") == ["a"]


def test_a_server_whose_clock_is_elsewhere_is_told_together_too(host: Host) -> None:
    said_in = filled(host, 5, 4)
    created = host.workers[0].load("s0", None)
    assert created
    host.workers[0].apply(append("s0", "4", created_at_ms=created.created_at_ms))
    said_in["s0"].append("4")
    watched = Watched(host.switch)
    host.switch.is_away = False
    part = Replayed("", watched, host.workers[0], host.told.append)
    Replayer(host.journals[0], host.circuit, lambda: [part], 50)._replay_all(part, -3_600_000)
    assert_said(host, said_in)
    assert not watched.alone


def test_a_hundred_sessions_take_a_handful_of_round_trips(
    tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = RedisStore(server.client, "rounds:", LIMITS)
    host = Host(store, tmp_path / "journal", 1, LIMITS)
    worker = host.workers[0]
    for number in range(100):
        worker.apply(start(f"s{number}", owner=f"owner{number % 7}"))
    for text in "abc":
        for number in range(100):
            worker.apply(append(f"s{number}", text, owner=f"owner{number % 7}"))
    store.apply(start("warm", owner="ann"))  # the server knows the scripts
    store.apply(append("warm", "a", owner="ann"))
    trips: list[int] = []
    exchange = store._calls._exchange

    def counted(commands: Any, deadline: float) -> Any:
        trips.append(len(commands))
        return exchange(commands, deadline)

    monkeypatch.setattr(store._calls, "_exchange", counted)
    handed_over(host, host.switch)
    # The time, the notes of deleted owners, the entries, the commands, a look for old entries, the other commands.
    assert trips == [3, 9, 100, 200, 3, 47, 200]
    assert all(texts_in(store, f"s{number}", f"owner{number % 7}") == ["a", "b", "c"] for number in range(100))
    assert len(store.page("owner3", limit=50).sessions) == 14
    host.close()


@given(st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_fails_the_store_has_the_sessions_as_the_journal_told_them(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    host = Host(MemoryStore(ROOMY), tmp_path_factory.mktemp("journal"), 1, ROOMY)
    worker = host.workers[0]
    for number in range(3):
        worker.apply(start(f"s{number}"))
    for text, number in enumerate(data.draw(st.lists(st.integers(0, 2), max_size=25))):
        name = f"s{number}"
        kind = data.draw(st.sampled_from(["append", "turn", "update"]))
        if kind == "turn":
            turn = BeginTurn(session_id=name, owner=None, element=said(f"{text}"), lease_ms=60_000)
            worker.begin(turn)
            worker.apply(CommitTurn(session_id=name, owner=None, turn=turn.attempt, elements=(said(f"re {text}"),)))
        elif kind == "update":
            worker.apply(Update(session_id=name, owner=None, fields=(("at", b"%d" % text),)))
        else:
            worker.apply(append(name, f"{text}"))
    told = {name: (texts_in(worker, name), worker.load(name, None)) for name in ("s0", "s1", "s2")}
    watched = Watched(host.switch)
    failing = data.draw(st.lists(st.sampled_from([command.token for command in _commands_in(host)]), max_size=5))
    watched.refused = {token: [StoreUnavailable("no answer", written=None)] for token in failing}
    for _ in range(len(failing) + 1):
        try:
            handed_over(host, watched)
        except StoreUnavailable:
            continue
    assert not host.journals[0].status().pending
    for name, (texts, before) in told.items():
        found = host.switch._store.load(name, None)
        assert found
        assert before
        assert (texts_in(host.switch._store, name), found.fields, found.version) == (
            texts,
            before.fields,
            before.version,
        )
    host.close()


def _commands_in(host: Host) -> list[Any]:
    journal: Journal = host.journals[0]
    sessions = journal.sessions("", 0, 1000)
    rows = [row for journalled in sessions for row in journal.rows("", journalled, 0)]
    return [command_of(row.text) for row in sorted(rows)]
