"""Two requests that overlap in ways that are hard to merge: a dict beside the mapping, and nothing is lost without a word.

A request is a generator. Where it yields, another request goes on. The same steps are taken on a dict and on the mapping.
Parts that the dict has in the end and the mapping has not are lost. A signal must tell of them.
"""

from __future__ import annotations

import contextvars
import copy
import itertools
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from flask_convstore import ANY, StoreUnavailable
from flask_convstore.domain.commands import FieldChange, Merge
from flask_convstore.operations import merging

from ..service import Service
from ..telemetry.test_signals import heard
from .test_wild import Answer
from .test_wild_shapes import kept, lost

Change = Callable[[Any], Any]
"""A change of a session."""

Visit = Callable[[Any], Iterator[None]]
"""A request, as a function of the sessions."""


class Running:
    """A request whose steps run in a context of its own."""

    def __init__(self, steps: Iterator[None], service: Service | None) -> None:
        self._steps = steps
        self._context = contextvars.copy_context()
        self._request = service.app.test_request_context() if service else None
        if self._request:
            self._context.run(self._request.push)

    def goes_on(self) -> bool:
        """Take a step. False if it was the last one, so that the request has ended."""
        is_over = self._context.run(next, self._steps, self) is self
        if is_over and self._request:
            self._context.run(self._request.pop)
        return not is_over


def overlap(sessions: Any, visits: list[Visit], service: Service | None = None) -> None:
    """Run requests to their first yield, one after the other, then to the next, until all have ended."""
    running = [Running(visit(sessions), service) for visit in visits]
    while running:
        running = [one for one in running if one.goes_on()]


def does(change: Change) -> Visit:
    """Read a session, let the other request go on, and change the session."""

    def visit(sessions: Any) -> Iterator[None]:
        session = sessions["s"]
        yield
        change(session)

    return visit


def holding(key: str, change: Change) -> Visit:
    """Take a part out of a session, let the other request go on, and change the part."""

    def visit(sessions: Any) -> Iterator[None]:
        part = sessions["s"][key]
        yield
        change(part)

    return visit


def begins(content: Any, change: Change) -> Visit:
    """Begin a session if there is none, let the other request go on, and change the session."""

    def visit(sessions: Any) -> Iterator[None]:
        if "s" not in sessions:
            sessions["s"] = copy.deepcopy(content)
        session = sessions["s"]
        yield
        change(session)

    return visit


def puts(content: Any) -> Visit:
    """Put another session in the place of one that was read."""

    def visit(sessions: Any) -> Iterator[None]:
        assert sessions["s"]
        yield
        sessions["s"] = content

    return visit


def removes(sessions: Any) -> Iterator[None]:
    """Remove a session that was read."""
    assert sessions["s"]
    yield
    del sessions["s"]


def append(*path: Any) -> Change:
    """Append a message to the list at a path."""

    def change(session: Any) -> None:
        part = session
        for name in path:
            part = part[name]
        part.append({"by": "append"})

    return change


def appends(*path: Any) -> Visit:
    return does(append(*path))


def rewrite(key: str, *messages: Any) -> Change:
    """Put other messages in the place of all, in the same list."""
    return lambda session: session[key].__setitem__(slice(None), messages)


def in_both_lists(who: str) -> Change:
    """Append the same message object to two lists."""

    def change(session: Any) -> None:
        message = {"by": who}
        session["messages"].append(message)
        session["log"].append(message)

    return change


def lines(key: str, who: str) -> Change:
    return lambda session: session[key].extend([f"User: {who}", "Bot: ok"])


THREE = [{"r": 1}, {"r": 2}, {"r": 3}]

