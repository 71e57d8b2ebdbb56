"""Little chat apps with the shapes and habits that lose data when two requests overlap. ``test_wild_shapes.py`` runs them.

They are written as the apps beside them, and a comment tells in the same way which lines move to convstore:

    conversations = {}  # convstore: ConversationStore(app).sessions

The variant on convstore differs in these lines, and in the line that imports ``ConversationStore``.

Each app calls its language model by ``llm(text, …)``. There a test holds two requests until both have come that far. Beside
``REQUESTS``, which exercise an app one after another, an app has for two clients at once:

- ``BEFORE``: requests that begin the conversation.
- ``TOGETHER``: two requests with the texts ``one`` and ``two``.
- ``AFTER``: requests that show all that was kept.
- ``ONLY_BEGUN``: no conversation begins with these two.
- ``IS_LATE``: the work goes on behind the response.
- ``FOLLOWER``: a request that waits for what the two do.

Three methods are not HTTP. ``EMIT`` sends an event by Socket.IO, ``RUN`` runs a command of Flask's, and ``AWAIT`` repeats a
GET until its answer has the given status.
"""

from __future__ import annotations

import os
import re
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

import redis
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from ...processes import wait_for
from .. import MARKED, ready, telling_the_process

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
IN_ONE_PROCESS = {"cli_commands", "socket_rooms"}
"""Apps that are used by more than HTTP."""

IMPORT = "from flask_convstore import ConversationStore"
TEXTS = ("one", "two")
LONGEST_WAIT = 30

Gate = Callable[[str], None]
"""Function of the text of a request, called where the app asks its language model."""


def source_of(name: str) -> str:
    """An app as it is written, on its dict."""
    return Path(__file__).with_name(f"{name}.py").read_text()


def moved(source: str) -> str:
    """The same app on convstore."""
    return MARKED.sub(r"\1\2", re.sub(r"^from flask import", f"{IMPORT}\n\\g<0>", source, count=1, flags=re.MULTILINE))


def module_of(name: str, url: str | None = None, gate: Gate | None = None) -> ModuleType:
    """An app, fresh: on its dict, or on convstore, its sessions at *url*."""
    module = ModuleType(f"{__name__}.{name}_on_{'convstore' if url else 'dict'}")
    module.__file__ = str(Path(__file__).with_name(f"{name}.py"))
    sys.modules[module.__name__] = module  # where Flask looks for it
    source = moved(source_of(name)) if url else source_of(name)
    settings = {"CONVSTORE_URL": url, "CONVSTORE_PREFIX": f"{name}:"} if url else {}
    with patch.dict(os.environ, settings):
        exec(compile(source, module.__file__, "exec"), module.__dict__)
    if gate:
        _put_gate(module, gate)
    return module


def _put_gate(module: ModuleType, gate: Gate) -> None:
    llm = module.llm

    def gated(text: str, *more: Any) -> Any:
        gate(text)
        return llm(text, *more)

    module.__dict__["llm"] = gated


class Meeting:
    """A gate in this process. Two requests wait at it, each until it may go on."""

    def __init__(self) -> None:
        self._arrived = {text: threading.Event() for text in TEXTS}
        self._may_go = {text: threading.Event() for text in TEXTS}

    def __call__(self, text: str) -> None:
        """Wait, in the app."""
        if text in TEXTS:
            self._arrived[text].set()
            assert self._may_go[text].wait(LONGEST_WAIT)

    def has_arrived(self, text: str) -> bool:
        return self._arrived[text].is_set()

    def let_go(self, text: str) -> None:
        self._may_go[text].set()


class RemoteMeeting:
    """A gate between processes, by keys of a Redis server."""

    def __init__(self, url: str, name: str) -> None:
        self._client = redis.Redis.from_url(url)
        self._name = f"meeting:{name}"

    def __call__(self, text: str) -> None:
        """Wait, in the app."""
        if text in TEXTS:
            self._set(f"{text} has arrived")
            wait_for(lambda: self._is_set(f"{text} may go"), f"{text} waits in vain")

    def has_arrived(self, text: str) -> bool:
        return self._is_set(f"{text} has arrived")

    def let_go(self, text: str) -> None:
        self._set(f"{text} may go")

    def _set(self, what: str) -> None:
        self._client.set(f"{self._name}:{what}", 1, ex=LONGEST_WAIT)

    def _is_set(self, what: str) -> bool:
        return bool(self._client.exists(f"{self._name}:{what}"))


def create_app() -> Callable[..., Iterable[bytes]]:
    """All apps on convstore that know HTTP alone, each below its name, with gates."""
    url = os.environ["CONVSTORE_URL"]
    names = [name for name in NAMES if name not in IN_ONE_PROCESS]
    apps = {f"/{name}": module_of(name, url, RemoteMeeting(url, name)).app for name in names}
    return telling_the_process(DispatcherMiddleware(ready, apps))
