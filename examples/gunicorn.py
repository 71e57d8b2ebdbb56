"""Settings of gunicorn for the examples: ``PORT=5000 gunicorn -c examples/gunicorn.py 'examples.chat.app:create_app()'``."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Any

bind = f"127.0.0.1:{os.environ.get('PORT', '5000')}"
workers = 2
threads = 64  # each browser has one for its events, and each reader of a reply
graceful_timeout = 5
loglevel = "warning"

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel end this process when its parent has ended in any way (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def on_starting(server: Any) -> None:
    """End together with make, or another parent."""
    die_with_parent()


def when_ready(server: Any) -> None:
    """Print the address once the app is ready."""
    if not os.environ.get("QUIET"):
        print(f"Open http://{bind} (PORT=8000 for another port; Ctrl-C stops, and the conversations stay)", flush=True)
