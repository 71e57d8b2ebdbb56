"""The extension in applications: factory, several apps, several stores, the helpers, the settings."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Any, cast

import fakeredis
import pytest
import redis
import redis.asyncio
from flask import Flask

import flask_convstore
from flask_convstore import ConversationStore, InvalidInput, delete_session, get_session, save_session
from flask_convstore.domain.messages import Message
from flask_convstore.errors import ConfigurationError
from flask_convstore.stores.redis.index_parts import index_of
from flask_convstore.telemetry.observed_store import ObservedStore

from .servers import Server


def make_app(**config: Any) -> Flask:
    app = Flask("app")
    app.config.update(CONVSTORE_URL="memory://")
    app.config.update(config)
    return app


def test_two_lines_and_it_works() -> None:
    app = make_app()
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    with app.app_context():
        assert save_session("s", {"history": []}).version == 1
        session = get_session("s")
        assert session == {"history": []}
        assert convstore.get_session("s") == session
        assert delete_session("s") is True
        assert delete_session("s") is False


def test_init_app_opens_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def connect(self: object) -> None:
        raise AssertionError("a connection was opened")

    monkeypatch.setattr(redis.Connection, "connect", connect)
    app = make_app(CONVSTORE_URL="redis://127.0.0.1:1/0")
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    state = app.extensions["convstore"]["convstore"]
    assert isinstance(state.client, redis.Redis)
    assert isinstance(state.backend.store, ObservedStore)
    with app.app_context():
        assert convstore.client is state.client


def test_one_object_on_several_apps() -> None:
    convstore = ConversationStore()
    apps = [make_app(CONVSTORE_TTL=ttl) for ttl in (100, 200)]
    for app in apps:
        convstore.init_app(app)
        app.register_blueprint(convstore.blueprint)
    for number, app in enumerate(apps):
        with app.app_context():
            assert get_session("s") is None
            save_session("s", {"n": number})
            assert convstore._access().backend.settings.ttl == (100, 200)[number]
    for number, app in enumerate(apps):
        assert app.test_client().get("/sessions/s").json["data"] == {"n": number}  # type: ignore[index]


def test_several_stores_in_one_app() -> None:
    app = make_app(NOTES_URL="memory://", NOTES_TTL=50)
    chats, notes = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    app.register_blueprint(chats.blueprint)
    app.register_blueprint(notes.blueprint, url_prefix="/notes")
    assert set(app.extensions["convstore"]) == {"convstore", "notes"}
    with app.app_context():
        notes.save_session("s", {"note": 1})
        assert chats.get_session("s") is None
        assert get_session("s") is None, "the helpers mean the store named convstore"
    client = app.test_client()
    assert client.get("/sessions/s").status_code == 404
    assert client.get("/notes/s").status_code == 200
    started = client.post("/notes")
    assert started.headers["Location"] == f"/notes/{started.json['session_id']}"  # type: ignore[index]


def test_two_stores_never_share_their_keys() -> None:
    app = make_app(CONVSTORE_URL="redis://:secret@host/1", NOTES_URL="redis://:secret@host/1")
    ConversationStore(app)
    with pytest.raises(ConfigurationError, match="set NOTES_PREFIX"):
        ConversationStore(app, name="notes", config_prefix="NOTES")
    app.config["NOTES_PREFIX"] = "notes:"
    ConversationStore(app, name="notes", config_prefix="NOTES")
    assert "secret" not in repr(app.extensions)


@pytest.mark.parametrize(
    "other",
    [
        {"PREFIX": "chat:session:map:notes:"},
        {"PREFIX": "chat:session:conversation:"},
        {"PREFIX": "talk:", "CONVERSATION_PREFIX": "chat:session:"},
        {"PREFIX": "chat:session:owner:"},
    ],
)
def test_what_lies_beside_the_sessions_is_shared_neither(other: dict[str, str]) -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL="redis://127.0.0.1:1/0", **{f"OTHER_{name}": text for name, text in other.items()})
    ConversationStore(app)
    with pytest.raises(ConfigurationError, match="OTHER_PREFIX"):
        ConversationStore(app, name="other", config_prefix="OTHER")


def test_a_second_store_lies_beside_the_first(valkey: Server) -> None:
    """Its URL is that of the first, unless it has its own. Its keys are others."""
    app = Flask("app")
    app.config.update(CONVSTORE_URL=valkey.url, NOTES_PREFIX="notes:")
    one, two = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    with app.app_context():
        one.save_message("u", "user", "secret of one")
        two.save_session("s", {})
        assert two.get_conversation("u") == []
        assert not two.clear_conversation("u")
        assert valkey.client.exists("notes:{s}")
        assert one.get_session("s") is None


@pytest.mark.parametrize("prefix", ["notes:", "chat:session:"])
def test_a_session_of_another_store_is_saved_as_a_whole(prefix: str) -> None:
    """Each ``memory://`` is another place, whatever it calls its keys."""
    app = make_app(NOTES_URL="memory://", NOTES_PREFIX=prefix)
    chats, notes = ConversationStore(app), ConversationStore(app, name="notes", config_prefix="NOTES")
    with app.app_context():
        session = chats.save_session("s", {"a": 1})
        assert notes.save_session("s", session) == {"a": 1}
        assert notes.get_session("s") == {"a": 1}
        assert chats.delete_session("s")
        assert notes.get_session("s") == {"a": 1}


