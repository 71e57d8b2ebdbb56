"""Scenes of people who use the browser's half, played in Node: ``scenarios.mjs``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..javascript import NODE
from ..servers import running
from ..streaming.workers import Worker, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCENARIOS = Path(__file__).with_name("scenarios.mjs")
FAULTS = "faults of the network"
NAMES = [
    name.strip('"') for name in re.findall(r'^  async (\w+|"[^"]+")\(', SCENARIOS.read_text("utf-8"), re.MULTILINE)
]
RUNS = int(os.environ.get("FAULT_RUNS", "15"))
"""Runs with faults, of which ``make faults`` does 500."""


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    folder = tmp_path_factory.mktemp("script")
    with (
        running("valkey") as server,
        serving("gthread", server, folder, MAX_SESSIONS="130", SESSIONS_POLICY="reject") as worker,
    ):
        yield worker


def play(worker: Worker, name: str, seed: int = 1) -> None:
    ended = subprocess.run(
        [NODE, SCENARIOS, name, worker.url, str(seed)], timeout=120, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name != FAULTS])
def test_scenarios(worker: Worker, name: str) -> None:
    play(worker, name)


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_the_end_is_the_servers_whatever_the_network_does(worker: Worker, seed: int) -> None:
    """Requests that never arrive, arrive twice, late or in another order, lose their answer or half of it, and reloads."""
    play(worker, FAULTS, seed)
