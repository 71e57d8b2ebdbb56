"""Functions without a store's name: their arguments are those of the methods, and reach the store."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask

from flask_convstore import (
    ConflictError,
    ConversationStore,
    clear_conversation,
    delete_session,
    get_conversation,
    get_session,
    save_message,
    save_session,
)
from flask_convstore.domain.messages import Message

SHORTCUTS = (save_session, get_session, delete_session, save_message, get_conversation, clear_conversation)


@pytest.fixture
def convstore() -> Iterator[ConversationStore]:
    app = Flask("app")
    app.config["CONVSTORE_URL"] = "memory://"
    convstore = ConversationStore(app)
    with app.app_context():
        yield convstore


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_has_the_signature_of_its_method(shortcut: Callable[..., Any]) -> None:
    method = inspect.signature(getattr(ConversationStore, shortcut.__name__))
    _, *parameters = method.parameters.values()
    assert inspect.signature(shortcut) == method.replace(parameters=parameters)


@pytest.mark.parametrize("shortcut", SHORTCUTS)
def test_a_shortcut_explains_its_options(shortcut: Callable[..., Any]) -> None:
    text = inspect.getdoc(shortcut) or ""
    options = [name for name, one in inspect.signature(shortcut).parameters.items() if one.kind is one.KEYWORD_ONLY]
    assert [name for name in options if f"{name}: " not in text and f"*{name}*" not in text] == []
    assert "Raises:" in text


def test_get_session_loads_the_last_messages(convstore: ConversationStore) -> None:
    save_session("s", {"history": ["one", "two", "three"]}, ttl=50, owner="ada")
    session = get_session("s", last=2, owner="ada")
    assert session is not None
    assert session["history"] == ["two", "three"]
    assert get_session("s", owner="bob") is None


def test_delete_session_deletes_an_expected_version_only(convstore: ConversationStore) -> None:
    save_session("s", {}, owner="ada")
    convstore.append("s", Message("hi"), owner="ada")
    with pytest.raises(ConflictError):
        delete_session("s", expected="1", owner="ada")
    assert delete_session("s", expected="2", owner="ada")
    assert not delete_session("s", owner="ada")


def test_save_message_takes_metadata_and_a_token(convstore: ConversationStore) -> None:
    for _ in range(2):
        receipt = save_message("ada", "user", "hi", metadata={"channel": "web"}, token="t", owner="ada")
    assert receipt.repeated
    save_message("ada", "assistant", "hello", owner="ada")
    assert get_conversation("ada", last=1, owner="ada") == [{"role": "assistant", "content": "hello"}]
    assert len(get_conversation("ada", owner="ada")) == 2
    assert get_conversation("ada", owner="bob") == []
    assert clear_conversation("ada", owner="ada")
    assert not clear_conversation("ada", owner="ada")


def test_save_message_stores_the_metadata(convstore: ConversationStore) -> None:
    save_message("ada", "user", "hi", metadata={"channel": "web"})
    snapshot = convstore._chats().load("ada")
    assert snapshot is not None
    assert b'"channel":"web"' in snapshot.elements[0]
