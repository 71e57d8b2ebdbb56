"""A server that is no Redis, or that does not want us, is told as such at once. One that says nothing is an outage."""

from __future__ import annotations

import pytest

from flask_convstore.domain.types import ANY
from flask_convstore.errors import ConvstoreError, StoreMisconfigured, StoreUnavailable

from ...servers import running
from ...wire import speaking
from .test_failures import store_at

FORMS = {
    "one": "redis://127.0.0.1:{}/0",
    "a database": "redis://127.0.0.1:{}/1",
    "a password": "redis://:p@127.0.0.1:{}/0",
    "a Cluster": "redis+cluster://127.0.0.1:{}",
    "Sentinels": "redis+sentinel://127.0.0.1:{}/main",
}

HTML = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html><h1>400</h1></html>"
# what it says at once, and for each command
STRANGERS = {
    "a web server": (b"", HTML),
    "a proxy that hangs up": (HTML, b""),
    "memcached": (b"", b"ERROR\r\n"),
    "SMTP": (b"220 mail ESMTP\r\n", b"500 unrecognised\r\n"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", b""),
    "FTP": (b"220-welcome\r\n220 ready\r\n", b"530 log in\r\n"),
    "IMAP": (b"* OK IMAP4rev1 ready\r\n", b"* BAD what\r\n"),
    "POP3": (b"", b"-ERR Unknown command.\r\n"),
    "MySQL": (b"\x4a\x00\x00\x00\x0a8.0.36\x00", b""),
    "TLS": (b"", b"\x15\x03\x01\x00\x02\x02\x0a"),
    "protected mode": (b"-DENIED Redis is running in protected mode\r\n", b""),
    "an old server": (b"", b"-ERR unknown command 'X'\r\n"),
    "a service": (b"", b"-ERR Command is not available: 'X'\r\n"),
    "a proxy for Redis": (b"", b"-ERR unsupported command\r\n"),
}


def told(url: str) -> ConvstoreError:
    store = store_at(url)
    with pytest.raises(ConvstoreError) as caught:
        store.load("s", ANY)
    store.close()
    return caught.value


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", STRANGERS)
def test_a_stranger_is_no_outage(name: str, form: str) -> None:
    with speaking(*STRANGERS[name]) as port:
        error = told(FORMS[form].format(port))
    assert isinstance(error, StoreMisconfigured), error
    assert error.retry_after_ms == 60_000
    assert ": " in str(error), "it has a cure"


@pytest.mark.parametrize("form", [form for form in FORMS if form != "one"])
@pytest.mark.parametrize("reply", [b"-ERR something new\r\n", b"-NOPROTO unsupported\r\n"])
def test_whatever_a_server_says_against_a_connection_is_no_outage(form: str, reply: bytes) -> None:
    with speaking(answer=reply) as port:
        error = told(FORMS[form].format(port))
    assert isinstance(error, StoreMisconfigured), error


@pytest.mark.parametrize("reply", [b"-LOADING it is read from the disk\r\n", b"-ERR max number of clients reached\r\n"])
@pytest.mark.parametrize("form", FORMS)
def test_a_server_that_will_want_us_is_one(form: str, reply: bytes) -> None:
    with speaking(answer=reply) as port:
        error = told(FORMS[form].format(port))
    assert isinstance(error, StoreUnavailable), error
    assert error.is_down


@pytest.mark.parametrize("form", FORMS)
def test_one_that_hangs_up_without_a_word_is_one(form: str) -> None:
    """So does a load balancer, while the server behind it is away."""
    with speaking() as port:
        error = told(FORMS[form].format(port))
    assert isinstance(error, StoreUnavailable), error
    assert error.is_down


@pytest.mark.server
def test_a_password_is_wrong_for_a_cluster_too() -> None:
    with running("valkey", "--cluster-enabled", "yes", "--requirepass", "right") as server:
        error = told(f"redis+cluster://:wrong@127.0.0.1:{server.port}")
    assert isinstance(error, StoreMisconfigured)
    assert "wrong" not in str(error).partition("invalid")[0]


@pytest.mark.server
@pytest.mark.parametrize(
    ("options", "path"),
    [
        ((), "/16"),
        (("--databases", "1"), "/1"),
        (("--rename-command", "SELECT", ""), "/1"),
        (("--rename-command", "EVALSHA", ""), "/0"),
        (("--rename-command", "HMGET", ""), "/0"),
        (("--cluster-enabled", "yes"), "/1"),
    ],
)
def test_what_a_server_lacks_is_named(options: tuple[str, ...], path: str) -> None:
    with running("valkey", *options) as server:
        error = told(server.url[:-2] + path)
    assert isinstance(error, StoreMisconfigured), error
    assert ": " in str(error)
