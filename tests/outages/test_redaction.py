"""A message that is redacted while the store is away: its text is in no file of the journal, and does not come back."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from flask_convstore.domain.commands import Put
from flask_convstore.domain.messages import Message, is_redacted, own_id, redacted
from flask_convstore.domain.types import ANY
from flask_convstore.errors import StoreUnavailable
from flask_convstore.outages.journal import Journal
from flask_convstore.stores.memory import MemoryStore
from flask_convstore.stores.redis.store import RedisStore

from ..harness import PlainConversations
from ..servers import Server
from .test_fallback import LIMITS, Host, edited, said, start

SECRET = {"role": "user", "content": "my secret is xylophone"}
OTHER = {"role": "user", "content": "something else"}


@pytest.fixture(params=["memory", "valkey"])
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    server: Server | None = request.getfixturevalue("valkey") if request.param == "valkey" else None
    store = RedisStore(server.client, "redacted:", LIMITS) if server else MemoryStore(LIMITS)
    made = Host(store, tmp_path / "journal")
    yield made
    made.close()


@pytest.fixture
def conversations(host: Host) -> PlainConversations:
    return PlainConversations(host.workers[0])


def is_kept(host: Host, text: bytes = b"xylophone") -> bool:
    """Tell whether a file of the journal holds *text*. This process must not open the file, or SQLite loses its locks."""
    folder = host.journals[0]._folder
    assert folder
    return subprocess.run(["grep", "-rqaF", text.decode(), str(folder)], check=False).returncode == 0


def messages_of(conversations: PlainConversations) -> list[Message]:
    session = conversations.get_session("s")
    assert session is not None
    return list(session.messages)


def shown(conversations: PlainConversations) -> list[tuple[str, str | None]]:
    return [(message["content"], message.status) for message in messages_of(conversations)]


def test_redacted_text_leaves_every_command_that_has_brought_it(host: Host, conversations: PlainConversations) -> None:
    """The save, an earlier edit, a title, a save of the same messages anew, and the redaction itself."""
    conversations.save_session("s", {"history": [SECRET, OTHER], "x": 1})
    conversations.save_session("s", {"history": [SECRET, OTHER], "x": 2})
    first = messages_of(conversations)[0].seq
    conversations.edit_message("s", first, {**SECRET, "content": "my other secret is xylophone"}, keep=True)
    conversations.append("s", {"role": "assistant", "content": "I see"})
    with conversations.turn("s", {"role": "user", "content": "later, xylophone"}) as turn:
        turn.reply({"role": "assistant", "content": "yes"})
    other = PlainConversations(host.workers[1])
    assert shown(other)[0] == ("my other secret is xylophone", None)
    assert is_kept(host)

    conversations.redact_message("s", first)
    assert is_kept(host, b"later, xylophone")
    assert not is_kept(host, b"secret is")
    conversations.redact_message("s", first + 3)
    assert not is_kept(host)
    assert is_kept(host, b"something else")
    kept = [("", "redacted"), ("something else", None), ("I see", None), ("", "redacted"), ("yes", None)]
    assert shown(conversations) == shown(other) == kept
    third = Host(host.switch, host.journals[0]._folder, workers=1)  # one that reads all commands anew
    assert shown(PlainConversations(third.workers[0])) == kept
    third.close()

    host.come_back()
    assert shown(conversations) == kept
    session = conversations.get_session("s")
    assert session is not None
    assert (dict(session)["x"], host.told, host.journals[0].status()[2:4]) == (2, [], (0, 0))
    assert conversations.list_sessions().sessions[0].title != SECRET["content"]


def test_a_redaction_finds_what_was_handed_over_before(host: Host, conversations: PlainConversations) -> None:
    """The store has the text, by a try that has landed without an answer, or by a hand-over that was cut short."""
    host.switch.written = None
    first, second = said("xylophone first"), said("xylophone second")
    save = Put(session_id="s", owner=None, mode="replace", shape="full", elements=(first, second))
    host.workers[0].apply(save)
    edit = edited(host.workers[0], 1, "xylophone edited")
    host.workers[0].apply(edit)
    host.switch.is_away = False
    host.switch.apply(save)
    host.switch.is_away = True
    conversations.redact_message("s", 1)
    assert not is_kept(host, b"xylophone edited")
    assert not is_kept(host, b"xylophone first")
    host.come_back()
    found = host.switch.load("s", ANY, None)
    assert found
    assert (is_redacted(found.elements[0]), found.elements[1].partition(b"\n")[2]) == (True, b'"xylophone second"')
    assert host.told == []


def test_others_that_say_the_same_stay(host: Host, conversations: PlainConversations) -> None:
    conversations.save_session("s", {"history": [SECRET, SECRET]})
    conversations.redact_message("s", 1)
    assert is_kept(host)
    conversations.redact_message("s", 2)
    assert not is_kept(host)
    host.come_back()
    assert shown(conversations) == [("", "redacted"), ("", "redacted")]


def test_what_stays_of_a_session_stays_as_it_was(host: Host, conversations: PlainConversations) -> None:
    """The title of another message, messages with ids of the app, dropped ones and rewritten ones."""
    worker = host.workers[0]
    conversations.save_session("s", {"history": [{"role": "system", "content": "xylophone"}, OTHER, SECRET]})
    session = conversations.get_session("s")
    assert session is not None
    session["history"][1] = {"role": "user", "content": "rewritten"}
    conversations.save_session("s", session)
    conversations.pop_message("s")
    conversations.append("s", {"role": "user", "content": "xylophone, the last"})
    before = worker.load("s", ANY, None)
    assert before
    conversations.redact_message("s", before.seqs[0])
    conversations.redact_message("s", before.seqs[-1])
    after = worker.load("s", ANY, None)
    assert after
    assert is_kept(host, b"my secret is"), "another message, which was popped and says something else"
    assert not is_kept(host, b"xylophone, the last")
    assert (after.title, list(after.seqs)) == (before.title, list(before.seqs))
    assert list(map(own_id, after.elements)) == list(map(own_id, before.elements))
    host.come_back()
    there = worker.load("s", ANY, None)
    assert there
    assert (there.title, list(there.elements), there.version) == (after.title, list(after.elements), after.version)


def test_redacted_text_leaves_what_was_set_aside(host: Host, conversations: PlainConversations) -> None:
    """An operator finds the rest of the command there."""
    conversations.save_session("s", {"history": [SECRET, OTHER], "x": 1})
    host.switch.is_away = False
    host.switch.apply(start("s", "theirs", fields=(("x", b"2"),)))
    host.come_back()
    assert host.journals[0].status().aside == 1
    assert is_kept(host)
    (secret,) = [message.seq for message in messages_of(conversations) if message.body == SECRET]
    conversations.redact_message("s", secret)
    assert not is_kept(host)
    assert is_kept(host, b"something else")
    assert host.journals[0].status().aside == 1


def test_text_that_cannot_be_taken_from_what_was_set_aside_is_told(
    host: Host, conversations: PlainConversations, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    host.switch.is_away = False
    conversations.save_session("s", {"history": [SECRET]})

    def fail(*_: Any) -> Any:
        raise StoreUnavailable("in use", written=False)

    monkeypatch.setattr(Journal, "exists", lambda _: True)
    monkeypatch.setattr(Journal, "set_aside_rows", fail)
    assert conversations.redact_message("s", 1).status == "redacted"
    assert "redacted text may be left among what was set aside in the journal" in caplog.text


def test_the_form_of_what_is_left() -> None:
    head = b'1{"at":5,"id":"x","metadata":{"a":1},"tokens":[1,2],"edits":["b"],"status":"failed"}'
    left = redacted(head + b'\n{"role":"user","content":"c"}')
    assert left == (
        b'1{"at":5,"id":"x","tokens":[1,2],"edited_at":5,"status":"redacted"}\n{"role":"user","content":""}'
    )
    assert redacted(left) == left
