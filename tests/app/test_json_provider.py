"""Mappings in JSON answers: ``jsonify(sessions)`` gives what a dict would give."""

from __future__ import annotations

import json as json_of_python
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from flask import json, jsonify, render_template_string
from flask.json.provider import JSONProvider

from flask_convstore import ConversationStore

from ..service import Service


def test_a_mapping_is_written_as_a_dict(service: Service) -> None:
    sessions = service.convstore.sessions
    service.app.add_url_rule("/all", "all", lambda: jsonify(sessions))
    service.app.add_url_rule("/part", "part", lambda: {"sessions": sessions})
    service.app.add_url_rule("/it", "it", lambda: sessions)
    service.app.add_url_rule("/status", "status", lambda: (sessions, 203))
    service.app.add_url_rule("/flask", "flask", lambda: json.dumps(sessions))
    service.app.add_url_rule("/template", "template", lambda: render_template_string("{{ it|tojson }}", it=sessions))
    with service.app.app_context():
        sessions["a"] = {"history": [{"n": 1}]}
    for path in ("/flask", "/template"):
        assert json.loads(service.client.get(path).text) == {"a": {"history": [{"n": 1}]}}
    assert service.client.get("/all").json == {"a": {"history": [{"n": 1}]}}
    assert service.client.get("/it").json == {"a": {"history": [{"n": 1}]}}
    with service.client.get("/status") as answer:
        assert (answer.status_code, answer.json) == (203, {"a": {"history": [{"n": 1}]}})
    assert service.client.get("/part").json == {"sessions": {"a": {"history": [{"n": 1}]}}}


@pytest.mark.parametrize("dumps", [json_of_python.dumps, orjson.dumps], ids=["json", "orjson"])
@pytest.mark.parametrize("part", ["whole", "part"])
def test_the_error_of_a_library_that_takes_dicts_only_names_the_cure(
    service: Service, dumps: Callable[[Any], Any], part: str, caplog: pytest.LogCaptureFixture
) -> None:
    sessions = service.convstore.sessions
    service.app.add_url_rule("/all", "all", lambda: dumps(sessions if part == "whole" else [sessions]))
    service.app.add_url_rule("/copy", "copy", lambda: dumps(sessions.copy()))
    service.app.testing = False
    assert service.client.get("/all").status_code == 500
    assert "Write sessions.copy(), which is one." in caplog.text
    assert service.client.get("/copy").text == "{}"


def test_a_provider_of_the_app_s_own_stays_as_it_is(service: Service) -> None:
    class Own(JSONProvider):
        def dumps(self, obj: Any, **kwargs: Any) -> str:
            return "own"

        def loads(self, s: Any, **kwargs: Any) -> Any:
            return "own"

    app = type(service.app)("own")
    app.config["CONVSTORE_URL"] = "memory://"
    app.json = Own(app)
    ConversationStore(app)
    with app.app_context():
        assert app.json.dumps({}) == "own"
