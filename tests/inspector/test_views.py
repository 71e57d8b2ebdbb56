"""The pages, as a client without a browser sees them: whatever an app has stored is text, and nothing more."""

from __future__ import annotations

import html
import json
import re
from typing import Any

import pytest

from flask_convstore import ANY

from ..processes import wait_for
from ..servers import Server, running
from .panel import EVIL_ID, EVIL_OWNER, EVIL_TEXT, Panel


@pytest.fixture
def panel(url: str) -> Panel:
    """A panel with conversations of all kinds."""
    panel = Panel(url).with_inspector()
    panel.seed()
    return panel


def words(page: str) -> str:
    """The text of a page, as a person reads it."""
    main = page.partition("<main")[2]
    return " ".join(html.unescape(re.sub(r"<[^>]+>", " ", main)).split())


def test_hostile_texts_stay_texts(panel: Panel) -> None:
    for page in (panel.get("sessions"), panel.get("session", id=EVIL_ID), panel.get("session/delete", id=EVIL_ID)):
        assert page.status_code == 200
        assert "<img" not in page.text
        assert "<script>" not in page.text
        assert "</bdi><script" not in page.text
        assert EVIL_ID not in page.text.replace(html.escape(EVIL_ID), "")
    shown = words(panel.get("session", id=EVIL_ID).text)
    assert EVIL_TEXT in shown
    assert EVIL_OWNER in shown
    assert EVIL_ID.replace("\u202e", "\\u202e") in shown


def test_what_nobody_sees_is_written_out_wherever_an_id_or_an_owner_stands(panel: Panel) -> None:
    owner = "ada\u202ebob"
    panel.save("mine", [{"role": "user", "content": "hi"}], owner)
    with panel.app.app_context():
        panel.convstore.link("telegram:1\u202e2", "mine", owner=owner)
    pages = [panel.get(path, id="gone\u202e") for path in ("session", "session/delete", "session/export")]
    pages += [panel.get("sessions", by="owner", q="ada"), panel.get("session", id="mine")]
    token = re.findall(r'name="token" value="([^"]*)"', panel.get("session/delete", id=EVIL_ID).text)[0]
    form = {"id": EVIL_ID, "place": "sessions", "token": token}
    pages.append(panel.client.post("/convstore/session/delete", data=form, follow_redirects=True))
    assert "was deleted." in pages[-1].text
    assert [page.request.path for page in pages if "\u202e" in page.text] == []


def test_links_lead_to_ids_and_owners_of_all_kinds(panel: Panel) -> None:
    page = panel.get("sessions", by="owner", q=EVIL_OWNER)
    [link] = re.findall(r'href="([^"]*session\?[^"]*)"', page.text)
    assert EVIL_TEXT in words(panel.client.get(html.unescape(link)).text)
    found = re.findall(r'href="([^"]*by=owner[^"]*)"', panel.get("session", id=EVIL_ID).text)
    assert "1 session found" in words(panel.client.get(html.unescape(found[0])).text)


def test_a_session_shows_all_that_is_known(panel: Panel) -> None:
    shown = words(panel.get("session", id="parcel").text)
    for text in ("A parcel", "ada", "5 messages", "120 in, 30 out", "Where is my parcel?", "Calls track"):
        assert text in shown
    assert "Answer of track c1" in shown
    assert '"place": "Leeds"' in shown
    assert '"open": true' in shown
    assert "none in progress" in shown
    assert re.search(r"Expires in \d+ min \d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", shown)


def test_looking_is_no_interaction(panel: Panel) -> None:
    with panel.app.app_context():
        access = panel.convstore._access(ANY)
        panel.convstore.update_session("parcel", ttl=100, owner="ada")
        soon = access.load("parcel", 0, is_interaction=False)
        for path in ("sessions", "session", "session/export", "session/delete"):
            for _ in range(5):
                assert panel.get(path, id="parcel", q="parcel").status_code == 200
        after = access.load("parcel", 0, is_interaction=False)
    assert soon
    assert after
    assert after.version == soon.version
    assert abs(after.expires_at_ms - soon.expires_at_ms) <= 1  # it is measured by the rest of the lifetime


