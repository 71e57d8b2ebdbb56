"""Nobody sees a page whom the app's check does not let in, and no page of others sends its forms."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from flask import Flask, abort, redirect
from werkzeug.test import TestResponse

from flask_convstore import ANY, ConfigurationError, ConversationStore, StoreUnavailable

from .panel import EVIL_ID, Panel, path_of

PAGES = ["", "sessions", "session", "session/export", "session/delete", "static/inspector.css", "static/inspector.js"]


@pytest.fixture
def panel() -> Panel:
    """A small one, in memory."""
    panel = Panel("memory://").with_inspector()
    panel.save("a", [{"role": "user", "content": "hi"}], "ada")
    return panel


def token_of(panel: Panel, session_id: str = "a") -> dict[str, str]:
    """The fields of the form that deletes a session."""
    page = panel.get("session/delete", id=session_id)
    assert page.status_code == 200, page.text
    fields = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page.text)
    return {name: html.unescape(value) for name, value in fields}


def send(panel: Panel, fields: dict[str, str], **headers: str) -> TestResponse:
    return panel.client.post(path_of("session/delete"), data=fields, headers=headers)


def is_there(panel: Panel, session_id: str = "a") -> bool:
    with panel.app.app_context():
        return panel.convstore.exists(session_id, owner=ANY)


class TestAccess:
    """The access check."""

    @pytest.mark.parametrize("access", [None, True, "admin"])
    def test_an_inspector_without_a_check_is_refused_with_the_line_to_write(self, access: Any) -> None:
        with pytest.raises(ConfigurationError, match=r"convstore\.inspector\(access=lambda: current_user\.is_admin\)"):
            ConversationStore().inspector(access)

    @pytest.mark.parametrize("path", PAGES)
    @pytest.mark.parametrize("answer", [False, None, 0])
    def test_a_no_closes_every_page_and_file(self, panel: Panel, path: str, answer: Any) -> None:
        panel.allowed = answer
        page = panel.get(path, id="a")
        assert page.status_code == 403
        assert "hi" not in page.text.split()
        assert panel.client.post(path_of("session/delete"), data={"id": "a"}).status_code == 403
        assert is_there(panel)

    @pytest.mark.parametrize("path", PAGES)
    def test_a_response_is_sent_in_the_place_of_the_page(self, panel: Panel, path: str) -> None:
        panel.allowed = redirect("/login")
        page = panel.get(path, id="a")
        assert (page.status_code, page.location) == (302, "/login")

    def test_the_check_may_abort(self) -> None:
        panel = Panel("memory://")
        panel.app.register_blueprint(panel.convstore.inspector(lambda: abort(401)))
        assert panel.get().status_code == 401

    def test_an_async_check_is_awaited(self) -> None:
        panel = Panel("memory://")

        async def check() -> bool:
            return False

        panel.app.register_blueprint(panel.convstore.inspector(check))
        assert panel.get().status_code == 403

    @pytest.mark.parametrize("answer", [("Forbidden", 403), "no", {"error": "no"}, object()])
    def test_what_is_neither_yes_nor_no_lets_nobody_in(self, panel: Panel, answer: Any) -> None:
        """As the answer of a view, which Python takes for a yes."""
        panel.allowed = answer
        page = panel.get("session", id="a")
        assert page.status_code == 500
        assert "convstore" not in page.text

    def test_an_error_of_the_check_shows_nothing_of_the_store(self) -> None:
        panel = Panel("memory://")

        def check() -> bool:
            raise StoreUnavailable("away", written=False)

        panel.app.register_blueprint(panel.convstore.inspector(check))
        page = panel.get()
        assert page.status_code == 500
        assert "State of the store" not in page.text

    def test_an_app_has_several(self) -> None:
        """Two stores, and two inspectors of one."""
        app = Flask("several")
        app.config.update(CONVSTORE_URL="memory://", OTHER_URL="memory://", SECRET_KEY="key", OTHER_PREFIX="other:")
        first, second = ConversationStore(app), ConversationStore(app, name="other", config_prefix="OTHER")
        app.register_blueprint(first.inspector(lambda: True))
        app.register_blueprint(first.inspector(lambda: False, name="closed", url_prefix="/closed"))
        app.register_blueprint(second.inspector(lambda: True, url_prefix="/other"))
        with app.app_context():
            first.save_session("of-first", {"n": 1})
            second.save_session("of-second", {"n": 1})
        client = app.test_client()
        assert client.get("/closed/").status_code == 403
        assert "of-first" in client.get("/convstore/sessions").text
        assert "of-second" not in client.get("/convstore/sessions").text
        page = client.get("/other/sessions").text
        assert "of-second" in page
        assert 'href="/other/session?' in page


class TestHeaders:
    """The headers of every page."""

    @pytest.mark.parametrize("path", PAGES)
    def test_every_answer_has_them(self, panel: Panel, path: str) -> None:
        page = panel.get(path, id="a")
        assert page.status_code == 200
        policy = page.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["X-Content-Type-Options"] == "nosniff"
        assert page.headers["Referrer-Policy"] == "no-referrer"
        assert path.startswith("static/") or page.headers["Cache-Control"] == "no-store"

    def test_nothing_stands_inline(self, panel: Panel) -> None:
        for path in ("", "sessions", "session", "session/delete"):
            text = panel.get(path, id="a").text
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)|javascript:", text), path


class TestForms:
    """The form that deletes a session."""

    def test_it_deletes_and_tells(self, panel: Panel) -> None:
        fields = token_of(panel)
        done = send(panel, fields)
        assert done.status_code == 303
        assert not is_there(panel)
        assert "a was deleted." in panel.client.get(done.location).text
        again = send(panel, fields)
        assert "a was gone already." in panel.client.get(again.location).text

    def test_ids_of_all_kinds_are_deleted(self, panel: Panel) -> None:
        panel.save(EVIL_ID, [], "ada")
        assert send(panel, token_of(panel, EVIL_ID)).status_code == 303
        assert not is_there(panel, EVIL_ID)

    def test_looking_deletes_nothing(self, panel: Panel) -> None:
        fields = token_of(panel)
        assert panel.get("session/delete", **fields).status_code == 200
        assert is_there(panel)

    def test_the_cookie_is_for_this_site_and_these_pages(self, panel: Panel) -> None:
        cookie = panel.get("session/delete", id="a").headers["Set-Cookie"]
        assert "HttpOnly" in cookie
        assert "SameSite=Strict" in cookie
        assert "Path=/convstore/" in cookie

    @pytest.mark.parametrize("headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}])
    def test_another_site_is_refused(self, panel: Panel, headers: dict[str, str]) -> None:
        assert send(panel, token_of(panel), **headers).status_code == 403
        assert is_there(panel)

    def test_a_token_is_of_one_browser(self, panel: Panel) -> None:
        fields = token_of(panel)
        panel.client = panel.app.test_client()
        assert send(panel, fields).status_code == 403
        token_of(panel)
        assert send(panel, fields).status_code == 403
        assert is_there(panel)

    @pytest.mark.parametrize("token", ["", "x", "W10.x.y"])
    def test_a_made_up_token_is_refused(self, panel: Panel, token: str) -> None:
        assert send(panel, {**token_of(panel), "token": token}).status_code == 403
        assert is_there(panel)

    def test_a_token_is_for_one_session(self, panel: Panel) -> None:
        panel.save("b", [], "ada")
        assert send(panel, {**token_of(panel), "id": "b"}).status_code == 403
        assert is_there(panel, "b")

    def test_a_notice_is_no_token_and_nobody_else_makes_one(self, panel: Panel) -> None:
        panel.save("b", [], "ada")
        notice = panel.client.get(send(panel, token_of(panel, "b")).location).request.args["notice"]
        assert send(panel, {**token_of(panel), "token": notice}).status_code == 403
        for made_up in ("a was deleted.", token_of(panel)["token"]):
            assert 'class="notice"' not in panel.get("sessions", notice=made_up).text

    def test_an_old_key_is_known(self, panel: Panel) -> None:
        fields = token_of(panel)
        panel.app.config.update(SECRET_KEY="a new key", SECRET_KEY_FALLBACKS=["a long secret of tests"])
        assert send(panel, fields).status_code == 303

    def test_without_a_key_nothing_is_deleted(self) -> None:
        panel = Panel("memory://", secret=None).with_inspector()
        panel.save("a", [], "ada")
        assert "the app has no SECRET_KEY" in panel.get("session", id="a").text
        assert "set SECRET_KEY" in html.unescape(panel.get("session/delete", id="a").text)
        assert send(panel, {"id": "a", "place": "sessions", "token": "x"}).status_code == 500
        assert is_there(panel)
