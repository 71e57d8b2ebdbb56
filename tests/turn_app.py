"""An app with a handler that tests can hold: ``CONVSTORE_URL`` says where its sessions are."""

from __future__ import annotations

import os
import time

from flask import Flask

from flask_convstore import ConversationStore, Turn

convstore = ConversationStore()


def create_app() -> Flask:
    app = Flask(__name__, instance_path=os.environ.get("INSTANCE"))
    convstore.init_app(app)
    app.register_blueprint(convstore.blueprint)
    return app


@convstore.reply(last=4)
def reply(turn: Turn) -> str:
    """Echo the message. Asked to hang, write the process id into a field and wait for the end."""
    text = turn.message["content"]
    if text.startswith("hang"):
        convstore.append(turn.session_id, data={"pid": os.getpid()})
        time.sleep(60)
    return f"re: {text}"
