"""The mappings in requests: loaded once, written at the end, merged with the writes of others, and failures."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from flask import Flask, Response, abort, copy_current_request_context, redirect, request, stream_with_context
from werkzeug.test import TestResponse

from flask_convstore import (
    ANY,
    ConflictError,
    ConversationStore,
    ConvstoreError,
    InvalidInput,
    Message,
    NotSerializable,
    SessionMapping,
    SessionNotFound,
    StoreUnavailable,
    TooLarge,
    signals,
)
from flask_convstore.config import Settings

from ..harness import TTL, Harness, MemoryHarness, RedisHarness
from ..operations.test_sessions import BOT, USER
from ..processes import wait_for
from ..servers import Server
from ..service import Service, heard, in_memory, problem
from ..wire import Fault, Proxy

View = Callable[[], Any]


class Site(Service):
    """An app whose requests are given one by one: ``visit(view)`` is a request that *view* answers."""

    def __init__(self, url: str, **config: Any) -> None:
        super().__init__(url, **config)
        self._views: dict[int, View] = {}
        self._numbers = itertools.count()
        self.app.add_url_rule("/view/<int:number>", view_func=self._answer)
        self.sessions = self.convstore.sessions

    def _answer(self, number: int) -> Any:
        answer = self._views[number]()
        return "ok" if answer is None else answer

    def visit(self, view: View) -> TestResponse:
        number = next(self._numbers)
        self._views[number] = view
        return self.app.test_client().get(f"/view/{number}", buffered=True)

    def ok(self, view: View) -> None:
        """A request that goes well."""
        response = self.visit(lambda: (view(), "ok")[1])
        assert (response.status_code, response.data) == (200, b"ok")

    def put(self, session_id: str, content: Any) -> None:
        with self.app.app_context():
            self.convstore.save_session(session_id, content)

    def stored(self, session_id: str = "s") -> Any:
        """The session in the store, past all mappings, or None."""
        with self.app.app_context():
            return self.convstore.get_session(session_id)

    def close(self) -> None:
        with self.app.app_context():
            self.convstore.close()

    def harness(self) -> Harness:
        with self.app.app_context():
            if self.convstore.client:
                return RedisHarness(self.convstore.client, Settings())
            observed: Any = self.convstore._access().backend.store
        harness = MemoryHarness()
        harness.clock.now = observed._store._clock()
        harness.store, observed._store._clock = observed._store, harness.clock
        return harness


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    """With a session ``s``."""
    site = Site(url)
    site.put("s", {"n": 1, "deep": {"list": [{"x": 1}]}, "history": [USER, BOT]})
    yield site
    site.close()


@pytest.fixture
def proxy(valkey: Server) -> Iterator[Proxy]:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        yield proxy


@pytest.fixture
def far(proxy: Proxy) -> Iterator[Site]:
    """A site with its store behind the proxy, a session ``s`` and a warm connection. It tries once, for a moment."""
    site = Site(proxy.url, RETRIES=0, COMMAND_TIMEOUT=0.2, FALLBACK="none")
    site.put("s", {"n": 1, "history": [USER]})
    site.stored("s")  # the server knows the scripts
    proxy.reset()
    yield site
    site.close()


@contextlib.contextmanager
def no_writes(site: Site) -> Iterator[None]:
    """Nothing is written meanwhile."""
    with contextlib.ExitStack() as stack:
        names = (signals.session_saved, signals.session_deleted, signals.messages_appended)
        written = [stack.enter_context(heard(signal, site.app)) for signal in names]
        yield
        assert written == [[], [], []]


# ---- loaded once, written at the end


def test_a_session_is_one_object_in_a_request(site: Site) -> None:
    def view() -> None:
        session = site.sessions["s"]
        assert session is site.sessions["s"] is site.sessions.get("s") is site.sessions.setdefault("s", {})
        assert session is next(iter(site.sessions.values())) is site.sessions.copy()["s"]
        assert session["history"] is site.sessions["s"]["history"]
        assert (session.session_id, session.version) == ("s", 1)
        seen.append(session)

    seen: list[Any] = []
    site.ok(view)
    site.ok(view)
    assert seen[0] is not seen[1]


def test_histories_are_plain(site: Site) -> None:
    """As an LLM's client, which refuses unknown keys, and json want them."""

    def view() -> None:
        history = site.sessions["s"]["history"]
        assert type(history) is list
        assert {type(message) for message in history} == {dict}
        assert json.loads(json.dumps(history)) == history == [USER, BOT]
        assert json.loads(json.dumps(site.sessions["s"]))["history"] == history

    site.ok(view)


