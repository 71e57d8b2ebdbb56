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


def test_a_repeat_of_a_message_without_a_reply_names_the_turn() -> None:
    """So that a client that is cut before the end can read on."""
    service = Service("memory://")
    service.convstore.reply(lambda turn: iter([]))
    path = f"/sessions/{service.start()}/messages"
    headers = {"Accept": "text/event-stream", "Idempotency-Key": "T"}
    first, again = (service.client.post(path, json={"content": "hi"}, headers=headers) for _ in range(2))
    assert '"turn":"msg-2","status":"unanswered"' in first.text
    assert again.text.replace(',"status":"unanswered"}}', "}}") == first.text  # the message as it is by then
