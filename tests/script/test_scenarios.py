"""Scenes of people who use the browser's half, played in Node: ``scenarios.mjs``."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest

from ..javascript import NODE
from ..servers import running
from ..streaming.workers import Worker, serving

pytestmark = [pytest.mark.server, pytest.mark.slow]

SCENARIOS = Path(__file__).with_name("scenarios.mjs")
FAULTS = "faults of the network"
STORM = "a storm of tabs and devices"
NAMES = [
    name.strip('"') for name in re.findall(r'^  async (\w+|"[^"]+")\(', SCENARIOS.read_text("utf-8"), re.MULTILINE)
]
RUNS = int(os.environ.get("FAULT_RUNS", "15"))
"""Runs with faults, of which ``make faults`` does 500."""


class Stage(NamedTuple):
    """A server, and the module that it serves."""

    worker: Worker
    module: Path


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    folder = tmp_path_factory.mktemp("script")
    with (
        running("valkey") as server,
        serving("gthread", server, folder, MAX_SESSIONS="130", SESSIONS_POLICY="reject") as worker,
    ):
        module = folder / "convstore.mjs"
        module.write_bytes(httpx.get(f"{worker.url}/sessions/convstore.js").content)
        yield Stage(worker, module)


def play(stage: Stage, name: str, seed: int = 1) -> None:
    command = [NODE, f"{SCENARIOS}", name, stage.worker.url, f"{stage.module}", f"{seed}"]
    ended = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize("name", [name for name in NAMES if name not in (FAULTS, STORM)])
def test_scenarios(stage: Stage, name: str) -> None:
    play(stage, name)


@pytest.mark.parametrize("seed", range(1, RUNS + 1))
def test_the_end_is_the_servers_whatever_the_network_does(stage: Stage, seed: int) -> None:
    """Requests that never arrive, arrive twice, late or in another order, lose their answer or half of it, and reloads."""
    play(stage, FAULTS, seed)


@pytest.mark.parametrize("seed", range(1, 2 + RUNS // 10))
def test_all_tabs_show_the_same_at_the_end(stage: Stage, seed: int) -> None:
    """Three tabs and another device that send, stop, redact, rename, remove and reload at random, on that network."""
    play(stage, STORM, seed)
