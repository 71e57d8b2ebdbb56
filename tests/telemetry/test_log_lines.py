"""A line of the log is one line, whatever a client has chosen as a key."""

from __future__ import annotations

import logging

import pytest

from flask_convstore.errors import ConflictError

from ..service import Service, in_memory

FORGED = "k\nERROR root: all is lost\x1b[2J\u2028"


@in_memory
def test_no_key_forges_a_line(url: str, caplog: pytest.LogCaptureFixture) -> None:
    service = Service(url)
    notes = service.convstore.mapping("notes")

    @service.app.get("/nan")
    def nan() -> str:
        notes["n"] = {}
        notes["n"][FORGED] = float("nan")
        return ""

    assert service.client.get("/nan").status_code == 500
    lines = [record.getMessage() for record in caplog.records if record.name == "flask_convstore"]
    assert lines
    assert all(line.isprintable() for line in lines)
    assert str(ConflictError("s", FORGED, expected=None, actual=1)).isprintable()


def test_every_line_of_ours_is_escaped(caplog: pytest.LogCaptureFixture) -> None:
    log = logging.getLogger("flask_convstore")
    log.warning("%s, é", FORGED)
    log.warning("%(key)s", {"key": FORGED}, extra={"fact": 1})
    log.warning("nothing to escape: %s", "é")
    escaped = r"k\nERROR root: all is lost\x1b[2J\u2028"
    assert [record.getMessage() for record in caplog.records] == [f"{escaped}, é", escaped, "nothing to escape: é"]
