"""The JavaScript of docs/streaming.md, run by Node: a browser's EventSource, which is cut again and again."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from ..javascript import NODE
from .conftest import Start
from .reader import history, start

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
[BY_EVENT_SOURCE] = re.findall(r"^```js\n(.*?)^```", (ROOT / "docs" / "streaming.md").read_text("utf-8"), re.M | re.S)

GIVEN = """
const [base, id, content] = process.argv.slice(1);
let text = "", resets = 0, requests = 0;
const show = (piece) => { text += piece; };
const clear = () => { text = ""; resets += 1; };
const tell = () => { process.stdout.write(JSON.stringify({ text, resets, requests })); process.exit(0); };
const fetched = globalThis.fetch;
globalThis.fetch = (path, options) => { requests += 1; return fetched(base + path, options); };
const Source = globalThis.EventSource;
globalThis.EventSource = class extends Source { constructor(path) { super(base + path); } };
setInterval(() => {}, 1000); // Node waits for no EventSource
"""
"""The names that the code of the page finds. Its paths are those of a page of the app."""


def run(code: str, *arguments: str) -> Any:
    options = ("--experimental-eventsource", "--no-warnings", "--input-type=module", "--eval", GIVEN + code)
    command = [NODE, *options, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_event_source_reads_on_wherever_it_is_cut(started: Start) -> None:
    """The worker cuts it each second, and the reply ends while it is away."""
    sync, producing = started("sync"), started("gthread")
    session_id = start(sync.url)
    asked = json.dumps({"kind": "count", "chunks": 400, "pause": 0.01})
    begin = """
    const headers = { Accept: "text/event-stream", "Content-Type": "application/json" };
    const sent = { method: "POST", headers, body: JSON.stringify({ content }) };
    await (await fetched(`PRODUCING/sessions/${id}/messages`, sent)).body.getReader().read();
    """.replace("PRODUCING", producing.url)
    end = 'page.addEventListener("open", () => { requests += 1; }); page.addEventListener("done", tell);'
    told = run(begin + BY_EVENT_SOURCE + end, sync.url, session_id, asked)
    assert (told["text"], told["resets"]) == (history(sync.url, session_id)[-1]["content"], 0)
    assert told["requests"] > 2
