"""``export`` and ``import``: a store and what became of it elsewhere make the same text."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ANY, ConversationStore, Message

from ..conftest import check_lifetimes
from ..processes import wait_for
from ..servers import Server, running
from ..topologies import cluster
from .commands import lines, run, run_in

HI = {"role": "user", "content": "hi"}


def store_at(url: str, **settings: Any) -> tuple[Flask, ConversationStore]:
    app = Flask("app")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none", CONVSTORE_MAX_SESSIONS=0, **settings)
    return app, ConversationStore(app)


def fill(url: str, count: int = 3) -> None:
    """Sessions of every shape, with everything that a session may have."""
    app, store = store_at(url, CONVSTORE_TYPES="tagged")
    with app.app_context():
        for number in range(count):
            owner = [None, "ada", "bob"][number % 3]
            fields = {f"field{number % 7}-{key}": {"b": number, "a": key} for key in "zyx"}
            store.save_session(f"s{number}", {"history": [HI, f"m{number} $"], **fields}, owner=owner)
        store.save_session("list", [HI], ttl=7200, owner="ada")
        store.save_session(
            "data", {"complete": True, "at": datetime(2026, 1, 2, tzinfo=UTC), "set": {1}, "$x": {"$y": 1}}
        )
        store.append(
            "s1", Message({"at": datetime(2026, 1, 2, tzinfo=UTC)}, id="own", metadata={"k": [1]}), owner="ada"
        )
        store.append("s1", HI, HI, HI, owner="ada")
        store.drop("s1", message=1, owner="ada")
        store.drop("s1", message=4, owner="ada")
        store.edit_message("s1", "own", "edited", owner="ada")
        store.update_session("s1", title="Ä title", owner="ada")
        store.share("s1", "eve", "writer", owner="ada")
        store.link("telegram:1", "s1", owner="ada")
        store.save_session("shown/ü {x}", [])
        store.save_message(("a", 1), "user", "in a chat")
        store.mapping("notes", default=dict)["k"] = 7
        store.mapping("notes", default=dict)[3] = {"t": (1, 2)}


def exported(url: str, tmp_path: Path) -> bytes:
    run(url, "export", str(tmp_path / "export"))
    return (tmp_path / "export").read_bytes()


@pytest.mark.server
def test_an_import_on_another_server_makes_the_same_export(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url, 120)
    before = exported(valkey.url, tmp_path)
    found = [json.loads(line) for line in before.splitlines()]
    assert len(found) == 120 + 3 + 1 + 2
    assert [(line.get("place", "sessions") != "sessions", line["session_id"]) for line in found[:123]] == sorted(
        (False, line["session_id"]) for line in found[:123]
    )
    with running("valkey") as other:
        done = run(other.url, "import", str(tmp_path / "export"), "--json")
        assert lines(done) == [{"new": 126, "existing": 0, "failed": 0, "dry_run": False}]
        assert exported(other.url, tmp_path) == before
        check_lifetimes(other.client)
        app, store = store_at(other.url, CONVSTORE_TYPES="tagged")
        with app.app_context():
            session: Any = store.get_session("s1", owner="ada")
            assert (
                session.title,
                [(one.seq, one.id) for one in session.messages[:2]],
                [one.seq for one in session.messages],
            ) == ("Ä title", [(2, "msg-2"), (3, "own")], [2, 3, 5, 6])
            assert store.get_session("s1", owner="eve") is not None
            assert store.resolve("telegram:1", owner="ada").session_id == "s1"  # type: ignore[union-attr]
            data: Any = store.get_session("data")
            assert (data["at"], data["set"], data["$x"]) == (datetime(2026, 1, 2, tzinfo=UTC), {1}, {"$y": 1})
            assert store.mapping("notes", default=dict)["k"] == 7
            assert store.mapping("notes", default=dict)[3] == {"t": (1, 2)}
            assert store.get_conversation(("a", 1)) == [{"role": "user", "content": "in a chat"}]
            assert [one.session_id for one in store.list_sessions(owner="ada").sessions].count("list") == 1


@pytest.mark.server
def test_the_same_server_gives_the_same_text_on_stdout_and_from_a_cluster(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url, 30)
    before = exported(valkey.url, tmp_path)
    assert run(valkey.url, "export").stdout_bytes == before
    with cluster() as found:
        assert lines(run(found.url, "import", "-", "--json", given=before))[0]["new"] == 36
        assert run(found.url, "export", "-").stdout_bytes == before


def test_an_import_may_be_repeated_and_leaves_what_exists(tmp_path: Path, valkey: Server) -> None:
    fill(valkey.url)
    before = exported(valkey.url, tmp_path)
    app, store = store_at(valkey.url)
    with app.app_context():
        store.append("s0", HI)
        store.unshare("s1", "eve", owner="ada")
        done = run(valkey.url, "import", str(tmp_path / "export"), "--json")
        assert (lines(done)[0]["new"], lines(done)[0]["existing"]) == (0, len(before.splitlines()))
        assert len(store.get_session("s0", owner=ANY) or ()) > 0
        assert store.messages("s0", owner=ANY).messages[-1].body == HI
        assert store.get_session("s1", owner="eve") is None


def test_an_import_that_died_behind_a_session_leads_its_aliases_and_shares_it(tmp_path: Path, valkey: Server) -> None:
    fill(valkey.url)
    before = exported(valkey.url, tmp_path)
    valkey.client.flushall()
    found = [json.loads(line) for line in before.splitlines()]
    halves = [{name: value for name, value in one.items() if name not in ("aliases", "shared")} for one in found]
    run(valkey.url, "import", "-", given="\n".join(map(json.dumps, halves)))
    assert exported(valkey.url, tmp_path) != before
    assert lines(run(valkey.url, "import", "-", "--json", given=before))[0]["new"] == 0
    assert exported(valkey.url, tmp_path) == before


def test_a_dry_run_writes_nothing(tmp_path: Path, valkey: Server) -> None:
    fill(valkey.url)
    exported(valkey.url, tmp_path)
    app, store = store_at(valkey.url)
    with app.app_context():
        store.delete_session("s0", owner=ANY)
    keys = sorted(valkey.client.scan_iter())
    (told,) = lines(run(valkey.url, "import", str(tmp_path / "export"), "--dry-run", "--json"))
    assert (told["new"], told["failed"], told["dry_run"]) == (1, 0, True)
    assert sorted(valkey.client.scan_iter()) == keys
    assert "would be imported" in run(valkey.url, "import", str(tmp_path / "export"), "--dry-run").stdout


def test_lines_that_cannot_be_imported_are_told_and_the_others_are(tmp_path: Path, valkey: Server) -> None:
    fill(valkey.url)
    good = exported(valkey.url, tmp_path).splitlines()[0]
    valkey.client.flushall()
    bad = [
        b"nonsense",
        b"[]",
        b"{}",
        b'{"session_id": "x", "data": 1}',
        b'{"session_id": "d", "corrupt": true}',
        b'{"place": "attic"}',
    ]
    (tmp_path / "export").write_bytes(b"\n".join([*bad, b"", good, b""]))
    done = run(valkey.url, "import", str(tmp_path / "export"), "--json", status=1)
    assert lines(done) == [{"new": 1, "existing": 0, "failed": len(bad), "dry_run": False}]
    assert [line.split(",")[0] for line in done.stderr.splitlines()] == [
        f"line {number}" for number in range(1, len(bad) + 1)
    ]


def test_an_import_does_not_begin_while_the_server_is_away(tmp_path: Path) -> None:
    (tmp_path / "export").write_bytes(b"")
    assert "cannot reach" in run("redis://127.0.0.1:1/0", "import", str(tmp_path / "export"), status=1).stderr


def test_a_damaged_session_is_told_and_the_file_is_whole(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url)
    valkey.client.delete("chat:session:{s0}:history")
    done = run(valkey.url, "export", str(tmp_path / "export"), status=1)
    assert "s0 is damaged" in done.stderr
    assert b'"s0"' not in (tmp_path / "export").read_bytes()


def test_the_export_of_an_owner_can_be_imported_for_another(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url)
    run(valkey.url, "owner", "export", "ada", "-o", str(tmp_path / "ada"))
    assert {json.loads(line)["session_id"] for line in (tmp_path / "ada").read_bytes().splitlines()} == {"s1", "list"}
    assert "deleted" in run(valkey.url, "owner", "delete", "ada", given="y\n").stdout
    assert run(valkey.url, "owner", "export", "ada").stdout == ""
    assert lines(run(valkey.url, "import", str(tmp_path / "ada"), "--owner", "zoe", "--json"))[0]["new"] == 2
    assert len(lines(run(valkey.url, "ls", "--owner", "zoe", "--json"))) == 2
    assert "Aborted" in run(valkey.url, "owner", "delete", "zoe", given="n\n", status=1).output


def test_an_app_in_memory_is_exported() -> None:
    app, store = store_at("memory://")
    with app.app_context():
        store.save_session("a", [HI], owner="ada")
        store.save_message("room", "user", "hi")
    found = [json.loads(line) for line in run_in(app, "export").stdout.splitlines()]
    assert [(line["session_id"], line["owner"], line.get("place")) for line in found] == [
        ("a", "ada", None),
        ("room", None, "chats"),
    ]


@pytest.mark.server
@pytest.mark.slow
def test_an_import_that_was_killed_is_repeated(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url, 20_000)
    digest = hashlib.sha256(exported(valkey.url, tmp_path)).hexdigest()
    with running("valkey") as other:
        command = [sys.executable, "-m", "flask_convstore", "--url", other.url, "import", str(tmp_path / "export")]
        for kill_at in (2_000, 15_000):
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
                wait_for(lambda at=kill_at: other.client.dbsize() > 3 * at, "nothing is imported", 60)  # type: ignore[misc]
                assert process.poll() is None
                process.kill()
        subprocess.run(command, check=True, capture_output=True)
        assert hashlib.sha256(exported(other.url, tmp_path)).hexdigest() == digest
        check_lifetimes(other.client)


def test_an_export_is_for_this_user_only_and_appears_when_it_is_whole(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url)
    exported(valkey.url, tmp_path)
    assert (tmp_path / "export").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["export"]
    done = run(valkey.url, "export", str(tmp_path / "nowhere" / "export"), status=1)
    assert "cannot be written: No such file" in done.stderr
    assert "cannot be read" in run(valkey.url, "import", str(tmp_path / "nowhere"), status=2).stderr


@pytest.mark.server
def test_a_person_at_a_terminal_sees_the_progress(valkey: Server, tmp_path: Path) -> None:
    fill(valkey.url, 250)
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "flask_convstore", "--url", valkey.url, "export", str(tmp_path / "export")]
    subprocess.run(command, check=True, stderr=theirs)
    said = os.read(ours, 10_000).decode()
    assert "\r100 of 256 sessions" in said
    assert "256 sessions were exported." in said
    os.close(ours)
    os.close(theirs)
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stderr == "256 sessions were exported.\n"
