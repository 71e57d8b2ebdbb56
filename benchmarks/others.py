"""Other ways to keep a conversation: the cost of a turn, and the messages that survive eight clients at once.

    python -m benchmarks.others [--report docs/comparison.md]

It needs packages that nothing else here needs: ``make compare`` makes an environment for them. Each is used as its own
documentation shows it, with an hour's lifetime where it has any. The server is a Valkey without persistence on 127.0.0.1,
reached by TCP. A package that does not use it writes to a file.
"""

from __future__ import annotations

import abc
import argparse
import asyncio
import contextlib
import json
import multiprocessing
import platform
import tempfile
from collections.abc import Sequence
from datetime import date
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import flask
import redis

from tests.servers import Server, running
from tests.wire import Proxy

from .by_hand import Floor
from .library import BOT, USER, app_with_store
from .measure import Comparing, put

SIZES = (10, 1_000)
_CLIENTS, _TURNS = 8, 50
_ROUNDS, _CALLS = 20, 10


class Way(abc.ABC):
    """One conversation, kept in one way.

    Attributes:
        package: The package that the version is of, or "" for hand-written code.
        grows: A turn costs the more, the longer the conversation is.
    """

    package: ClassVar[str] = ""
    grows: ClassVar[bool] = False

    @abc.abstractmethod
    def __init__(self, url: str, folder: Path, key: str) -> None: ...

    @abc.abstractmethod
    def fill(self, texts: Sequence[str]) -> None:
        """Begin it anew, with these messages."""

    @abc.abstractmethod
    def turn(self, said: str, reply: str) -> None:
        """Add a user's message and the reply to it."""

    @abc.abstractmethod
    def texts(self) -> list[str]:
        """The texts of all messages, oldest first."""

    def close(self) -> None:  # noqa: B027  most have nothing to give up
        """Give up what it holds."""


