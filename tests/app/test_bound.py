"""A store bound to an app, and one without: threads, jobs, several apps, and whose sessions they see."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from flask import Flask, Response, request

from flask_convstore import (
    ANY,
    BoundStore,
    ConfigurationError,
    ConversationStore,
    InvalidInput,
    NotSerializable,
    open_store,
)
from flask_convstore.operations.conversations import Conversations

from ..service import OwnedService, Service


def in_thread(function: Callable[[], Any]) -> Any:
    """Run *function* in a thread without any context. Return what it returns."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function).result()


def write(store: BoundStore, text: str) -> None:
    store.append("s", text, create=True)
    store.save_message("chat", "user", text)
    store.sessions["mapped"] = {"history": []}


@pytest.fixture
def owned(url: str) -> OwnedService:
    return OwnedService(url, PREFIX="owned:")


def test_a_thread_without_a_context_works_on_the_app_it_was_given(url: str) -> None:
    convstore, apps = ConversationStore(), [Flask("one"), Flask("two")]
    for app in apps:
        app.config.update(CONVSTORE_URL=url, CONVSTORE_PREFIX=f"{app.name}:")
        convstore.init_app(app)
    with pytest.raises(RuntimeError, match=r"convstore\.on\(app\)"):
        in_thread(lambda: convstore.append("s", "hi", create=True))
    for app in apps:
        in_thread(partial(write, convstore.on(app), app.name))
    for app in apps:
        with app.app_context():
            session = convstore.get_session("s")
            assert session is not None
            assert session["history"] == [{"role": "user", "content": app.name}]
            assert len(convstore.get_conversation("chat")) == 1
            assert convstore.sessions["mapped"] == {"history": []}


def test_a_changed_value_of_the_bound_mapping_is_written(url: str) -> None:
    service = Service(url)
    store = service.convstore.on(service.app)
    store.save_session("s", {"history": [], "seen": {}})

    def change() -> None:
        store.sessions["s"]["seen"]["a"] = 1
        store.sessions.flush()

    in_thread(change)
    assert store.get_session("s") == {"history": [], "seen": {"a": 1}}


def test_a_store_bound_in_a_view_goes_on_for_the_owner_of_the_view(owned: OwnedService) -> None:
    left: list[BoundStore] = []

    @owned.app.post("/begin")
    def begin() -> str:
        left.append(owned.convstore.on(owned.app))
        return str(in_thread(lambda: left[-1].append("s", "from a thread", create=True).session_id))

    for owner in ("ada", None):
        owned.client.post("/begin", headers={"X-Owner": owner} if owner else {})
    ada, nobody = left
    assert in_thread(lambda: [one.session_id for one in ada.list_sessions().sessions]) == ["s"]
    assert in_thread(lambda: ada.get_session("s")) is not None
    assert in_thread(lambda: nobody.get_session("s")) is None, "it is ada's"
    assert in_thread(lambda: nobody.get_session("s", owner=ANY)) is not None


def test_in_a_request_the_bound_store_is_the_one_of_the_caller(owned: OwnedService) -> None:
    """A module may bind a store once, and use it in views. It must not become the server's there."""
    store = owned.convstore.on(owned.app)
    adas = owned.convstore.on(owned.app, owner="ada")
    store.save_session("s", {}, owner="ada")

    @owned.app.get("/look")
    def look() -> dict[str, bool]:
        return {"bound": store.exists("s"), "to ada": adas.exists("s"), "anybody's": store.exists("s", owner=ANY)}

    @owned.app.get("/stream")
    def stream() -> Response:
        return Response(f"{store.exists('s')}" for _ in range(1))

    of_bob = {"X-Owner": "bob"}
    assert owned.client.get("/look", headers=of_bob).json == {"bound": False, "to ada": False, "anybody's": True}
    assert owned.client.get("/stream", headers=of_bob).text == "False"
    assert store.exists("s")
    assert adas.exists("s")
    assert not owned.convstore.on(owned.app, owner="bob").exists("s")


def test_another_apps_context_within_a_request_changes_no_owner(owned: OwnedService) -> None:
    other = Service("memory://")
    store = owned.convstore.on(owned.app)
    store.save_session("s", {}, owner="ada")

    @owned.app.get("/within")
    def look() -> list[bool]:
        with other.app.app_context():
            return [store.exists("s")]

    assert owned.client.get("/within", headers={"X-Owner": "bob"}).json == [False]
    assert owned.client.get("/within", headers={"X-Owner": "ada"}).json == [True]


def test_in_a_request_of_another_app_the_bound_store_stays_with_its_owner(owned: OwnedService) -> None:
    other = OwnedService("memory://")
    owned.convstore.on(owned.app).save_session("s", {}, owner="ada")
    stores = [owned.convstore.on(owned.app, owner=owner) for owner in ("ada", "bob")]

    @other.app.get("/other")
    def look() -> list[bool]:
        late = owned.convstore.on(owned.app)
        return [store.exists("s") for store in (*stores, late)]

    assert other.client.get("/other", headers={"X-Owner": "bob"}).json == [True, False, True]


