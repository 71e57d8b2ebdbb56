"""The files of ``deploy/``, for those who run an app: real tools accept them, and what they name exists.

promtool comes with Debian's package prometheus. Without it, or without systemd, its tests are skipped.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from flask_convstore.telemetry import metrics

from ..servers import Server, programs

DEPLOY = Path(__file__).parents[2] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana" / "dashboard.json").read_text("utf-8"))
COMPOSE: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))

SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}
SERIES = {
    *(f"{metric._name}{suffix}" for metric in metrics.OF_PROCESSES for suffix in SUFFIXES[metric._type]),
    *metrics.OF_HOST,
}
"""Names of all series of ours."""


def run(tool: str, *arguments: str | Path, cwd: Path = DEPLOY) -> None:
    found = shutil.which(tool)
    if not found:
        pytest.skip(f"{tool} is not installed")
    done = subprocess.run([found, *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def expressions() -> list[str]:
    """The expressions of the dashboard, with values in the places of Grafana's variables."""
    found = [target["expr"] for panel in DASHBOARD["panels"] for target in panel.get("targets", ())]
    return [one.replace("$__rate_interval", "5m").replace("$store", ".*") for one in found]


def test_promtool_accepts_the_alerts() -> None:
    run("promtool", "check", "rules", ALERTS)


def test_the_alerts_tell_of_faults_and_of_nothing_else() -> None:
    run("promtool", "test", "rules", "alerts_test.yml", cwd=ALERTS.parent)


def test_the_page_of_the_docs_has_every_alert() -> None:
    page = (DEPLOY.parent / "docs" / "operations.md").read_text("utf-8")
    alerts = re.findall(r"- alert: (\w+)", ALERTS.read_text("utf-8"))
    assert set(re.findall(r"^\| `(Convstore\w+)`", page, re.MULTILINE)) == set(alerts)


def test_promtool_accepts_what_the_dashboard_asks(tmp_path: Path) -> None:
    rules = [{"record": f"of:dashboard:{number}", "expr": one} for number, one in enumerate(expressions())]
    assert len(rules) > 30
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}), "utf-8")
    run("promtool", "check", "rules", tmp_path / "rules.yml")


@pytest.mark.parametrize("text", [ALERTS.read_text("utf-8"), *expressions()], ids=lambda text: text[:40])
def test_every_series_that_is_named_exists(text: str) -> None:
    exprs = re.sub(r"^ +(summary|description): .*$", "", text, flags=re.MULTILINE)
    assert set(re.findall(r"\bconvstore_\w+", exprs)) <= SERIES


def test_the_dashboard_shows_every_metric_in_its_own_place() -> None:
    text = "\n".join(expressions())
    for metric in metrics.OF_PROCESSES:
        assert any(f"{metric._name}{suffix}" in text for suffix in SUFFIXES[metric._type]), metric._name
    assert all(name in text for name in metrics.OF_HOST)
    places = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    taken = [
        (x, y) for at in places for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(taken) == len(set(taken)), "two panels overlap"
    assert max(x for x, _ in taken) < 24
    numbers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(numbers) == len(set(numbers))
    for panel in DASHBOARD["panels"]:
        assert panel["title"]
        assert panel["type"] == "row" or (panel["targets"] and panel["description"])


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_hardened(name: str) -> None:
    service = COMPOSE["services"][name]
    assert (service["read_only"], service["cap_drop"]) == (True, ["ALL"])
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["user"] not in ("", "0", "root")
    assert {"mem_limit", "pids_limit", "healthcheck", "restart", "stop_grace_period"} <= service.keys()
    assert set(service["networks"]) <= COMPOSE["networks"].keys()
    assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys()
    assert {volume.partition(":")[0] for volume in service["volumes"]} <= COMPOSE["volumes"].keys()
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


@pytest.mark.server
def test_a_server_starts_as_the_compose_file_says(tmp_path: Path) -> None:
    """It puts each write on its disk, and evicts nothing."""
    (tmp_path / "valkey.conf").write_text("# empty\n", "utf-8")
    options = [str(one) for one in COMPOSE["services"]["valkey"]["command"][2:]]
    options[options.index("--dir") + 1] = str(tmp_path)
    server = Server(programs()["valkey"], *options)
    try:
        told: Any = server.client.config_get("*")
    finally:
        server.stop()
    assert (told["appendonly"], told["appendfsync"]) == ("yes", "always")
    assert (told["maxmemory"], told["maxmemory-policy"]) == (str(768 * 2**20), "noeviction")


def test_systemd_finds_the_unit_hardened() -> None:
    """The exposure is 10 for a service without any protection."""
    run("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", DEPLOY / "convstore.service")