def _as_turn(said: str, reply: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": said}, {"role": "assistant", "content": reply}]


class Script(Way):
    """One script, written by hand."""

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._floor, self._key = Floor(redis.Redis.from_url(url)), key

    def fill(self, texts: Sequence[str]) -> None:
        self._floor.drop(self._key)
        if texts:
            self._floor.append(self._key, *({"role": "user", "content": text} for text in texts))

    def turn(self, said: str, reply: str) -> None:
        self._floor.append(self._key, *_as_turn(said, reply))

    def texts(self) -> list[str]:
        return [message["content"] for message in self._floor.read(self._key)]


class Blob(Way):
    """GET, json, SET with a lifetime."""

    grows = True

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._client: Any = redis.Redis.from_url(url)
        self._key = key

    def fill(self, texts: Sequence[str]) -> None:
        self._save([{"role": "user", "content": text} for text in texts])

    def turn(self, said: str, reply: str) -> None:
        self._save(json.loads(self._client.get(self._key)) + _as_turn(said, reply))

    def texts(self) -> list[str]:
        return [message["content"] for message in json.loads(self._client.get(self._key))]

    def _save(self, history: list[dict[str, str]]) -> None:
        self._client.set(self._key, json.dumps(history), ex=3600)


class LangChain(Way):
    """LangChain's Redis history: a list, an element for each message."""

    package = "langchain-community"

    def __init__(self, url: str, folder: Path, key: str) -> None:
        histories = import_module("langchain_community.chat_message_histories")
        self._messages = import_module("langchain_core.messages")
        self._history = histories.RedisChatMessageHistory(key, url=url, ttl=3600)

    def fill(self, texts: Sequence[str]) -> None:
        self._history.clear()
        self._history.add_messages([self._messages.HumanMessage(text) for text in texts])

    def turn(self, said: str, reply: str) -> None:
        self._history.add_messages([self._messages.HumanMessage(said), self._messages.AIMessage(reply)])

    def texts(self) -> list[str]:
        return [message.content for message in self._history.messages]


class LlamaIndex(Way):
    """LlamaIndex's Redis chat store: a list, an element for each message."""

    package = "llama-index-storage-chat-store-redis"

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._message = import_module("llama_index.core.llms").ChatMessage
        self._store = import_module("llama_index.storage.chat_store.redis").RedisChatStore(redis_url=url, ttl=3600)
        self._key = key

    def fill(self, texts: Sequence[str]) -> None:
        self._store.delete_messages(self._key)
        self._store.set_messages(self._key, [self._message(role="user", content=text) for text in texts])

    def turn(self, said: str, reply: str) -> None:
        for message in _as_turn(said, reply):
            self._store.add_message(self._key, self._message(**message))

    def texts(self) -> list[str]:
        return [message.content for message in self._store.get_messages(self._key)]


class OpenAIAgents(Way):
    """The OpenAI Agents SDK's session on Redis."""

    package = "openai-agents"

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._run = asyncio.Runner().run
        memory = import_module("agents.extensions.memory")
        self._session = memory.RedisSession.from_url(key, url=url, ttl=3600)

    def fill(self, texts: Sequence[str]) -> None:
        self._run(self._session.clear_session())
        if texts:
            self._run(self._session.add_items([{"role": "user", "content": text} for text in texts]))

    def turn(self, said: str, reply: str) -> None:
        self._run(self._session.add_items(_as_turn(said, reply)))

    def texts(self) -> list[str]:
        return [item["content"] for item in self._run(self._session.get_items())]


class GoogleAdk(Way):
    """The Google Agent Development Kit's sessions in a database, here SQLite."""

    package = "google-adk"

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._run = asyncio.Runner().run
        self._sessions = import_module("google.adk.sessions")
        self._event = import_module("google.adk.events").Event
        self._types = import_module("google.genai.types")
        self._service = self._sessions.DatabaseSessionService(f"sqlite+aiosqlite:///{folder}/adk.db")
        self._whose = {"app_name": "bench", "user_id": "ada", "session_id": key}

    def fill(self, texts: Sequence[str]) -> None:
        async def filled() -> None:
            await self._service.delete_session(**self._whose)
            session = await self._service.create_session(**self._whose)
            for text in texts:
                await self._service.append_event(session, self._said("user", text))

        self._run(filled())

    def turn(self, said: str, reply: str) -> None:
        async def turned() -> None:
            recent = import_module("google.adk.sessions.base_session_service").GetSessionConfig(num_recent_events=1)
            session = await self._service.get_session(**self._whose, config=recent)
            await self._service.append_event(session, self._said("user", said))
            await self._service.append_event(session, self._said("model", reply))

        self._run(turned())

    def texts(self) -> list[str]:
        session = self._run(self._service.get_session(**self._whose))
        return [event.content.parts[0].text for event in session.events]

    def _said(self, role: str, text: str) -> Any:
        return self._event(author=role, content=self._types.Content(role=role, parts=[self._types.Part(text=text)]))


class FlaskSession(Way):
    """Flask-Session on Redis, with the history in ``flask.session``: opened, changed, saved, without a request around it.

    It chooses the session's id itself: the other processes find it in a file.
    """

    package = "Flask-Session"
    grows = True

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._app = flask.Flask("others")
        self._app.config.update(SESSION_TYPE="redis", SESSION_REDIS=redis.Redis.from_url(url))
        import_module("flask_session").Session(self._app)
        self._cookie = folder / key
        self._request = self._with_cookie(self._cookie.read_text() if self._cookie.exists() else "")

    def fill(self, texts: Sequence[str]) -> None:
        self._request = self._with_cookie("")
        response = self._saved([], [{"role": "user", "content": text} for text in texts])
        self._cookie.write_text(response.headers["Set-Cookie"].partition(";")[0])
        self._request = self._with_cookie(self._cookie.read_text())

    def turn(self, said: str, reply: str) -> None:
        self._saved(None, _as_turn(said, reply))

    def texts(self) -> list[str]:
        return [message["content"] for message in self._opened()["history"]]

    def _with_cookie(self, cookie: str) -> flask.Request:
        return self._app.test_request_context(headers={"Cookie": cookie}).request

    def _opened(self) -> Any:
        return self._app.session_interface.open_session(self._app, self._request)

    def _saved(self, before: list[Any] | None, added: list[dict[str, str]]) -> flask.Response:
        """The history *before*, or as it is, and what is *added*."""
        session, response = self._opened(), flask.Response()
        session["history"] = (session["history"] if before is None else before) + added
        self._app.session_interface.save_session(self._app, session, response)
        return response


class Convstore(Way):
    """``append`` of both messages."""

    package = "flask-convstore"

    def __init__(self, url: str, folder: Path, key: str) -> None:
        self._stack, self._key = contextlib.ExitStack(), key
        _, self._store = self._stack.enter_context(app_with_store(url, MAX_HISTORY=10**7, TURN_WAIT=60))

    def fill(self, texts: Sequence[str]) -> None:
        self._store.save_session(self._key, {"history": [{"role": "user", "content": text} for text in texts]})

    def turn(self, said: str, reply: str) -> None:
        self._store.append(self._key, *_as_turn(said, reply))

    def texts(self) -> list[str]:
        session: Any = self._store.get_session(self._key)
        return [message["content"] for message in session["history"]]

    def close(self) -> None:
        self._stack.close()


class ConvstoreTurn(Convstore):
    """``turn``: the message first, then the reply, and nobody between."""

    def turn(self, said: str, reply: str) -> None:
        with self._store.turn(self._key, {"role": "user", "content": said}, last=20, policy="wait") as turn:
            turn.reply(reply)


WAYS: dict[str, type[Way]] = {
    "one hand-written script": Script,
    "GET, json, SETEX by hand": Blob,
    "LangChain's `RedisChatMessageHistory`": LangChain,
    "LlamaIndex's `RedisChatStore`": LlamaIndex,
    "OpenAI Agents' `RedisSession`": OpenAIAgents,
    "Google ADK's `DatabaseSessionService`, SQLite": GoogleAdk,
    "Flask-Session on Redis": FlaskSession,
    "flask-convstore, `append`": Convstore,
    "flask-convstore, `turn` with the last 20": ConvstoreTurn,
}


def kept(name: str, url: str, folder: Path) -> contextlib.closing[Way]:
    """One conversation, the same in all processes."""
    return contextlib.closing(WAYS[name](url, folder, WAYS[name].__name__))


def ratios(server: Server, folder: Path, name: str) -> list[float]:
    """Time of a turn against that of the script, by the clock, at each size."""
    compare = Comparing(server.client, _ROUNDS)
    found = []
    for size in SIZES:
        texts = [message["content"] for message in (USER, BOT)] * (size // 2)
        with kept(name, server.url, folder) as way, kept("one hand-written script", server.url, folder) as script:
            for each in (way, script):
                each.fill(texts)
            ours, theirs = (partial(each.turn, USER["content"], BOT["content"]) for each in (way, script))
            options: dict[str, Any] = {"prepare": partial(way.fill, texts)} if way.grows else {}
            found.append(compare(name, size, "script", ours, theirs, calls=_CALLS, **options).ratio)
        server.client.flushall()
    return found


def round_trips(server: Server, folder: Path, name: str) -> int:
    """Round trips of one turn, once it is connected."""
    with Proxy(("127.0.0.1", server.port)) as proxy, kept(name, proxy.url, folder) as way:
        way.fill(["first"])
        way.turn("said", "reply")
        proxy.reset()
        way.turn("said", "reply")
        return proxy.round_trips


def survivors(server: Server, folder: Path, name: str) -> tuple[int, int]:
    """Messages that survive when eight clients write to one conversation, and the number of torn turns among them."""
    with kept(name, server.url, folder) as way:
        way.fill([])
        processes = multiprocessing.get_context("spawn")
        with processes.Manager() as manager, processes.Pool(_CLIENTS) as pool:
            ready = manager.Barrier(_CLIENTS)
            pool.starmap(_write, [(name, server.url, folder, client, ready) for client in range(_CLIENTS)], chunksize=1)
        texts = way.texts()
    place = {text: number for number, text in enumerate(texts)}
    turns = [_texts(client, number) for client in range(_CLIENTS) for number in range(_TURNS)]
    torn = sum(said in place and reply in place and place[reply] != place[said] + 1 for said, reply in turns)
    return len(place), torn


def _write(name: str, url: str, folder: Path, client: int, ready: Any) -> None:
    with kept(name, url, folder) as way:
        ready.wait(60)
        for number in range(_TURNS):
            with contextlib.suppress(Exception):  # what is refused has not survived
                way.turn(*_texts(client, number))


def _texts(client: int, number: int) -> tuple[str, str]:
    """The texts of one turn of a client."""
    return f"{client}:{number}:said", f"{client}:{number}:reply"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", type=Path, help="write the table into this Markdown file, between its marks")
    given = parser.parse_args()
    sizes = "; ".join(f"{size:,}" for size in SIZES)
    written = 2 * _CLIENTS * _TURNS
    lines = [
        f"| | version | a turn at n = {sizes} | round trips | survived of {written} | torn |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    with running("valkey") as server, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        server_version = server.client.info("server")["valkey_version"]
        for way, kind in WAYS.items():
            server.client.flushall()
            costs = "; ".join(f"{ratio:.1f}" for ratio in ratios(server, folder, way))
            trips = round_trips(server, folder, way) or ""
            whole, torn = survivors(server, folder, way)
            shown = version(kind.package) if kind.package not in ("", "flask-convstore") else ""
            lines.append(f"| {way} | {shown} | {costs} | {trips} | {whole} | {torn} |")
            print(lines[-1], flush=True)
    packages = f"redis-py {redis.__version__}, Flask {version('flask')}"
    made = f"`make compare`, {date.today()}, Valkey {server_version}, Python {platform.python_version()}, {packages},"
    text = "\n".join([made, "2 shared cores:", "", *lines])
    print(text)
    if given.report:
        put(given.report, "others", text)


if __name__ == "__main__":
    main()