CASES: dict[str, tuple[Any, Visit, Visit]] = {
    "a dict is replaced, and its list grows": (
        {"p": {"list": [1], "k": "v"}}, does(lambda s: s.update(p={"x": 1})), holding("p", append("list"))
    ),
    "a list grows, and its dict is replaced": (
        {"p": {"list": [1], "k": "v"}}, appends("p", "list"), does(lambda s: s.update(p={"x": 1}))
    ),
    "a key is changed, and removed": (
        {"a": {"n": "x"}, "b": 1}, does(lambda s: s["a"].update(n="y")), does(lambda s: s.pop("a"))
    ),
    "one message in two lists": ({"messages": [], "log": []}, does(in_both_lists("a")), does(in_both_lists("b"))),
    "a message is edited": ({"m": [{"t": "x"}]}, does(lambda s: s["m"][0].update(t="y")), appends("m")),
    "the newest is taken out": ({"m": ["a", "b"]}, does(lambda s: s["m"].pop()), appends("m")),
    "the newest is made anew": (
        {"m": THREE}, does(lambda s: s["m"].__setitem__(-1, {"r": 4})), appends("m")
    ),
    "a list is emptied, and grows": ({"m": THREE}, does(lambda s: s["m"].clear()), appends("m")),
    "a list is replaced, and grows": ({"m": THREE}, does(lambda s: s.update(m=[])), appends("m")),
    "a summary of messages that grow": ({"m": THREE}, does(rewrite("m", {"sum": 1})), appends("m")),
    "messages grow, and a summary": ({"m": THREE}, appends("m"), does(rewrite("m", {"sum": 1}))),
    "a summary of a history that grows": ({"history": THREE}, does(rewrite("history", {"sum": 1})), appends("history")),
    "a history grows, and a summary": ({"history": THREE}, appends("history"), does(rewrite("history", {"sum": 1}))),
    "two summaries": ({"history": THREE}, does(rewrite("history", 1)), does(rewrite("history", 2))),
    "sorted, and grows": ({"n": [3, 1, 2]}, does(lambda s: s["n"].sort()), does(lambda s: s["n"].append(0))),
    "turned around, and grows": ({"n": [3, 1, 1]}, does(lambda s: s["n"].reverse()), does(lambda s: s["n"].append(0))),
    "at the beginning": (
        {"m": THREE}, does(lambda s: s["m"].insert(0, {"r": 8})), does(lambda s: s["m"].insert(0, {"r": 9}))
    ),
    "lines of text, some alike": ({"log": []}, does(lines("log", "a")), does(lines("log", "b"))),
    "a history of lines": ({"history": []}, does(lines("history", "a")), does(lines("history", "b"))),
    "messages are names": (
        {"messages": []}, does(lambda s: s["messages"].append("ok")), does(lambda s: s["messages"].append("ok"))
    ),
    "a bare list of names": (["x"], does(lambda s: s.append("ok")), does(lambda s: s.append("ok"))),
    "a list of lists": (
        {"m": [["u", "hi"]]}, does(lambda s: s["m"].append(["u", "a"])), does(lambda s: s["m"][0].append("edited"))
    ),
    "a board of texts": (
        {"b": [["", ""], ["", ""]]}, does(lambda s: s["b"][0].__setitem__(0, "x")),
        does(lambda s: s["b"][0].__setitem__(1, "o")),
    ),
    "a set to zero, and counted": ({"n": 5}, does(lambda s: s.update(n=0)), does(lambda s: s.update(n=s["n"] + 1))),
    "a key is removed, and changed": (
        {"a": {"n": "x"}, "b": 1}, does(lambda s: s.pop("a")), holding("a", lambda a: a.update(n="y"))
    ),
    "all is put anew, and grows": ({"m": ["a"], "x": 1}, puts({"m": ["new"], "y": 2}), appends("m")),
    "grows, and all is put anew": ({"m": ["a"], "x": 1}, appends("m"), puts({"m": ["new"], "y": 2})),
    "grows, and is removed": ({"m": ["a"], "x": 1}, appends("m"), removes),
    "a history is removed": (
        {"history": ["a"], "x": 1}, appends("history"), does(lambda s: s.pop("history"))
    ),
    "both begin with messages": (
        None, begins({"m": ["first a"]}, append("m")), begins({"m": ["first b"]}, append("m"))
    ),
    "both begin with a history": (
        None, begins({"history": ["1a"]}, append("history")), begins({"history": ["1b"]}, append("history"))
    ),
    "both begin with the same": (None, begins(["system"], append()), begins(["system"], append())),
    "both begin with other lists": (None, begins(["a"], append()), begins(["b"], append())),
    "both begin with titles": (
        None, begins({"title": "a", "m": []}, append("m")), begins({"title": "b", "m": []}, append("m"))
    ),
    "both begin three levels": (
        None, begins({"u": {"c": {"m": ["1a"]}}}, append("u", "c", "m")),
        begins({"u": {"c": {"m": ["1b"]}}}, append("u", "c", "m")),
    ),
    "both begin a record": (None, begins(["model", [], 1], append(1)), begins(["model", [], 1], append(1))),
    "both begin a record in a dict": (
        None, begins({"r": ["model", [], 1]}, append("r", 1)), begins({"r": ["model", [], 1]}, append("r", 1))
    ),
}  # fmt: skip


