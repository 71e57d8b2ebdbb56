"""Time before the first request: to import the package, to register it with an app, to connect."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys

_CODE = """
import json, tempfile, time
import flask, redis, redis.cluster, redis.sentinel
def ms(action):
    began = time.perf_counter()
    made = action()
    return (time.perf_counter() - began) * 1000, made
def package():
    import flask_convstore
    return flask_convstore
importing, found = ms(package)
app = flask.Flask("bench", instance_path=tempfile.mkdtemp())
registering, store = ms(lambda: found.ConversationStore(app))
registering += ms(lambda: app.register_blueprint(store.blueprint))[0]
with app.app_context():
    first, _ = ms(lambda: store.save_session("first", {"history": []}))
    second, _ = ms(lambda: store.save_session("second", {"history": []}))
print(json.dumps([importing, registering, first, second]))
"""


def startup(url: str, runs: int) -> str:
    """A sentence with medians. Flask and redis-py are not counted: an app has them anyway."""
    environment = {**os.environ, "CONVSTORE_URL": url}
    command = [sys.executable, "-c", _CODE]
    times = [
        json.loads(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)
        for _ in range(runs)
    ]
    importing, registering, first, second = (statistics.median(column) for column in zip(*times, strict=True))
    return (
        f"Before the first request: importing the package {importing:.0f} ms, beside Flask and redis-py;\n"
        f"`ConversationStore(app)` and its blueprint {registering:.1f} ms;\n"
        f"the first write {first:.1f} ms (it connects, and brings its scripts), the second {second:.2f} ms."
    )
