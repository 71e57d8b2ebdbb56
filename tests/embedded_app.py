"""An app on an embedded server, for tests that run it under real servers: ``CONVSTORE_URL`` says where."""

from __future__ import annotations

from typing import Any

from flask import Flask

from flask_convstore import ConversationStore

convstore = ConversationStore()


def create_app() -> Flask:
    app = Flask(__name__)
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    with app.app_context():
        convstore.exists("warm")  # with --preload the parent is a user too

    @app.get("/server")
    def server() -> dict[str, Any]:
        assert convstore.client
        info: Any = convstore.client.info("server")
        return {"pid": info["process_id"]}

    return app
