"""A person talks. After each test the page is equal to what is stored."""

from __future__ import annotations

import re

import pytest

from .conftest import Open
from .person import Person

pytestmark = [pytest.mark.slow, pytest.mark.server]


def test_a_reply_comes_word_by_word(ada: Person) -> None:
    ada.send("My name is Ada")
    ada.until_coming()
    shown = ada.until_idle(2)
    assert shown[0].text == "My name is Ada"
    assert shown[1].text.startswith("Nice to meet you, Ada.")
    assert ada.page.inner_text("#said").startswith("Reply: Nice to meet you")
    assert ada.titles() == ["My name is Ada"]
    assert ada.page.title().startswith("My name is Ada")
    ada.check()


def test_a_reply_goes_on_behind_a_reload(ada: Person) -> None:
    ada.send("Count to 100")
    before = ada.until_coming()
    ada.reload()
    assert ada.until_coming()[1].words[:3] == before[1].words[:3]
    assert ada.until_idle(2)[1].words == [str(number) for number in range(1, 101)]
    ada.check()


def test_a_second_tab_and_a_second_device_follow(ada: Person, opened: Open) -> None:
    ada.ask("Hello")
    tab, device = ada.another_tab(), opened(f"/c/{ada.session_id}", storage_state=ada.context.storage_state())
    for other in (tab, device):
        other.until_idle(2)
    ada.send("Count to 60")
    for other in (tab, device):
        assert len(other.until_coming()) == 4
    for each in (ada, tab, device):
        each.until_idle(4)
        each.check()
    device.ask("Who am I?")
    for each in (ada, tab):
        each.until_idle(6)
        each.check()


def test_one_is_told_that_a_second_tab_follows(ada: Person) -> None:
    assert "Open a second tab." in ada.page.inner_text("#welcome")
    ada.page.get_by_role("button", name="Count to 200").click()
    ada.until_coming()
    with ada.context.expect_page() as opened:
        ada.page.get_by_role("link", name="open a second tab").click()
    tab = opened.value
    shown = "() => document.querySelector('#messages > li:nth-child(2)')?.dataset.status === 'streaming'"
    tab.wait_for_function(shown)
    assert tab.url == ada.page.url
    ada.until_idle(2)
    tab.wait_for_function(
        "() => document.querySelector('#messages > li:nth-child(2) .body').textContent.includes(' 200.')"
    )
    assert ada.page.is_hidden("#now")
    ada.check()


def test_a_reply_is_stopped(ada: Person) -> None:
    ada.send("Count to 300")
    ada.until_coming()
    ada.page.click("#stop")
    shown = ada.until_idle(2)
    assert shown[1].note == "Stopped."
    assert len(shown[1].words) < 300
    ada.check()
    ada.send("Count to 300")
    ada.until_coming()
    ada.page.keyboard.press("Escape")
    assert ada.until_idle(4)[3].note == "Stopped."
    ada.check()


def test_a_reply_is_made_anew(ada: Person) -> None:
    ada.ask("Hello")
    ada.ask("It rains.")
    first = ada.history()
    ada.press("Reply anew")
    ada.until(lambda _: ada.history()[3:] != first[3:] and ada.is_idle)
    shown = ada.until_idle(4)
    assert shown[3].text == "Noted. That was your message number 2."
    ada.check()


def test_a_message_is_edited_and_sent_again(ada: Person) -> None:
    ada.ask("My name is Ada")
    ada.ask("Who am I?")
    ada.press("Edit and send again", 0)
    field = ada.page.get_by_label("Edit the message")
    assert field.input_value() == "My name is Ada"
    field.fill("My name is Grace")
    field.press("Enter")
    ada.until(lambda shown: len(shown) == 2 and shown[0].text == "My name is Grace")
    assert "Grace" in ada.until_idle(2)[1].text
    ada.check()


def test_what_is_pressed_twice_happens_once(ada: Person) -> None:
    ada.write("Hello")
    ada.page.dblclick("#send")
    ada.until_idle(2)
    ada.check()
    ada.page.locator("#messages > li").nth(1).hover()
    ada.page.get_by_role("button", name="Reply anew").dblclick()
    ada.page.wait_for_timeout(300)
    ada.until_idle(2)
    ada.check()


def test_a_message_that_is_written_while_a_reply_comes_waits_for_its_end(ada: Person) -> None:
    ada.send("Count to 40")
    ada.until_coming()
    ada.send("Hello")
    shown = ada.until_idle(4)
    assert [each.text for each in shown if each.role == "user"] == ["Count to 40", "Hello"]
    ada.check()


def test_markdown_is_shown_and_nothing_else_runs(ada: Person) -> None:
    ada.ask("Show me some code")
    assert not re.search(r"```|\*\*|Copy code", ada.page.inner_text("#said"))  # what a screen reader says
    assert ada.page.locator(".code pre").count() == 2
    link = ada.page.locator("#messages .body a").first
    assert (link.get_attribute("target"), link.get_attribute("rel")) == ("_blank", "noopener noreferrer")
    ada.check()
    bad = '<img src=x onerror="document.title=1"> <b>b</b> [a](javascript:alert(1)) ![i](https://images.example/x.png)'
    ada.ask(bad)
    ada.ask("What have I said?")
    body = ada.page.locator("#messages > li .body").last
    assert "<img src=x" in body.inner_text()
    assert body.locator("img, script, b").count() == 0
    assert [each.get_attribute("href") for each in body.locator("a").all()] == [None, "https://images.example/x.png"]