CHANGES: dict[str, tuple[Callable[[Any], Any], Any]] = {
    "a field": (lambda s: s.update(n=2), {"n": 2}),
    "a new field": (lambda s: s.update(new=None), {"new": None}),
    "deep in a field": (lambda s: s["deep"]["list"][0].update(x=[2]), {"deep": {"list": [{"x": [2]}]}}),
    "a list in a field": (lambda s: s["deep"]["list"].append(5), {"deep": {"list": [{"x": 1}, 5]}}),
    "an appended message": (lambda s: s["history"].append(USER), {"history": [USER, BOT, USER]}),
    "several": (lambda s: s["history"].extend([1, 2]), {"history": [USER, BOT, 1, 2]}),
    "a dropped message": (lambda s: s["history"].pop(0), {"history": [BOT]}),
    "a deleted message": (lambda s: s["history"].pop(), {"history": [USER]}),
    "an edited message": (lambda s: s["history"][0].update(content="x"), {"history": [{**USER, "content": "x"}, BOT]}),
    "an inserted message": (lambda s: s["history"].insert(0, "first"), {"history": ["first", USER, BOT]}),
    "no messages": (lambda s: s["history"].clear(), {"history": []}),
    "a history of its own": (lambda s: s.update(history=[BOT]), {"history": [BOT]}),
    "1 to True": (lambda s: s.update(n=True), {"n": True}),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_at_any_depth_is_written_before_the_response_leaves(site: Site, name: str) -> None:
    change, changed = CHANGES[name]
    before = site.stored()
    site.ok(lambda: change(site.sessions["s"]))
    after = site.stored()
    assert after == {**before, **changed}
    assert (type(after["n"]), after.version) == (bool if name == "1 to True" else int, 2)


def test_a_field_that_is_removed_is_gone(site: Site) -> None:
    def view() -> None:
        del site.sessions["s"]["n"], site.sessions["s"]["history"]

    site.ok(view)
    assert site.stored() == {"deep": {"list": [{"x": 1}]}}


def test_a_request_that_changes_nothing_writes_nothing(site: Site) -> None:
    def view() -> None:
        session = site.sessions["s"]
        session["deep"]["list"].append(5)
        session["deep"]["list"].pop()
        session["history"] = list(session["history"])
        site.sessions["s"] = dict(session)
        site.sessions["s"]["n"] = 1
        assert "absent" not in site.sessions
        assert site.sessions.pop("absent", None) is None
        site.sessions["new"] = {}
        del site.sessions["new"]

    with no_writes(site):
        site.ok(view)
        site.ok(site.sessions.flush)
    assert site.stored().version == 1


LOOKS: list[Callable[[SessionMapping], Any]] = [
    lambda d: d["s"],
    lambda d: "s" in d,
    lambda d: d.get("s"),
    lambda d: d.setdefault("s", {}),
]


@pytest.mark.parametrize("number", range(4))
def test_looking_is_an_interaction(site: Site, number: int) -> None:
    """The lifetime moves, and of a list's or a dict's sessions alike."""
    harness = site.harness()
    harness.age(1_000_000)
    with harness.moment() as moment:
        site.ok(lambda: LOOKS[number](site.sessions))
    assert all(end - TTL in moment for end in harness.ends("s"))


def test_looking_is_an_interaction_behind_a_loop_too(site: Site) -> None:
    """An app that loops over all sessions in each request, and then reads one."""
    harness = site.harness()
    harness.age(1_000_000)
    with harness.moment() as moment:
        site.ok(lambda: (list(site.sessions.items()), site.sessions["s"]))
    assert all(end - TTL in moment for end in harness.ends("s"))


def test_looking_costs_one_round_trip(proxy: Proxy, far: Site) -> None:
    def view() -> None:
        assert all(look(far.sessions) for look in LOOKS)
        assert len(far.sessions["s"]["history"]) == 1

    far.ok(view)
    assert proxy.round_trips == 1
    proxy.reset()
    far.ok(lambda: None)
    assert (proxy.round_trips, proxy.sent) == (0, 0)


SWEEPS: dict[str, Callable[[Any], int]] = {
    "values": lambda sessions: len(list(sessions.values())),
    "items, twice": lambda sessions: min(len(dict(sessions.items())), len(list(sessions.values()))),
    "keys": lambda sessions: len([sessions[key]["n"] for key in list(sessions)]),
}


@pytest.mark.parametrize(("sweep", "trips"), [("values", 3), ("items, twice", 5), ("keys", 4)])
def test_a_sweep_costs_a_few_round_trips(proxy: Proxy, far: Site, sweep: str, trips: int) -> None:
    """A loop over all sessions in each request. Listing takes two trips, and all values one."""
    for number in range(50):
        far.put(f"s{number}", {"n": number, "history": [number]})
    far.ok(lambda: SWEEPS[sweep](far.sessions))  # the server knows the scripts from now on
    proxy.reset()
    far.ok(lambda: SWEEPS[sweep](far.sessions))
    assert proxy.round_trips == trips


def test_one_message_more_costs_no_more_behind_a_thousand(proxy: Proxy, far: Site) -> None:
    """Only changes travel, however much was loaded, in two round trips."""
    far.put("long", {"n": 1, "history": [{"role": "user", "content": "x" * 200} for _ in range(999)]})
    far.ok(lambda: far.sessions["long"]["history"].append({}))  # the server knows the script from now on
    proxy.reset()
    far.ok(lambda: far.sessions["long"]["history"].append({"role": "user", "content": "y" * 200}))
    assert (proxy.round_trips, proxy.sent < 3_000) == (2, True), proxy.sent
    assert len(far.stored("long")["history"]) == 1_001


def test_a_session_that_is_set_without_a_look_is_one_round_trip(proxy: Proxy, far: Site) -> None:
    far.ok(lambda: far.sessions.update(s={"history": []}))
    assert proxy.round_trips == 1


def test_several_sessions_of_several_mappings_in_one_request(site: Site) -> None:
    users = site.convstore.mapping("users")

    def view() -> None:
        site.sessions["s"]["n"] += 1
        site.sessions["list"] = [USER]
        site.sessions["gone"] = {}
        users["s"] = "Ada"
        users[5, "x"] = ["s"]
        del site.sessions["t"]

    site.put("t", {})
    site.put("gone", {"old": 1})
    site.ok(view)
    site.ok(lambda: users.update(s=users["s"] + "!"))
    with site.app.app_context():
        assert users.copy() == {"s": "Ada!", (5, "x"): ["s"]}
        assert site.sessions.copy() == {"s": {**site.stored(), "n": 2}, "list": [USER], "gone": {}}


@pytest.mark.parametrize("messages", [[USER], list(range(25)), [{"n": n} for n in range(20)]])
def test_the_window_of_the_last_messages(site: Site, messages: list[Any]) -> None:
    """``d[sid] = d[sid][-20:]`` at the end of each turn."""

    def view() -> None:
        for message in messages:
            site.sessions.setdefault("list", []).append(message)
            site.sessions["list"] = site.sessions["list"][-20:]
        site.sessions["s"]["history"] = [*site.sessions["s"]["history"], *messages][-20:]

    site.ok(view)
    site.ok(view)
    assert site.stored("list") == (messages + messages)[-20:]
    assert site.stored()["history"] == ([USER, BOT, *messages, *messages])[-20:]


@pytest.mark.parametrize(
    "steps",
    [
        lambda d: d.update(s={**d.pop("s"), "n": 2}),
        lambda d: [session := d.pop("s"), session.update(n=2), d.update(s=session)],
        lambda d: [session := d["s"], d.pop("s"), d.flush(), session.update(n=2), d.update(s=session)],
        lambda d: [session := dict(d["s"]), d.__delitem__("s"), d.update(s={}), d["s"].update(session, n=2)],
        lambda d: [d.update(s={**d["s"], "n": 5}), d.flush(), d["s"].update(n=2)],
        lambda d: [session := d["s"], d.update(s={}), d.update(s=session), session.update(n=2)],
    ],
)
def test_a_session_can_be_taken_out_and_set_again(site: Site, steps: Callable[[Any], Any]) -> None:
    expected = {**site.stored(), "n": 2}
    site.ok(lambda: steps(site.sessions))
    assert site.stored() == expected


def test_what_is_set_anew_is_all_there_is(site: Site) -> None:
    """As in a dict: what was there before is gone."""

    def view() -> None:
        del site.sessions["s"]
        assert "s" not in site.sessions
        site.sessions["s"] = {"new": 1}
        assert site.sessions["s"] == {"new": 1}

    site.ok(view)
    assert site.stored() == {"new": 1}


def test_flush_writes_now(site: Site) -> None:
    """Before a long call, so that others see it. Later changes are written at the end."""

    def view() -> None:
        session = site.sessions["s"]
        session["n"] = 2
        assert site.stored()["n"] == 1
        site.sessions.flush()
        assert (site.stored()["n"], site.sessions["s"] is session) == (2, True)
        session["history"].append("late")

    site.ok(view)
    assert (site.stored()["n"], site.stored()["history"], site.stored().version) == (2, [USER, BOT, "late"], 3)


def test_what_a_request_leaves_is_not_seen_before_its_end(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 2
        site.sessions["new"] = {}
        assert (site.stored()["n"], site.stored("new")) == (1, None)
        site.ok(lambda: seen.append((site.sessions["s"]["n"], "new" in site.sessions)))

    seen: list[Any] = []
    site.ok(view)
    assert seen == [(1, False)]
    assert (site.stored()["n"], site.stored("new")) == (2, {})


@in_memory
@pytest.mark.parametrize("name", ["", "x" * 101, "a{b", "a}", "a\n", None, 5])
def test_a_mapping_needs_a_name(site: Site, name: Any) -> None:
    with pytest.raises(InvalidInput):
        site.convstore.mapping(name)


def test_a_mapping_has_a_lifetime_of_its_own(site: Site) -> None:
    harness = site.harness()
    short = site.convstore.mapping("short", ttl=600)
    site.ok(lambda: short.update(a=5))
    harness.age(500_000)
    site.ok(lambda: short["a"])
    harness.age(500_000)
    site.ok(lambda: short["a"])
    with site.app.app_context():
        snapshot = short._access().store.load("a", ANY, is_interaction=False)
    assert snapshot
    assert snapshot.fields == {"": b"5"}


# ---- writes that fail


@pytest.mark.parametrize("fault", ["black hole", "lost request", "lost reply", "half reply"])
def test_a_store_that_goes_away_after_the_load_is_a_503(proxy: Proxy, far: Site, fault: Fault) -> None:
    far.app.testing = True  # whatever gets out of after_request would get out here

    def view() -> None:
        far.sessions["s"]["n"] = 2
        proxy.faults = [fault]

    response = far.visit(view)
    assert problem(response, 503, "unavailable")["written"] is None
    assert response.headers["Retry-After"] == "1"


def test_a_store_that_goes_away_before_the_load_raises_in_the_view(proxy: Proxy, far: Site) -> None:
    def view() -> None:
        far.sessions["new"] = {}
        proxy.faults = ["lost request"]
        with pytest.raises(StoreUnavailable):
            assert "s" in far.sessions

    far.ok(view)
    assert far.stored("new") == {}


BAD = {
    "a set": ({"a": {1, 2}}, 500, "not-stored"),
    "an object": ({"a": [object()]}, 500, "not-stored"),
    "a key": ({1: "a"}, 500, "not-stored"),
    "not a number": ({"a": float("nan")}, 500, "not-stored"),
    "no history": ({"history": "text"}, 500, "not-stored"),
    "too large": ({"a": "x" * 2_000}, 413, "too-large"),
    "a large message": ({"history": ["x" * 2_000]}, 413, "too-large"),
}


@in_memory
@pytest.mark.parametrize("is_new", [False, True], ids=["changed", "new"])
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_stored_is_a_problem_and_nothing_is_written(
    url: str, caplog: pytest.LogCaptureFixture, kind: str, is_new: bool
) -> None:
    """Not even the other session of the request, which could be."""
    content, status, slug = BAD[kind]
    site = Site(url, MAX_DATA_BYTES=1_000, MAX_MESSAGE_BYTES=1_000)
    site.app.testing = True
    site.put("s", {"n": 1})
    site.put("t", {})

    def view() -> None:
        site.sessions["s"]["n"] = 2
        site.sessions["bad" if is_new else "t"] = content
        site.sessions["last"] = {}

    with no_writes(site):
        assert problem(site.visit(view), status, slug)["written"] is False
    assert (site.stored("s"), site.stored("t"), site.stored("bad"), site.stored("last")) == ({"n": 1}, {}, None, None)
    assert "cannot be written" in caplog.text
    site.close()


def test_the_log_says_where_the_bad_value_is_and_the_client_hears_nothing_of_it(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    response = site.visit(lambda: site.sessions["s"]["deep"].update(secret={5}))
    assert "deep.secret" in caplog.text
    assert b"secret" not in response.data


HEADERS = {"Access-Control-Allow-Origin": "*", "Vary": "Origin", "X-Request-Id": "5", "Server-Timing": "a;dur=1"}
OF_THE_BODY = {"ETag": '"a"', "Location": "/x", "Cache-Control": "max-age=60", "Content-Disposition": "attachment"}
OF_THE_BODY |= {"Content-Encoding": "gzip", "Last-Modified": "now", "Expires": "0"}


def answer_with(site: Site, headers: list[tuple[str, str]]) -> TestResponse:
    def view() -> Response:
        site.sessions["s"]["bad"] = {5}
        return Response("x" * 500, 201, headers)

    response = site.visit(view)
    problem(response, 500, "not-stored")
    return response


def test_a_problem_keeps_the_headers_that_are_not_about_the_body(site: Site) -> None:
    """A browser shows a script no answer without its CORS headers."""
    response = answer_with(site, [*HEADERS.items(), *OF_THE_BODY.items()])
    assert {name: response.headers.get(name) for name in HEADERS} == HEADERS
    assert [name for name in OF_THE_BODY if name in response.headers] == ["Cache-Control"]
    assert response.headers.getlist("Cache-Control") == ["no-store"]
    assert int(response.headers["Content-Length"]) == len(response.data)


def test_a_problem_keeps_all_cookies(site: Site) -> None:
    cookies = ["a=1; Path=/", "b=2; Path=/"]
    response = answer_with(site, [("Set-Cookie", cookie) for cookie in cookies])
    assert response.headers.getlist("Set-Cookie") == cookies


def test_names_of_headers_are_known_in_any_case(site: Site) -> None:
    response = answer_with(site, [(name.lower(), value) for name, value in OF_THE_BODY.items()])
    assert [name for name in OF_THE_BODY if name in response.headers] == ["Cache-Control"]
    assert response.headers.getlist("Cache-Control") == ["no-store"]


def test_headers_that_the_app_adds_later_are_on_the_problem_too(site: Site) -> None:
    @site.app.after_request
    def cors(response: Response) -> Response:
        response.headers["Access-Control-Allow-Origin"] = "*"
        return response

    response = answer_with(site, [])
    assert response.headers["Access-Control-Allow-Origin"] == "*"


def test_a_write_that_failed_half_way_says_so(proxy: Proxy, far: Site) -> None:
    """Several sessions are several writes."""

    def view() -> None:
        far.sessions["s"]["n"] = 2
        far.sessions["other"] = {}

        def stop(*_: object, **__: object) -> None:
            proxy.faults = ["lost request"]

        stack.enter_context(signals.session_saved.connected_to(stop, far.app))

    with contextlib.ExitStack() as stack:
        assert problem(far.visit(view), 503, "unavailable")["written"] is True
    assert (far.stored()["n"], far.stored("other")) == (2, None)


@pytest.mark.parametrize("fault", ["lost reply", "half reply"])
def test_a_flush_whose_answer_was_lost_may_be_repeated(proxy: Proxy, far: Site, fault: Fault) -> None:
    """It has landed: the end of the request must not add the message again."""

    def view() -> None:
        far.sessions["s"]["history"].append("once")
        proxy.faults = [fault]
        with pytest.raises(StoreUnavailable):
            far.sessions.flush()

    far.visit(view)
    assert far.stored()["history"] == [USER, "once"]


# ---- requests that fail


class Broken(Exception):
    pass


def raise_broken(*_: object) -> Any:
    raise Broken


def handling(site: Site, what: Any, fail: Callable[[], Any], status: int = 200) -> Any:
    site.app.register_error_handler(what, lambda _: ("handled", status))
    return fail()


FAILURES: dict[str, tuple[Callable[[Site], Any], int]] = {
    "unhandled": (lambda site: raise_broken(), 500),
    "handled": (lambda site: handling(site, Broken, raise_broken), 200),
    "handled with all others": (lambda site: handling(site, 500, raise_broken, 503), 503),
    "abort": (lambda site: abort(404), 404),
    "abort handled": (lambda site: handling(site, 404, lambda: abort(404)), 200),
    "abort with a response": (lambda site: abort(redirect("/")), 302),
    "after_request": (lambda site: str(site.app.after_request(raise_broken)), 500),
    "no response": (lambda site: 5, 500),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_request_that_failed_writes_nothing(site: Site, name: str) -> None:
    fail, status = FAILURES[name]

    def view() -> Any:
        site.sessions["s"]["n"] = 2
        site.sessions["new"] = {}
        del site.sessions["t"]
        site.app._got_first_request = False  # handlers are registered now
        return fail(site)

    site.put("t", {})
    with no_writes(site):
        assert site.visit(view).status_code == status
    assert (site.stored()["n"], site.stored("new"), site.stored("t")) == (1, None, {})


def test_a_request_that_failed_before_its_view_writes_nothing(site: Site) -> None:
    @site.app.before_request
    def change() -> None:
        site.sessions["s"]["n"] = 2
        raise Broken

    assert site.visit(lambda: None).status_code == 500
    assert site.stored()["n"] == 1


def test_an_after_request_that_was_there_before_the_extension_fails_too(url: str) -> None:
    app = Flask("early")
    app.config["CONVSTORE_URL"] = url
    app.after_request(raise_broken)
    convstore = ConversationStore(app)
    app.add_url_rule("/", view_func=lambda: convstore.sessions.update(s={}) or "ok", endpoint="view")
    assert app.test_client().get("/").status_code == 500
    with app.app_context():
        found = convstore.get_session("s")
        convstore.close()
    assert found is None


def test_what_was_flushed_before_the_failure_stays(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 2
        site.sessions.flush()
        site.sessions["s"]["n"] = 3
        raise Broken

    assert site.visit(view).status_code == 500
    assert site.stored()["n"] == 2


@pytest.mark.parametrize("status", [200, 302, 404, 422, 500])
def test_a_request_that_answers_with_an_error_has_not_failed(site: Site, status: int) -> None:
    site.visit(lambda: site.sessions["s"].update(n=2) or ("x", status))
    assert site.stored()["n"] == 2


def test_an_exception_that_the_view_catches_is_none(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 2
        with contextlib.suppress(Broken):
            raise Broken

    site.ok(view)
    assert site.stored()["n"] == 2


def test_a_request_within_a_request_fails_alone(site: Site) -> None:
    """A view that calls its own app, or another one, through a client."""

    def inner() -> None:
        site.sessions["t"] = {}
        raise Broken

    def view() -> None:
        site.sessions["s"]["n"] = 2
        assert site.visit(inner).status_code == 500

    site.ok(view)
    assert (site.stored()["n"], site.stored("t")) == (2, None)


# ---- streamed responses


def test_what_a_stream_changes_is_written_when_it_closes(site: Site) -> None:
    def view() -> Response:
        session = site.sessions["s"]
        session["n"] = 2

        def reply() -> Iterator[str]:
            assert site.stored()["n"] == 2, "written before the response leaves"
            for word in ("a", "b"):
                session["history"].append(word)
                yield word
            assert site.stored()["history"] == [USER, BOT]

        return Response(reply())

    assert site.visit(view).data == b"ab"
    assert (site.stored()["history"], site.stored()["n"]) == ([USER, BOT, "a", "b"], 2)


def test_a_stream_with_the_request_s_context_uses_the_mappings_as_a_view_does(site: Site) -> None:
    def view() -> Response:
        def reply() -> Iterator[str]:
            site.sessions["s"]["history"].append("said")
            site.sessions["new"] = {"x": 1}
            yield "x"
            site.convstore.append("s", Message("through another door"))
            assert site.sessions["s"]["history"] == [USER, BOT, "through another door", "said"]
            site.sessions["s"]["n"] += 1

        return Response(stream_with_context(reply()))

    assert site.visit(view).data == b"x"
    assert site.stored()["history"] == [USER, BOT, "through another door", "said"]
    assert (site.stored()["n"], site.stored("new")) == (2, {"x": 1})


def test_what_a_stream_changed_is_written_when_its_client_has_gone(site: Site) -> None:
    def view() -> Response:
        session = site.sessions["s"]

        def reply() -> Iterator[str]:
            session["n"] = 2
            yield "x"
            session["n"] = 3
            yield "y"

        return Response(reply())

    site._views[0] = view
    response = site.app.test_client().get("/view/0")
    assert next(iter(response.response)) == b"x"
    response.close()
    assert site.stored()["n"] == 2


def test_a_stream_uses_the_mappings_without_a_context_too(site: Site) -> None:
    """The work of an app's generator after its view has returned is part of the request."""

    def view() -> Response:
        session = site.sessions["s"]

        def reply() -> Iterator[str]:
            assert site.sessions["s"] is session
            site.sessions["s"]["history"].append("said")
            site.sessions["new"] = {"x": 1}
            yield "x"
            assert sorted(site.sessions) == ["new", "s"]

        return Response(reply())

    with site.app.app_context():
        site.convstore.save_session("hers", {}, owner="alice")
    assert site.visit(view).data == b"x"
    assert (site.stored()["history"], site.stored("new")) == ([USER, BOT, "said"], {"x": 1})


@pytest.mark.parametrize("kind", ["store", "value", "deleted"])
def test_what_a_stream_could_not_write_is_logged_and_signalled_once(
    proxy: Proxy, far: Site, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    """The response has left, and nothing gets out of its close(). A change that is told to be lost is lost."""
    far.app.testing = True
    expected = {"store": None, "value": NotSerializable, "deleted": SessionNotFound}[kind]

    def view() -> Response:
        session = far.sessions["s"]

        def reply() -> Iterator[str]:
            yield "all of it"
            session["n"] = {2} if kind == "value" else 2
            if kind == "deleted":
                far.ok(lambda: far.sessions.pop("s"))
            proxy.faults = ["lost request"] if kind == "store" else []

        return Response(reply())

    with heard(signals.changes_lost, far.app) as lost:
        assert far.visit(view).data == b"all of it"
    if kind == "store":  # it is kept until the store answers
        wait_for(lambda: far.stored()["n"] == 2, "the change was not written")
        assert not lost
        return
    assert [type(facts["error"]) for facts in lost] == [expected]
    assert lost[0]["convstore"] is far.convstore
    assert [record.levelname for record in caplog.records if "not written" in record.message] == ["ERROR"]
    assert kind == "deleted" or far.stored()["n"] == 1


def test_a_stream_does_not_begin_if_its_view_s_changes_cannot_be_written(site: Site) -> None:
    closed: list[str] = []

    def view() -> Response:
        site.sessions["s"]["n"] = {5}
        response = Response(iter(["never"]))
        response.call_on_close(lambda: closed.append("closed"))
        return response

    problem(site.visit(view), 500, "not-stored")
    assert closed == ["closed"]


# ---- other doors in the same request


THEIRS: dict[str, Any] = {"a": [1], "b": {"theirs": 1}, "history": [USER, "theirs"]}


def merging(convstore: ConversationStore, *, last: int | None = None) -> None:
    session: Any = convstore.get_session("s", last=last)
    session["history"].append("theirs")
    session["b"] = {"theirs": 1}
    del session["gone"]
    convstore.save_session("s", session)


def appending(convstore: ConversationStore) -> None:
    convstore.append("s", Message("theirs"), data={"b": {"theirs": 1}})
    session: Any = convstore.get_session("s", last=0)
    del session["gone"]
    convstore.save_session("s", session)


def in_turn(convstore: ConversationStore) -> None:
    with convstore.turn("s", Message("theirs")) as turn:
        turn.data["b"] = {"theirs": 1}
        del turn.data["gone"]
        turn.reply(None)


DOORS: dict[str, Callable[[ConversationStore], Any]] = {
    "append": appending,
    "save_session of a session": merging,
    "save_session of the last messages": lambda convstore: merging(convstore, last=1),
    "save_session of a dict": lambda convstore: convstore.save_session("s", THEIRS),
    "turn": in_turn,
}


@pytest.mark.parametrize("door", DOORS)
def test_what_comes_through_another_door_is_taken_over_in_place(url: str, door: str) -> None:
    """It stands beside changes that are not yet written, and shows in a session or history that somebody holds."""
    site = Site(url)
    site.put("s", {"a": [1], "b": {}, "gone": 1, "history": [USER]})

    def view() -> None:
        session = site.sessions["s"]
        history, first, field = session["history"], session["history"][0], session["a"]
        history.append("mine")
        field.append("mine")
        session["new"] = "mine"
        DOORS[door](site.convstore)
        assert session == {**THEIRS, "a": [1, "mine"], "new": "mine", "history": [USER, "theirs", "mine"]}
        assert site.sessions["s"] is session
        assert (session["history"] is history, history[0] is first, session["a"] is field) == (True, True, True)
        history.append("later")

    site.ok(view)
    assert site.stored() == {**THEIRS, "a": [1, "mine"], "new": "mine", "history": [USER, "theirs", "mine", "later"]}
    site.close()


def test_what_comes_through_another_door_is_taken_over_into_a_list(site: Site) -> None:
    def view() -> None:
        held = site.sessions["list"]
        held.append("mine")
        del held[0]
        site.convstore.append("list", Message("theirs"))
        assert (held, site.sessions["list"] is held) == ([2, "theirs", "mine"], True)

    site.put("list", [1, 2])
    site.ok(view)
    assert site.stored("list") == [2, "theirs", "mine"]


def test_taking_over_writes_nothing_by_itself(site: Site) -> None:
    def view() -> None:
        assert site.sessions["s"]["n"] == 1
        site.convstore.append("s", Message("theirs"), data={"n": 2})
        assert site.sessions["s"]["n"] == 2

    site.ok(view)
    assert site.stored().version == 2


def test_what_is_changed_here_stays_so_beside_the_same_field_from_another_door(site: Site) -> None:
    def view() -> None:
        session = site.sessions["s"]
        session["deep"]["list"].append("mine")
        site.convstore.append("s", data={"deep": "theirs", "n": 2})
        assert (session["deep"], session["n"]) == ({"list": [{"x": 1}, "mine"]}, 2)

    site.ok(view)
    assert (site.stored()["deep"], site.stored()["n"]) == ({"list": [{"x": 1}, "mine"]}, 2)


@pytest.mark.parametrize(("conflict", "field"), [("merge", "count"), ("merge", "text"), ("raise", "text")])
def test_taking_over_loses_nothing_of_another_request(url: str, conflict: str, field: str) -> None:
    """A request counts and appends by ``convstore.append()``, and another one has counted meanwhile."""
    site = Site(url, CONFLICT=conflict)
    site.put("s", {"count": 0, "text": "", "history": []})
    changes = {"count": lambda s: s.update(count=s["count"] + 1), "text": lambda s: s.update(text=f"version {id(s)}")}

    def view() -> None:
        changes[field](site.sessions["s"])
        site.ok(lambda: changes[field](site.sessions["s"]))
        site.convstore.append("s", Message("said"))

    with heard(signals.changes_overwritten, site.app) as overwritten:
        response = site.visit(view)
    count = site.stored()["count"]
    site.close()
    if conflict == "raise":
        problem(response, 409, "conflict")
    elif field == "count":
        assert count == 2
    else:
        assert [facts["fields"] for facts in overwritten] == [("text",)]


def test_a_session_deleted_through_another_door_is_gone(site: Site) -> None:
    def view() -> None:
        session = site.sessions["s"]
        assert site.convstore.delete_session("s")
        assert "s" not in site.sessions
        session["n"] = 2
        assert site.sessions.get("s") is None

    site.ok(view)
    assert site.stored() is None
    site.ok(lambda: site.sessions.update(s={"new": 1}))
    assert site.stored() == {"new": 1}


@pytest.mark.parametrize("was", ["absent", "deleted"])
def test_a_session_made_through_another_door_is_there(site: Site, was: str) -> None:
    """``if sid not in sessions: save_session(sid, …)``, and on."""

    def view() -> None:
        if was == "deleted":
            site.convstore.delete_session("s")
        sid = "s" if was == "deleted" else "new"
        assert sid not in site.sessions
        site.convstore.save_session(sid, {"history": []})
        site.sessions[sid]["history"].append(USER)

    site.ok(view)


def test_the_reply_handler_uses_the_mappings_as_a_view_does(site: Site) -> None:
    """It runs in a turn of the session that it changes."""

    @site.convstore.reply
    def answer(turn: Any) -> str:
        session = site.sessions[turn.session_id]
        assert session["history"] == turn.history == [USER, BOT, USER]
        session["n"] += 1
        turn.data["deep"] = "by the turn"
        return "hi"

    site.say("s")
    assert site.stored() == {"n": 2, "deep": "by the turn", "history": [USER, BOT, USER, BOT]}

    @site.convstore.reply
    def fail(turn: Any) -> str:
        site.sessions[turn.session_id]["n"] += 1
        raise Broken

    problem(site.client.post("/sessions/s/messages", json={"content": "hello"}), 502, "reply-failed")
    assert (site.stored()["n"], len(site.stored()["history"])) == (2, 5)


def test_a_history_that_is_rewritten_here_and_appended_to_elsewhere_merges(site: Site) -> None:
    """Also if both is done by one request."""

    def view() -> None:
        site.sessions["s"]["history"][0]["content"] = "edited"
        site.convstore.append("s", Message("last"))

    site.ok(view)
    assert site.stored()["history"] == [{**USER, "content": "edited"}, BOT, "last"]


def test_a_session_reset_through_another_door_stays_so(site: Site) -> None:
    """A value that a dict without a history has replaced has none."""

    def view() -> None:
        assert len(site.sessions["s"]["history"]) == 2
        site.convstore.save_session("s", {"reset": True})

    site.ok(view)
    assert site.stored() == {"reset": True}


def test_what_is_appended_here_outlives_a_reset_through_another_door(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["history"].append("mine")
        site.convstore.save_session("s", {"reset": True})

    site.ok(view)
    assert site.stored() == {"reset": True, "history": ["mine"]}


def test_a_history_that_is_taken_away_here_and_appended_to_elsewhere_is_gone_and_told(site: Site) -> None:
    def view() -> None:
        del site.sessions["s"]["history"]
        site.convstore.append("s", Message("theirs"))

    with heard(signals.changes_overwritten, site.app) as told:
        site.ok(view)
    assert "history" not in site.stored()
    assert [facts["fields"] for facts in told] == [("history",)]


def test_a_history_that_begins_through_another_door_is_taken_over(site: Site) -> None:
    def view() -> None:
        session = site.sessions["bare"]
        site.convstore.append("bare", Message("theirs"))
        session["history"].append("mine")

    site.put("bare", {"n": 1})
    site.ok(view)
    assert site.stored("bare") == {"n": 1, "history": ["theirs", "mine"]}


def test_a_session_emptied_through_another_door_stays_so(site: Site) -> None:
    def view() -> None:
        history = site.sessions["s"]["history"]
        site.convstore.save_session("s", {"history": []})
        assert (site.sessions["s"], site.sessions["s"]["history"] is history) == ({"history": []}, True)

    site.ok(view)
    assert site.stored() == {"history": []}


def test_a_session_of_another_shape_from_another_door_is_not_torn(site: Site) -> None:
    def view() -> None:
        assert site.sessions["s"]["n"] == 1
        site.convstore.save_session("s", ["a list"])

    site.ok(view)
    assert site.stored() == ["a list"]


# ---- two requests at once


def meanwhile(site: Site, first: Callable[[Any], Any], second: Callable[[Any], Any], session_id: str = "s") -> None:
    """A request loads the session, another one loads and changes it, and the first one changes it too."""

    def view() -> None:
        session = site.sessions[session_id]
        site.ok(lambda: second(site.sessions[session_id]))
        first(session)

    site.ok(view)


def test_messages_of_two_requests_both_land(site: Site) -> None:
    meanwhile(site, lambda s: s["history"].append("first"), lambda s: s["history"].extend(["second", "third"]))
    assert site.stored()["history"] == [USER, BOT, "second", "third", "first"]


def drop_slice(history: Any) -> None:
    del history[:1]


def keep_last(history: Any) -> None:
    history[:] = history[-2:]


@pytest.mark.parametrize("drop", [lambda history: history.pop(0), drop_slice, keep_last])
@pytest.mark.parametrize("shape", [{"history": [1, 2, 3]}, [1, 2, 3]])
def test_dropping_the_oldest_merges_with_messages_of_others(site: Site, shape: Any, drop: Callable[[Any], Any]) -> None:
    def history_of(session: Any) -> Any:
        return session["history"] if isinstance(session, dict) else session

    def first(session: Any) -> None:
        drop(history_of(session))
        history_of(session).append("mine")

    site.put("t", shape)
    meanwhile(site, first, lambda session: history_of(session).append("theirs"), "t")
    assert history_of(site.stored("t")) == [2, 3, "theirs", "mine"]


@pytest.mark.parametrize(("start", "drop"), [([], 0), ([USER, BOT], 2), ([USER], 1)])
def test_what_came_between_is_not_dropped(site: Site, start: list[Any], drop: int) -> None:
    """A message of another request lies before one of ours that is written, and then something comes by another door."""

    def view() -> None:
        history = site.sessions["t"]["history"]
        site.ok(lambda: site.sessions["t"]["history"].append("theirs"))
        history.append("mine")
        site.sessions.flush()
        del history[:drop]
        site.convstore.append("t", Message("last"))

    site.put("t", {"history": start})
    site.ok(view)
    assert site.stored("t")["history"] == ["theirs", "mine", "last"]


def test_a_session_that_one_request_has_made_does_not_conflict_with_itself(site: Site) -> None:
    def view() -> None:
        session = site.sessions.setdefault("new", {"n": 1})
        site.sessions.flush()
        session["history"] = ["first"]
        site.sessions.flush()
        session["history"][0] = "edited"

    site.ok(view)


@pytest.mark.parametrize("who", ["another request", "this request"])
def test_dropping_all_that_was_loaded_keeps_what_others_added(site: Site, who: str) -> None:
    """A window that is no longer than what one turn adds."""

    def view() -> None:
        history = site.sessions["s"]["history"]
        history += ["question", "answer"]
        del history[:-2]
        if who == "this request":
            site.convstore.append("s", Message("theirs"))
        else:
            site.ok(lambda: site.convstore.append("s", Message("theirs")))

    site.ok(view)
    assert site.stored()["history"] == ["question", "answer", "theirs"]


def test_windows_of_two_requests_merge(site: Site) -> None:
    """``d[sid] = d[sid][-20:]`` in both: what both drop is dropped, what either added is kept."""

    def turn(name: str) -> None:
        site.sessions["list"].append(name)
        site.sessions["list"] = site.sessions["list"][-20:]

    def view() -> None:
        assert len(site.sessions["list"]) == 20
        site.ok(lambda: turn("theirs"))
        turn("mine")

    site.put("list", list(range(20)))
    site.ok(view)
    assert site.stored("list") == [*range(1, 20), "theirs", "mine"]


def test_different_fields_of_two_requests_both_land(site: Site) -> None:
    def first(session: Any) -> None:
        session["deep"]["list"][0]["x"] = 2
        session["first"] = True

    def second(session: Any) -> None:
        session["second"] = [1]
        session["n"] = None

    meanwhile(site, first, second)
    expected = {"n": None, "deep": {"list": [{"x": 2}]}, "first": True, "second": [1], "history": [USER, BOT]}
    assert site.stored() == expected


COLLISIONS: list[tuple[Any, Any, Any, Any, bool]] = [
    # stored, first's, second's, the merged value, and whether something was overwritten
    ("a", "b", "b", "b", True),
    (None, ["first"], ["second"], ["second", "first"], True),
    (5, 6, 8, 9, False),
    (5, 4, 4, 3, False),
    (-5, 5, -10, 0, False),
    ("a", "first", "second", "first", True),
    (1, 2, "second", 2, True),
    (1.5, 2.5, 3.5, 4.5, False),
    (True, 2, 3, 2, True),
    ([1], [1, "first"], [1, "second"], [1, "second", "first"], False),
    ({"x": 1}, {"x": 2}, {"x": 1, "y": 1}, {"x": 2, "y": 1}, False),
    (None, "first", "second", "first", True),
    (1.5, 2.5, 2.5, 3.5, False),
    ([1], [1, "both"], [1, "both"], [1, "both", "both"], False),
    ({"x": 1}, {"x": 2}, {"x": 2}, {"x": 3}, False),
    (2**63, 2**63 + 1, 2**63 + 1, 2**63 + 2, False),
    (999_999_000, 999_999_001, 999_999_002, 999_999_003, False),
    (1_800_000_000, 1_800_000_005, 1_800_000_007, 1_800_000_007, False),  # a time: the later one
    (1_800_000_000_000, 1_800_000_000_005, 1_800_000_000_005, 1_800_000_000_005, False),
]


@pytest.mark.parametrize(("stored", "mine", "theirs", "merged", "overwritten"), COLLISIONS)
def test_one_field_of_two_requests(
    site: Site, stored: Any, mine: Any, theirs: Any, merged: Any, overwritten: bool
) -> None:
    """Changes at any depth merge, numbers add up. In a collision the last one wins, and a signal tells."""
    site.put("s", {"field": stored, "other": 1})
    with heard(signals.changes_overwritten, site.app) as told:
        meanwhile(site, lambda s: s.update(field=mine, other=2), lambda s: s.update(field=theirs))
    assert site.stored() == {"field": merged, "other": 2}
    assert [(facts["session_id"], facts["fields"]) for facts in told] == [("s", ("field",))] * overwritten


def test_a_field_that_one_removes_and_one_changes(site: Site) -> None:
    with heard(signals.changes_overwritten, site.app) as told:
        meanwhile(site, lambda s: s.pop("n"), lambda s: s.update(n=5))
        meanwhile(site, lambda s: s.update(deep=5), lambda s: s.pop("deep"))
    assert site.stored() == {"deep": 5, "history": [USER, BOT]}
    assert [facts["fields"] for facts in told] == [("n",), ("deep",)]


@pytest.mark.parametrize("begun", [True, False])
def test_values_that_are_whole_numbers_add_up_too(site: Site, begun: bool) -> None:
    """``counts[sid] += 1``, of what a default has begun too."""
    counts = site.convstore.mapping("counts", default=int)

    def count() -> None:
        counts["s"] += 1

    def view() -> None:
        before = counts["s"]
        site.ok(count)
        assert counts["s"] == before
        count()

    if begun:
        site.ok(lambda: counts.update(s=0))
    site.ok(view)
    with site.app.app_context():
        assert counts["s"] == 2


def collide(site: Site) -> TestResponse:
    def view() -> None:
        site.sessions["s"]["n"] = "first"
        site.sessions["s"]["history"].append("first")
        site.ok(lambda: site.sessions["s"].update(n="second"))

    return site.visit(view)


def test_a_collision_can_be_a_409(url: str) -> None:
    site = Site(url, CONFLICT="raise")
    site.put("s", {"n": 1, "history": []})
    assert problem(collide(site), 409, "conflict")["written"] is False
    assert site.stored() == {"n": "second", "history": []}
    site.close()


@pytest.mark.parametrize("conflict", ["merge", "raise"])
def test_a_message_that_both_have_edited(url: str, conflict: str) -> None:
    """The last one wins and a signal tells, or it is a 409 that changes nothing."""
    site = Site(url, CONFLICT=conflict)
    site.put("s", {"n": 1, "history": [USER, BOT]})

    def view() -> None:
        site.sessions["s"]["history"][0]["content"] = "first"
        site.sessions["s"]["n"] = 2
        site.ok(lambda: site.sessions["s"]["history"][0].update(content="second"))

    with heard(signals.changes_overwritten, site.app) as told:
        if conflict == "raise":
            assert problem(site.visit(view), 409, "conflict")["written"] is False
            assert (site.stored()["history"][0]["content"], site.stored()["n"], told) == ("second", 1, [])
        else:
            site.ok(view)
            assert (site.stored()["history"][0]["content"], site.stored()["n"]) == ("first", 2)
            assert [facts["fields"] for facts in told] == [("history[0].content",)]


@pytest.mark.parametrize("key", ["record", "history"])
def test_a_list_that_is_a_record_merges_behind_its_changed_head(site: Site, key: str) -> None:
    """``s[0] = now; s.append(x)`` in two requests: both turns are there, as in a dict."""
    site.put("r", {key: ["t0", USER]})

    def turn(who: str, at: str) -> None:
        record = site.sessions["r"][key]
        record[0] = at
        record.append(who)

    def view() -> None:
        assert site.sessions["r"][key]
        site.ok(lambda: turn("theirs", "2026-01-01T00:00:01"))
        turn("mine", "2026-01-01T00:00:02")

    site.ok(view)
    assert site.stored("r")[key] == ["2026-01-01T00:00:02", USER, "theirs", "mine"]


CREATIONS: dict[str, tuple[Callable[[Any, str], Any], Any]] = {
    "lists": (lambda d, who: d.setdefault("new", []).append(who), ["second", "first"]),
    "in and set": (lambda d, who: "new" in d or d.update(new=[who]), ["second", "first"]),
    "histories": (
        lambda d, who: d.setdefault("new", {"history": []})["history"].append(who),
        {"history": ["second", "first"]},
    ),
    "defaults": (
        lambda d, who: d.setdefault("new", {"by": "nobody", "list": []}).update({"by": who} if who == "second" else {}),
        {"by": "second", "list": []},
    ),
    "fields": (lambda d, who: d.setdefault("new", {"x": 1}).update({who: 1}), {"x": 1, "second": 1, "first": 1}),
}


@pytest.mark.parametrize("then", ["end", "flush", "stream"])
@pytest.mark.parametrize("name", CREATIONS)
def test_two_requests_that_create_the_same_session(site: Site, name: str, then: str) -> None:
    """As if one had come after the other: what either added is there, and stays."""
    create, expected = CREATIONS[name]

    def view() -> Any:
        assert "new" not in site.sessions
        site.ok(lambda: create(site.sessions, "second"))
        create(site.sessions, "first")
        if then == "flush":
            site.sessions.flush()
        return Response(iter(["ok"])) if then == "stream" else None

    assert site.visit(view).data == b"ok"
    assert site.stored("new") == expected


@pytest.mark.parametrize("conflict", ["merge", "raise"])
def test_two_requests_that_set_the_same_new_session_otherwise(url: str, conflict: str) -> None:
    """As with any other field: the last one wins and a signal tells, or a 409."""
    site = Site(url, CONFLICT=conflict)

    def view() -> None:
        assert "new" not in site.sessions
        site.ok(lambda: "new" in site.sessions or site.sessions.update(new={"by": "second"}))
        site.sessions["new"] = {"by": "first"}

    with heard(signals.changes_overwritten, site.app) as overwritten:
        response = site.visit(view)
    found = site.stored("new")
    site.close()
    if conflict == "raise":
        problem(response, 409, "conflict")
    else:
        assert (found, [facts["fields"] for facts in overwritten]) == ({"by": "first"}, [("by",)])


def test_who_created_a_session_second_sees_what_the_first_one_wrote(site: Site) -> None:
    def view() -> None:
        history = site.sessions.setdefault("new", [])
        site.ok(lambda: site.sessions.update(new=["theirs"]))
        history.append("mine")
        site.sessions.flush()
        assert (history, site.sessions["new"] is history) == (["theirs", "mine"], True)

    site.ok(view)


def test_a_session_that_is_deleted_meanwhile_is_not_revived(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 2
        site.ok(lambda: site.sessions.pop("s"))

    problem(site.visit(view), 404, "not-found")
    assert site.stored() is None


def test_a_session_that_expires_meanwhile_is_not_revived(site: Site) -> None:
    harness = site.harness()

    def view() -> None:
        site.sessions["s"]["history"].append("late")
        harness.expire("s")

    problem(site.visit(view), 404, "not-found")
    assert site.stored() is None


def test_a_session_that_is_deleted_and_made_anew_meanwhile_is_another_one(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 2
        site.ok(lambda: site.sessions.pop("s"))
        site.ok(lambda: site.sessions.update(s={"another": 1}))

    problem(site.visit(view), 404, "not-found")
    assert site.stored() == {"another": 1}


def test_a_session_that_both_delete_is_gone(site: Site) -> None:
    def view() -> None:
        del site.sessions["s"]
        site.ok(lambda: site.sessions.pop("s"))

    site.ok(view)
    assert site.stored() is None


@pytest.mark.parametrize("mine", ["in a request", "in a scope"])
def test_two_threads_that_have_both_loaded(site: Site, mine: str) -> None:
    barrier = threading.Barrier(2, timeout=10)

    def turn(name: str) -> None:
        session = site.sessions["s"]
        barrier.wait()
        session["history"].append(name)
        session[name] = True
        session["n"] += 1
        barrier.wait()

    def run(name: str) -> None:
        if mine == "in a request":
            return site.ok(lambda: turn(name))
        with site.app.app_context(), site.sessions.scope():
            return turn(name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(run, ["one", "two"]))
    session = site.stored()
    assert (sorted(session["history"][2:]), session["one"], session["two"], session["n"]) == (
        ["one", "two"],
        *[True] * 2,
        3,
    )


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("has_begun", [False, True])
def test_a_thread_with_a_copy_of_the_context_does_not_end_the_request(site: Site, has_begun: bool, fails: bool) -> None:
    """A thread asks the model, as ``copy_current_request_context`` is made for, and the view goes on after it."""

    def view() -> None:
        if has_begun:
            site.sessions["s"]["history"].append("asked")

        @copy_current_request_context
        def ask() -> None:
            site.sessions["s"]["history"].append("in the thread")
            if fails:
                raise ConnectionError

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            assert isinstance(asked.exception(), ConnectionError) == fails
        assert site.stored()["history"] == [USER, BOT], "half a turn is worse than none"
        site.sessions["s"]["history"].append("answered")
        site.sessions["new"] = {"l": []}
        site.sessions["new"]["l"].append(1)

    site.ok(view)
    assert site.stored()["history"][2:] == [*["asked"] * has_begun, "in the thread", "answered"]
    assert site.stored("new") == {"l": [1]}


def test_a_thread_that_outlives_its_request_is_outside_of_it(site: Site) -> None:
    answered = threading.Event()
    with ThreadPoolExecutor(1) as pool:

        def view() -> None:
            site.sessions["s"]["n"] = 5

            @copy_current_request_context
            def later() -> None:
                assert answered.wait(10)
                site.sessions["s"]["n"] = 6  # written at the end of the thread's own context
                site.sessions["late"] = {"n": 7}

            works.append(pool.submit(later))

        works: list[Future[None]] = []
        site.ok(view)
        answered.set()
        works[0].result()
    assert (site.stored()["n"], site.stored("late")) == (6, {"n": 7})


def test_who_is_beaten_again_and_again_still_counts(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole numbers add up however busy a session is. The client of a 409 could not know better."""
    with site.app.app_context():
        observed: Any = site.convstore._access().backend.store
    store, load = observed._store, observed._store.load
    others = iter(range(100, 130))

    def load_and_be_beaten(*arguments: Any, **options: Any) -> Any:
        snapshot = load(*arguments, **options)
        number = next(others, None)
        if number is not None:
            site.ok(lambda: site.convstore.append("s", data={"n": number}))
        return snapshot

    def view() -> None:
        site.sessions["s"]["n"] += 1
        monkeypatch.setattr(store, "load", load_and_be_beaten)
        site.ok(lambda: site.convstore.append("s", data={"n": 99}))

    site.ok(view)
    assert site.stored()["n"] == 130


def test_many_requests_lose_nothing(valkey: Server) -> None:
    site = Site(valkey.url)
    site.put("s", {"count": 0, "history": []})
    site.put("list", [])

    def work(worker: int) -> None:
        for number in range(25):

            def view(number: int = number) -> None:
                session = site.sessions["s"]
                session["history"].append([worker, number])
                session[f"worker {worker}"] = session.get(f"worker {worker}", 0) + 1
                session["count"] += 1

            def also(number: int = number) -> None:
                site.sessions["list"].append([worker, number])

            site.ok(view)
            site.ok(also)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    everything = [[worker, number] for worker in range(8) for number in range(25)]
    session = site.stored()
    assert sorted(session["history"]) == sorted(site.stored("list")) == everything
    assert [number for worker, number in session["history"] if worker == 3] == list(range(25)), (
        "each one's in its order"
    )
    assert {name: value for name, value in session.items() if name != "history"} == {
        "count": 200,
        **{f"worker {worker}": 25 for worker in range(8)},
    }
    site.close()


# ---- scope()


def test_a_scope_is_what_a_request_is(site: Site) -> None:
    with site.app.app_context():
        with site.sessions.scope() as sessions:
            assert sessions is site.sessions
            session = sessions["s"]
            session["n"] = 2
            session["history"].append("said")
            assert sessions["s"] is session
            site.convstore.mapping("notes")["a"] = 5
            assert site.stored()["n"] == 1
        assert (site.stored()["n"], site.stored()["history"]) == (2, [USER, BOT, "said"])
        assert site.convstore.mapping("notes")["a"] == 5
        assert sessions["s"] is not session
        session["n"] = 3
    assert site.stored()["n"] == 2


def test_a_scope_that_raises_writes_nothing(site: Site) -> None:
    with site.app.app_context(), no_writes(site):
        with pytest.raises(Broken), site.sessions.scope():
            site.sessions["s"]["n"] = 2
            site.sessions["new"] = {}
            raise Broken
        assert "new" not in site.sessions
    assert site.stored()["n"] == 1


@pytest.mark.parametrize(
    ("value", "error"), [({1}, NotSerializable), ("x" * 2_000_000, TooLarge), ("conflict", ConflictError)]
)
def test_a_scope_that_cannot_be_written_raises(url: str, value: Any, error: type[Exception]) -> None:
    site = Site(url, CONFLICT="raise")
    site.put("s", {"n": 1})
    with site.app.app_context():
        with pytest.raises(error), site.sessions.scope():
            site.sessions["s"]["n"] = value
            site.sessions["new"] = {}
            if error is ConflictError:
                site.ok(lambda: site.sessions["s"].update(n=2))
        site.sessions["after"] = {}
    assert (site.stored("after"), site.stored()["n"]) == ({}, 2 if error is ConflictError else 1)
    assert error is not NotSerializable or site.stored("new") is None
    site.close()


def test_scopes_in_scopes(site: Site) -> None:
    """Each writes at its own end. The outer one merges with the writes of an inner one."""
    with site.app.app_context(), site.sessions.scope():
        outer = site.sessions["s"]
        outer["history"].append("outer")
        with site.sessions.scope():
            inner = site.sessions["s"]
            assert inner is not outer
            assert inner["history"] == [USER, BOT]
            inner["history"].append("inner")
            inner["inner"] = 1
        assert site.stored()["history"] == [USER, BOT, "inner"]
        with pytest.raises(Broken), site.sessions.scope():
            site.sessions["s"]["never"] = 1
            raise Broken
        assert site.sessions["s"] is outer
        outer["outer"] = 1
    assert site.stored()["history"] == [USER, BOT, "inner", "outer"]
    assert set(site.stored()) == {"n", "deep", "history", "inner", "outer"}


@pytest.mark.parametrize("outer_is", ["a request", "a scope"])
def test_what_an_inner_scope_writes_is_taken_over(site: Site, outer_is: str) -> None:
    def view() -> None:
        session = site.sessions["s"]
        session["mine"] = 1
        with site.sessions.scope():
            site.sessions["s"]["n"] = 2
            site.sessions["s"]["history"].append("inner")
        assert (session["n"], session["mine"], session["history"]) == (2, 1, [USER, BOT, "inner"])

    in_request_or_scope(site, view, outer_is)


@pytest.mark.parametrize("outer_is", ["a request", "a scope"])
def test_what_is_written_in_an_inner_scope_is_taken_over(site: Site, outer_is: str) -> None:
    def view() -> None:
        session = site.sessions["s"]
        with site.sessions.scope():
            site.convstore.append("s", Message("inner"), data={"n": 2})
        assert (session["n"], session["history"]) == (2, [USER, BOT, "inner"])

    in_request_or_scope(site, view, outer_is)


def in_request_or_scope(site: Site, view: View, which: str) -> None:
    if which == "a request":
        site.ok(view)
    else:
        with site.app.app_context(), site.sessions.scope():
            view()


def test_a_scope_in_a_request_writes_though_the_request_fails(site: Site) -> None:
    def view() -> None:
        site.sessions["s"]["n"] = 3
        with site.sessions.scope():
            site.sessions["t"] = {}
        raise Broken

    assert site.visit(view).status_code == 500
    assert (site.stored()["n"], site.stored("t")) == (1, {})


def test_a_scope_is_of_no_matter_to_the_requests_made_in_it(site: Site) -> None:
    """A test that calls its app in a scope, say."""
    with site.app.app_context(), site.sessions.scope():
        site.sessions["s"]["n"] = 5
        site.ok(lambda: site.sessions["s"].update(other=site.sessions["s"]["n"]))
        assert site.stored()["other"] == 1
    assert (site.stored()["n"], site.stored()["other"]) == (5, 1)


def test_flush_in_a_scope(site: Site) -> None:
    with site.app.app_context(), site.sessions.scope():
        site.sessions["s"]["n"] = 2
        site.sessions.flush()
        assert site.stored()["n"] == 2
        site.sessions["s"]["n"] = {5}
        with pytest.raises(NotSerializable):
            site.convstore.mapping("another").flush()
        site.sessions["s"]["n"] = 3
    with site.app.app_context():
        site.sessions.flush()
    assert site.stored()["n"] == 3


# ---- iterating


def test_a_loop_sees_the_caller_s_sessions_only(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    users = site.convstore.mapping("users")
    with site.app.app_context():
        site.convstore.save_session("hers", {}, owner="alice")
        site.convstore.save_session("his", {}, owner="bob")
        assert set(site.sessions) == {"s", "hers", "his"}, "the server's"

    def view() -> None:
        assert (list(site.sessions), len(site.sessions), "hers" in site.sessions) == (["s"], 1, False)
        users["x"] = 1

    site.ok(view)
    monkeypatch.setattr(site.convstore, "_caller", lambda state: "alice")

    def hers() -> None:
        assert (list(site.sessions.items()), "s" in site.sessions, len(users)) == ([("hers", {})], False, 0)
        site.sessions["new"] = {}
        assert sorted(site.sessions) == ["hers", "new"]
        site.sessions.clear(confirm=True)

    site.ok(hers)
    with site.app.app_context():
        assert [site.convstore.get_session(key, owner=ANY) for key in ("hers", "new", "his")] == [None, None, {}]


def test_another_owner_s_session_cannot_be_set(site: Site) -> None:
    with site.app.app_context():
        site.convstore.save_session("hers", {"x": 1}, owner="alice")
    for write in (
        lambda: site.sessions.update(hers={}),
        lambda: site.sessions.setdefault("hers", {}) and None,
    ):
        problem(site.visit(write), 404, "not-found")
    site.ok(lambda: site.sessions.pop("hers", None))
    assert site.stored("hers") == {"x": 1}


def test_a_loop_sees_what_the_request_has_changed(site: Site) -> None:
    def view() -> None:
        site.sessions["new"] = {"x": 1}
        del site.sessions["t"]
        site.sessions["s"]["n"] = 2
        site.sessions["reset"] = []
        assert list(site.sessions)[-1] == "new"
        assert {key: len(value) for key, value in site.sessions.items()} == {"s": 3, "new": 1, "reset": 0}
        assert (len(site.sessions), sorted([*reversed(site.sessions)])) == (3, ["new", "reset", "s"])
        assert {"x": 1} in site.sessions.values()
        assert next(value for key, value in site.sessions.items() if key == "s")["n"] == 2

    site.put("t", {})
    site.put("reset", ["old"])
    site.ok(view)
    assert (site.stored("t"), site.stored("reset")) == (None, [])


@pytest.mark.parametrize("view", ["list", "len", "bool", "items", "values", "copy", "reversed", "=="])
def test_a_loop_is_no_interaction(site: Site, view: str) -> None:
    """To expire by age is what apps loop for."""
    harness = site.harness()
    harness.age(1_000_000)
    before = harness.ends("s")
    looks: dict[str, Callable[[Any], Any]] = {
        "list": list,
        "len": len,
        "bool": bool,
        "reversed": lambda d: [*reversed(d)],
    }
    looks |= {
        "items": lambda d: [*d.items()],
        "values": lambda d: [*d.values()],
        "copy": lambda d: d.copy(),
        "==": lambda d: d == {},
    }
    with no_writes(site):
        site.ok(lambda: looks[view](site.sessions))
    assert harness.ends("s") == before


def test_a_loop_over_more_than_a_page(site: Site) -> None:
    """Each key once, in either direction, also if the loop looks at each, deletes some and adds others."""
    keys = [f"k{number}" for number in range(250)]

    def fill() -> None:
        for number, key in enumerate(keys):
            site.sessions[key] = {"number": number}

    def view() -> None:
        assert sorted(site.sessions) == sorted([*keys, "s"]) == sorted([*reversed(site.sessions)])
        assert (len(site.sessions), len(site.sessions.copy())) == (251, 251)
        assert sorted(value["number"] for key, value in site.sessions.items() if key != "s") == list(range(250))
        seen = []
        for key in site.sessions:
            seen.append(key)
            if site.sessions[key].get("number", 0) % 2:
                del site.sessions[key]
        assert sorted(seen) == sorted([*keys, "s"])

    site.ok(fill)
    site.ok(view)
    site.ok(lambda: [site.sessions.pop(key) for key in reversed(site.sessions) if key != "s"])
    with site.app.app_context():
        assert list(site.sessions) == ["s"]


def test_popitem_takes_another_one_if_somebody_was_faster(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    pop = SessionMapping.pop

    def be_late(d: SessionMapping, key: Any) -> Any:
        monkeypatch.undo()
        site.ok(lambda: pop(site.sessions, key))
        return pop(d, key)

    def view() -> None:
        monkeypatch.setattr(SessionMapping, "pop", be_late)
        assert site.sessions.popitem()[1] == {}
        with pytest.raises(KeyError):
            site.sessions.popitem()

    for session_id in ("s", "t"):
        site.put(session_id, {})
    site.ok(view)


# ---- several stores, several apps


@pytest.fixture
def two_stores(url: str) -> Iterator[tuple[Flask, ConversationStore, ConversationStore]]:
    app = Flask("two")
    app.config.update(CONVSTORE_URL=url, NOTES_URL=url, NOTES_PREFIX="notes:")
    chats, notes = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    yield app, chats, notes
    with app.app_context():
        chats.close()
        notes.close()


@pytest.mark.parametrize("outcome", ["ok", "bad", "raised"])
def test_two_stores_in_one_app(two_stores: tuple[Flask, ConversationStore, ConversationStore], outcome: str) -> None:
    """Their keys never meet. A request writes both or, if one cannot be written, none."""
    app, chats, notes = two_stores

    @app.get("/")
    def view() -> str:
        chats.sessions["s"]["n"] = 2
        notes.sessions["s"] = {"note": 1}
        chats.mapping("m")["s"], notes.mapping("m")["s"] = "chat", "note"
        assert (len(chats.sessions), len(notes.sessions), "t" in notes.sessions) == (2, 1, False)
        if outcome == "bad":
            notes.sessions["bad"] = {"x": {1}}
        if outcome == "raised":
            raise Broken
        return "ok"

    with app.app_context():
        chats.sessions.update(s={"n": 1}, t={})
    response = app.test_client().get("/")
    with app.app_context():
        found = [chats.sessions["s"], notes.sessions.get("s"), chats.mapping("m").get("s"), notes.mapping("m").get("s")]
    if outcome == "ok":
        assert (response.status_code, found) == (200, [{"n": 2}, {"note": 1}, "chat", "note"])
    else:
        assert (response.status_code, found) == (500, [{"n": 1}, None, None, None])


def test_one_object_on_two_apps() -> None:
    """A mapping belongs to the app of the request, also if it was made before the apps."""
    convstore = ConversationStore()
    notes, sessions = convstore.mapping("notes", ttl=50), convstore.sessions
    apps = [Flask("one"), Flask("two")]
    for number, app in enumerate(apps):
        app.config.update(CONVSTORE_URL="memory://")
        convstore.init_app(app)

        @app.get("/")
        def view(number: int = number) -> dict[str, Any]:
            sessions.setdefault("s", []).append(number)
            notes["s"] = number
            other = apps[1 - number].test_client()
            if not request.args:
                assert other.get("/?inner=1").status_code == 200
            return {"seen": sessions["s"], "note": notes["s"]}

    seen = [app.test_client().get("/").json for app in apps]
    assert seen == [{"seen": [0], "note": 0}, {"seen": [1, 1], "note": 1}]
    for number, app in enumerate(apps):
        with app.app_context():
            assert (sessions["s"], notes["s"]) == ([number] * 2, number)
    with pytest.raises(RuntimeError, match="application context"):
        sessions["s"]


def test_a_store_registered_twice_writes_once(url: str) -> None:
    site = Site(url)
    site.convstore.init_app(site.app)
    with heard(signals.session_saved, site.app) as saved:
        site.ok(lambda: site.sessions.update(s=[1]))
    assert len(saved) == 1
    site.close()


def test_writes_of_a_request_are_told_of(site: Site) -> None:
    with heard(signals.messages_appended, site.app) as appended, heard(signals.session_deleted, site.app) as deleted:
        site.put("t", {})
        site.ok(lambda: [site.sessions["s"]["history"].append(USER), site.sessions.pop("t")])
    assert [(facts["session_id"], facts["count"], facts["owner"]) for facts in appended] == [("s", 1, None)]
    assert [facts["session_id"] for facts in deleted] == ["t"]


def test_problems_are_logged_once(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "flask_convstore"):
        site.visit(lambda: site.sessions["s"].update(n={5}))
    assert len([record for record in caplog.records if "cannot be written" in record.message]) == 1


@pytest.mark.parametrize("handled", [ConvstoreError, NotSerializable, Exception, None])
def test_a_failure_at_the_end_of_a_request_goes_through_the_app_s_handler(site: Site, handled: Any) -> None:
    """A client that knows the app's own form of errors gets that one. Without a handler the client gets a problem."""
    if handled:
        site.app.register_error_handler(handled, lambda error: ({"reply": type(error).__name__}, 418))
    response = site.visit(lambda: site.sessions["s"].update(n=object()))
    if handled in (ConvstoreError, Exception):
        assert (response.status_code, response.json) == (418, {"reply": "Unstorable"})
    else:
        problem(response, 500, "not-stored")


def test_a_handler_that_fails_leaves_the_problem(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    def fail(error: Exception) -> str:
        raise ZeroDivisionError("secret")

    site.app.register_error_handler(ConvstoreError, fail)
    problem(site.visit(lambda: site.sessions["s"].update(n=object())), 500, "not-stored")
    assert "the app's error handler failed: ZeroDivisionError" in caplog.text
