"""Searches: direct by id and by owner, and otherwise a walk that ends soon and goes on where it has ended."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from flask_convstore.inspector import search

from ..processes import wait_for
from ..topologies import cluster, is_whole
from .panel import EVIL_ID, Panel
from .test_views import words


@pytest.fixture
def panel(url: str) -> Panel:
    """A panel with conversations of all kinds."""
    panel = Panel(url).with_inspector()
    panel.seed()
    return panel


def listed(panel: Panel, **query: Any) -> list[str]:
    """The ids that a search finds."""
    page = panel.get("sessions", **query)
    assert page.status_code == 200, page.text
    return ids_in(page.text)


def ids_in(text: str) -> list[str]:
    links = re.findall(r'<th scope="row"><a href="([^"]+)"', text)
    return [parse_qs(urlsplit(html.unescape(link)).query)["id"][0] for link in links]


def test_all_are_found(panel: Panel) -> None:
    assert len(set(listed(panel))) == 16


def test_an_id_is_looked_up(panel: Panel) -> None:
    assert listed(panel, q="parcel") == ["parcel"]
    assert listed(panel, q=EVIL_ID) == [EVIL_ID]
    assert listed(panel, q="parce") == []
    assert listed(panel, q="x" * 300) == []


def test_owners_have_their_own(panel: Panel) -> None:
    assert set(listed(panel, by="owner", q="bob")) == {"long", *(f"s-{number:03}" for number in range(1, 12, 2))}
    assert listed(panel, by="nobody") == ["nobodys"]
    assert listed(panel, by="owner", q="eve") == []


def test_titles_are_searched_without_case(panel: Panel) -> None:
    assert listed(panel, by="title", q="PARCEL") == ["parcel"]
    assert set(listed(panel, by="title", q="talk 1")) == {"s-011", "s-010", "s-001"}


@pytest.mark.parametrize(("order", "first"), [("size", "long"), ("messages", "long"), ("expires", "nobodys")])
def test_orders(panel: Panel, order: str, first: str) -> None:
    assert listed(panel, sort=order)[0] == first


@pytest.mark.parametrize("order", ["changed", "active", "created"])
def test_the_newest_stand_first(panel: Panel, order: str) -> None:
    times = re.findall(r'<td data-label="Changed"><time datetime="([^"]+)"', panel.get("sessions", sort=order).text)
    assert len(times) == 16
    assert times == sorted(times, reverse=True)


@pytest.mark.parametrize("query", [{"by": "x"}, {"state": "x"}, {"sort": "x"}, {"place": "x"}, {"cursor": "x"}])
def test_a_question_that_cannot_be_asked_is_refused(panel: Panel, query: dict[str, str]) -> None:
    page = panel.get("sessions", **query)
    assert page.status_code == 422
    assert "Traceback" not in page.text


def test_a_session_that_goes_on_elsewhere_is_found(panel: Panel) -> None:
    with panel.app.app_context():
        panel.convstore.compact("parcel", "A summary", keep=1, owner="ada")
    assert listed(panel, state="moved") == ["parcel"]
    assert "Goes on in" in words(panel.get("session", id="parcel").text)


def test_a_walk_ends_soon_and_goes_on(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MOST_LOOKED_AT", 4)
    monkeypatch.setattr(search, "_PAGE", 4)
    page = panel.get("sessions")
    assert "There may be more" in page.text
    seen = ids_in(page.text)
    for _ in range(40):
        following = re.search(r'href="([^"]+)">Go on looking', page.text)
        if not following:
            break
        page = panel.client.get(html.unescape(following[1]))
        seen += ids_in(page.text)
    assert len(seen) == len(set(seen)) == 16
    assert "From the beginning" in page.text
    assert "There may be more" not in page.text


def test_many_of_one_walk_come_in_pages(panel: Panel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "SHOWN", 6)
    page = panel.get("sessions", sort="size")
    seen = ids_in(page.text)
    while following := re.search(r'href="([^"]+)">Next', page.text):
        page = panel.client.get(html.unescape(following[1]))
        assert len(ids_in(page.text)) <= 6
        seen += ids_in(page.text)
    assert len(seen) == len(set(seen)) == 16
    assert "These are 13 to 16." in words(page.text)


@pytest.mark.server
@pytest.mark.slow
def test_a_cluster_is_searched_and_its_keys_are_shown() -> None:
    with cluster() as found:
        wait_for(lambda: is_whole(found), "the cluster does not come up")
        panel = Panel(found.url).with_inspector()
        panel.seed(6)
        seen = set(listed(panel, sort="size"))
        assert {"parcel", "long", "s-000", "s-005", EVIL_ID} <= seen
        assert listed(panel, sort="size")[0] == "long"
        assert re.search(
            r"chat:session:\{parcel\} hash \d+ min \d+ bytes", words(panel.get("session", id="parcel").text)
        )


@pytest.mark.server
@pytest.mark.slow
def test_an_embedded_server_is_searched(tmp_path: Any) -> None:
    panel = Panel(f"embedded://{tmp_path}/data").with_inspector()
    panel.seed(2)
    assert listed(panel, sort="size")[0] == "long"
    with panel.app.app_context():
        panel.convstore.close()


@pytest.mark.parametrize(
    "text", ["<script>alert(1)</script>", '"><img src=x>', "\x00\n", "\ud7ff\u202e", "%", "x" * 5000]
)
@pytest.mark.parametrize("kind", ["id", "owner", "title"])
def test_any_text_may_be_searched_for(panel: Panel, text: str, kind: str) -> None:
    page = panel.get("sessions", q=text, by=kind)
    assert page.status_code in (200, 422)
    assert "<script>" not in page.text
    assert "<img" not in page.text
    assert panel.get("session", id=text).status_code in (404, 422)