def played(service: Service, content: Any, *visits: Visit) -> tuple[Any, Any, list[str]]:
    """Let two requests overlap. The result: the session on a dict, the stored one, and the places told as overwritten."""
    on_dict: dict[str, Any] = {}
    if content is not None:
        on_dict["s"] = copy.deepcopy(content)
        with service.app.app_context():
            service.convstore.sessions["s"] = copy.deepcopy(content)
    overlap(on_dict, list(visits))
    with heard(service) as told:
        overlap(service.convstore.sessions, list(visits), service)
    with service.app.app_context():
        stored = service.convstore.get_session("s")
    assert "changes-lost" not in [name for name, _ in told]
    places = [place for name, facts in told if name == "changes-overwritten" for place in facts["fields"]]
    return on_dict.get("s"), stored, places


@pytest.mark.parametrize("case", CASES)
def test_nothing_is_lost_without_a_word(service: Service, case: str) -> None:
    on_dict, stored, places = played(service, *CASES[case])
    assert lost(kept([Answer(200, on_dict)]), kept([Answer(200, stored)]), places) == []


TAKEN: dict[str, tuple[Any, Change, list[str]]] = {
    "the oldest task": ({"queue": THREE}, lambda s: s["queue"].pop(0), ["queue[0]"]),
    "the oldest task of names": ({"queue": ["a", "b"]}, lambda s: s["queue"].pop(0), ["queue[0]"]),
    "the newest card": ({"deck": [1, 2, 3]}, lambda s: s["deck"].pop(), ["deck[2]"]),
    "a name that is added": ({"votes": []}, lambda s: s["votes"].append("ok"), ["votes"]),
}  # fmt: skip


@pytest.mark.parametrize("case", TAKEN)
def test_what_both_took_or_added_is_told(service: Service, case: str) -> None:
    """On a dict each request gets another task, and a list has a name twice."""
    content, change, places = TAKEN[case]
    on_dict, stored, told = played(service, content, does(change), does(change))
    assert on_dict != stored
    assert told == places


USED: dict[str, tuple[Any, Change, list[str]]] = {
    "a key": ({"a": 1, "b": 2}, lambda s: s.pop("a"), ["a"]),
    "a key that may be gone": ({"a": 1}, lambda s: s.pop("a", None), ["a"]),
    "the last key": ({"m": {"a": 1, "b": 2}}, lambda s: s["m"].popitem(), ["m.b"]),
    "all keys": ({"m": {"a": 1, "b": 2}}, lambda s: s["m"].clear(), ["m.a", "m.b"]),
    "a flag": ({"a": False}, lambda s: s.update(a=True), ["a"]),
    "a flag that is turned": ({"a": False}, lambda s: s.update(a=not s["a"]), ["a"]),
    "a step": ({"step": "name"}, lambda s: s.update(step={"name": "age", "age": "end"}[s["step"]]), ["step"]),
    "the oldest job of a bare list": ([{"j": 1}, {"j": 2}], lambda s: s.pop(0), ["history[0]"]),
    "the newest job of a bare list": ([{"j": 1}, {"j": 2}], lambda s: s.pop(), ["history[1]"]),
    "the oldest of a history": ({"history": [{"j": 1}, {"j": 2}]}, lambda s: s["history"].pop(0), ["history[0]"]),
    "a list that is turned": ([1, 2, 3], lambda s: s.append(s.pop(0)), ["history"]),
    "a list where nothing was": ({"a": None}, lambda s: s.update(a=s["a"] or []) or s["a"].append({"x": 1}), ["a"]),
}  # fmt: skip


