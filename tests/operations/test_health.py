"""Health, as operators see it, and as anybody sees it."""

from __future__ import annotations

from typing import Any

import pytest

from ..servers import Server, running
from ..service import Service
from ..wire import Proxy


def test_health_names_the_server(server: Server) -> None:
    service = Service(server.url)
    with service.app.app_context():
        health = service.convstore.health()
    info: Any = server.client.info("server")
    name = "valkey" if "valkey_version" in info else "redis"
    assert (health.connected, health.server, health.version) == (True, name, info[f"{name}_version"])
    assert (health.role, health.circuit, health.problem) == ("primary", "closed", None)
    assert health.latency_ms is not None


def test_health_of_this_process() -> None:
    service = Service("memory://")
    with service.app.app_context():
        health = service.convstore.health()
    assert (health.connected, health.server, health.version, health.role) == (True, "memory", None, "primary")


@pytest.mark.server
def test_a_service_that_hides_its_name_is_healthy() -> None:
    with running("valkey") as server:
        client: Any = server.client
        client.execute_command("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-info")
        service = Service(f"redis://u:p@127.0.0.1:{server.port}/0")
        with service.app.app_context():
            health = service.convstore.health()
    assert (health.connected, health.server, health.version, health.role) == (True, None, None, None)


@pytest.mark.server
def test_operators_learn_of_an_outage_and_others_hardly() -> None:
    with running("valkey") as server:
        service = Service(server.url, RETRIES=0, CIRCUIT_FAILURES=2, FALLBACK="none")
        with service.app.app_context():
            assert service.convstore.health().connected
    with service.app.app_context():
        for circuit in ("closed", "open", "open"):
            health = service.convstore.health()
            assert (health.connected, health.latency_ms, health.circuit) == (False, None, circuit)
            assert health.problem
    response = service.client.get("/sessions/health")
    assert (response.status_code, response.mimetype) == (503, "application/json")
    assert response.json == {"connected": False, "latency_ms": None, "degraded": False, "pending": 0}


@pytest.mark.parametrize("name", ["server", "version", "role", "circuit", "problem"])
def test_the_public_sees_four_fields_only(url: str, name: str) -> None:
    response = Service(url).client.get("/sessions/health")
    assert response.json is not None
    assert name not in response.json
    assert set(response.json) == {"connected", "latency_ms", "degraded", "pending"}


def test_public_health_costs_one_round_trip(valkey: Server) -> None:
    with Proxy(("127.0.0.1", valkey.port)) as proxy:
        service = Service(proxy.url)
        service.client.get("/sessions/health")
        proxy.reset()
        service.client.get("/sessions/health")
        assert proxy.round_trips == 1
