"""save_message, get_conversation, clear_conversation: chats by a key of the app's own."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Flask

import flask_convstore
from flask_convstore import ConfigurationError, ConversationStore, InvalidInput, NotSerializable, TokenReused

from ..servers import Server
from ..service import Service
from ..wire import Proxy


def test_a_chat_begins_with_its_first_message(url: str) -> None:
    service = Service(url)
    with service.app.app_context():
        assert flask_convstore.get_conversation("ada") == []
        receipt = flask_convstore.save_message("ada", "user", "hi")
        assert (receipt.version, receipt.first_seq) == (1, 1)
        flask_convstore.save_message("ada", "assistant", [{"type": "text", "text": "hello"}])
        assert flask_convstore.get_conversation("ada") == [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": [{"type": "text", "text": "hello"}]},
        ]
        assert flask_convstore.get_conversation("ada", last=1)[0]["role"] == "assistant"
        assert flask_convstore.get_conversation("bob") == []
        assert service.convstore.get_session("ada") is None  # chats are apart from the sessions
        assert flask_convstore.clear_conversation("ada")
        assert not flask_convstore.clear_conversation("ada")
        assert flask_convstore.get_conversation("ada") == []


@pytest.mark.parametrize("key", [42, ("slack", 7), None, "health", ""])
def test_a_key_is_any_key_of_the_app(url: str, key: Any) -> None:
    service = Service(url)
    with service.app.app_context():
        service.convstore.save_message(key, "user", "hi")
        assert len(service.convstore.get_conversation(key)) == 1
        assert service.convstore.get_conversation(str(key) + "x") == []
        assert service.convstore.clear_conversation(key)


def test_each_call_is_one_round_trip(server: Server) -> None:
    with Proxy(("127.0.0.1", server.port)) as proxy:
        service = Service(proxy.url)
        calls = (
            lambda: service.convstore.save_message("new", "user", "begins"),
            lambda: service.convstore.save_message("new", "user", "goes on"),
            lambda: service.convstore.get_conversation("new"),
            lambda: service.convstore.clear_conversation("new"),
        )
        with service.app.app_context():
            for call in calls:  # now the server knows the scripts
                call()
            for call in calls:
                proxy.reset()
                call()
                assert proxy.round_trips == 1


def test_chats_have_their_own_keys_and_lifetime(server: Server) -> None:
    service = Service(server.url, TTL=60)
    with service.app.app_context():
        with server.moment() as moment:
            service.convstore.save_message("ada", "user", "hi")
        key = "chat:session:conversation:{ada}"
        assert set(server.client.scan_iter()) >= {key.encode(), f"{key}:history".encode()}
        assert not list(server.client.scan_iter(match="chat:session:{*"))
        assert server.end_of(key) - 7 * 24 * 3_600_000 in moment
    service = Service(server.url, CONVERSATION_TTL=100, CONVERSATION_PREFIX="talk:")
    with service.app.app_context():
        with server.moment() as moment:
            service.convstore.save_message("ada", "user", "hi")
        assert server.end_of("talk:{ada}") - 100_000 in moment


def test_overlapping_prefixes_are_refused() -> None:
    app = Flask("app")
    app.config.update(CONVSTORE_URL="memory://", CONVSTORE_PREFIX="a:", CONVSTORE_CONVERSATION_PREFIX="a:map:x:")
    with pytest.raises(ConfigurationError, match="CONVERSATION_PREFIX"):
        ConversationStore(app)


def test_concurrent_first_messages_all_land(url: str) -> None:
    service = Service(url)
    barrier = threading.Barrier(8)

    def work(name: int) -> None:
        with service.app.app_context():
            barrier.wait()
            for number in range(10):
                service.convstore.save_message("room", "user", f"{name}-{number}")

    threads = [threading.Thread(target=work, args=(name,)) for name in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with service.app.app_context():
        said = [message["content"] for message in service.convstore.get_conversation("room")]
    assert len(said) == 80
    for name in range(8):
        assert [text for text in said if text.startswith(f"{name}-")] == [f"{name}-{number}" for number in range(10)]


def test_chats_of_two_owners_are_apart(url: str) -> None:
    service = Service(url)
    with service.app.app_context():
        service.convstore.save_message("k", "user", "hers", owner="alice")
        assert service.convstore.get_conversation("k", owner="bob") == []
        assert not service.convstore.clear_conversation("k", owner="bob")
        assert len(service.convstore.get_conversation("k", owner="alice")) == 1


def test_a_message_with_a_token_is_added_once(url: str) -> None:
    service = Service(url)
    with service.app.app_context():
        for _ in range(2):
            receipt = service.convstore.save_message("k", "user", "hi", token="update-77")
        assert receipt.repeated
        assert len(service.convstore.get_conversation("k")) == 1
        with pytest.raises(TokenReused):
            service.convstore.save_message("k", "user", "other", token="update-77")


def test_a_message_that_cannot_be_stored_is_refused(url: str) -> None:
    service = Service(url)
    with service.app.app_context():
        with pytest.raises(InvalidInput, match="role"):
            service.convstore.save_message("k", "", "hi")
        with pytest.raises(NotSerializable):
            service.convstore.save_message("k", "user", {1, 2})
        assert service.convstore.get_conversation("k") == []
