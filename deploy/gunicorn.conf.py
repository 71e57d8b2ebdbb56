"""Settings of gunicorn for production: threads, and the metrics of all workers. ``compose.yaml`` and the unit use it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

bind = os.environ.get("BIND", "0.0.0.0:8000")
workers = int(os.environ.get("WORKERS", "2"))
worker_class = "gthread"
threads = int(os.environ.get("THREADS", "64"))  # each reader of a stream has one
graceful_timeout = 30  # replies that are in progress end in 25 s, or are stored as they are
timeout = 60
worker_tmp_dir = "/dev/shm"  # a heartbeat on a slow disk looks like a worker that hangs

_FIGURES = os.environ.get("PROMETHEUS_MULTIPROC_DIR")


def on_starting(server: Any) -> None:
    """Empty the folder of the metrics. Those of an earlier run would be added up."""
    if _FIGURES:
        folder = Path(_FIGURES)
        folder.mkdir(parents=True, exist_ok=True)
        for file in folder.glob("*.db"):
            file.unlink()


def child_exit(server: Any, worker: Any) -> None:
    """Take back the gauges of a worker that has ended."""
    if _FIGURES:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)
