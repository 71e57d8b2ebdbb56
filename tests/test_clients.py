"""URL > client: every option is stated, nothing connects, bad URLs are refused without showing the password."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import redis

from flask_convstore.clients import connect, patience_of
from flask_convstore.config import Settings
from flask_convstore.errors import ConfigurationError
from flask_convstore.redis_calls import Patience

from .servers import running

HERE = Path()


def options(url: str, **settings: Any) -> dict[str, Any]:
    return dict(connect(Settings(url=url, **settings), HERE).connection_pool.connection_kwargs)


@pytest.mark.parametrize("url", ["redis://host", "rediss://host", "unix:///tmp/none"])
def test_timeouts_and_retries_are_stated(url: str) -> None:
    stated = options(url, connect_timeout=1.5, command_timeout=2.5, retries=7)
    assert stated["socket_connect_timeout"] == 1.5
    assert stated["socket_timeout"] == 2.5
    assert stated["retry"].get_retries() == 0  # Calls repeats, within a budget
    assert patience_of(Settings(budget=4, command_timeout=2.5, retries=7)) == Patience(4, 2.5, 7)
    assert stated["protocol"] == 2
    assert stated["decode_responses"] is False


def test_what_the_url_says_reaches_the_client() -> None:
    stated = options("redis://user:p%40w@host:7000/3")
    assert {key: stated[key] for key in ("host", "port", "db", "username", "password")} == {
        "host": "host",
        "port": 7000,
        "db": 3,
        "username": "user",
        "password": "p@w",
    }
    assert connect(Settings(url="rediss://host"), HERE).connection_pool.connection_class is redis.SSLConnection
    assert options("unix:///run/redis.sock?db=2")["path"] == "/run/redis.sock"


def test_a_url_that_redis_refuses_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError) as caught:
        connect(Settings(url="redis://:hunter2@host/0?socket_timeout=soon"), HERE)
    assert "redis://:***@host/0" in str(caught.value)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="nonsense"):
        connect(Settings(url="redis://host?nonsense=1"), HERE)


def test_a_unix_socket_and_a_password_work() -> None:
    with running("valkey", "--requirepass", "right") as server:
        assert connect(Settings(url=f"unix://:right@{server.socket}"), HERE).ping()
        assert connect(Settings(url=server.url.replace("//", "//:right@")), HERE).ping()
