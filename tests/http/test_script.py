"""The browser's half, as the blueprint serves it."""

from __future__ import annotations

import gzip
import json
import subprocess
from pathlib import Path

import pytest
from flask import url_for

import flask_convstore

from ..javascript import NODE, NPM
from ..service import Service

SOURCE = Path(flask_convstore.__file__).with_name("static") / "convstore.js"


def test_it_may_be_kept_under_the_url_that_names_its_version() -> None:
    service = Service("memory://")
    with service.app.test_request_context():
        url = url_for("convstore.script")
    answer = service.client.get(url)
    assert (answer.status_code, answer.mimetype) == (200, "text/javascript")
    assert b"export class Chats" in answer.data
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    for other in ("/sessions/convstore.js", "/sessions/convstore.js?v=other"):
        answer = service.client.get(other)
        assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-cache")
        known = {"If-None-Match": answer.headers["ETag"]}
        assert service.client.get(other, headers=known).status_code == 304


def test_it_needs_no_owner_and_no_store() -> None:
    service = Service("redis://127.0.0.1:1/0", RETRIES=0, FALLBACK="none")
    assert service.client.get("/sessions/convstore.js").status_code == 200


def test_no_text_spans_lines() -> None:
    """Indentation is no part of what is served."""
    assert all(line.count("`") % 2 == 0 for line in SOURCE.read_text("utf-8").splitlines())


def test_it_is_small() -> None:
    """Comments are no part of what is served. The scenes in ``tests/script`` are played with that."""
    served = Service("memory://").client.get("/sessions/convstore.js").data
    assert len(gzip.compress(served, 9)) <= 12 * 1024


@pytest.mark.slow
def test_it_is_an_npm_package_as_it_is(tmp_path: Path) -> None:
    """Without its types, which ``prepack`` makes by a package of the index."""
    offline = ["--offline", "--ignore-scripts", "--no-audit", "--no-fund", "--cache", f"{tmp_path / 'cache'}"]
    packed = subprocess.check_output([*NPM, "pack", *offline, "--json", "--pack-destination", tmp_path, SOURCE.parent])
    (package,) = json.loads(packed)
    assert {"convstore.js", "types.js", "package.json"} <= {file["path"] for file in package["files"]}
    (tmp_path / "package.json").write_text("{}", "utf-8")
    subprocess.check_call([*NPM, "install", *offline, "--silent", tmp_path / package["filename"]], cwd=tmp_path)
    use = """
        import { Chats } from "flask-convstore";
        const chats = new Chats("http://127.0.0.1:1/sessions");
        await chats.ready;
        console.log(chats.status, chats.create().state);
        chats.close();
    """
    said = subprocess.check_output([NODE, "--input-type=module", "-e", use], cwd=tmp_path, text=True)
    assert said.split() == ["connecting", "ready"]
