"""An append-only file is cut at a moment. What was written before it is there again, and nothing of what came behind."""

from __future__ import annotations

import subprocess
import time

import pytest
from flask import Flask

from flask_convstore import ConversationStore

from ...processes import wait_for
from ...servers import programs, running


@pytest.mark.server
def test_sessions_are_brought_back_to_a_moment() -> None:
    options = (
        *("--appendonly", "yes", "--appendfsync", "always", "--aof-timestamp-enabled", "yes"),
        *("--aof-use-rdb-preamble", "no"),  # valkey-check-aof 9.1 does not know a snapshot of Valkey 9.1
    )
    with running("valkey", *options) as server:
        app = Flask("moments")
        app.config.update(CONVSTORE_URL=server.url, CONVSTORE_FALLBACK="none", CONVSTORE_CIRCUIT_FAILURES=1000)
        store = ConversationStore(app)
        with app.app_context():
            store.save_session("a", {"history": ["before"]})
            moment = int(time.time())
            wait_for(lambda: time.time() >= moment + 2, "the clock stands still")
            store.append("a", {"role": "user", "content": "behind"})
            store.save_session("b", {"history": ["behind"]})
            server.kill()
            check = server.folder / "valkey-check-aof"  # the server is this program too, by its name
            check.symlink_to(programs()["valkey"])
            manifest = server.folder / "appendonlydir" / "appendonly.aof.manifest"
            subprocess.run(
                [check, "--truncate-to-timestamp", str(moment), manifest], check=True, stdout=subprocess.DEVNULL
            )
            server.start()
            assert store.get_session("a") == {"history": ["before"]}
            assert store.get_session("b") is None
            store.append("a", {"role": "user", "content": "again"})
            assert store.get_session("a") == {"history": ["before", {"role": "user", "content": "again"}]}
