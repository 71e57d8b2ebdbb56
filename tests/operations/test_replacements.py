"""A replacement begins a new generation: whatever was begun against the old content does not land in the new one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask

from flask_convstore import ConversationStore
from flask_convstore.errors import ConflictError, ConvstoreError, SessionNotFound, TurnLost

SYSTEM = {"role": "system", "content": "be kind"}
OLD = [SYSTEM, {"role": "user", "content": "old"}, {"role": "assistant", "content": "old answer"}]
NEW = [SYSTEM, {"role": "user", "content": "new"}]
LATE = {"role": "assistant", "content": "late"}


class World:
    """An app with one old session, and a hook that runs in the middle of each late write."""

    def __init__(self, url: str) -> None:
        self.app = Flask("replacements")
        self.app.config.update(CONVSTORE_URL=url, CONVSTORE_CLIENT_ROLES=["user"], CONVSTORE_FALLBACK="none")
        self.store = ConversationStore(self.app)
        self.app.register_blueprint(self.store.blueprint, url_prefix="/sessions")
        self.sessions = self.store.sessions
        self.during: Callable[[], Any] = lambda: None
        self.store.reply(self._answer)
        self.errors: list[type[Exception]] = []
        with self.app.app_context():
            self.store.save_session("s", {"topic": "tea", "history": [*OLD]})

    def _answer(self, turn: Any) -> Any:
        self.during()
        return LATE if turn.message.body["content"] != "chunks" else iter(["la", "te"])

    def request(self, view: Callable[[], Any]) -> int:
        """Run *view* in a request of its own, whose changes are written at its end."""
        with self.app.test_request_context("/"):
            try:
                response = self.app.make_response(view() or "done")
                return self.app.process_response(response).status_code
            except ConvstoreError as error:
                self.errors.append(type(error))
                return 500

    def content(self) -> Any:
        """Read the session in a request of its own."""
        with self.app.test_request_context("/"):
            return self.store.get_session("s")


@pytest.fixture
def world(url: str) -> World:
    return World(url)


def _loaded(world: World) -> Any:
    session = world.store.get_session("s")
    assert session is not None
    return session


def _saved_with(world: World, history: list[Any]) -> None:
    session = _loaded(world)
    session["history"] = history
    world.store.save_session("s", session)


def _cleared_dict(world: World) -> None:
    world.sessions["s"].clear()


def _deleted_and_set(world: World) -> None:
    del world.sessions["s"]
    world.sessions["s"] = {"history": []}


def _popped_and_set(world: World) -> None:
    world.sessions.pop("s")
    world.sessions.setdefault("s", {"history": []})


def _seen_and_set(world: World) -> None:
    assert "s" in world.sessions
    world.sessions["s"] = {"history": [*NEW]}


def _deleted_and_created(world: World) -> None:
    world.store.delete_session("s")
    world.store.save_session("s", {"history": []})


REPLACEMENTS: dict[str, Callable[[World], Any]] = {
    "a plain dict": lambda world: world.store.save_session("s", {"history": []}),
    "a plain dict with other messages": lambda world: world.store.save_session("s", {"history": [*NEW]}),
    "a plain dict without a history": lambda world: world.store.save_session("s", {"topic": "new"}),
    "a plain list": lambda world: world.store.save_session("s", [*NEW]),
    "an assignment": lambda world: world.sessions.__setitem__("s", {"history": []}),
    "an assignment with the system prompt": lambda world: world.sessions.__setitem__("s", {"history": [SYSTEM]}),
    "an assignment to what was seen": _seen_and_set,
    "del and set": _deleted_and_set,
    "pop and setdefault": _popped_and_set,
    "dict.clear()": _cleared_dict,
    "history.clear()": lambda world: world.sessions["s"]["history"].clear(),
    "history = []": lambda world: world.sessions["s"].__setitem__("history", []),
    "history[1:] deleted": lambda world: world.sessions["s"]["history"].__delitem__(slice(1, None)),
    "a saved session with []": lambda world: _saved_with(world, []),
    "a saved session with other messages": lambda world: _saved_with(world, [*NEW]),
    "delete and create": _deleted_and_created,
}


def _turn(world: World) -> None:
    with world.store.turn("s", {"role": "user", "content": "question"}) as turn:
        world.during()
        turn.reply(LATE)


def _turn_with_data(world: World) -> None:
    with world.store.turn("s", {"role": "user", "content": "question"}) as turn:
        world.during()
        turn.data["topic"] = "late"
        turn.reply(None)


def _http(text: str) -> Callable[[World], None]:
    def late(world: World) -> None:
        answer = world.app.test_client().post("/sessions/s/messages", json={"content": text})
        assert answer.status_code in (404, 409), answer.data
        raise TurnLost("s")

    return late


def _saved(world: World) -> None:
    session = _loaded(world)
    session["history"].append(LATE)
    world.during()
    world.store.save_session("s", session)


def _saved_field(world: World) -> None:
    session = _loaded(world)
    session["topic"] = "late"
    session["history"].append(LATE)
    world.during()
    world.store.save_session("s", session)


def _in_place(world: World) -> None:
    history = world.sessions["s"]["history"]
    world.during()
    history.append(LATE)


def _in_place_before(world: World) -> None:
    world.sessions["s"]["history"].append(LATE)
    world.during()


def _trimmed(world: World) -> None:
    session = world.sessions["s"]
    world.during()
    session["history"] = [*session["history"], LATE][-3:]


def _refreshed(world: World) -> None:
    world.sessions["s"]["history"].append(LATE)
    world.during()
    world.sessions.refresh("s")


def _edited(world: World) -> None:
    seq = _loaded(world).last_seq
    world.during()
    world.store.edit_message("s", seq, LATE)


def _expecting(world: World) -> None:
    version = _loaded(world).version
    world.during()
    world.store.append("s", LATE, expected_version=version)


def _appended(world: World) -> None:
    assert _loaded(world)
    world.during()
    world.store.append("s", LATE)


def _appended_with_token(world: World) -> None:
    assert "s" in world.sessions
    world.during()
    world.store.append("s", LATE, token="T")


LATE_WRITES: dict[str, Callable[[World], Any]] = {
    "a turn": _turn,
    "a turn with data": _turn_with_data,
    "a handler over HTTP": _http("question"),
    "a handler with chunks": _http("chunks"),
    "a saved session": _saved,
    "a saved session with a field": _saved_field,
    "an append in place": _in_place,
    "an append in place before": _in_place_before,
    "an append and a trim": _trimmed,
    "an append in place, refreshed": _refreshed,
    "an edit": _edited,
    "an append to a version": _expecting,
    "an append of a request that has read": _appended,
    "an append with a token": _appended_with_token,
}


@pytest.mark.parametrize("late", LATE_WRITES)
@pytest.mark.parametrize("replacement", REPLACEMENTS)
def test_what_was_begun_before_a_replacement_does_not_land_in_it(world: World, replacement: str, late: str) -> None:
    """The late write is refused as after a delete, and the new conversation has nothing of the old one."""
    seen: list[Any] = []

    def replace() -> None:
        assert world.request(lambda: REPLACEMENTS[replacement](world)) == 200, world.errors
        seen.append(world.content())

    world.during = replace
    status = world.request(lambda: LATE_WRITES[late](world))
    assert world.content() == seen[0]
    # An error at the end of the request is its answer. The others were raised in the view.
    assert status in (404, 409) if not world.errors else status == 500
    assert all(issubclass(kind, (SessionNotFound, TurnLost, ConflictError)) for kind in world.errors)


GOES_ON: dict[str, Callable[[World], Any]] = {
    "a trim": lambda world: _saved_with(world, [SYSTEM, *_loaded(world)["history"][-2:]]),
    "an edit of the newest": lambda world: _saved_with(
        world, [*_loaded(world)["history"][:-1], {**LATE, "content": "x"}]
    ),
    "a summary": lambda world: _saved_with(world, [{"role": "system", "content": "all in short"}]),
    "an append": lambda world: _saved_with(world, [*_loaded(world)["history"], {"role": "user", "content": "note"}]),
    "a plain dict that goes on": lambda world: world.store.save_session("s", dict(_loaded(world), topic="new")),
    "a trimmed plain dict": lambda world: world.store.save_session("s", {"history": _loaded(world)["history"][-1:]}),
    "a field": lambda world: world.store.update_session("s", {"topic": "new"}) and None,
}


@pytest.mark.parametrize("late", ["a turn", "a handler with chunks", "a saved session", "an append in place"])
@pytest.mark.parametrize("change", GOES_ON)
def test_a_conversation_that_goes_on_takes_what_was_begun_before(world: World, change: str, late: str) -> None:
    """Trimming, editing and summing up are no new beginning."""
    world.during = lambda: world.request(lambda: GOES_ON[change](world))
    if late == "a handler with chunks":
        answer = world.app.test_client().post("/sessions/s/messages", json={"content": "chunks"})
        assert answer.status_code == 201
    else:
        world.request(lambda: LATE_WRITES[late](world))
    assert world.errors == []
    assert world.content()["history"][-1] == LATE


def test_a_field_lands_beside_a_history_that_was_emptied(world: World) -> None:
    """Only the messages are of another conversation."""

    def late() -> None:
        session = _loaded(world)
        session["topic"] = "late"
        world.request(lambda: REPLACEMENTS["history.clear()"](world))
        world.store.save_session("s", session)

    assert world.request(late) == 200, world.errors
    assert world.content() == {"topic": "late", "history": []}


def test_two_replacements_of_what_was_seen_both_land(world: World) -> None:
    """The last one wins, as in a dict."""

    def both() -> None:
        assert "s" in world.sessions
        world.request(lambda: _seen_and_set(world))
        world.sessions["s"] = {"history": []}

    assert world.request(both) == 200, world.errors
    assert world.content() == {"history": []}


def test_what_nobody_has_read_lands_in_the_new_conversation(world: World) -> None:
    """Nothing tells for which conversation a blind append was meant."""
    world.store.save_session("s", {"history": []})
    world.request(lambda: world.store.append("s", LATE) and None)
    assert world.content() == {"history": [LATE]}


def test_who_replaces_goes_on_in_the_new_conversation(world: World) -> None:
    """Its own appends and turns are begun behind it."""

    def view() -> None:
        assert _loaded(world)
        world.store.save_session("s", {"history": []})
        world.store.append("s", {"role": "user", "content": "new"})
        with world.store.turn("s", "more") as turn:
            turn.reply("answer")

    assert world.request(view) == 200, world.errors
    assert [message["content"] for message in world.content()["history"]] == ["new", "more", "answer"]


def test_a_delete_of_what_was_replaced_deletes_nothing(world: World) -> None:
    """As after a delete, it does not reach the successor."""

    def late() -> None:
        world.sessions.pop("s")
        world.request(lambda: world.store.save_session("s", {"history": [*NEW]}) and None)

    assert world.request(late) == 200, world.errors
    assert world.content() == {"history": NEW}


def test_a_turn_whose_conversation_was_replaced_holds_up_no_other(world: World) -> None:
    """The new conversation has no turn in progress."""

    def late() -> None:
        with world.store.turn("s", "old question") as turn:
            world.request(lambda: world.store.save_session("s", {"history": []}) and None)
            with world.store.turn("s", "new question") as other:
                other.reply("new answer")
            turn.reply(LATE)

    assert world.request(late) == 500
    assert world.errors == [TurnLost]
    assert [message["content"] for message in world.content()["history"]] == ["new question", "new answer"]