def test_a_session_of_another_server_is_saved_as_a_whole() -> None:
    """Also where both apps bring a client of their own, and name no URL."""
    session: Any = {"a": 1}
    for host in ("one", "other"):
        app = Flask(host)
        convstore = ConversationStore(app, client=fakeredis.FakeRedis(host=host))
        with app.app_context():
            session = convstore.save_session("s", session)
            assert convstore.get_session("s") == {"a": 1}


def test_a_shortcut_finds_an_only_store_by_any_name() -> None:
    app = make_app(NOTES_URL="memory://")
    ConversationStore(app, name="notes", config_prefix="NOTES")
    with app.app_context():
        assert save_session("s", {}).version == 1


def test_a_missing_store_is_explained() -> None:
    convstore = ConversationStore()
    with make_app().app_context():
        with pytest.raises(RuntimeError, match="init_app"):
            convstore.get_session("s")
        with pytest.raises(RuntimeError, match="no ConversationStore"):
            get_session("s")
    with pytest.raises(RuntimeError, match="application context"):
        get_session("s")


def test_a_taken_name_is_refused() -> None:
    app = make_app()
    convstore = ConversationStore(app)
    convstore.init_app(app)
    with pytest.raises(ConfigurationError, match="name"):
        ConversationStore(app)


def test_a_second_init_app_takes_the_place_of_the_first() -> None:
    """It reads the settings anew. The work of each request is done once."""
    app = make_app(SECRET_KEY="s", CONVSTORE_ANONYMOUS_OWNER=True)
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    before = dict(app.after_request_funcs), dict(app.teardown_request_funcs)
    counts = [{name: len(functions) for name, functions in one.items()} for one in before]
    app.config["CONVSTORE_TTL"] = 50
    convstore.init_app(app)
    assert [{name: len(functions) for name, functions in one.items()} for one in before] == counts
    with app.app_context():
        assert convstore._access().backend.settings.ttl == 50
    started = app.test_client().post("/sessions")
    assert started.status_code == 201
    assert len(started.headers.getlist("Set-Cookie")) == 1


def test_a_second_init_app_may_bring_anonymous_owners() -> None:
    app = make_app(SECRET_KEY="s")
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    app.config["CONVSTORE_ANONYMOUS_OWNER"] = True
    convstore.init_app(app)
    assert "convstore_owner=" in app.test_client().post("/sessions").headers["Set-Cookie"]


def test_settings_are_refused_together_at_init_app() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ConversationStore(make_app(CONVSTORE_TTL=-1, CONVSTORE_TLL=5))
    assert len(caught.value.problems) == 2
    with pytest.raises(ConfigurationError, match="another word"):
        ConversationStore(config_prefix="CONVSTORE_NOTES")


def test_an_expected_version_that_is_none_is_refused_at_once() -> None:
    app = make_app()
    convstore, version = ConversationStore(app), cast(int, "latest")
    with app.app_context():
        convstore.save_session("s", {})
        with pytest.raises(InvalidInput, match="expected_version"):
            convstore.update_session("s", {"a": 1}, expected_version=version)


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch, valkey: Server) -> None:
    monkeypatch.setenv("REDIS_HOST", "127.0.0.1")
    monkeypatch.setenv("REDIS_PORT", str(valkey.port))
    monkeypatch.setenv("CONVSTORE_PREFIX", "env:")
    app = Flask("app")
    ConversationStore(app)
    with app.app_context():
        save_session("s", {"a": 1})
    assert set(valkey.client.scan_iter()) == {
        b"env:{s}",
        b"env:{s}:tokens",
        index_of("env:", None, "s").active.encode(),
    }


def test_a_client_of_ones_own() -> None:
    client = fakeredis.FakeRedis()
    app = make_app()
    convstore = ConversationStore(app, client=client)
    with app.app_context():
        save_session("s", {"a": 1})
        assert convstore.client is client
    assert client.exists("chat:session:{s}")


class OfValkeyPy:
    """A client of another package, which has the same methods and errors of its own."""

    __module__ = "valkey.client"


