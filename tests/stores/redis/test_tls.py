"""TLS: the whole product works by it, and what is not trusted, or does not speak it, is a clear error in time."""

from __future__ import annotations

import contextlib
import shutil
import socketserver
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask

from flask_convstore import ConfigurationError, ConversationStore, Message, StoreMisconfigured, StoreUnavailable

from ...clocks import least_seconds
from ...processes import wait_for
from ...servers import Server, free_port, programs, running
from ...service import Service
from ...topologies import told


def _speaks_tls() -> bool:
    """True if the server on PATH was built with TLS. The wheel's was not."""
    program = programs().get("redis")
    if program is None:
        return False
    command = [str(program), "--port", "0", "--tls-port", str(free_port())]
    tried = subprocess.run(command, check=False, capture_output=True, timeout=10)
    return b"tls-cert-file" in tried.stdout  # which it misses


pytestmark = [
    pytest.mark.server,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="makes certificates with the program openssl"),
    pytest.mark.skipif(not _speaks_tls(), reason="needs a redis-server that is built with TLS on PATH"),
]


class Certificates:
    """An authority, and what it has signed: the server's certificate for 127.0.0.1 and localhost, and a client's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Python 3.13 refuses an authority that does not say what its key is for; openssl makes one of what says nothing.
        no_authority = "basicConstraints=critical,CA:FALSE"
        self._make("ca", "basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign")
        self._make("server", no_authority, "subjectAltName=IP:127.0.0.1,DNS:localhost", by="ca")
        self._make("client", no_authority, by="ca")

    def _make(self, name: str, *extensions: str, by: str | None = None) -> None:
        signer = ["-CA", self.pem(by), "-CAkey", self.key(by)] if by else []
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
                *("-keyout", self.key(name), "-out", self.pem(name), "-days", "2", "-subj", f"/CN={name}"),
                *(word for extension in extensions for word in ("-addext", extension)),
                *signer,
            ],
            check=True,
            capture_output=True,
        )

    def pem(self, name: str) -> str:
        return str(self.folder / f"{name}.pem")

    def key(self, name: str) -> str:
        return str(self.folder / f"{name}.key")

    @property
    def options(self) -> tuple[str, ...]:
        """Options of a server that speaks TLS and asks clients for no certificate."""
        files = ("--tls-cert-file", self.pem("server"), "--tls-key-file", self.key("server"))
        return (*files, "--tls-ca-cert-file", self.pem("ca"), "--tls-auth-clients", "no")

    @property
    def trusting(self) -> str:
        return f"?ssl_ca_certs={self.pem('ca')}"

    @property
    def mutual(self) -> str:
        return f"{self.trusting}&ssl_certfile={self.pem('client')}&ssl_keyfile={self.key('client')}"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


class Secure:
    """A server with a port for TLS beside its plain one."""

    def __init__(self, server: Server, port: int) -> None:
        self.server = server
        self.port = port

    def url(self, query: str = "", *, host: str = "127.0.0.1", user: str = "") -> str:
        return f"rediss://{user}{host}:{self.port}/0{query}"


@contextlib.contextmanager
def secure(certificates: Certificates, *options: str) -> Iterator[Secure]:
    port = free_port()
    with running("redis", "--tls-port", str(port), *certificates.options, *options) as server:
        yield Secure(server, port)


@pytest.fixture
def tls(certificates: Certificates) -> Iterator[Secure]:
    with secure(certificates) as found:
        yield found


def used(service: Service) -> None:
    """The whole product, through a Flask app and through HTTP."""
    store = service.convstore
    with service.app.app_context():
        store.save_session("s", {"n": 1, "history": ["a"]}, owner="ada")
        assert store.append("s", Message("b"), token="T").repeated is False
        assert store.append("s", Message("b"), token="T").repeated is True
        with store.turn("s", Message("c")) as turn:
            turn.reply("d")
        found: Any = store.get_session("s")
        assert found["history"] == ["a", "b", "c", {"role": "assistant", "content": "d"}]
        assert [summary.session_id for summary in store.list_sessions(owner="ada").sessions] == ["s"]
        assert store.health().connected
    session_id = service.start()
    service.say(session_id, "x" * 100_000)  # several TLS records
    assert service.get(session_id)["history"][0]["content"] == "x" * 100_000


def refused(url: str, **config: Any) -> StoreMisconfigured:
    """The error of a call, which comes at once."""
    service = Service(url, **config)
    started = time.monotonic()
    with service.app.app_context(), pytest.raises(StoreMisconfigured) as caught:
        service.convstore.append("s", Message("a"))
    assert time.monotonic() - started < 2
    assert caught.value.written is False
    return caught.value


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_the_whole_product_works_by_tls(certificates: Certificates, tls: Secure, host: str) -> None:
    used(Service(tls.url(certificates.trusting, host=host)))
    clients = tls.server.client.info("clients")
    assert clients["connected_clients"] > 0


def test_a_user_and_a_password_by_tls(certificates: Certificates, tls: Secure) -> None:
    told(tls.server, "ACL", "SETUSER", "u", "on", ">p@w", "~*", "+@all")
    told(tls.server, "ACL", "SETUSER", "default", "off")
    used(Service(tls.url(certificates.trusting, user="u:p%40w@")))
    assert "p@w" not in str(refused(tls.url(certificates.trusting, user="u:other@")))
    assert "password" in str(refused(tls.url(certificates.trusting)))


def test_a_certificate_that_is_not_trusted_is_loud(tls: Secure) -> None:
    assert "ssl_ca_certs" in str(refused(tls.url()))


def test_a_certificate_of_another_host_is_loud(certificates: Certificates, tls: Secure) -> None:
    told(
        tls.server,
        "CONFIG",
        "SET",
        "tls-cert-file",
        certificates.pem("client"),
        *("tls-key-file", certificates.key("client")),
    )
    assert "a host that is in the certificate" in str(refused(tls.url(certificates.trusting)))
    used(Service(tls.url(f"{certificates.trusting}&ssl_check_hostname=false")))


def test_a_certificate_that_comes_right_is_taken_without_a_restart(certificates: Certificates, tls: Secure) -> None:
    """The circuit does not open: one call later it works."""
    service = Service(tls.url(certificates.trusting))
    right = ("tls-cert-file", certificates.pem("server"), "tls-key-file", certificates.key("server"))
    wrong = ("tls-cert-file", certificates.pem("client"), "tls-key-file", certificates.key("client"))
    told(tls.server, "CONFIG", "SET", *wrong)
    with service.app.app_context():
        for _ in range(10):
            with pytest.raises(StoreMisconfigured):
                service.convstore.save_session("s", [])
        told(tls.server, "CONFIG", "SET", *right)
        service.convstore.save_session("s", [])


def test_a_certificate_of_ours(certificates: Certificates) -> None:
    with secure(certificates, "--tls-auth-clients", "yes") as found:
        used(Service(found.url(certificates.mutual)))


@pytest.mark.parametrize("versions", ["TLSv1.2", "TLSv1.3"])
def test_without_a_certificate_of_ours_it_is_an_error_in_time(certificates: Certificates, versions: str) -> None:
    """By TLS 1.3 the server refuses us when we think that we are connected: all that is seen may be a lost connection."""
    with secure(certificates, "--tls-auth-clients", "yes", "--tls-protocols", versions) as found:

        def refused() -> None:
            service = Service(found.url(certificates.trusting), BUDGET=2)
            with service.app.app_context(), pytest.raises((StoreMisconfigured, StoreUnavailable), match="ssl_certfile"):
                service.convstore.append("s", Message("a"))

        assert least_seconds(refused) < 2.2


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
def test_the_wrong_scheme_for_a_port_ends_in_time(certificates: Certificates, tls: Secure, scheme: str) -> None:
    """A plain client is cut off by a port for TLS. A client that speaks TLS gets no answer from a plain port."""
    url = f"redis://127.0.0.1:{tls.port}" if scheme == "redis" else tls.server.url.replace("redis:", "rediss:")

    def refused() -> None:
        service = Service(url, BUDGET=1)
        with service.app.app_context(), pytest.raises(StoreUnavailable, match="TLS") as caught:
            service.convstore.append("s", Message("a"))
        assert caught.value.is_down

    assert least_seconds(refused) < 1.2


def test_what_speaks_no_tls_and_no_redis_is_loud(certificates: Certificates) -> None:
    class Web(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1 << 16)
            self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Web) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        error = refused(f"rediss://127.0.0.1:{server.server_address[1]}{certificates.trusting}")
        assert "does not speak TLS" in str(error)
        server.shutdown()


@pytest.mark.parametrize("scheme", ["rediss://h", "rediss+cluster://h", "rediss+sentinel://h/mymaster"])
@pytest.mark.parametrize(
    "query",
    [
        "ssl_ca_certs=/nowhere/ca.pem",
        "ssl_certfile={client}&ssl_keyfile={other}",
        "ssl_ca_certs={key}",
        "ssl_cert_reqs=perhaps",
        "ssl_nonsense=1",
    ],
)
def test_what_cannot_be_is_refused_before_the_first_call(certificates: Certificates, scheme: str, query: str) -> None:
    files = {"client": certificates.pem("client"), "other": certificates.key("server"), "key": certificates.key("ca")}
    app = Flask("app")
    app.config["CONVSTORE_URL"] = f"{scheme}?{query.format(**files)}"
    with pytest.raises(ConfigurationError, match="is refused"):
        ConversationStore(app)


def test_a_server_that_is_gone_and_comes_back(certificates: Certificates) -> None:
    port = free_port()
    with running("redis", "--tls-port", str(port), *certificates.options) as server:
        service = Service(f"rediss://127.0.0.1:{port}{certificates.trusting}", BUDGET=1)
        with service.app.app_context():
            service.convstore.save_session("s", [])
        server.process.kill()
        server.process.wait()
    with service.app.app_context(), pytest.raises(StoreUnavailable):
        service.convstore.append("s", Message("a"))
    with running("redis", "--tls-port", str(port), *certificates.options):
        used(service)


def test_a_cluster_by_tls(certificates: Certificates) -> None:
    """Three primaries that speak nothing else."""
    with contextlib.ExitStack() as stack:
        options = (*certificates.options, "--tls-cluster", "yes", "--cluster-enabled", "yes")
        options += ("--cluster-announce-ip", "127.0.0.1")  # from the first moment on
        buses = [free_port() for _ in range(3)]
        nodes = [stack.enter_context(secure(certificates, *options, "--cluster-port", str(bus))) for bus in buses]
        for number, node in enumerate(nodes):
            first, last = (16384 * part // 3 for part in (number, number + 1))
            told(node.server, "CLUSTER", "ADDSLOTSRANGE", first, last - 1)
            told(node.server, "CLUSTER", "SET-CONFIG-EPOCH", number + 1)
        for node, bus in zip(nodes[1:], buses[1:], strict=True):
            told(nodes[0].server, "CLUSTER", "MEET", "127.0.0.1", node.port, bus)
        wait_for(lambda: all(_is_whole(node.server) for node in nodes), "the cluster does not come up")
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in nodes)
        service = Service(f"rediss+cluster://{hosts}{certificates.trusting}")
        used(service)
        with service.app.app_context():
            for number in range(20):
                service.convstore.save_session(f"s{number}", [])
        assert all(node.server.client.dbsize() for node in nodes)
        assert "ssl_ca_certs" in str(refused(f"rediss+cluster://{hosts}"))


def _is_whole(server: Server) -> bool:
    shown = told(server, "CLUSTER", "INFO")
    shown = (
        shown
        if isinstance(shown, dict)
        else dict(line.split(":") for line in shown.decode().split("\r\n") if ":" in line)
    )
    return bool(shown["cluster_state"] == "ok" and shown["cluster_known_nodes"] == "3")


def test_a_sentinel_by_tls(certificates: Certificates, tmp_path: Path) -> None:
    """The Sentinel and the primary speak nothing else to us."""
    with secure(certificates, "--tls-replication", "yes") as primary:
        file = tmp_path / "sentinel.conf"
        file.write_text(f"sentinel monitor mymaster 127.0.0.1 {primary.port} 1\n")
        with secure(certificates, "--tls-replication", "yes") as other:
            other.server.client.replicaof("127.0.0.1", primary.port)
            port = free_port()
            command = [str(programs()["redis"]), str(file), "--sentinel", "--port", "0", "--tls-port", str(port)]
            command += ["--bind", "127.0.0.1", "--logfile", str(tmp_path / "log"), "--tls-replication", "yes"]
            process = subprocess.Popen([*command, *certificates.options])
            try:
                asking: Any = redis.Redis(port=port, ssl=True, ssl_ca_certs=certificates.pem("ca"))
                wait_for(lambda: _names(asking), "the Sentinel does not come up")
                asking.close()
                hosts = f"127.0.0.1:{port}/mymaster/0"
                service = Service(f"rediss+sentinel://{hosts}{certificates.trusting}")
                used(service)
                assert primary.server.client.dbsize() > 0
                assert "ssl_ca_certs" in str(refused(f"rediss+sentinel://{hosts}"))
            finally:
                process.terminate()
                process.wait(10)


def _names(sentinel: Any) -> bool:
    try:
        return bool(sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "mymaster"))
    except redis.RedisError:
        return False
