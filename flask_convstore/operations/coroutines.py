"""Coroutines of the app's handlers, run to their end from code that is not asynchronous.

In a real thread each has an event loop of its own. Under gevent all greenlets share one thread, and a thread can run one
loop at a time. There one loop of the process, in a greenlet of its own, runs the coroutines of all others.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_T = TypeVar("_T")

_MOST_THREADS = 100
"""Greenlets in which the coroutines of the shared loop call code that waits, such as ``convstore.aio``."""


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run a coroutine to its end in the context of the running code, and return its result.

    Raises:
        RuntimeError: The running code is itself a coroutine, or was called by one.
    """
    if not _are_threads_greenlets():
        return asyncio.run(coroutine)
    loop = _shared_loop()
    if loop.ident == threading.get_ident():
        coroutine.close()
        raise RuntimeError("an async reply handler cannot run within another one: await convstore.aio instead")
    return asyncio.run_coroutine_threadsafe(coroutine, loop.loop).result()


def _are_threads_greenlets() -> bool:
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("threading"))


class _Loop(threading.Thread):
    """The loop that all greenlets of a process share."""

    def __init__(self) -> None:
        from gevent.selectors import GeventSelector

        super().__init__(name="convstore-coroutines", daemon=True)
        self._selector = GeventSelector()
        self._wait = self._selector.select
        self._selector.select = self._select
        self.loop = asyncio.SelectorEventLoop(self._selector)
        self.loop.set_default_executor(ThreadPoolExecutor(_MOST_THREADS))

    def _select(self, timeout: float | None = None) -> Any:
        """Let other greenlets run until there is something to do. They must not believe that they run in the loop."""
        asyncio._set_running_loop(None)
        try:
            return self._wait(timeout)
        finally:
            asyncio._set_running_loop(self.loop)

    def run(self) -> None:
        asyncio._set_running_loop(None)  # that of a greenlet of the app, which waits in it
        self.loop.run_forever()


_loops: dict[int, _Loop] = {}


def _shared_loop() -> _Loop:
    found = _loops.get(os.getpid())
    if found is None:
        found = _loops[os.getpid()] = _Loop()  # no other greenlet runs meanwhile
        found.start()
    return found
