"""Sessions as the library reads them in a process of its own: JSON on stdin, JSON on stdout.

python -m tests.chaos.reader < {label: [session_id, owner]} > [[label, session_id, [[seq, text], …] | null, problem]]
"""

from __future__ import annotations

import json
import sys
from typing import Any

from flask_convstore.errors import ConvstoreError

from .app import convstore, create_app
from .records import Final, Read, Seen

DOOR = "library"


def main() -> None:
    found = []
    with create_app().app_context():
        for label, (session_id, owner) in json.load(sys.stdin).items():
            messages: list[Any] | None = None
            problem = ""
            try:
                session = convstore.get_session(session_id, owner=owner)
                if session is not None:
                    messages = [(message.seq, str(message.get("content"))) for message in session.messages]
            except ConvstoreError as error:
                problem = repr(error)
            found.append((label, session_id, messages, problem))
    json.dump(found, sys.stdout)


def finals_of(text: bytes) -> list[Final]:
    """The output of such a process."""
    return [
        Final(label, session_id, DOOR, None if said is None else Read(tuple(Seen(*one) for one in said)), problem)
        for label, session_id, said, problem in json.loads(text)
    ]


if __name__ == "__main__":
    main()