def test_an_app_without_the_store_is_refused() -> None:
    with pytest.raises(RuntimeError, match="init_app"):
        ConversationStore().on(Flask("bare"))


@pytest.mark.parametrize("owner", ["", 7, "a\nb"])
def test_a_bad_owner_is_refused_at_once(owner: Any) -> None:
    service = Service("memory://")
    with pytest.raises(InvalidInput):
        service.convstore.on(service.app, owner=owner)


def test_the_current_app_may_be_given(service: Service) -> None:
    from flask import current_app

    with service.app.app_context():
        store = service.convstore.on(current_app)
    in_thread(lambda: store.append("s", "hi", create=True))
    assert store.exists("s")


# ---- open_store


def test_a_script_and_an_app_share_sessions(url: str, tmp_path: Path) -> None:
    if url.startswith("memory"):
        pytest.skip("each memory:// is a store of its own")
    service = Service(url, PREFIX="chat:")
    with open_store(url, folder=tmp_path, prefix="chat:") as store:
        store.append("s", "from a script", create=True, owner="ada")
        store.sessions["s"]["mood"] = "good"  # written at the end of the block
    with service.app.app_context():
        session = service.convstore.get_session("s", owner="ada")
    assert session == {"history": [{"role": "user", "content": "from a script"}], "mood": "good"}
    assert list(tmp_path.iterdir()) == []


def test_a_block_that_raises_drops_its_changes_and_no_others() -> None:
    one, other = open_store("memory://"), open_store("memory://")
    for store in (one, other):
        store.save_session("s", {"n": 1, "history": []})
    with one, other:
        other.sessions["s"]["n"] = 2
        with pytest.raises(ZeroDivisionError), one:
            one.sessions["s"]["n"] = 99
            one.sessions["new"] = {}
            1 / 0  # noqa: B018
        one.sessions["s"]["history"].append("kept")
    assert (one.get_session("s"), other.get_session("s")) == ({"n": 1, "history": ["kept"]}, {"n": 2, "history": []})
    assert one.get_session("new") == {}, "an assignment is written at once"


def test_threads_may_be_in_blocks_of_one_store() -> None:
    """Each has its own changes, and the connections stay open until the last one leaves."""
    store = open_store("memory://")
    store.save_session("a", {"n": 0})
    store.save_session("b", {"n": 0})
    entered, may_leave = threading.Event(), threading.Event()

    def work() -> None:
        with store:
            store.sessions["a"]["n"] = 1
            entered.set()
            assert may_leave.wait(10)

    with ThreadPoolExecutor(1) as pool:
        working = pool.submit(work)
        assert entered.wait(10)
        with pytest.raises(ZeroDivisionError), store:
            store.sessions["b"]["n"] = 1
            1 / 0  # noqa: B018
        may_leave.set()
        working.result()
    assert (store.get_session("a"), store.get_session("b")) == ({"n": 1}, {"n": 0})


def test_a_change_that_cannot_be_written_is_told_once() -> None:
    store = open_store("memory://")
    store.save_session("s", {})
    with pytest.raises(NotSerializable), store:
        store.sessions["s"]["bad"] = object()
    with store, open_store("memory://"):
        pass
    assert store.get_session("s") == {}


def test_settings_are_those_of_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_URL", "memory://")
    monkeypatch.setenv("CONVSTORE_TTL", "77")
    store = open_store(max_message_bytes=2000)
    settings = store._state().settings
    assert (settings.url, settings.ttl, settings.max_message_bytes, settings.fallback) == (
        "memory://",
        77,
        2000,
        "none",
    )
    monkeypatch.setenv("CONVSTORE_FALLBACK", "memory")
    assert open_store()._state().settings.fallback == "memory"
    assert open_store(fallback="none")._state().settings.fallback == "none"
    with pytest.raises(ConfigurationError, match=r"CONVSTORE_PREFX.*CONVSTORE_PREFIX"):
        open_store("memory://", prefx="x")


def test_an_open_store_inside_of_an_app_is_not_the_apps(owned: OwnedService) -> None:
    store = open_store("memory://", owner="ada")

    @owned.app.get("/beside")
    def beside() -> dict[str, Any]:
        store.save_session("mine", {"of": request.path})
        return {"ours": owned.convstore.exists("mine"), "owners": [owned.convstore.caller(), store.owner]}

    assert owned.client.get("/beside", headers={"X-Owner": "bob"}).json == {"ours": False, "owners": ["bob", "ada"]}
    assert store.get_session("mine", owner="ada") == {"of": "/beside"}


def test_threads_share_an_open_store() -> None:
    store = open_store("memory://")
    store.save_session("s", {"history": []})
    threads = [threading.Thread(target=store.append, args=("s", f"{number}")) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    session = store.get_session("s")
    assert session is not None
    assert len(session["history"]) == 8


def test_a_bound_store_has_all_operations() -> None:
    names = {name for name, _ in inspect.getmembers(Conversations, inspect.isfunction) if name[0] != "_"}
    assert names <= set(dir(BoundStore))
