"""The lines of server-sent events, for clients that split lines in their own way."""

from __future__ import annotations

import json

from ..service import Service
from .chunks import hard_chunks, joined


def test_lines_are_the_same_for_clients_that_split_as_python_does() -> None:
    service = Service("memory://")
    chunks = hard_chunks(3, 400)
    service.convstore.reply(lambda turn: iter(chunks))
    answer = service.client.post(
        f"/sessions/{service.start()}/messages",
        json={"content": "\u2028\x85"},
        headers={"Accept": "text/event-stream"},
    )
    text = answer.get_data(as_text=True)
    assert text.splitlines() == text.split("\n")[:-1]
    found = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert "".join(event.get("content", "") for event in found) == joined(chunks)
