"""Count the Python frames of the package that an operation runs, and the changes of room between them.

python -m benchmarks.frames [--list append]

A frame is one call event of ``sys.setprofile`` in a file of the package. A generator counts each time that it is entered.
Frames of Flask, redis-py, the standard library and generated code (the ``__init__`` of a dataclass) do not count.
A change of room is a frame in another file of the package than the frame before it.
Each operation has run once before it is counted, so the scripts are loaded and the connection is open. The server is real.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, NamedTuple

from flask import request

import flask_convstore
from tests.servers import Server, running

from .library import app_with_store

_PACKAGE = f"{Path(flask_convstore.__file__).parent}/"
_USER = {"role": "user", "content": "Hello"}
_STORED = {"history": [_USER] * 4, "topic": "greetings"}

# Frames and changes of room that each operation may have.
TARGETS = {"append": (45, 25), "post": (160, 80), "mapping": (160, 70), "save": (130, 60)}
TITLES = {
    "append": "`append` of one message",
    "post": "`POST …/messages` with a reply handler",
    "mapping": "mapping: change a value, until the request has ended",
    "save": "get, change, save",
}


class Frame(NamedTuple):
    """A frame of the package: its code, and how many other frames of the package are below it on the stack."""

    code: CodeType
    depth: int

    @property
    def room(self) -> str:
        return self.code.co_filename.removeprefix(_PACKAGE).removesuffix(".py")


class Frames(list[Frame]):
    """The frames of one operation, in the order of their calls."""

    @property
    def changes_of_room(self) -> int:
        return sum(before.room != after.room for before, after in pairwise(self))


def frames_of(action: Callable[[], object]) -> Frames:
    """The frames of the package that *action* runs in this thread."""
    found = Frames()
    depth = 0

    def note(frame: FrameType, event: str, _: Any) -> None:
        nonlocal depth
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            return
        if event == "call":
            found.append(Frame(frame.f_code, depth))
            depth += 1
        elif event == "return":
            depth -= 1

    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
    return found


def counted(server: Server) -> dict[str, Frames]:
    """The frames of each operation on a warm app, with a session of four messages and one data field."""
    with app_with_store(server.url) as (app, store):

        @store.reply
        def answer(turn: Any) -> str:
            return "Hello yourself"

        @app.post("/mapped")
        def mapped() -> str:
            store.sessions[request.args["name"]]["history"].append(dict(_USER))
            return "done"

        client = app.test_client()

        def append(name: str) -> None:
            store.append(name, _USER)

        def post(name: str) -> None:
            answered = client.post(f"/sessions/{name}/messages", json={"content": "Hello"})
            assert answered.status_code == 201, answered.text

        def mapping(name: str) -> None:
            answered = client.post("/mapped", query_string={"name": name})
            assert answered.status_code == 200, answered.text

        def save(name: str) -> None:
            session: Any = store.get_session(name)
            session["history"].append(dict(_USER))
            store.save_session(name, session)

        operations = {"append": append, "post": post, "mapping": mapping, "save": save}
        return {name: _warm_frames(store, name, action) for name, action in operations.items()}


def _warm_frames(store: flask_convstore.ConversationStore, name: str, action: Callable[[str], object]) -> Frames:
    for session_id in (f"{name}-cold", f"{name}-warm"):
        store.save_session(session_id, _STORED)
    action(f"{name}-cold")
    return frames_of(lambda: action(f"{name}-warm"))


def frames_table(found: dict[str, Frames]) -> str:
    """The counts beside their targets, as Markdown."""
    lines = ["| operation | frames | changes of room | target | |", "| --- | --- | --- | --- | --- |"]
    for name, frames in found.items():
        most_frames, most_changes = TARGETS[name]
        is_met = len(frames) <= most_frames and frames.changes_of_room <= most_changes
        counts = f"{len(frames)} | {frames.changes_of_room} | {most_frames} and {most_changes}"
        lines.append(f"| {TITLES[name]} (`{name}`) | {counts} | {'met' if is_met else '**missed**'} |")
    return "\n".join(lines)


def listing(frames: Frames) -> str:
    """The frames in the order of their calls, indented by depth. ``*`` marks a change of room."""
    lines = []
    room = None
    for frame in frames:
        mark = " " if frame.room == room else "*"
        room = frame.room
        place = f"{room}.py:{frame.code.co_firstlineno}"
        lines.append(f"{mark} {place:<42}{'  ' * frame.depth}{frame.code.co_qualname}")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--list", choices=TARGETS, metavar="OPERATION", help=f"list the frames of: {', '.join(TARGETS)}"
    )
    given = parser.parse_args(arguments)
    with running("valkey") as server:
        found = counted(server)
    if given.list:
        print(listing(found[given.list]))
    print(frames_table(found))


if __name__ == "__main__":
    main()
