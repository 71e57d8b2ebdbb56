"""Processes of this machine, seen through /proc, and waiting for a change of them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def wait_for(condition: Callable[[], Any], what: str, seconds: float = 20) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what
        time.sleep(0.01)
    return found


def servers(folder: Path) -> list[int]:
    """The Valkey servers that live in *folder*."""
    return [pid for pid in _pids() if _read(pid, "comm").startswith("valkey-server") and _cwd(pid) == str(folder)]


def supervisors(folder: Path) -> list[int]:
    return [pid for pid in _pids() if f"supervisor.py\0{folder}\0" in _read(pid, "cmdline")]


def on_disk(folder: Path, text: bytes) -> bool:
    """Tell whether a file in *folder* holds *text*. A file may be removed meanwhile."""
    for file in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            if text in file.read_bytes():
                return True
    return False


def _pids() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _read(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/{name}").read_text()
    return ""


def _cwd(pid: int) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/cwd")
    return ""


def end_all_in(folder: Path) -> None:
    """Kill what works in *folder* or below, such as the servers of a test that was killed."""
    for pid in _pids():
        if Path(_cwd(pid)).is_relative_to(folder):
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)


def kill(process: subprocess.Popen[bytes]) -> None:
    """End a process with its children, as kill -9 does."""
    if process.poll() is None:
        workers = children(process.pid)
        process.kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    process.wait(10)


def children(pid: int) -> list[int]:
    """The processes that *pid* has started and not yet buried."""
    return [int(child) for child in _read(pid, f"task/{pid}/children").split()]


def is_alive(pid: int) -> bool:
    """True if *pid* runs. A zombie does not."""
    state = _read(pid, "stat").rpartition(") ")[2][:1]
    return state not in ("", "Z")
