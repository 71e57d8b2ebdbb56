"""Twenty little chat apps as people write them, each on a dict of its module. ``test_wild.py`` moves them to convstore.

A line that makes such a dict ends in a comment with the expression that takes the dict's place:

    conversations = {}  # convstore: convstore.sessions

The variant on convstore differs in nothing else but the lines that set the package up, behind the line that makes the app
(``SETUP``). ``REQUESTS`` exercises an app. In the middle of it the server is started anew.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware

from flask_convstore import ConversationStore

NAMES = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")

SETUP = "convstore = convstore_of(app)"
"""Lines behind ``app = Flask(…)``. The prefix of an app's keys comes from outside of it."""

_APP = re.compile(r"^( *)app = Flask\(.*", re.MULTILINE)
MARKED = re.compile(r"^( *[\w.]+(?:: [^=]+)? = ).*  # convstore: (.+)$", re.MULTILINE)


def source_of(name: str) -> str:
    """An app as it is written, on its dicts."""
    return Path(__file__).with_name(f"{name}.py").read_text()


def moved(source: str) -> str:
    """The same app on convstore."""
    return MARKED.sub(r"\1\2", _APP.sub(rf"\g<0>\n\1{SETUP}", source, count=1))


def module_of(name: str, url: str | None = None, source: str | None = None) -> ModuleType:
    """An app, fresh: on its dicts, or on convstore, its sessions at *url*; *source* is that of one without a file."""

    def convstore_of(app: Flask) -> ConversationStore:
        app.config.update(CONVSTORE_URL=url, CONVSTORE_PREFIX=f"{name}:")
        return ConversationStore(app)

    module = ModuleType(f"{__name__}.{name}_on_{'convstore' if url else 'dict'}")
    module.__file__ = str(Path(__file__).with_name(f"{name}.py"))
    sys.modules[module.__name__] = module  # where Flask and dataclasses look for it
    if url:
        module.__dict__["convstore_of"] = convstore_of
    source = source_of(name) if source is None else source
    exec(compile(moved(source) if url else source, module.__file__, "exec"), module.__dict__)
    return module


def create_app() -> Callable[..., Iterable[bytes]]:
    """All apps on convstore, each below its name."""
    apps = {f"/{name}": module_of(name, os.environ["CONVSTORE_URL"]).app for name in NAMES}
    return telling_the_process(DispatcherMiddleware(ready, apps))


def telling_the_process(app: Callable[..., Iterable[bytes]]) -> Callable[..., Iterable[bytes]]:
    """The same app. A header of each answer names the process that gave it."""

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            return start_response(status, [*headers, ("X-Worker", str(os.getpid()))], *rest)

        return app(environ, start)

    return answer


def ready(_: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer where no app is."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
    return [b"ready"]
