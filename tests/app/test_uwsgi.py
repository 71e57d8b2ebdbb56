"""The warning at the start inside uWSGI, which runs threads only if it is told to."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
from flask import Flask

from flask_convstore import ConversationStore


@pytest.mark.parametrize(
    ("options", "is_told"),
    [({b"master": True}, True), ({"enable-threads": True}, False), ({b"threads": b"4"}, False), (None, False)],
)
def test_uwsgi_without_threads_is_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, options: object, is_told: bool
) -> None:
    if options is not None:
        monkeypatch.setitem(sys.modules, "uwsgi", SimpleNamespace(opt=options))
    app = Flask(__name__)
    app.config["CONVSTORE_URL"] = "redis://127.0.0.1:1"
    ConversationStore(app)
    assert ("--enable-threads" in caplog.text) is is_told