def test_a_turn_in_progress_is_seen(panel: Panel) -> None:
    with panel.app.app_context(), panel.convstore.turn("s-003", "wait", owner="bob") as turn:
        assert "in progress Its lease ends in" in words(panel.get("session", id="s-003").text)
        listed = words(panel.get("sessions", state="turn").text)
        assert "1 session found" in listed
        assert "turn in progress" in listed
        turn.reply("done")
    assert "There is none." in words(panel.get("sessions", state="turn").text)


def test_messages_come_in_pages(panel: Panel) -> None:
    page = panel.get("session", id="long")
    seen: list[str] = []
    while True:
        found = re.findall(r'id="m(\d+)"', page.text)
        assert len(found) <= 50
        seen = found + seen
        older = re.search(r'href="([^"]+)">Older', page.text)
        if not older:
            break
        page = panel.client.get(html.unescape(older[1]))
    assert seen == [str(seq) for seq in range(1, 131)]
    newer = re.search(r'href="([^"]+)">Newer', page.text)
    assert newer
    assert 'id="m31"' in panel.client.get(html.unescape(newer[1])).text


def test_an_export_is_a_line_that_the_command_imports(panel: Panel) -> None:
    answer = panel.get("session/export", id="parcel")
    assert answer.headers["Content-Disposition"] == "attachment; filename=session.jsonl"
    line = json.loads(answer.text)
    assert (line["session_id"], line["owner"], len(line["messages"])) == ("parcel", "ada", 5)
    with panel.app.app_context():
        panel.convstore.delete_session("parcel", owner="ada")
        assert panel.convstore.import_sessions([line], owner="ada") == 1


@pytest.mark.parametrize("path", ["session", "session/export", "session/delete"])
def test_a_session_that_is_not_there_is_404(panel: Panel, path: str) -> None:
    assert panel.get(path, id="nothing").status_code == 404
    assert panel.get(path, id="").status_code == 422
    assert panel.get(path, id="parcel", place="mapping:none").status_code == 422


def test_a_session_that_has_ended_is_remembered(panel: Panel) -> None:
    with panel.app.app_context():
        panel.convstore.delete_session("parcel", owner="ada")
    assert "There was such a session." in words(panel.get("session", id="parcel").text)


def test_mappings_and_chats_are_parts_of_the_store(panel: Panel) -> None:
    notes = panel.convstore.mapping("notes", default=list)
    with panel.app.app_context():
        notes["mine"] = [{"role": "user", "content": "a note"}]
    assert "1 session found" in words(panel.get("sessions", place="mapping:notes").text)
    assert "mapping:notes 1 1 " in words(panel.get().text)
    assert "place=mapping:notes" in panel.get().text
    assert "a note" in words(panel.get("session", place="mapping:notes", id="mine").text)
    assert "There is no such session." in words(panel.get("session", id="mine").text)


def test_an_empty_store_has_pages(url: str) -> None:
    panel = Panel(url).with_inspector()
    assert "There is none." in words(panel.get("sessions").text)
    assert panel.get().status_code == 200


def test_the_overview_tells_how_the_store_is(panel: Panel) -> None:
    shown = words(panel.get().text)
    assert "Alive 16" in shown
    assert "chat:session:" in shown
    assert "All is well." in panel.get().text


class TestHiddenText:
    """An inspector that shows sizes in the place of texts."""

    SECRETS = ("Zebra", "Yak", "Xerus", "Wombat", "Vole", "Tapir")

    @pytest.fixture
    def panel(self, url: str) -> Panel:
        panel = Panel(url).with_inspector(hide_text=True)
        body = [{"role": "user", "content": "Zebra"}, {"role": "assistant", "content": "Yak", "Vole": "Yak"}]
        panel.save("s", body, "ada", title="Xerus", field={"of": "Wombat"}, Tapir=1)
        return panel

    def test_no_page_shows_any(self, panel: Panel) -> None:
        for path in ("", "sessions", "session", "session/delete", "session/export"):
            text = panel.get(path, id="s").text
            assert [secret for secret in self.SECRETS if secret in text] == [], path
        shown = words(panel.get("session", id="s").text)
        assert "5 characters hidden" in shown
        assert "ada" in shown

    def test_there_is_no_export(self, panel: Panel) -> None:
        assert panel.get("session/export", id="s").status_code == 403
        assert "Export" not in panel.get("session", id="s").text

    def test_titles_cannot_be_guessed(self, panel: Panel) -> None:
        assert panel.get("sessions", by="title", q="Xer").status_code == 422
        assert "Title contains" not in panel.get("sessions").text