@pytest.mark.parametrize("conflict", ["merge", "raise"])
@pytest.mark.parametrize("case", USED)
def test_what_both_have_used_is_told(url: str, case: str, conflict: str) -> None:
    """A dict under a lock gives the second request another element, a KeyError, or the value that the first one has made."""
    content, change, places = USED[case]
    service = Service(url, CONFLICT=conflict)
    with service.app.app_context():
        service.convstore.sessions["s"] = copy.deepcopy(content)
    with heard(service) as told:
        overlap(service.convstore.sessions, [does(change), does(change)], service)
    overwritten = [place for name, facts in told if name == "changes-overwritten" for place in facts["fields"]]
    lost = [str(facts["error"]) for name, facts in told if name == "changes-lost"]
    if conflict == "raise":
        assert not overwritten
        assert len(lost) == 1
        assert "was changed by another write" in lost[0]
    else:
        assert (overwritten, lost) == (places, [])


@pytest.mark.parametrize("url", ["memory", "valkey"], indirect=True)
@pytest.mark.parametrize("content", [{"a": 1}, ["a"]])
def test_a_session_that_both_have_popped_is_told(service: Service, content: Any) -> None:
    def pops(sessions: Any) -> Iterator[None]:
        assert sessions["s"]
        yield
        assert sessions.pop("s") == content

    with service.app.app_context():
        service.convstore.sessions["s"] = copy.deepcopy(content)
    with heard(service) as told:
        overlap(service.convstore.sessions, [pops, pops], service)
    assert [(name, facts.get("fields")) for name, facts in told if name != "session-deleted"] == [
        ("changes-overwritten", ("",))
    ]


def test_a_session_that_grew_before_it_was_popped_is_told(service: Service) -> None:
    """The popped value lacks that growth."""
    popped: list[Any] = []

    def pops(sessions: Any) -> Iterator[None]:
        assert sessions["s"]
        yield
        popped.append(sessions.pop("s"))

    with service.app.app_context():
        service.convstore.sessions["s"] = {"a": []}
    with heard(service) as told:
        overlap(service.convstore.sessions, [does(lambda s: s["a"].append(1)), pops], service)
    assert popped == [{"a": []}]
    assert ("changes-overwritten", ("",)) in [(name, facts.get("fields")) for name, facts in told]


@pytest.mark.parametrize(("before", "after"), [(1, 2), ("a", "b"), ([1], [1, 2]), (False, True), ({"n": 1}, {"n": 2})])
@pytest.mark.parametrize("door", ["update_session", "append", "turn"])
def test_a_field_that_one_request_sets_by_two_doors_is_one_change(
    service: Service, door: str, before: Any, after: Any
) -> None:
    convstore = service.convstore
    with service.app.app_context():
        convstore.sessions["s"] = {"f": before, "history": []}
    with heard(service) as told, service.app.test_request_context():
        convstore.sessions["s"]["f"] = copy.deepcopy(after)
        if door == "update_session":
            convstore.update_session("s", {"f": after})
        elif door == "append":
            convstore.append("s", "hi", data={"f": after})
        else:
            with convstore.turn("s", "hi") as turn:
                turn.data["f"] = after
                turn.reply("yo")
    with service.app.app_context():
        session: Any = convstore.get_session("s")
    assert session["f"] == after
    assert "changes-overwritten" not in [name for name, _ in told]


@pytest.mark.parametrize("change", [lambda s: s.pop("a", None), lambda s: s.update(a=2)])
def test_the_same_change_is_told_also_behind_a_refresh(service: Service, change: Change) -> None:
    def visit(sessions: Any) -> Iterator[None]:
        session = sessions["s"]
        yield
        change(session)
        sessions.refresh("s")

    with service.app.app_context():
        service.convstore.sessions["s"] = {"a": "x", "b": 1}
    with heard(service) as told:
        overlap(service.convstore.sessions, [does(lambda s: (s.pop("a"), change(s))), visit], service)
    assert ("changes-overwritten", ("a",)) in [(name, facts.get("fields")) for name, facts in told]


def test_a_count_from_nothing_is_told(service: Service) -> None:
    counts = service.convstore.mapping("counts")

    def counting(sessions: Any) -> Iterator[None]:
        count = counts.get("ada", 0)
        yield
        counts["ada"] = count + 1

    with heard(service) as told:
        overlap(None, [counting, counting], service)
    assert ("changes-overwritten", ("",)) in [(name, facts.get("fields")) for name, facts in told]


