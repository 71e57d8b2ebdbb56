"""Signing in and out. What one person has said is not to be found by the next one."""

from __future__ import annotations

import pytest

from .conftest import Open
from .person import Person

pytestmark = [pytest.mark.slow, pytest.mark.server]


def sign_in(person: Person, name: str) -> None:
    person.page.click("#login")
    person.page.fill("#name", name)
    person.page.get_by_label("Sign in by a name").get_by_role("button", name="Sign in").click()
    person.page.wait_for_selector("#logout")
    person.page.wait_for_selector("body[data-is-ready]")


def sign_out(person: Person) -> None:
    person.page.click("#logout")
    person.page.wait_for_selector("#login")
    person.page.wait_for_selector("body[data-is-ready]")


def test_a_name_has_its_conversations_in_every_browser(ada: Person, opened: Open) -> None:
    ada.ask("This browser only")
    sign_in(ada, "Ada Lovelace")
    assert ada.titles() == []
    ada.ask("My name is Ada")
    other = opened()
    sign_in(other, "Ada Lovelace")
    other.until(lambda _: other.titles() == ["My name is Ada"])
    sign_out(ada)
    ada.until(lambda _: ada.titles() == ["This browser only"])


def test_nothing_is_left_when_one_has_signed_out(ada: Person) -> None:
    sign_in(ada, "Grace Hopper")
    tab = ada.another_tab()
    ada.ask("The secret of the tea")
    tab.page.click("text=The secret of the tea")
    tab.until_idle(2)
    ada.write("a secret draft")
    tab.write("another secret draft")
    sign_out(ada)
    tab.page.wait_for_selector("#login")
    for each in (ada, tab):
        assert each.titles() == []
        each.page.wait_for_timeout(300)  # the page is kept again
        kept = each.kept()
        assert "secret" not in kept
        assert "Hopper" not in kept


def test_one_is_asked_before_what_waits_is_lost(ada: Person) -> None:
    sign_in(ada, "Ada")
    ada.ask("Hello")
    ada.go_offline()
    ada.send("This waits")
    ada.page.click("#logout")
    ada.page.get_by_role("button", name="Stay").click()
    ada.context.set_offline(False)
    ada.until_idle(4)
    ada.check()


def test_a_name_of_spaces_is_refused_in_the_dialog(ada: Person) -> None:
    before = ada.page.url
    ada.page.click("#login")
    ada.page.fill("#name", "   ")
    ada.page.keyboard.press("Enter")
    assert ada.page.inner_text("#name-error") == "Write a name, not only spaces."
    assert ada.page.evaluate("document.activeElement.id") == "name"
    assert ada.page.url == before
    ada.page.fill("#name", "Ada")
    assert ada.page.inner_text("#name-error") == ""
    ada.page.keyboard.press("Enter")
    ada.page.wait_for_selector("#logout")


def test_one_is_told_what_signing_in_loses(ada: Person) -> None:
    ada.ask("Hello")
    ada.page.click("#login")
    assert "come back when you sign out" in ada.page.inner_text("#login-dialog")
    assert ada.page.is_hidden("#login-loses")
    ada.page.get_by_role("button", name="Cancel").click()
    ada.send("long " * 5000)
    ada.until(lambda shown: shown[-1].status == "failed")
    ada.write("a draft")
    ada.page.click("#login")
    assert ada.page.inner_text("#login-loses") == "If you sign in now you lose what has failed and your drafts."
    ada.page.get_by_role("button", name="Cancel").click()
    sign_in(ada, "Ada")
    assert ada.page.input_value("#text") == ""


def test_a_login_that_lapses_for_a_while_loses_nothing(ada: Person) -> None:
    ada.ask("Hello")
    ada.page.route("**/messages", lambda route: route.fulfill(status=401, body="no"))
    ada.send("My name is Ada")
    ada.until_banner("You are signed out.")
    ada.write("a draft")
    ada.page.wait_for_timeout(1000)
    ada.page.unroute("**/messages")
    ada.until_idle(4)
    assert ada.page.input_value("#text") == "a draft"
    assert ada.banner == ""
    ada.check()
