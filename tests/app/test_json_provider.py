"""Mappings in JSON answers: ``jsonify(sessions)`` gives what a dict would give."""

from __future__ import annotations

from typing import Any

from flask import jsonify
from flask.json.provider import JSONProvider

from flask_convstore import ConversationStore

from ..service import Service


def test_a_mapping_is_written_as_a_dict(service: Service) -> None:
    sessions = service.convstore.sessions
    service.app.add_url_rule("/all", "all", lambda: jsonify(sessions))
    service.app.add_url_rule("/part", "part", lambda: {"sessions": sessions})
    with service.app.app_context():
        sessions["a"] = {"history": [{"n": 1}]}
    assert service.client.get("/all").json == {"a": {"history": [{"n": 1}]}}
    assert service.client.get("/part").json == {"sessions": {"a": {"history": [{"n": 1}]}}}


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
