"""Lost answers, lost connections, lost servers. Nothing is lost and nothing happens twice."""

from __future__ import annotations

import pytest

from ..servers import Server
from .conftest import Open
from .person import Person
from .site import Site

pytestmark = [pytest.mark.slow, pytest.mark.server]

GONE = "The server cannot be reached."


def test_a_lost_answer_sends_nothing_twice(ada: Person, site: Site) -> None:
    ada.ask("Hello")
    site.proxy.lost = 2
    assert ada.ask("Pay 10 euro")[2].text == "Pay 10 euro"
    assert site.proxy.lost == 0
    ada.check()


def test_a_reply_goes_on_where_it_was_cut(ada: Person, site: Site) -> None:
    ada.send("Count to 100")
    for _ in range(3):
        ada.until_coming()
        ada.page.wait_for_timeout(300)
        site.proxy.cut()
    assert ada.until_idle(2)[1].words == [str(number) for number in range(1, 101)]
    ada.check()


def test_a_bad_gateway_is_tried_again(ada: Person, site: Site) -> None:
    ada.ask("Hello")
    site.proxy.bad = 1
    ada.ask("My name is Ada")
    ada.check()


def test_what_is_written_offline_waits_and_is_sent_in_order(ada: Person) -> None:
    ada.ask("Hello")
    ada.go_offline()
    for text in ("My name is Ada", "Who am I?"):
        ada.send(text)
    ada.until_banner(GONE)
    ada.until(lambda shown: [each.note for each in shown[2:]] == ["Waits for the connection."] * 2)
    ada.reload()
    assert [each.text for each in ada.until(lambda shown: len(shown) == 4)[2:]] == ["My name is Ada", "Who am I?"]
    ada.until_banner(GONE)
    ada.context.set_offline(False)
    assert ada.until_idle(6)[5].text == "You are Ada."
    assert ada.banner == ""
    ada.check()


def test_a_conversation_that_is_begun_offline_is_made_later(ada: Person) -> None:
    ada.go_offline()
    ada.send("Hello")
    ada.until_banner(GONE)
    assert ada.titles() == ["Hello"]
    ada.reload()
    ada.until(lambda shown: [each.text for each in shown] == ["Hello"])
    ada.context.set_offline(False)
    ada.until_idle(2)
    ada.check()


def test_a_server_is_killed_and_started_again(ada: Person, site: Site) -> None:
    ada.ask("Hello")
    site.kill()
    ada.send("My name is Ada")
    ada.until_banner(GONE)
    site.start()
    ada.until_idle(4)
    ada.ask("Who am I?")
    ada.check()


def test_a_server_is_killed_in_the_middle_of_a_reply(ada: Person, site: Site) -> None:
    ada.send("Count to 200")
    ada.until_coming()
    site.kill()
    ada.until_banner("The reply goes on when it is back, or ends where it was cut.")
    site.start()
    ada.until(lambda shown: len(shown) == 2 and shown[1].note != "")
    assert ada.messages()[1].note == "The reply was cut off."
    ada.press("Reply anew")
    ada.until(lambda shown: len(shown) == 2 and shown[-1].words[-1:] == ["200"])
    ada.until_idle(2)
    ada.check()


def test_a_worker_is_killed_in_the_middle_of_a_reply(ada: Person, site: Site) -> None:
    """The next worker stores what had come."""
    ada.ask("Hello")
    ada.send("Count to 200")
    ada.until_coming()
    site.kill_workers()
    ada.until(lambda shown: shown[3].note == "The reply was cut off.")
    ada.check()
    ada.press("Reply anew")
    ada.until(lambda shown: len(shown) == 4 and shown[3].words[-1:] == ["200"])
    ada.until_idle(4)
    ada.check()


def test_the_panel_shows_who_has_the_turn_and_who_takes_it_over(ada: Person, site: Site) -> None:
    ada.ask("Hello")
    ada.page.click("#open-panel")
    ada.until_fact("Lease", "nobody holds one")
    ada.send("Count to 300")
    left = {ada.until_fact("Lease", rf"{part} s left to attempt \w{{8}}") for part in (r"2\.\d", r"[01]\.\d")}
    assert len({each.rpartition(" ")[2] for each in left}) == 1, left
    site.kill()
    ada.until_fact("Lease", r"over for \d+\.\d s, and not renewed by attempt \w{8}")
    assert {ada.until_fact(name, "unknown") for name in ("Store", "Fallback", "Journal")} == {"unknown"}
    site.start()
    ada.until_fact("Lease", "was taken over, as its holder had died")
    ada.press("Reply anew")
    ada.until_coming()
    ada.page.click("#stop")
    ada.until_fact("Lease", "was taken over, as its holder was stopped")
    ada.until_idle(4)
    assert "Lease: was taken over" in ada.page.inner_text("#log")
    ada.check()


def test_a_store_is_killed_and_started_again(ada: Person, valkey: Server, opened: Open) -> None:
    ada.ask("Hello")
    valkey.client.save()
    valkey.kill()
    ada.send("My name is Ada")
    ada.until_banner(GONE)
    valkey.start()
    ada.until_idle(4)
    ada.check()


def test_all_tabs_agree_behind_an_outage(ada: Person, site: Site) -> None:
    ada.ask("Hello")
    tab = ada.another_tab()
    tab.until_idle(2)
    site.kill()
    ada.send("My name is Ada")
    tab.send("Who am I?")
    for each in (ada, tab):
        each.until_banner(GONE)
    site.start()
    for each in (ada, tab):
        assert each.until_idle(6)[5].text == "You are Ada."
        each.check()


def test_the_eighth_tab_does_not_hang(ada: Person) -> None:
    """A browser has six connections to a host over HTTP/1.1."""
    ada.ask("Hello")
    *_, last = [ada.another_tab() for _ in range(7)]
    last.until_idle(2)
    last.ask("My name is Ada")
    ada.until_idle(4)
    last.check()


def test_the_tab_that_talks_for_all_is_closed_in_the_middle(ada: Person) -> None:
    ada.ask("Hello")
    tab = ada.another_tab()
    tab.until_idle(2)
    ada.send("Count to 100")
    ada.until_coming()
    ada.page.close()
    assert tab.until_idle(4)[3].words == [str(number) for number in range(1, 101)]
    tab.ask("Who am I?")
    tab.check()


def test_the_tab_that_talks_for_all_falls_asleep_in_the_middle(ada: Person, opened: Open) -> None:
    """A debugger holds it, of which it notices nothing. A browser may freeze a tab in the background like that."""
    ada.ask("Hello")
    tab, third = ada.another_tab(), ada.another_tab()
    device = opened(f"/c/{ada.session_id}", storage_state=ada.context.storage_state())
    for each in (tab, third, device):
        each.until_idle(2)
    tab.send("Count to 300")
    tab.until_coming()
    devtools = ada.context.new_cdp_session(ada.page)
    devtools.send("Debugger.enable")
    devtools.send("Debugger.pause")
    begun = len(tab.messages()[3].words)
    tab.until(lambda shown: len(shown[3].words) > begun + 20)
    device.until_idle(4)
    device.ask("My name is Ada")
    for each in (tab, third):
        each.until_idle(6)
        each.check()
    third.ask("Who am I?")
    devtools.send("Debugger.resume")
    for each in (ada, tab, third, device):
        assert each.until_idle(8)[3].words == [str(number) for number in range(1, 301)]
        each.check()
    ada.ask("What have I said?")
    for each in (ada, tab, third, device):
        each.until_idle(10)
        each.check()