def test_conversations_are_found_renamed_deleted_and_brought_back(ada: Person) -> None:
    ada.ask("Tea in the garden")
    ada.page.keyboard.press("Control+k")
    ada.ask("A plan")
    ada.until(lambda _: ada.titles() == ["A plan", "Tea in the garden"])
    ada.page.fill("#search", "garden")
    assert ada.titles() == ["Tea in the garden"]
    ada.page.fill("#search", "")
    ada.page.get_by_role("button", name="Rename: A plan").click()
    ada.page.get_by_label("New title").fill("The plan")
    ada.page.keyboard.press("Enter")
    ada.until(lambda _: ada.get(f"/sessions/{ada.session_id}")["title"] == "The plan")
    kept = ada.page.url
    ada.page.get_by_role("button", name="Delete: The plan").click()
    assert ada.titles() == ["Tea in the garden"]
    ada.reload()
    ada.page.get_by_role("button", name="Undo").click()
    ada.until(lambda _: ada.titles() == ["The plan", "Tea in the garden"])
    ada.goto(kept)
    ada.until_idle(2)
    ada.check()


def test_a_double_click_on_delete_deletes_one(ada: Person) -> None:
    """The next conversation moves under the pointer meanwhile."""
    for text in ("First", "Second", "Third"):
        ada.page.keyboard.press("Control+k")
        ada.ask(text)
    ada.until(lambda _: ada.titles() == ["Third", "Second", "First"])
    place = ada.page.get_by_role("button", name="Delete: Third").bounding_box()
    assert place
    at = (place["x"] + place["width"] / 2, place["y"] + place["height"] / 2)
    ada.page.mouse.move(*at)
    ada.page.mouse.click(*at)
    ada.until(lambda _: ada.titles() == ["Second", "First"])
    ada.page.mouse.down(click_count=2)  # the second half, over the next one by now
    ada.page.mouse.up(click_count=2)
    ada.page.wait_for_timeout(300)
    assert ada.titles() == ["Second", "First"]
    ada.page.wait_for_timeout(600)
    ada.page.mouse.click(*at)
    ada.until(lambda _: ada.titles() == ["First"])


def test_undo_brings_one_back_to_the_conversation_that_was_open(ada: Person) -> None:
    ada.ask("Hello")
    before = ada.page.url
    tab = ada.another_tab()
    tab.until_idle(2)
    ada.page.get_by_role("button", name="Delete: Hello").click()
    ada.page.wait_for_selector("#welcome:not([hidden])")
    tab.page.wait_for_selector("#removed:not([hidden])")
    assert "This conversation is being deleted." in tab.page.inner_text("#removed")
    assert tab.page.is_disabled("#text")
    assert tab.page.is_disabled("#send")
    ada.page.get_by_role("button", name="Undo").click()
    ada.until_idle(2)
    assert ada.page.url == before
    tab.page.wait_for_selector("#removed", state="hidden")
    tab.ask("My name is Ada")
    ada.until_idle(4)
    for each in (ada, tab):
        each.check()


def test_a_tab_undoes_what_another_tab_has_deleted(ada: Person) -> None:
    ada.ask("Hello")
    tab = ada.another_tab()
    tab.until_idle(2)
    ada.page.get_by_role("button", name="Delete: Hello").click()
    tab.page.locator("#removed button").click()
    tab.page.wait_for_selector("#removed", state="hidden")
    tab.ask("My name is Ada")
    tab.check()


def test_a_conversation_without_messages_shows_how_to_begin(ada: Person) -> None:
    answer = ada.context.request.post(f"{ada.url}sessions", data={})
    ada.goto(f"{ada.url}c/{answer.json()['session_id']}")
    ada.page.wait_for_selector("#welcome:not([hidden])")
    ada.page.get_by_role("button", name="My name is Ada").click()
    ada.until_idle(2)
    ada.check()


def test_a_conversation_that_another_device_deletes_says_so(ada: Person) -> None:
    ada.ask("Hello")
    assert ada.context.request.delete(f"{ada.url}sessions/{ada.session_id}").status == 200
    ada.page.wait_for_selector("#gone:not([hidden])")
    assert ada.titles() == []
    ada.write("Hello")
    assert ada.page.is_disabled("#send")


def test_a_message_that_is_refused_can_be_changed(ada: Person) -> None:
    ada.ask("Hello")
    ada.send("long " * 5000)
    ada.until(lambda shown: shown[-1].status == "failed")
    assert re.fullmatch(r"Not sent\. This is too long: 25,\d+ bytes, and 20,000 are allowed\.", ada.messages()[-1].note)
    ada.press("Change")
    ada.until(lambda shown: len(shown) == 2)
    assert ada.page.input_value("#text").startswith("long long")
    ada.send("short")
    ada.until_idle(4)
    ada.check()


def test_the_address_of_a_conversation_that_is_gone_says_so(ada: Person) -> None:
    ada.goto(f"{ada.url}c/6a0f0f39-4a3c-4a0e-8a53-0d7f3ad1b6c1")
    ada.page.wait_for_selector("#gone:not([hidden])")
    ada.page.click("#gone a")
    ada.page.wait_for_selector("#welcome:not([hidden])")
