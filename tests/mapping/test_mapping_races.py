"""Races of a mapping with other operations, copies, other requests, and the ends of requests."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, request

from flask_convstore import SessionMoved, SessionNotFound, StoreUnavailable
from flask_convstore.domain.messages import Message
from flask_convstore.stores.redis.index_parts import index_of

from ..servers import Server
from ..service import Service
from ..telemetry.test_signals import heard
from ..wire import Proxy


@pytest.fixture
def service(url: str) -> Service:
    return Service(url)


def visit(service: Service, view: Callable[[], Any], path: str = "/view") -> Any:
    """Answer a request by *view*, in an app that has answered other requests before."""
    app = service.app
    app._got_first_request = False
    name = f"view{len(app.view_functions)}"
    app.add_url_rule(f"{path}/{name}", name, lambda: view() or "ok", methods=["GET", "POST"])
    return app.test_client().get(f"{path}/{name}")


def ok(service: Service, view: Callable[[], Any]) -> None:
    response = visit(service, view)
    assert response.status_code == 200, response.text


def elsewhere(service: Service, call: Callable[[], Any]) -> None:
    """Write as another process would."""

    def run() -> None:
        with service.app.app_context():
            call()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


def stored(service: Service, session_id: str = "s") -> Any:
    with service.app.app_context():
        return service.convstore.get_session(session_id)


@pytest.mark.parametrize("what", ["the session", "a copy as a dict", "a copy", "twice", "a slice"])
def test_a_value_of_the_mapping_may_be_saved_by_save_session(service: Service, what: str) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    content: Any = [1, 2, 3] if what == "a slice" else {"n": 0, "history": []}
    with service.app.app_context():
        store.save_session("s", content)

    def view() -> None:
        session = sessions["s"]
        if what == "a slice":
            session.append("user")
            store.save_session("s", session[-2:])
            assert sessions["s"] == [3, "user"]
            return
        for _ in range(2 if what == "twice" else 1):
            session["history"].append("user")
            session["n"] += 1
            saved = {"a copy as a dict": dict(session), "a copy": session.copy()}.get(what, session)
            elsewhere(service, lambda: store.append("s", Message("theirs")))
            store.save_session("s", saved)
        session["history"].append("later")

    ok(service, view)
    expected = {
        "a slice": [3, "user"],
        "twice": {"n": 2, "history": ["theirs", "user", "theirs", "user", "later"]},
        "a copy as a dict": {"n": 1, "history": ["user", "later"]},  # a plain dict replaces
    }
    assert stored(service) == expected.get(what, {"n": 1, "history": ["theirs", "user", "later"]})


@dataclasses.dataclass
class Chat:
    messages: list[Any] = dataclasses.field(default_factory=list)
    n: int = 0


@pytest.mark.parametrize("how", ["an inner scope", "somebody was faster", "an answer was lost"])
def test_a_value_stays_one_and_the_same_object(server: Server, how: str) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        service = Service(proxy.url, RETRIES=0)
        chats = service.convstore.mapping("chats", load=Chat, history_key="messages")
        if how != "somebody was faster":
            with service.app.app_context():
                chats["k"] = Chat(["a"])

        def view() -> None:
            chat = chats.setdefault("k", Chat())
            if how == "an inner scope":
                with chats.scope():
                    chats["k"].n += 1
            elif how == "somebody was faster":
                elsewhere(service, lambda: chats.update(k=Chat(["a"], n=1)))
                chat.messages.append("first")
                chats.flush()
            else:
                chat.messages.append("first")
                proxy.faults = ["lost reply"]
                with pytest.raises(StoreUnavailable):
                    chats.flush()
            chat.messages.append("mine")
            assert chats["k"] is chat

        ok(service, view)
        with service.app.app_context():
            expected = {
                "an inner scope": Chat(["a", "mine"], 1),
                "somebody was faster": Chat(["a", "first", "mine"], 1),
            }
            assert chats["k"] == expected.get(how, Chat(["a", "first", "mine"], 0))


@pytest.mark.parametrize("made", ["slice", "copy", "or"])
def test_an_older_copy_takes_over_the_writes_of_others(service: Service, made: str) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", ["a", "b"] if made == "slice" else {"n": 0, "history": ["a", "b"]})

    def view() -> None:
        session = sessions["s"]
        new = {"slice": lambda: session[-20:], "copy": session.copy, "or": lambda: session | {"n": session["n"] + 1}}[
            made
        ]()
        theirs = None if made == "slice" else {"n": 5}
        elsewhere(service, lambda: store.append("s", Message("THEIRS"), data=theirs))
        store.append("s", Message("own door"))
        (new if made == "slice" else new["history"]).append("mine")
        sessions["s"] = new

    ok(service, view)
    history = ["a", "b", "THEIRS", "own door", "mine"]
    expected = {"slice": history, "copy": {"n": 5, "history": history}, "or": {"n": 6, "history": history}}
    assert stored(service) == expected[made]


def test_compact_takes_along_messages_added_meanwhile(service: Service) -> None:
    store = service.convstore
    with service.app.app_context():
        store.save_session("s", {"n": 1, "history": ["1", "2", "3"]})
        store.link("web:1", "s")

        def summary(left_out: list[Any]) -> str:
            elsewhere(service, lambda: store.append("s", Message("said"), data={"n": 2, "new": True}))
            return "sum"

        new = store.compact("s", summary, keep=1)
        assert new == {"n": 2, "new": True, "history": [{"role": "system", "content": "sum"}, "3", "said"]}
        led = store.resolve("web:1")
        assert led is not None
        assert led.session_id == new.session_id


def test_compact_and_fork_take_along_the_changes_of_the_request(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"history": ["1"]})
    found = {}

    def view() -> None:
        sessions["s"]["history"].append("2")
        found["fork"] = store.fork("s")["history"]
        sessions["s"]["history"].append("3")
        found["compact"] = store.compact("s", "sum")["history"][1:]

    ok(service, view)
    assert found == {"fork": ["1", "2"], "compact": ["1", "2", "3"]}


def test_no_operation_adds_a_message_to_a_compacted_session(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"history": ["1"]})
        held: Any = store.get_session("s")
        new = store.compact("s", "sum")
        held["history"].append("2")
        with pytest.raises(SessionMoved):
            store.save_session("s", held)
    response = visit(service, lambda: sessions["s"]["history"].append("2"))
    assert (response.status_code, response.json["session_id"]) == (409, new.session_id)
    with service.app.app_context():
        store.save_session("s", {"history": []})  # a new session under the old name
        store.append("s", Message("2"))
        assert store.get_session("s") == {"history": ["2"]}


@pytest.mark.parametrize("way", ["setdefault", "if not in", "default"])
def test_a_history_begun_by_two_requests_begins_once(service: Service, way: str) -> None:
    sessions = service.convstore.mapping("m", default=lambda: ["SYSTEM"])

    def add(text: str) -> None:
        if way == "setdefault":
            sessions.setdefault("s", ["SYSTEM"]).append(text)
        elif way == "if not in":
            if "s" not in sessions:
                sessions["s"] = ["SYSTEM"]
            sessions["s"].append(text)
        else:
            sessions["s"].append(text)

    def view() -> None:
        assert "s" not in sessions
        ok(service, lambda: add("theirs"))
        add("mine")

    ok(service, view)
    with service.app.app_context():
        assert sessions["s"] == ["SYSTEM", "theirs", "mine"]


def test_times_are_set_and_not_counted(service: Service) -> None:
    sessions = service.convstore.sessions
    with service.app.app_context():
        sessions["s"] = {"last": 1_700_000_000, "count": 1}

    def view() -> None:
        session = sessions["s"]
        ok(service, lambda: sessions["s"].update(last=1_750_000_000, count=2))
        session.update(last=1_750_000_001, count=2)

    ok(service, view)
    assert stored(service) == {"last": 1_750_000_001, "count": 3}


@pytest.mark.parametrize("when", ["teardown", "preserved", "no response"])
def test_a_change_after_the_request_is_written_at_once(url: str, when: str) -> None:
    service = Service(url)
    sessions = service.convstore.sessions
    if when == "teardown":

        @service.app.teardown_request
        def late(error: BaseException | None) -> None:
            if request.path != "/free":
                sessions["s"] = {"n": 1}

        ok(service, lambda: None)
    elif when == "preserved":
        with service.app.test_client() as client:
            client.get("/nothing")
            sessions["s"] = {"n": 1}
            service.convstore.append("s", data={"n": 2})
            assert sessions["s"] == {"n": 2}
            sessions["s"] = {"n": 1}
    else:
        with service.app.test_request_context():
            sessions["s"] = {"n": 0}
            sessions["s"]["n"] += 1
    assert stored(service) == {"n": 1}


def test_a_failed_request_voids_no_other_in_its_environment(url: str) -> None:
    service = Service(url)
    failures = iter([True, False])

    @service.app.get("/flaky")
    def flaky() -> str:
        service.convstore.sessions["s"] = {"n": 1}
        if next(failures):
            raise RuntimeError
        return "ok"

    inner = service.app.wsgi_app

    def retrying(environ: Any, start_response: Any) -> Any:
        codes: list[str] = []
        parts = b"".join(inner(environ, lambda status, headers, info=None: codes.append(status)))  # type: ignore[arg-type]
        if codes[0].startswith("500"):
            return inner(environ, start_response)
        start_response(codes[0], [])
        return [parts]

    service.app.wsgi_app = retrying  # type: ignore[method-assign]
    assert service.client.get("/flaky").data == b"ok"
    assert stored(service) == {"n": 1}


def test_held_parts_of_a_session_are_brought_up_to_date_too(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"profile": {"a": 1, "tags": [], "old": 1}})

    def view() -> None:
        profile = sessions["s"]["profile"]
        tags = profile["tags"]
        store.append("s", data={"profile": {"a": 1, "b": 2, "tags": ["x"]}})
        profile["c"] = 3
        tags.append("y")

    ok(service, view)
    assert stored(service) == {"profile": {"a": 1, "b": 2, "c": 3, "tags": ["x", "y"]}}


def test_a_session_saved_after_a_removal_stays(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"n": 1})

    def view() -> None:
        del sessions["s"]
        store.save_session("s", {"n": 2})
        assert sessions["s"] == {"n": 2}

    ok(service, view)
    assert stored(service) == {"n": 2}


def test_a_removal_deletes_only_the_session_that_was_seen(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"n": 1})

    def view() -> None:
        del sessions["s"]
        elsewhere(service, lambda: store.delete_session("s"))
        elsewhere(service, lambda: store.save_session("s", {"successor": True}))

    ok(service, view)
    assert stored(service) == {"successor": True}


def test_a_failed_end_of_a_stream_is_written_or_logged(service: Service) -> None:
    sessions = service.convstore.sessions
    with service.app.app_context():
        sessions["s"] = ["user"]

    class Parts:
        def __init__(self, history: list[Any]) -> None:
            self._history = history

        def __iter__(self) -> Iterator[str]:
            self._history.append("partial")
            yield "part"

        def close(self) -> None:
            raise RuntimeError("close")

    def view() -> Response:
        return Response(Parts(sessions["s"]))

    with heard(service), pytest.raises(RuntimeError, match="close"), visit(service, view) as response:
        next(response.response)
    assert stored(service) == ["user", "partial"]


def test_a_listing_that_is_refused_is_not_an_empty_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from redis.exceptions import ResponseError

    service = Service(server.url, FALLBACK="none")
    with service.app.app_context():
        service.convstore.save_session("s", {})
        store: Any = service.convstore._access().backend.store
        while not hasattr(store, "_calls"):
            store = store._store
        calls = store._calls
        refusal = ResponseError("BUSY Redis is busy running a script")
        monkeypatch.setattr(calls, "commands", lambda commands: [refusal for _ in commands])
        with pytest.raises(StoreUnavailable):
            service.convstore.list_sessions()


def test_a_failed_index_is_named_and_the_session_is_written(server: Server) -> None:
    service = Service(server.url)
    server.client.set(index_of("chat:session:", None, "s").active, "foreign", px=100_000)
    with service.app.app_context():
        with pytest.raises(Exception, match=r"chat:session:owner:\{!") as caught:
            service.convstore.save_session("s", {"n": 1})
        assert caught.value.written is True  # type: ignore[attr-defined]
        assert service.convstore.get_session("s") == {"n": 1}


def test_a_write_whose_answer_was_lost_updates_the_mapping(server: Server) -> None:
    """redis-py repeats the call, whose token is known then."""
    with Proxy(("127.0.0.1", server.port)) as proxy:
        service = Service(proxy.url)
        with service.app.app_context():
            service.convstore.save_session("s", [])

        def view() -> None:
            session = service.convstore.sessions["s"]
            proxy.faults = ["lost reply"]
            receipt = service.convstore.append("s", Message("once"))
            assert (receipt.repeated, session) == (False, ["once"])

        with heard(service) as found:
            ok(service, view)
        assert [name for name, _ in found] == ["messages-appended"]


def test_a_reply_whose_answer_was_lost_sends_its_signals_once(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        service = Service(proxy.url)
        with service.app.app_context():
            service.convstore.save_session("s", [])
            for faults in ([], ["lost reply"]):  # first teach the server its scripts
                with heard(service) as found, service.convstore.turn("s", "hi") as turn:
                    proxy.faults = list(faults)  # type: ignore[arg-type]
                    turn.reply("hello")
                assert [name for name, _ in found] == ["messages-appended", "messages-appended"]


def test_an_alias_outlives_a_long_session_from_its_beginning(server: Server) -> None:
    service = Service(server.url)
    day = 24 * 3600 * 1000
    with service.app.app_context():
        session = service.convstore.resolve("web:1", create=True, ttl=60 * 24 * 3600)
        key = "chat:session:alias:{:web:1}"
        assert 60 * day < server.client.pttl(key) <= 61 * day
        service.convstore.save_session(session.session_id, {"n": 1}, ttl=70 * 24 * 3600)
        assert 70 * day < server.client.pttl(key) <= 71 * day


def test_a_caller_without_an_owner_takes_no_alias_of_the_server(url: str) -> None:
    service = Service(url)
    store = service.convstore
    with service.app.app_context():
        store.save_session("hers", {"secret": 1}, owner="alice")
        store.link("job", "hers")

    def view() -> None:
        assert store.resolve("job") is None
        with pytest.raises(SessionNotFound, match=r"alias 'job' leads to a session of another owner.*owner=ANY"):
            store.resolve("job", create=True)

    ok(service, view)
    with service.app.app_context():
        assert store.resolve("job") == {"secret": 1}


def test_a_failed_update_of_the_mapping_spoils_no_operation(service: Service) -> None:
    store, sessions = service.convstore, service.convstore.sessions
    with service.app.app_context():
        store.save_session("s", {"history": ["a"]})

    def view() -> None:
        sessions["s"]["history"] = ("a", "mine")
        assert store.append("s", Message("theirs")).version == 2

    ok(service, view)
    assert stored(service) == {"history": ["a", "theirs", "mine"]}


def test_two_apps_have_units_of_their_own() -> None:
    """A request inside of a request of another app."""
    one, two = Service("memory://"), Service("memory://")

    def view() -> None:
        one.convstore.sessions["s"] = {"n": 1}
        ok(two, lambda: two.convstore.sessions.update(s={"n": 2}))
        assert one.convstore.sessions["s"] == {"n": 1}

    ok(one, view)
    assert (stored(one), stored(two)) == ({"n": 1}, {"n": 2})
    assert isinstance(one.app, Flask)
