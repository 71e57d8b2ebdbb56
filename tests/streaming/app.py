"""An app whose replies are told by the message: its content is JSON that names a kind of reply, and how it is made."""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from flask import Flask, current_app, request

from flask_convstore import ConversationStore, Turn

from .chunks import hard_chunks

convstore = ConversationStore()


@convstore.owner_loader
def owner() -> str | None:
    return request.headers.get("X-Owner")


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ.get("INSTANCE"))
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    app.add_url_rule("/pid", view_func=lambda: {"pid": os.getpid()})
    app.add_url_rule("/share/<session_id>/<name>", view_func=_share, methods=["POST"])
    return app


def _share(session_id: str, name: str) -> dict[str, str]:
    convstore.share(session_id, name, "reader")
    return {"status": "shared"}


@convstore.reply(last=1)
def reply(turn: Turn) -> Any:
    asked = json.loads(turn.message["content"])
    return _KINDS[asked.pop("kind")](**asked)


def _count(chunks: int = 10, pause: float = 0.0) -> Iterator[str]:
    for number in range(chunks):
        yield f"{number} "
        time.sleep(pause)


def _long(chunks: int, pause: float) -> Iterator[str]:
    for number in range(chunks):
        yield f"{number:09} " * 100
        time.sleep(pause)


async def _count_async(chunks: int = 10, pause: float = 0.0) -> AsyncIterator[str]:
    for number in range(chunks):
        yield f"{number} "
        await asyncio.sleep(pause)


async def _text_async(pause: float = 0.0) -> str:
    await asyncio.sleep(pause)
    return "awaited"


async def _aio(pause: float = 0.0) -> AsyncIterator[str]:
    """Ask the store meanwhile."""
    yield f"{len(await convstore.aio.list_sessions())} "
    await asyncio.sleep(pause)
    yield "listed"


async def _nested() -> str:
    """Call another async handler of this app without awaiting it."""
    client = current_app.test_client()
    session = client.post("/sessions", json={}).get_json()
    path = f"/sessions/{session['session_id']}/messages"
    return str(client.post(path, json={"content": '{"kind": "awaited"}'}).status_code)


_closed = threading.Event()


async def _closing() -> AsyncIterator[str]:
    try:
        while True:
            yield "on "
            await asyncio.sleep(0.01)
    finally:
        await asyncio.sleep(0)
        _closed.set()


def _is_closed() -> str:
    return "closed" if _closed.wait(10) else "open"


def _hang(chunks: int = 2) -> Iterator[str]:
    yield from _count(chunks)
    time.sleep(600)


def _hard(seed: int = 0, chunks: int = 200, pause: float = 0.0) -> Iterator[str]:
    for chunk in hard_chunks(seed, chunks):
        yield chunk
        time.sleep(pause)


_KINDS: dict[str, Any] = {
    "count": _count,
    "long": _long,
    "async": _count_async,
    "awaited": _text_async,
    "aio": _aio,
    "nested": _nested,
    "closing": _closing,
    "closed": _is_closed,
    "hang": _hang,
    "hard": _hard,
}
