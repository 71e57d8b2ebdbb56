"""The key of the history: how it is found, and how a session remembers it, with a dict beside the mapping."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flask_convstore import ConfigurationError, InvalidInput, StoreError
from flask_convstore.domain.commands import Put
from flask_convstore.domain.messages import Message, join_element
from flask_convstore.domain.types import ANY

from ..servers import Server
from ..service import OwnedService, Service, in_memory, problem
from ..telemetry.test_signals import heard
from .test_overlaps import does, holding, overlap, played

Change = Callable[[Any], Any]

THREE = [{"r": 1}, {"r": 2}, {"r": 3}]


def shape_in(service: Service, session_id: str = "s") -> str:
    snapshot = service.convstore._access(ANY).load(session_id)
    assert snapshot
    return snapshot.shape


def keep(service: Service, shape: str, bodies: list[bytes], **fields: bytes) -> None:
    """Store a session as it was stored before sessions remembered their keys."""
    elements = tuple(join_element(1, body) for body in bodies)
    command = Put(
        session_id="s", owner=ANY, mode="replace", shape=shape, fields=tuple(fields.items()), elements=elements
    )
    with service.app.app_context():
        service.convstore._access(ANY).store.apply(command)


# ---- one after another: the mapping is a dict


def renamed(old: str, new: str) -> Change:
    return lambda v: v.update({new: v.pop(old)})


SEQUENCES: dict[str, tuple[Any, list[Change], str]] = {
    "history": ({"history": []}, [lambda v: v["history"].append(1), lambda v: v["history"].pop(0)], "full:history"),
    "messages": ({"messages": []}, [lambda v: v["messages"].append(1), lambda v: v["messages"].clear()], "full:messages"),
    "neither": ({"log": [1]}, [lambda v: v["log"].append(2)], "data"),
    "both": (
        {"messages": [1], "history": [2]},
        [lambda v: v["messages"].append(3), lambda v: v["history"].append(4)],
        "full:history",
    ),
    "a counter of messages": ({"messages": 3}, [lambda v: v.update(messages=v["messages"] + 1)], "data"),
    "a counter beside the history": ({"messages": 3, "history": []}, [lambda v: v["history"].append(1)], "full:history"),
    "a text of the first name": (
        {"history": "asthma", "messages": []}, [lambda v: v["messages"].append(1)], "full:messages"
    ),
    "a list that comes later": (
        {"n": 1}, [lambda v: v.update(messages=[1]), lambda v: v["messages"].append(2)], "full:messages"
    ),
    "a list in the place of a counter": (
        {"messages": 3}, [lambda v: v.update(messages=[1]), lambda v: v["messages"].append(2)], "data"
    ),
    "a history that comes later": (
        {"messages": [1]}, [lambda v: v.update(history=[2]), lambda v: v["messages"].append(3)], "full:messages"
    ),
    "renamed": ({"history": [1]}, [renamed("history", "messages"), lambda v: v["messages"].append(2)], "full:messages"),
    "renamed and back": (
        {"messages": [1]}, [renamed("messages", "history"), renamed("history", "messages")], "full:messages"
    ),
    "renamed and a field instead": (
        {"history": [1]},
        [lambda v: v.update(messages=v.pop("history"), history="x"), lambda v: v["messages"].append(2)],
        "full:messages",
    ),
    "renamed to any name": ({"messages": [1]}, [renamed("messages", "log"), lambda v: v["log"].append(2)], "data"),
    "replaced by a counter": ({"messages": THREE}, [lambda v: v.update(messages=3)], "data"),
    "replaced by a dict, and by a list": (
        {"messages": THREE}, [lambda v: v.update(messages={"a": 1}), lambda v: v.update(messages=[1])], "data"
    ),
    "replaced by another list": ({"messages": THREE}, [lambda v: v.update(messages=[9])], "full:messages"),
    "taken out": ({"messages": THREE, "n": 1}, [lambda v: v.pop("messages"), lambda v: v.update(n=2)], "data"),
    "taken out and back": (
        {"messages": THREE}, [lambda v: v.pop("messages"), lambda v: v.update(messages=[1])], "full:messages"
    ),
    "a tuple": ({"messages": [1]}, [lambda v: v.update(messages=[*v["messages"], 2])], "full:messages"),
    "users": ({}, [lambda v: v.setdefault("ada", {}).setdefault("messages", []).append(1)], "data"),
}  # fmt: skip


@pytest.mark.parametrize("case", SEQUENCES)
def test_one_after_another_it_is_a_dict(service: Service, case: str) -> None:
    content, changes, shape = SEQUENCES[case]
    on_dict = {"s": copy.deepcopy(content)}
    with service.app.app_context():
        service.convstore.sessions["s"] = copy.deepcopy(content)
    for change in changes:
        change(on_dict["s"])
        with service.app.test_request_context():
            change(service.convstore.sessions["s"])
        with service.app.app_context():
            assert service.convstore.get_session("s") == on_dict["s"]
    assert shape_in(service) == shape


@pytest.mark.parametrize("case", SEQUENCES)
def test_a_loaded_session_that_is_saved_is_that_dict_too(service: Service, case: str) -> None:
    content, changes, shape = SEQUENCES[case]
    on_dict = copy.deepcopy(content)
    with service.app.app_context():
        session: Any = service.convstore.save_session("s", copy.deepcopy(content))
        for change in changes:
            change(on_dict)
            change(session)
            assert service.convstore.save_session("s", session) is session
            assert service.convstore.get_session("s") == on_dict
    assert shape_in(service) == shape


@in_memory
def test_the_first_key_is_for_a_list(service: Service) -> None:
    with service.app.app_context():
        with pytest.raises(InvalidInput, match=r"^history: a history is a list of messages, not a str.*HISTORY_KEY"):
            service.convstore.save_session("s", {"history": "text"})
        session: Any = service.convstore.save_session("s", {"history": THREE})
        session["history"] = 3
        with pytest.raises(InvalidInput, match="a list of messages, not a int"):
            service.convstore.save_session("s", session)
        assert service.convstore.get_session("s") == {"history": THREE}


KEYS = st.sampled_from(["history", "messages", "log", "n"])
VALUES = st.sampled_from([[], [1], [1, 2, 3], 5, "text", {"a": [1]}, None])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("set"), KEYS, VALUES),
        st.tuples(st.just("pop"), KEYS, st.none()),
        st.tuples(st.just("rename"), KEYS, KEYS),
        st.tuples(st.just("append"), KEYS, st.integers(0, 9)),
        st.tuples(st.just("drop"), KEYS, st.none()),
        st.tuples(st.just("write"), st.none(), st.none()),
    ),
    max_size=12,
)


def step(value: dict[str, Any], name: str, key: Any, given: Any) -> None:
    found = value.get(key)
    if name == "set":
        value[key] = copy.deepcopy(given)
    elif name == "pop":
        value.pop(key, None)
    elif name == "rename" and key in value:
        value[given] = value.pop(key)
    elif name == "append" and isinstance(found, list):
        found.append(given)
    elif name == "drop" and isinstance(found, list):
        del found[:1]


def saved_or_none(service: Service, content: Any) -> Any:
    """Save a session. None if it is refused."""
    try:
        return service.convstore.save_session("s", content)
    except InvalidInput:
        return None


@pytest.mark.parametrize("keys", [("history", "messages"), ("messages", "log")])
@given(begin=st.dictionaries(KEYS, VALUES, max_size=3), steps=STEPS)
@hypothesis.settings(max_examples=150, deadline=None)
def test_any_steps_leave_what_a_dict_has(keys: tuple[str, ...], begin: dict[str, Any], steps: list[Any]) -> None:
    """Or the first key holds no list, which is refused, and nothing is written."""
    service = Service("memory://", HISTORY_KEY=keys)
    with service.app.app_context():
        convstore, on_dict, stored = service.convstore, copy.deepcopy(begin), None
        session: Any = copy.deepcopy(begin)
        for name, key, given in [*steps, ("write", None, None)]:
            step(on_dict, name, key, given)
            step(session, name, key, given)
            if name != "write":
                continue
            saved = saved_or_none(service, session)
            if saved is None:
                assert not isinstance(on_dict[keys[0]], list)
                break
            session = saved
            stored = copy.deepcopy(on_dict)
            assert session == stored
            loaded: Any = convstore.get_session("s")
            assert loaded == stored
            snapshot = convstore._access(ANY).load("s")
            assert snapshot
            assert (snapshot.shape.startswith("full:")) == (snapshot.shape.removeprefix("full:") in stored)
        assert convstore.get_session("s") == stored


# ---- two at once


@pytest.mark.parametrize("keys", [("history", "messages"), ("messages",), ("log", "messages", "history")])
@pytest.mark.parametrize("key", ["history", "messages", "log"])
def test_overlapping_appends_are_behind_each_other(url: str, key: str, keys: tuple[str, ...]) -> None:
    service = Service(url, HISTORY_KEY=keys)
    visits = [does(lambda v, who=who: v[key].append({"by": who})) for who in "ab"]  # type: ignore[misc]
    on_dict, stored, places = played(service, {key: THREE, "turns": 0}, *visits)
    assert (stored, places) == (on_dict, [])
    assert shape_in(service) == (f"full:{key}" if key in keys else "data")


@pytest.mark.parametrize("key", ["history", "messages"])
def test_two_that_append_at_once_take_two_round_trips_each(valkey: Server, key: str) -> None:
    """Neither has to read again what the other has written."""
    service = Service(valkey.url)
    with service.app.app_context():
        service.convstore.sessions["s"] = {key: THREE, "turns": 0}
    before = scripts_run(valkey)
    overlap(service.convstore.sessions, [does(lambda v: v[key].append(1)), does(lambda v: v[key].append(2))], service)
    assert scripts_run(valkey) - before == 4
    with service.app.app_context():
        assert service.convstore.get_session("s") == {key: [*THREE, 1, 2], "turns": 0}


def scripts_run(server: Server) -> int:
    """Count the scripts that a server has run. Each is one round trip."""
    client: Any = server.client
    return int(client.info("commandstats")["cmdstat_evalsha"]["calls"])


CROSSINGS: dict[str, tuple[Any, Any, Any, list[str]]] = {
    "renamed, and grows": (
        {"history": [1]},
        does(renamed("history", "messages")),
        holding("history", lambda found: found.append(2)),
        [],
    ),
    "grows, and renamed": (
        {"history": [1]},
        does(lambda v: v["history"].append(2)),
        does(renamed("history", "messages")),
        [],
    ),
    "taken out, and grows": (
        {"messages": [1], "n": 1},
        does(lambda v: v["messages"].append(2)),
        does(lambda v: v.pop("messages")),
        ["messages"],
    ),
    "replaced by a counter, and grows": (
        {"messages": [1]},
        does(lambda v: v["messages"].append(2)),
        does(lambda v: v.update(messages=7)),
        ["messages"],
    ),
}


@pytest.mark.parametrize("case", CROSSINGS)
def test_a_key_that_moves_while_others_write(service: Service, case: str) -> None:
    content, first, second, told = CROSSINGS[case]
    on_dict, stored, places = played(service, content, first, second)
    assert (stored, places) == (on_dict if "history" not in on_dict else {"messages": [1, 2]}, told)


def test_two_that_rename_do_so_once(service: Service) -> None:
    with service.app.app_context():
        service.convstore.sessions["s"] = {"history": [1]}
    rename = renamed("history", "messages")
    visits = [does(lambda v, who=who: (rename(v), v["messages"].append(who))) for who in (2, 3)]  # type: ignore[misc]
    overlap(service.convstore.sessions, visits, service)
    with service.app.app_context():
        assert service.convstore.get_session("s") == {"messages": [1, 2, 3]}


def test_a_history_that_others_take_away_grows_no_more(service: Service) -> None:
    """On a dict it grows where nobody sees it. Here the growth is refused, and told."""
    visits = [does(lambda v: v.pop("messages")), holding("messages", lambda found: found.append(2))]
    with service.app.app_context():
        service.convstore.sessions["s"] = {"messages": [1], "n": 1}
    with heard(service) as told:
        overlap(service.convstore.sessions, visits, service)
    assert "changes-lost" in [name for name, _ in told]
    with service.app.app_context():
        assert service.convstore.get_session("s") == {"n": 1}


def test_a_loaded_value_follows_a_field_in_the_place_of_the_history(service: Service) -> None:
    sessions, convstore = service.convstore.sessions, service.convstore
    with service.app.app_context():
        sessions["s"] = {"messages": [1]}
    with service.app.test_request_context():
        held = sessions["s"]
        other: Any = convstore.get_session("s")
        other["messages"] = "text"
        convstore.save_session("s", other)
        assert held == {"messages": "text"}
        held["n"] = 1
    with service.app.app_context():
        assert convstore.get_session("s") == {"messages": "text", "n": 1}


def test_a_loaded_value_follows_a_key_that_others_have_changed(service: Service) -> None:
    sessions, convstore = service.convstore.sessions, service.convstore
    with service.app.app_context():
        sessions["s"] = {"history": [1], "n": 1}
    with service.app.test_request_context():
        held = sessions["s"]
        messages = held["history"]
        held["n"] = 2
        other: Any = convstore.get_session("s")
        other["messages"] = [*other.pop("history"), 3]
        convstore.save_session("s", other)
        assert held == {"messages": [1, 3], "n": 2}
        assert held["messages"] is messages
        messages.append(4)
    with service.app.app_context():
        assert convstore.get_session("s") == {"messages": [1, 3, 4], "n": 2}


def sets(content: Any) -> Any:
    """Put a session where none is, once the other request has seen that too."""

    def visit(sessions: Any) -> Any:
        assert "s" not in sessions
        yield
        sessions["s"] = copy.deepcopy(content)

    return visit


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({"history": [1]}, {"messages": [2]}, {"history": [1, 2]}),
        ({"messages": [1]}, {"messages": [2]}, {"messages": [1, 2]}),
        ({"n": "a"}, {"messages": [2]}, {"n": "a", "messages": [2]}),
        ({"messages": [1]}, {"n": "a"}, {"n": "a", "messages": [1]}),
        ([1], {"n": "a", "messages": [2]}, {"n": "a", "messages": [1, 2]}),
    ],
)
def test_two_that_begin_lose_nothing(service: Service, first: Any, second: Any, both: Any) -> None:
    with heard(service) as told:
        overlap(service.convstore.sessions, [sets(first), sets(second)], service)
    with service.app.app_context():
        assert service.convstore.get_session("s") == both
    assert not {"changes-lost", "changes-overwritten"} & {name for name, _ in told}


@pytest.mark.parametrize("key", ["history", "messages", "log"])
def test_threads_lose_nothing(server: Server, key: str) -> None:
    service = Service(server.url, BUDGET=30, HISTORY_KEY=("history", "messages", "log"))
    sessions = service.convstore.sessions
    with service.app.app_context():
        sessions["s"] = {key: [], "n": 0}

    def client(number: int) -> None:
        for turn in range(15):
            with service.app.test_request_context():
                value = sessions["s"]
                value[key].append({"content": f"{number} {turn} {threading.get_ident()}"})
                value["n"] += 1

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(client, range(8)))
    with service.app.app_context():
        found: Any = service.convstore.get_session("s")
    assert (len(found[key]), found["n"]) == (120, 120)
    said = [message["content"].split()[:2] for message in found[key]]
    assert all(
        [turn for who, turn in said if who == str(number)] == [str(turn) for turn in range(15)] for number in range(8)
    )


# ---- what was stored before, and under other settings


@pytest.mark.parametrize("keys", [("history", "messages"), ("messages", "history"), ("log",)])
def test_a_session_without_a_key_has_the_first_one(url: str, keys: tuple[str, ...]) -> None:
    service = Service(url, HISTORY_KEY=keys)
    keep(service, "full", [b'"a"'], n=b"1")
    with service.app.app_context():
        session: Any = service.convstore.get_session("s")
        assert session == {keys[0]: ["a"], "n": 1}
        session[keys[0]].append("b")
        service.convstore.save_session("s", session)
        assert service.convstore.get_session("s") == {keys[0]: ["a", "b"], "n": 1}
    assert shape_in(service) == "full"


def test_a_field_stays_a_field(service: Service) -> None:
    """An older release has stored `messages` as a field. Its workers may still write it."""
    keep(service, "data", [], messages=b'["a"]')
    visits = [does(lambda v, who=who: v["messages"].append(who)) for who in "bc"]  # type: ignore[misc]
    overlap(service.convstore.sessions, visits, service)
    with service.app.app_context():
        assert service.convstore.get_session("s") == {"messages": ["a", "b", "c"]}
        assert shape_in(service) == "data"
        service.convstore.append("s", Message("said"))
        session: Any = service.convstore.get_session("s")
        assert session == {"messages": ["a", "b", "c"], "history": ["said"]}
        session["messages"].append("d")
        service.convstore.save_session("s", session)
        assert service.convstore.get_session("s") == {"messages": ["a", "b", "c", "d"], "history": ["said"]}


@pytest.mark.parametrize("content", [{"history": ["a"]}, {"messages": ["a"]}, {"log": ["a"], "history": 3, "n": 1}])
@pytest.mark.parametrize("later", [("history", "messages"), ("messages", "history"), ("talk",)])
def test_a_session_remembers_its_key_under_other_settings(
    valkey: Server, content: dict[str, Any], later: tuple[str, ...]
) -> None:
    before = Service(valkey.url, HISTORY_KEY=("log", "messages", "history"))
    with before.app.app_context():
        before.convstore.save_session("s", content)
    key = next(iter(content))
    after = Service(valkey.url, HISTORY_KEY=later)
    with after.app.test_request_context():
        after.convstore.sessions["s"][key].append("b")
    with after.app.app_context():
        after.convstore.append("s", Message("c"))
        found: Any = after.convstore.get_session("s")
        assert found == {**content, key: ["a", "b", "c"]}
        assert [message.body for message in found.messages] == ["a", "b", "c"]
        found[key] = found[key][-1:]
        after.convstore.save_session("s", found)
        assert after.convstore.get_session("s") == {**content, key: ["c"]}
    assert shape_in(after) == f"full:{key}"


def test_a_field_that_other_settings_would_hide_is_never_hidden(valkey: Server) -> None:
    before, after = Service(valkey.url, HISTORY_KEY="log"), Service(valkey.url)
    with before.app.app_context():
        before.convstore.save_session("s", {"history": "asthma"})
    with after.app.app_context():
        session: Any = after.convstore.get_session("s")
        session["history"] = "none"
        after.convstore.save_session("s", session)
        with pytest.raises(InvalidInput, match="the key of the history") as caught:
            after.convstore.append("s", Message("a message"))
        assert caught.value.path == "data.history"
        with pytest.raises(InvalidInput), after.convstore.turn("s", "a message"):
            pass
        assert after.convstore.get_session("s") == {"history": "none"}
        session = after.convstore.get_session("s")
        session["messages"] = ["a message"]
        after.convstore.save_session("s", session)
        assert after.convstore.append("s", Message("another")).first_seq == 2
        assert after.convstore.get_session("s") == {"history": "none", "messages": ["a message", "another"]}


# ---- fields that are set without a look


@pytest.fixture(params=["history", "messages"])
def begun(request: pytest.FixtureRequest, service: Service) -> tuple[Service, str, str]:
    """A session with its history under one key. The other key is free."""
    with service.app.app_context():
        service.convstore.save_session("s", {request.param: [{"role": "user", "content": "hi"}], "n": 1}, owner=None)
    return service, request.param, "messages" if request.param == "history" else "history"


def test_the_key_of_the_history_is_no_field(begun: tuple[Service, str, str]) -> None:
    service, own, _ = begun
    convstore = service.convstore

    def in_a_turn() -> None:
        with convstore.turn("s", "hi") as turn:
            turn.data[own] = 3
            turn.reply("x")

    with service.app.app_context():
        for call in (
            lambda: convstore.update_session("s", {own: 3}),
            lambda: convstore.update_session("s", {own: []}),
            lambda: convstore.append("s", data={own: 3}),
            lambda: convstore.append("s", Message("hi"), data={own: 3}),
            in_a_turn,
        ):
            with pytest.raises(InvalidInput, match=f"^data.{own}: this is the key of the history") as caught:
                call()
            assert caught.value.written is False
        body = {"data": {own: 3, "n": 2}}
        refused = problem(service.client.patch("/sessions/s", json=body), 422, "invalid")
        assert list(refused["errors"]) == [f"data.{own}"]
        assert service.client.patch("/sessions/s", json={"data": {own: None}}).status_code == 422
        found: Any = convstore.get_session("s")
        assert (found["n"], found[own][0]) == (1, {"role": "user", "content": "hi"})


def test_another_key_is_a_field(begun: tuple[Service, str, str]) -> None:
    service, own, other = begun
    convstore = service.convstore
    with service.app.app_context():
        convstore.update_session("s", {other: 1})
        assert convstore.append("s", data={other: 2}).version == 3
        with convstore.turn("s", {"role": "user", "content": "again"}) as turn:
            assert turn.data == {"n": 1, other: 2}
            assert [message["content"] for message in turn.history] == ["hi", "again"]
            turn.data[other] = 3
            turn.reply("yes")
        found: Any = convstore.get_session("s")
        assert [message["content"] for message in found[own]] == ["hi", "again", "yes"]
        assert found[other] == 3
    assert Service.json(service.client.patch("/sessions/s", json={"data": {other: [4]}}), 200)["data"] == {
        "n": 1, other: [4],
    }  # fmt: skip
    shown = service.get("s")
    assert [message["content"] for message in shown["history"]] == ["hi", "again", "yes"]
    assert shown["data"] == {"n": 1, other: [4]}


def test_a_field_is_set_while_another_request_gives_the_history_that_key(service: Service) -> None:
    """Neither hides the other: the second one is refused."""
    convstore = service.convstore
    with service.app.app_context():
        convstore.save_session("s", {"n": 1})
        session: Any = convstore.get_session("s")
        late: Any = convstore.get_session("s")
        convstore.update_session("s", {"messages": 3})
        session["messages"] = ["a"]
        with pytest.raises(InvalidInput, match="the key of the history"):
            convstore.save_session("s", session)
        assert convstore.get_session("s") == {"n": 1, "messages": 3}
        convstore.save_session("s", {"n": 1, "messages": ["a"]})
        late["messages"] = 3
        with pytest.raises((InvalidInput, StoreError)):
            convstore.save_session("s", late)
        assert convstore.get_session("s") == {"n": 1, "messages": ["a"]}


@in_memory
def test_a_write_removes_no_more_fields_than_it_may_set(service: Service) -> None:
    session_id = service.start(data={"name": "Ada"})
    for count, status in ((1000, 200), (1001, 413)):
        data = dict.fromkeys(map(str, range(count)))
        assert service.client.patch(f"/sessions/{session_id}", json={"data": data}).status_code == status


# ---- everything else that follows the key


def test_helpers_follow_the_key(begun: tuple[Service, str, str]) -> None:
    service, own, _ = begun
    convstore = service.convstore
    with service.app.app_context():
        page = convstore.messages("s")
        assert [message["content"] for message in page.messages] == ["hi"]
        edited = convstore.edit_message("s", 1, {"role": "user", "content": "hi!"})
        assert edited.body["content"] == "hi!"
        fork = convstore.fork("s")
        assert fork[own] == [{"role": "user", "content": "hi!"}]
        convstore.append(fork.session_id, {"role": "user", "content": "more"})
        compacted = convstore.compact(fork.session_id, "so far", keep=1)
        assert [message["content"] for message in compacted[own]] == ["so far", "more"]
        assert [message.body["content"] for message in compacted.messages] == ["so far", "more"]
        partial: Any = convstore.get_session("s", last=1)
        partial[own].append("x")
        convstore.save_session("s", partial)
        partial[own].pop(0)
        convstore.append("s", Message("y"))
        some: Any = convstore.get_session("s", last=1)
        some[own].clear()
        with pytest.raises(InvalidInput) as caught:
            convstore.save_session("s", some)
        assert caught.value.path == own


def test_errors_name_the_key(begun: tuple[Service, str, str]) -> None:
    service, own, _ = begun
    convstore = service.convstore
    with service.app.app_context():
        session: Any = convstore.get_session("s")
        session[own].append({"content": object()})
        with pytest.raises(InvalidInput) as caught:
            convstore.save_session("s", session)
        assert caught.value.path == f"{own}[1].content"
        session[own][1] = "x" * 2_000_000
        with pytest.raises(InvalidInput) as caught:
            convstore.save_session("s", session)
        assert caught.value.path == f"{own}[1]"
        with pytest.raises(InvalidInput) as caught:
            convstore.save_session("t", {own: ["x" * 2_000_000]})
        assert caught.value.path == f"{own}[0]"


def test_a_handler_gets_the_history(begun: tuple[Service, str, str]) -> None:
    service, own, _ = begun
    service.convstore.reply(lambda turn: f"{len(turn.history)} {sorted(turn.data)}")
    assert service.say("s")["reply"]["content"] == "2 ['n']"
    with service.app.app_context():
        found: Any = service.convstore.get_session("s")
        assert [message["content"] for message in found[own]] == ["hi", "hello", "2 ['n']"]


def test_chats_have_the_first_key(service: Service) -> None:
    with service.app.app_context():
        service.convstore.save_message("ada", "user", "hi")
        assert service.convstore.get_conversation("ada") == [{"role": "user", "content": "hi"}]


def test_an_export_keeps_the_key(url: str) -> None:
    service = OwnedService(url, CLIENT_ROLES=["user", "assistant"])
    content = {"messages": [{"role": "user", "content": "hi"}], "history": "long"}
    with service.app.app_context():
        service.convstore.save_session("s", content, owner="ada")
        lines = list(service.convstore.export_owner(owner="ada"))
        assert [(line["shape"], line["data"]) for line in lines] == [("full:messages", {"history": "long"})]
        service.convstore.delete_session("s", owner="ada")
        assert service.convstore.import_sessions(lines, owner="ada") == 1
        assert service.convstore.get_session("s", owner="ada") == content


@in_memory
@pytest.mark.parametrize(
    ("shape", "data", "said"),
    [
        ("full:secret", {}, "'secret', none of history, messages"),
        ("full:messages", {"messages": 1}, "the key of the history"),
        ("full", {"history": 1}, "the key of the history"),
        ("data", {"history": 1}, "the key of the history"),
        ("full:", {}, "the key of its messages is ''"),
        ("value", {}, "its shape is"),
    ],
)
def test_a_client_cannot_import_under_any_key(url: str, shape: str, data: Any, said: str) -> None:
    service = OwnedService(url)
    line = {"session_id": "2f1c0000-0000-4000-8000-00000000000a", "shape": shape, "data": data, "messages": []}
    refused = problem(service.call("ada", "POST", "/import", json=line), 422, "invalid")
    assert said in str(refused["errors"])


# ---- the setting of a mapping


@in_memory
def test_a_mapping_has_keys_of_its_own(service: Service) -> None:
    convstore = service.convstore
    logs = convstore.mapping("logs", history_key=("log", "messages"))
    assert convstore.mapping("logs", history_key="log,messages").keys() is not None
    with pytest.raises(InvalidInput, match="another history_key"):
        convstore.mapping("logs", history_key="log")
    for keys in ("", [], ["a", "a"], ["a", ""], [3], 3, ["a\n"]):
        with pytest.raises(ConfigurationError, match=r"HISTORY_KEY|history_key"):
            convstore.mapping("bad", history_key=keys)  # type: ignore[arg-type]
    with service.app.test_request_context():
        logs["s"] = {"log": [1], "history": 5}
    with service.app.test_request_context():
        logs["s"]["log"].append(2)
    with service.app.app_context():
        assert logs["s"] == {"log": [1, 2], "history": 5}
