"""Threads that fork while they and others use one app. No child, and no thread, may hang.

python -m tests.interrupts.forking [--forks 10000] [--threads 8]

Each thread appends to a session, forks a child that does so too, and waits for it. The journal is open, since the
first sessions were started while the server was away.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import tempfile
import threading
import time
from typing import Any

from flask import Flask

from flask_convstore import ConversationStore, StoreUnavailable

from ..processes import wait_for
from ..servers import running

_CHILD_SECONDS = 20
_STILL_SECONDS = 60
"""Time without a fork after which the threads are said to hang."""


class Forks:
    """So many forks by so many threads.

    Attributes:
        done: Number of children that have ended well.
        failed: The ends of the others: what ``waitpid`` said.
    """

    def __init__(self, app: Flask, convstore: ConversationStore, count: int, threads: int) -> None:
        self._app = app
        self._convstore = convstore
        self._count = count
        self._lock = threading.Lock()
        self._begun = 0
        self.done = 0
        self.failed: list[int] = []
        self._threads = [threading.Thread(target=self._run, args=(f"s{n}",), daemon=True) for n in range(threads)]

    def run(self) -> bool:
        """Fork. False if the threads hang."""
        for thread in self._threads:
            thread.start()
        seen, since = -1, time.monotonic()
        while any(thread.is_alive() for thread in self._threads):
            time.sleep(0.05)
            ended = self.done + len(self.failed)
            if ended != seen:
                seen, since = ended, time.monotonic()
            elif time.monotonic() - since > _STILL_SECONDS:
                return False
        return True

    def _run(self, session_id: str) -> None:
        with self._app.app_context():
            while self._is_next():
                self._append(session_id)
                child = os.fork()
                if child == 0:
                    self._be_a_child(session_id)
                _, status = os.waitpid(child, 0)
                with self._lock:
                    if status:
                        self.failed.append(status)
                    else:
                        self.done += 1

    def _is_next(self) -> bool:
        with self._lock:
            self._begun += 1
            return self._begun <= self._count

    def _append(self, session_id: str) -> None:
        self._convstore.save_session(session_id, {"history": []})
        self._convstore.append(session_id, {"content": "x"})

    def _be_a_child(self, session_id: str) -> None:
        signal.alarm(_CHILD_SECONDS)
        try:
            self._append(session_id)
            os._exit(0)
        finally:
            os._exit(1)


def fork(count: int, threads: int) -> str:
    """Fork so often. Return what was wrong, "" if nothing was."""
    with running("valkey") as server, tempfile.TemporaryDirectory() as folder:
        app = Flask("forking", instance_path=folder)
        app.config.update(CONVSTORE_URL=server.url)
        convstore = ConversationStore(app)
        server.kill()
        with app.app_context():
            for number in range(10):
                with contextlib.suppress(StoreUnavailable):
                    convstore.save_session(f"away{number}", {"history": []})
        server.start()
        with app.app_context():
            wait_for(lambda: convstore.health().connected and convstore.health().pending == 0, "nothing is handed over")
        forks: Any = Forks(app, convstore, count, threads)
        if not forks.run():
            return f"the threads hang after {forks.done} forks"
        return f"{len(forks.failed)} children have hung or died: {set(forks.failed)}" if forks.failed else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.interrupts.forking", description=__doc__)
    parser.add_argument("--forks", type=int, default=10_000)
    parser.add_argument("--threads", type=int, default=8)
    given = parser.parse_args()
    began = time.monotonic()
    problem = fork(given.forks, given.threads)
    print(problem or f"{given.forks} forks by {given.threads} threads in {time.monotonic() - began:.0f} s: none hung")
    return 1 if problem else 0


if __name__ == "__main__":
    sys.exit(main())
