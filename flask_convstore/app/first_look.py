"""The first look at a server: when an app starts, a thread tells at once if nobody is there.

Without it the first request would, perhaps hours after a deployment with a wrong address. ``init_app`` does not wait for the
look, and no process does:

- One thread looks for all apps of a process, and ends when there is nothing left to look at. Each server is looked at once
  in a process, so that a thousand apps of a test cost one connection.
- It is a daemon. When the process ends, it is called off before the log is closed.
- A fork calls it off and waits for it, since a child would inherit its connection, and a lock that it holds. The parent
  looks again behind the fork. A child does not: its first call tells.
- Apps in testing are not looked at, nor are those of commands: ours, and of ``flask`` all but ``flask run``, nor the
  reloader's parent.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
import weakref
from collections import deque
from typing import TYPE_CHECKING

import click
from flask.cli import FlaskGroup
from flask.helpers import get_debug_flag
from werkzeug.serving import is_running_from_reloader

from ..domain.forks import Forking, watch
from ..errors import StoreUnavailable

if TYPE_CHECKING:
    from .state import AppState

_log = logging.getLogger("flask_convstore")

_PATIENCE = 0.5
"""Most seconds that a fork, or the end of a process, waits for the thread. Only resolving a name takes longer."""


OURS = "flask_convstore.cli"
"""Key in the ``meta`` of a context of click in which a command of ours runs. It tells by itself that a server is away."""


class _Looker(Forking):
    """Looks at servers, one after the other."""

    def __init__(self) -> None:
        self._lock = threading.RLock()  # collecting garbage may end another call in its midst
        self._waiting: deque[weakref.ref[AppState]] = deque()
        self._seen: set[str] = set()
        self._thread: threading.Thread | None = None
        self._is_over = False
        watch(self)
        atexit.register(self.call_off)

    def add(self, state: AppState) -> None:
        """Look at the server of *state*, unless this process has done so."""
        with self._lock:
            if state.server in self._seen:
                return
            self._seen.add(state.server)
            self._waiting.append(weakref.ref(state))
            self._start()

    def _start(self) -> None:
        with self._lock, contextlib.suppress(RuntimeError):  # no thread can be started: the first call tells
            if self._waiting and not self._thread:
                thread = threading.Thread(target=self._run, name="convstore-first-look", daemon=True)
                thread.start()
                self._thread = thread

    def _run(self) -> None:
        while True:
            with self._lock:
                if self._is_over or not self._waiting:
                    self._thread = None
                    return
                state = self._waiting[0]()
            is_done = state is None or self._has_looked(state)
            del state
            if is_done:
                self._waiting.popleft()

    def _has_looked(self, state: AppState) -> bool:
        """Look at the server of *state*. False: the look was called off."""
        from ..stores.connect import addresses_of  # init_app has brought it
        from ..stores.redis.reach import Over, unreachable

        settings = state.settings
        try:
            addresses = [] if state.app.testing else addresses_of(settings.url)
            error = unreachable(addresses, settings.connect_timeout, lambda: self._is_over)
        except Over:
            return False
        except Exception:
            _log.debug("no first look at the server", exc_info=True)
            return True
        if isinstance(error, StoreUnavailable) and not self._is_over:
            state.is_unreachable(error)
        return not self._is_over

    def call_off(self) -> None:
        """Let the thread end, and wait for it."""
        self._is_over = True
        thread = self._thread
        if thread and thread is not threading.current_thread():
            thread.join(_PATIENCE)

    before_fork = call_off

    def after_fork(self) -> None:
        self._is_over = False
        self._start()

    def in_child(self) -> None:
        self._lock = threading.RLock()
        self._waiting.clear()
        self._thread = None
        self._is_over = False


_looker = _Looker()


def look(state: AppState) -> None:
    """Look soon whether the server of *state* can be reached. A server that would be started, or is none, is left alone."""
    if state.client is None or state.settings.url.startswith("embedded:") or state.app.testing or _is_command():
        return
    _looker.add(state)


def _is_command() -> bool:
    """Tell whether this is a command of ours, or one of ``flask`` that serves nothing."""
    context = click.get_current_context(silent=True)
    if context and OURS in context.meta:
        return True
    if context is None or not isinstance(context.find_root().command, FlaskGroup):
        return False
    return context.info_name != "run" or (get_debug_flag() and not is_running_from_reloader())