class TestServers:
    """Keys, damage, and a server that is away."""

    def test_keys_are_shown_as_the_server_has_them(self, valkey: Server) -> None:
        panel = Panel(valkey.url).with_inspector()
        panel.seed(1)
        shown = words(panel.get("session", id="parcel").text)
        assert re.search(r"chat:session:\{parcel\} hash \d+ min \d+ bytes", shown)
        assert re.search(r"chat:session:\{parcel\}:history list \d+ min \d+ bytes", shown)
        valkey.client.execute_command("ACL", "SETUSER", "default", "-memory")  # type: ignore[no-untyped-call]
        try:
            shown = words(panel.get("session", id="parcel").text)
        finally:
            valkey.client.execute_command("ACL", "SETUSER", "default", "+memory")  # type: ignore[no-untyped-call]
        assert re.search(r"chat:session:\{parcel\} hash \d+ min not known", shown)

    def test_a_damaged_session_is_found_shown_and_deleted(self, valkey: Server) -> None:
        panel = Panel(valkey.url).with_inspector()
        panel.save("whole", [{"role": "user", "content": "hi"}], note="This is left")
        panel.save("broken", [{"role": "user", "content": "hi"}], note="This is left")
        valkey.client.delete("chat:session:{broken}:history")
        listed = words(panel.get("sessions", state="damaged").text)
        assert "1 session found" in listed
        assert "broken" in listed
        shown = panel.get("session", id="broken")
        assert shown.status_code == 200
        assert "It is damaged" in shown.text
        assert "This is left" in shown.text
        assert panel.get("session/export", id="broken").status_code == 500
        assert panel.get("session/delete", id="broken").status_code == 200

    @pytest.mark.server
    @pytest.mark.slow
    def test_an_outage_is_told_in_words_and_what_waits_is_shown(self) -> None:
        with running("valkey") as server:
            panel = Panel(server.url, BUDGET=0.5, CIRCUIT_FAILURES=1).with_inspector()
            panel.save("before", [{"role": "user", "content": "hi"}])
            server.kill()
            panel.save("meanwhile", [{"role": "user", "content": "written in the outage"}])
            page = panel.get()
            assert page.status_code == 200
            assert "The server does not answer." in page.text
            assert "write waits" in page.text or "writes wait" in page.text
            away = panel.get("session", id="before")
            assert away.status_code == 503
            assert "state=journal" in away.text
            assert "data-live" in away.text
            waiting = words(panel.get("sessions", state="journal").text)
            assert "meanwhile" in waiting
            shown = words(panel.get("session", id="meanwhile").text)
            assert "written in the outage" in shown
            assert "the fallback, journal" in shown
            assert "to be handed over to the server, the oldest written" in shown
            server.start()
            wait_for(lambda: "Nothing waits." in words(panel.get("session", id="meanwhile").text), "it still waits")


def test_of_large_data_a_page_has_as_much_as_a_person_reads(url: str) -> None:
    panel = Panel(url).with_inspector()
    fields: dict[str, Any] = {f"field{number:02}": ["word"] * 5000 for number in range(20)}
    panel.save("s", [], **fields)
    page = panel.get("session", id="s")
    assert "The export has the rest." in page.text
    assert "… The export has it." in page.text
    assert "field19" in page.text
    assert len(page.text) < 500_000


def test_an_id_that_never_was_is_not_told_to_be_gone(url: str) -> None:
    shown = words(Panel(url).with_inspector().get("session", id="typo").text)
    assert "There is no such session." in shown
    assert "gone" not in shown
    assert "Delete" not in shown
