"""``journal``: what waits on this host is listed, shown, handed over and dropped."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore

from ..processes import wait_for
from ..servers import Server, programs
from ..topologies import cluster, is_whole
from .commands import lines, run, run_in


class Away:
    """An app whose server is away, with a session in its journal. No replay runs."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.server, self.folder = server, folder
        self.app = Flask("app", instance_path=str(folder))
        self.app.config.update(CONVSTORE_URL=server.url)
        self.store = ConversationStore(self.app)
        self.app.register_blueprint(self.store.blueprint)
        server.kill()
        client = self.app.test_client()
        made = [client.post("/sessions", json={"message": {"content": f"text {number}"}}) for number in range(2)]
        self.ids = [one.json["session_id"] for one in made if one.json]
        assert len(self.ids) == 2

    @property
    def state(self) -> Any:
        return self.app.extensions["convstore"]["convstore"]

    def waiting(self) -> list[str]:
        return [line["session_id"] for line in lines(run_in(self.app, "journal", "ls", "--json"))]


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Away]:
    server = Server(programs()["valkey"])
    yield Away(server, tmp_path / "inst")
    if server.process.poll() is not None:
        server.start()
    server.stop()


@pytest.mark.server
def test_sessions_that_wait_are_listed_and_shown(away: Away) -> None:
    assert away.waiting() == away.ids
    assert "waiting" in run_in(away.app, "journal", "ls").stdout
    (shown,) = lines(run_in(away.app, "journal", "show", away.ids[0], "--json"))
    assert (shown["state"], "text 0" in str(shown["write"])) == ("waiting", True)
    assert "text 1" in run_in(away.app, "journal", "show", away.ids[1]).stdout
    assert "nothing about" in run_in(away.app, "journal", "show", "other", status=1).stderr


@pytest.mark.server
def test_sessions_that_wait_can_be_dropped(away: Away) -> None:
    assert "Aborted" in run_in(away.app, "journal", "drop", away.ids[0], given="n\n", status=1).output
    assert "writes were dropped" in run_in(away.app, "journal", "drop", away.ids[0], "--yes").stdout
    assert away.waiting() == away.ids[1:]
    assert "nothing about" in run_in(away.app, "journal", "drop", away.ids[0], "-y", status=1).stderr


@pytest.mark.server
def test_a_journal_is_drained_by_an_operator_without_the_app(away: Away) -> None:
    away.state.journal.close()
    words = ["journal", "--folder", str(away.folder)]
    with away.state.journal.replaying():  # the app hands nothing over itself
        done = run(away.server.url, *words, "drain", "--timeout", "0.3", "--json", status=1)
        assert lines(done)[0]["left"] > 0
        assert "cannot reach the server" in done.stderr
    away.server.start()
    assert "0 are left" in run(away.server.url, *words, "drain").stdout
    assert lines(run(away.server.url, *words, "ls", "--json")) == []
    wait_for(lambda: len(lines(run(away.server.url, "ls", "--json"))) == 2, "they are not on the server")


@pytest.mark.server
def test_writes_that_were_set_aside_are_listed_shown_and_dropped(away: Away) -> None:
    journal = away.state.journal
    found = journal.find("", away.ids[0])
    journal.set_aside("", found, "the reason")
    listed = {line["session_id"]: line for line in lines(run_in(away.app, "journal", "ls", "--json"))}
    assert listed[away.ids[0]]["problem"] == "the reason"
    assert "the reason" in run_in(away.app, "journal", "ls").stdout
    assert lines(run_in(away.app, "journal", "show", away.ids[0], "--json"))[0]["state"] == "aside"
    assert "put aside" in run_in(away.app, "doctor", status=2).stdout
    assert "1 writes were dropped" in run_in(away.app, "journal", "drop", away.ids[0], "-y").stdout
    assert away.waiting() == away.ids[1:]


@pytest.mark.server
def test_the_journal_of_a_cluster_is_drained(tmp_path: Path) -> None:
    with cluster() as found:
        app = Flask("app", instance_path=str(tmp_path / "inst"))
        app.config.update(CONVSTORE_URL=found.url)
        app.register_blueprint(ConversationStore(app).blueprint)
        for server in found.primaries:
            server.kill()
        assert app.test_client().post("/sessions", json={"message": {"content": "hi"}}).status_code == 201
        for server in found.primaries:
            server.start()
        wait_for(lambda: is_whole(found), "the cluster does not come up")
        assert "0 are left" in run_in(app, "journal", "drain").stdout
        assert len(lines(run(found.url, "ls", "--json"))) == 1


def test_a_store_without_a_journal_says_so() -> None:
    assert "--folder" in run("memory://", "journal", "ls", status=2).stderr
    app = Flask("app")
    app.config.update(CONVSTORE_URL="redis://127.0.0.1:1/0", CONVSTORE_FALLBACK="none")
    ConversationStore(app)
    assert "no journal" in run_in(app, "journal", "ls", status=2).stderr
    assert "--folder" in run_in(app, "journal", "--folder", "x", "ls", status=2).stderr
