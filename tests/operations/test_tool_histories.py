"""Histories of four vendors' shapes, torn at random places: a handler gets what an API takes.

There are deaths, users who write in between, redactions, compactions, forks and trims.

``make histories`` lives through 5,000 of them. Otherwise there are fewer.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
from dataclasses import replace
from typing import Any

import pytest
import redis

from flask_convstore.config import Settings, limits_of
from flask_convstore.operations.turns import Turn
from flask_convstore.stores.memory import MemoryStore

from ..domain.tool_talk import VENDORS, Talk
from ..domain.vendor_rules import RULES
from ..harness import SETTINGS, PlainConversations, RedisHarness
from ..servers import Server

HISTORIES = int(os.environ.get("HISTORIES", "160"))
MODES = [replace(SETTINGS, orphans="drop"), replace(SETTINGS, orphans="answer")]
MODES += [replace(mode, max_history=12, history_policy="trim") for mode in MODES]


class Life:
    """One conversation, and what happens to it."""

    def __init__(self, conversations: PlainConversations, vendor: str, seed: int, settings: Settings) -> None:
        self._on, self._vendor, self._chance = conversations, vendor, random.Random(seed)
        self._is_trimmed = settings.history_policy == "trim"
        self._talk = Talk(vendor, self._chance)
        self._id = f"{vendor}-{seed}"
        self._prompts = [self._talk.system() for _ in range(self._chance.choice((0, 1, 1, 2)))]
        self._on.save_session(self._id, {"history": self._prompts})
        self.checked = 0

    def goes_on(self) -> None:
        for _ in range(self._chance.randint(1, 5)):
            user, *others = self._talk.turn()
            self._turn(user)
            for message in others:
                self._on.append(self._id, message)
                is_of_output = message.get("type", "x_output").endswith("_output") is False
                if not is_of_output and self._chance.random() < 0.2:  # the output of one response comes at once
                    self._turn(self._talk.user())
            if self._chance.random() < 0.5:
                getattr(
                    self, self._chance.choice(("_redact", "_compact", "_fork", "_drop", "_pop", "_fail", "_answer"))
                )()
        self._turn(self._talk.user())

    def _turn(self, message: Any) -> None:
        last = self._chance.choice((None, None, 1, 2, 3, 5, 8, 13))
        turn = self._on.turn(self._id, message, last=last, policy="supersede")
        self._check(turn, last)
        if self._chance.random() < 0.5:
            with turn:
                turn.reply(None)

    def _check(self, turn: Turn, last: int | None) -> None:
        self.checked += 1
        prompts = self._prompts_stored()
        history = turn.history
        offences = RULES[self._vendor](history)
        assert not offences, (self._id, last, offences)
        assert history[-1] == turn.message.body
        shown = [one for one in history if one.get("role") == "system"]
        assert shown == prompts[: len(prompts) if last is None else max(0, last - 1)], (self._id, last)
        assert last is None or len(history) <= last
        for limit in (1, 4, 9):
            window = turn.window(last=limit)
            assert not RULES[self._vendor](window), (self._id, last, limit)
            assert window[: len(shown)] == shown
            assert len(window) <= max(limit, len(shown) + 1)

    def _prompts_stored(self) -> list[Any]:
        if not self._is_trimmed:
            return self._prompts
        stored: Any = self._on.get_session(self._id)
        found = itertools.takewhile(lambda one: one.get("role") == "system", stored["history"])
        return list(found)

    def _redact(self) -> None:
        stored: Any = self._on.get_session(self._id)
        spoken = [message.seq for message in stored.messages if message.get("role") != "system"]
        if spoken:
            self._on.redact_message(self._id, self._chance.choice(spoken))

    def _drop(self) -> None:
        """Take one message out of the middle, or all behind it."""
        stored: Any = self._on.get_session(self._id)
        seqs = [message.seq for message in stored.messages if message.get("role") != "system"]
        if seqs:
            how = self._chance.choice(("message", "message", "after"))
            self._on.drop(self._id, **{how: self._chance.choice(seqs)})

    def _pop(self) -> None:
        stored: Any = self._on.get_session(self._id)
        if len(stored["history"]) > len(self._prompts):
            self._on.pop_message(self._id)

    def _fail(self) -> None:
        """Fail after some messages, and repeat the turn."""
        user, *others = self._talk.turn()
        token = f"{self._id}-{self._chance.random()}"
        with (
            contextlib.suppress(ZeroDivisionError),
            self._on.turn(self._id, user, token=token, policy="supersede") as turn,
        ):
            for message in others:
                turn.add(message)
            raise ZeroDivisionError
        self._answer(user, token)

    def _answer(self, user: Any = None, token: str | None = None) -> None:
        """Live through a turn that writes all its messages, and looks at its history after each."""
        first, *others = self._talk.turn()
        if self._is_trimmed and len(others) >= 12:
            return  # no session may have so many messages
        last = self._chance.choice((None, 1, 2, 5))
        with self._on.turn(self._id, user or first, last=last, token=token, policy="supersede") as turn:
            before = turn.history
            for message in others[:-1]:
                turn.add(message)
                assert not RULES[self._vendor](turn.history), (self._id, last)
                assert turn.history[: len(before)] == before
                assert not RULES[self._vendor](turn.window(last=3))
            turn.reply(others[-1:] or None)
        stored: Any = self._on.get_session(self._id)
        if others and not self._is_trimmed:
            assert stored["history"][-len(others) :] == others

    def _compact(self) -> None:
        stored = self._prompts_stored()
        new = self._on.compact(self._id, "Summary.", keep=self._chance.randint(0, 6), policy="supersede")
        self._id = new.session_id
        summary = {"role": "system", "content": "Summary."}
        self._prompts = [*(one for one in stored if one != summary), summary]

    def _fork(self) -> None:
        stored: Any = self._on.get_session(self._id)
        seqs = [message.seq for message in stored.messages][len(self._prompts) :]
        if seqs:
            self._id = self._on.fork(self._id, self._chance.choice(seqs)).session_id


@pytest.mark.parametrize("settings", MODES, ids=["drop", "answer", "drop-trim", "answer-trim"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_a_handler_is_given_what_an_api_takes(vendor: str, settings: Settings) -> None:
    checked = 0
    for seed in range(HISTORIES // len(VENDORS) // len(MODES) + 1):
        life = Life(PlainConversations(MemoryStore(limits_of(settings)), settings), vendor, seed, settings)
        life.goes_on()
        checked += life.checked
    assert checked > HISTORIES // 16


@pytest.mark.parametrize("settings", MODES[1:3], ids=["answer", "drop-trim"])
@pytest.mark.parametrize("vendor", VENDORS)
def test_redis_gives_a_handler_the_same(valkey: Server, vendor: str, settings: Settings) -> None:
    client = redis.Redis(port=valkey.port)
    conversations = PlainConversations(RedisHarness(client, settings).store, settings)
    for seed in range(3):
        Life(conversations, vendor, seed, settings).goes_on()
    client.close()
