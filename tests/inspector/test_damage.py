"""A session that others have written into spoils no page but its own, and that one shows what is left."""

from __future__ import annotations

import pytest

from ..servers import Server
from .panel import Panel

KEY = "chat:session:{bad}"
BROKEN = (b"x", b"\xff", b"-5", b"99999999999999999999", b"1e400")
FIELDS = (
    "version",
    "created",
    "updated",
    "count",
    "title",
    "owner",
    "shape",
    "history_bytes",
    "data_bytes",
    "turn_until",
    "moved_to",
    "streams",
    "tokens_in",
    "began",
    "ttl",
)


@pytest.mark.server
@pytest.mark.parametrize("field", FIELDS)
def test_a_broken_field_spoils_no_page(valkey: Server, field: str) -> None:
    panel = Panel(valkey.url).with_inspector()
    panel.save("whole", [{"role": "user", "content": "hi"}], "ada")
    for broken in BROKEN:
        valkey.client.delete(KEY, f"{KEY}:history")
        panel.save("bad", [{"role": "user", "content": "hi"}], "ada", title="T")
        valkey.client.hset(KEY, field, broken)
        for query in ({}, {"sort": "size"}, {"state": "turn"}, {"state": "moved"}, {"by": "owner", "q": "ada"}):
            page = panel.get("sessions", **query)
            assert page.status_code == 200, (broken, query)
            assert "whole" in page.text or "state" in query
        assert panel.get("sessions", q="bad").status_code == 200, broken
        assert panel.get("session", id="bad").status_code in (200, 404), broken  # 404: as of another owner
