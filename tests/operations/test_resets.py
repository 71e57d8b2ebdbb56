"""A reset that is delivered again spares the conversation that began since."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from flask_convstore import ANY, TokenReused
from flask_convstore.domain.messages import Message

from ..service import OwnedService, Service

Reset = Callable[[Service], Any]


def by_delete(service: Service) -> Any:
    return service.convstore.delete_session("s", token="update 7")


def by_alias(service: Service) -> Any:
    return service.convstore.clear("telegram:7", token="update 7")


def by_chat(service: Service) -> Any:
    return service.convstore.clear_conversation("s", token="update 7")


def by_http(service: Service) -> Any:
    key = {"Idempotency-Key": "update 7"}
    return service.client.delete("/sessions/s", headers=key).status_code == 200


def begin(service: Service, reset: Reset, text: str) -> None:
    message = {"role": "user", "content": text}
    if reset is by_chat:
        service.convstore.save_message("s", "user", text)
    elif reset is by_alias:
        session = service.convstore.resolve("telegram:7", create=True)
        service.convstore.append(session.session_id, message)
    else:
        service.convstore.setdefault("s", {"history": []})
        service.convstore.append("s", message)


def said(service: Service, reset: Reset) -> list[Any]:
    if reset is by_chat:
        return [message["content"] for message in service.convstore.get_conversation("s")]
    session = service.convstore.resolve("telegram:7") if reset is by_alias else service.convstore.get_session("s")
    return [message["content"] for message in session["history"]] if session else []


@pytest.mark.parametrize("there", ["there", "nothing there"])
@pytest.mark.parametrize("reset", [by_delete, by_alias, by_chat, by_http])
def test_a_repeated_reset_gets_its_first_answer_and_deletes_nothing_newer(
    service: Service, reset: Reset, there: str
) -> None:
    """Also where the first one has found nothing."""
    with service.app.app_context():
        if there == "there":
            begin(service, reset, "old")
        first = reset(service)
        assert bool(first) == (there == "there")
        assert reset(service) == first
        begin(service, reset, "new")
        assert reset(service) == first
        assert said(service, reset) == ["new"]


def test_another_token_deletes(service: Service) -> None:
    with service.app.app_context():
        assert not service.convstore.delete_session("s", token="one")
        service.convstore.save_session("s", {})
        assert service.convstore.delete_session("s", token="two")
        assert not service.convstore.delete_session("s", token="one")
        assert service.convstore.get_session("s") is None


def test_a_token_of_another_write_is_refused(service: Service) -> None:
    with service.app.app_context():
        service.convstore.save_session("s", {"history": []})
        service.convstore.append("s", Message("hi"), token="T")
        with pytest.raises(TokenReused):
            service.convstore.delete_session("s", token="T")


def test_a_strangers_reset_is_not_remembered(url: str) -> None:
    """It tells nothing of the session, and leaves nothing there."""
    service = OwnedService(url)
    with service.app.app_context():
        service.convstore.save_session("s", {}, owner="ann")
        assert not service.convstore.delete_session("s", token="T", owner="bob")
        assert service.convstore.delete_session("s", token="T", owner="ann")
        assert not service.convstore.delete_session("s", token="T", owner="bob")
        assert service.convstore.delete_session("s", token="T", owner="ann")
        service.convstore.save_session("s", {}, owner="bob")
        assert service.convstore.delete_session("s", token="T", owner="bob")


def test_an_absence_does_not_tell_of_an_end(service: Service) -> None:
    """Only a session that was there has ended."""
    with service.app.app_context():
        store = service.convstore._access().store
        service.convstore.delete_session("s", token="T")
        assert not store.has_ended("s", ANY)
        service.convstore.save_session("s", {})
        service.convstore.delete_session("s")
        assert store.has_ended("s", ANY)