def test_one_default_is_taken_where_two_have_set_other_ones(service: Service) -> None:
    def greeted(sessions: Any, greeting: str) -> Iterator[None]:
        chat = sessions.setdefault("s", [greeting])
        yield
        chat.append("hi")

    overlap(service.convstore.sessions, [lambda s: greeted(s, "Hello"), lambda s: greeted(s, "Moin")], service)
    with service.app.app_context():
        assert service.convstore.get_session("s") == ["Hello", "hi", "hi"]


@pytest.mark.parametrize("key", ["messages", "log", "history"])
def test_two_that_trim_a_list_which_grows_do_not_collide(service: Service, key: str) -> None:
    def change(session: Any) -> None:
        session[key].append({"by": "append"})
        session[key][:] = session[key][-3:]

    on_dict, stored, told = played(service, {key: THREE}, does(change), does(change))
    assert on_dict[key][-2:] == stored[key][-2:] == [{"by": "append"}] * 2
    assert not told


def test_a_list_that_was_replaced_grows_no_more(service: Service) -> None:
    """On a dict it grows where nobody sees it. Here the growth is refused, and told."""
    visits = [puts({"m": ["new"]}), appends()]
    with service.app.app_context():
        service.convstore.save_session("s", ["a"])
    with heard(service) as told:
        overlap(service.convstore.sessions, visits, service)
    assert "changes-lost" in [name for name, _ in told]
    with service.app.app_context():
        assert service.convstore.get_session("s") == {"m": ["new"]}


def test_a_key_gets_another_name_while_its_value_grows(service: Service) -> None:
    """On a dict the value grows under its new name. Here the old name comes back with the growth, which is told."""
    renames = does(lambda s: s.update(b=s.pop("a")))
    on_dict, stored, places = played(service, {"a": {"m": []}}, renames, holding("a", append("m")))
    assert on_dict == {"b": {"m": [{"by": "append"}]}}
    assert (stored, places) == ({"b": {"m": []}, "a": {"m": [{"by": "append"}]}}, ["a"])


def test_a_record_that_two_begin_is_a_conflict_where_the_settings_want_one(url: str) -> None:
    service = Service(url, CONFLICT="raise")
    visits = [begins(["model", [], 1], append(1)), begins(["model", [], 1], append(1))]
    with heard(service) as told:
        overlap(service.convstore.sessions, visits, service)
    assert "changes-lost" in [name for name, _ in told]
    with service.app.app_context():
        assert service.convstore.get_session("s") == ["model", [{"by": "append"}], 1]


@pytest.mark.parametrize("door", ["the mapping", "save_session"])
def test_a_write_that_others_are_always_faster_than_ends_with_the_budget(
    service: Service, monkeypatch: pytest.MonkeyPatch, door: str
) -> None:
    """Each look of this thread at the clock takes a second of the five."""
    seconds, here = itertools.count(), threading.current_thread()
    monkeypatch.setattr(merging, "monotonic", lambda: next(seconds) if threading.current_thread() is here else 0)
    store: Any = service.app.extensions["convstore"]["convstore"].backend.store
    apply, tries = store.apply, []

    def overtaken(command: Any) -> Any:
        tries.append(command)
        found = store.load("s", ANY, None)
        field = FieldChange("n", found.fields["n"], str(len(tries)).encode())
        apply(Merge(session_id="s", owner=ANY, created_at_ms=found.created_at_ms, fields=(field,)))
        return apply(command)

    with service.app.app_context():
        service.convstore.sessions["s"] = {"n": 0}
    with service.app.app_context():
        session: Any = service.convstore.get_session("s") if door == "save_session" else service.convstore.sessions["s"]
        session["n"] += 1
        monkeypatch.setattr(store, "apply", overtaken)
        with pytest.raises(StoreUnavailable, match="other writers were faster for 5 s") as raised:
            service.convstore.save_session(
                "s", session
            ) if door == "save_session" else service.convstore.sessions.flush()
        monkeypatch.undo()
    assert raised.value.written is False
    assert len(tries) == 5