@pytest.mark.parametrize(
    ("client", "cure"),
    [
        (fakeredis.FakeRedis(decode_responses=True), "decode_responses=False"),
        (redis.asyncio.Redis(), r"with redis\.Redis\."),
        (OfValkeyPy(), "redis.Redis of redis-py"),
        ("redis://localhost", "CONVSTORE_URL"),
    ],
    ids=["decodes", "asyncio", "valkey-py", "a URL"],
)
def test_a_client_of_another_kind_is_refused_with_the_cure(client: Any, cure: str) -> None:
    with pytest.raises(ConfigurationError, match=cure):
        ConversationStore(make_app(), client=client)


def test_a_fakeredis_without_lua_is_refused_with_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"fakeredis\[lua\]"):
        ConversationStore(make_app(), client=fakeredis.FakeRedis())


def test_owners_in_and_outside_a_request() -> None:
    """Without a loader a request is nobody's: it sees sessions without an owner only."""
    app = make_app()
    convstore = ConversationStore(app)
    app.register_blueprint(convstore.blueprint)
    with app.app_context():
        save_session("hers", {"a": 1}, owner="alice")
        save_session("free", {"a": 2})
        assert get_session("hers") == {"a": 1}
    with app.test_request_context():
        assert get_session("hers") is None
        assert get_session("free") == {"a": 2}
        assert get_session("hers", owner=flask_convstore.ANY) == {"a": 1}
    client = app.test_client()
    assert client.get("/sessions/free").status_code == 200
    stranger, absent = client.get("/sessions/hers"), client.get("/sessions/none")
    assert (stranger.status_code, stranger.data) == (absent.status_code, absent.data)
    assert stranger.status_code == 404


def test_health_and_close() -> None:
    app = make_app()
    convstore = ConversationStore(app)
    with app.app_context():
        assert convstore.client is None
        assert convstore.client is None
        assert convstore.health().connected
        convstore.close()
        assert convstore.health().connected


def test_a_store_made_before_a_fork_serves_the_child(valkey: Server) -> None:
    """gunicorn --preload: connections and nonces are not shared."""
    app = make_app(CONVSTORE_URL=valkey.url)
    ConversationStore(app)
    with app.app_context():
        save_session("s", {"history": []})
        children = []
        for number in range(4):
            child = os.fork()
            if child == 0:
                try:
                    for turn in range(50):
                        app.extensions["convstore"]["convstore"].convstore.append("s", Message(f"{number}:{turn}"))
                finally:
                    os._exit(0)
            children.append(child)
        for child in children:
            os.waitpid(child, 0)
        session = get_session("s")
        assert session is not None
        assert sorted(session["history"]) == sorted(f"{n}:{t}" for n in range(4) for t in range(50))


def test_the_public_names() -> None:
    names = flask_convstore.__all__
    assert names == sorted(names)
    public = {
        name for name, value in vars(flask_convstore).items() if name[0] != "_" and not hasattr(value, "__path__")
    }
    modules = {name for name in public if type(getattr(flask_convstore, name)).__name__ == "module"}
    assert set(names) == public - modules


def test_a_call_that_is_meant_otherwise_names_the_right_one() -> None:
    with pytest.raises(ConfigurationError, match=r"write ConversationStore\(app\)"):
        ConversationStore("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"write @convstore.reply\(last=20\)"):
        ConversationStore().reply(20)  # type: ignore[call-overload]


def test_two_stores_with_the_same_settings_are_told_the_cure() -> None:
    app = Flask("two")
    app.config["CONVSTORE_URL"] = "redis://localhost:1"
    ConversationStore(app)
    with pytest.raises(ConfigurationError, match="config_prefix='MY_NOTES', and set MY_NOTES_PREFIX"):
        ConversationStore(app, name="my notes")
    with pytest.raises(ConfigurationError, match="set NOTES_PREFIX"):
        ConversationStore(app, name="notes", config_prefix="NOTES")


def test_a_lifetime_may_be_a_timedelta(url: str) -> None:
    app = Flask("lifetimes")
    app.config["CONVSTORE_URL"] = url
    convstore = ConversationStore(app)
    with app.app_context():
        convstore.save_session("s", {}, ttl=timedelta(minutes=5))
        convstore.mapping("notes", ttl=timedelta(seconds=90))["n"] = {}
        assert convstore.touch("s", ttl=timedelta(minutes=10))
        session = convstore.get_session("s")
        assert session is not None
        assert 590 < (session.expires_at - session.updated_at).total_seconds() <= 610
        for never in (0, -1, float("inf"), timedelta(0)):
            with pytest.raises(InvalidInput, match=r"for ever.*the longest is 31536000"):
                convstore.touch("s", ttl=never)
