"""The hand-over of many sessions at once, in rounds of one round trip and one note in the journal.

Each round takes the next commands of the sessions that are under way, oldest sessions first. They go to one part of the
store together, such as one primary of a Cluster, and are noted together. So a crash lets no more than a round come again.
Where a session has ended, the next one takes its place, so that a long one holds up nobody.

Nothing depends on the order between sessions. Within one, a command may only be done behind the one before it. So a round
takes one command of a session, and further ones only if they refuse to run unless the token of the one before is known.

A session whose next command takes more than one call, or is refused, is left to its own replay, see ``session_replay``.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from ..domain.commands import BEHIND, Append, BeginTurn, Command, Harmless, Update
from ..domain.results import Receipt
from ..errors import ConvstoreError, StoreUnavailable
from .command_json import command_of
from .journal import Journal, JournalledSession, Row
from .session_replay import Replay, Replayed

_SESSIONS = 128
"""Sessions that are under way at once."""

_COMMANDS = 256
"""Commands of a round. The server takes some 10 ms for them, in which it also serves others."""

_ROUND_BYTES = 2**22
"""Bytes of text after which a round takes no further command."""


class SessionUnderWay:
    """A session of which commands are handed over.

    Attributes:
        journalled: The journal's record of it.
        sent: The commands that go out in this round.
    """

    def __init__(self, replay: Replay, journalled: JournalledSession) -> None:
        self.journalled = journalled
        self.sent: list[Command | BeginTurn] = []
        self._replay = replay
        self._done: list[tuple[Row, Command | BeginTurn]] = []

    def prepare(self, rows: Sequence[Row]) -> bool:
        """Choose from the next *rows* the commands that go out together. False if there is none for here.

        The beginning of a turn is the last of them, since it may not come again when the turn has ended.
        """
        self.sent, self._done = [], []
        for row in rows:
            try:
                given = command_of(row.text)
            except ValueError:
                break  # the replay sets it aside
            command = self._replay.sent(self.journalled, row, given)
            if command is not None and self.sent:
                command = _behind(self.sent[-1], command)
            if command is None:
                break
            self.sent.append(command)
            self._done.append((row, given))
            if isinstance(given, BeginTurn):
                break
        return bool(self.sent)

    def take(self, answers: Sequence[Receipt | ConvstoreError]) -> ConvstoreError | None:
        """Take the *answers* to what was sent. Return the error for which the session cannot go on here."""
        for place, ((row, given), answer) in enumerate(zip(self._done, answers, strict=True)):
            if isinstance(answer, ConvstoreError):
                # One behind others may succeed by itself, such as behind a start whose time of creation is known then.
                return None if place > 0 and not isinstance(answer, StoreUnavailable) else answer
            self.journalled = self._replay.reached(self.journalled, row, given, answer)
        return None


def _behind(before: Command | BeginTurn, command: Command | BeginTurn) -> Command | BeginTurn | None:
    """Let *command* run only behind the one *before* it. None where it cannot refuse to run otherwise."""
    if not isinstance(command, (Append, BeginTurn, Update)) or command.expected or isinstance(before, Harmless):
        return None
    return replace(command, expected=f"{BEHIND}{before.token}")


class HandOver:
    """The hand-over of all sessions of one namespace.

    Args:
        waiting: The sessions, oldest first.
        make: Makes the replay of a session alone.
        alone: Called with a session that has to be replayed alone.
        batch: Most commands of a session in a round.
    """

    def __init__(
        self,
        part: Replayed,
        journal: Journal,
        waiting: Iterable[JournalledSession],
        make: Callable[[JournalledSession], Replay],
        alone: Callable[[JournalledSession], None],
        batch: int,
    ) -> None:
        self._part = part
        self._journal = journal
        self._waiting = iter(waiting)
        self._make = make
        self._alone = alone
        self._batch = batch
        self._away: set[str] = set()
        self.failed: StoreUnavailable | None = None

    def run(self) -> None:
        """Hand over all that waits. *failed* tells of parts of the store that are away."""
        going: list[SessionUnderWay] = []
        while True:
            going += self._entering(_SESSIONS - len(going))
            if not going:
                return
            going = [one for place, group in self._by_place(going) for one in self._round(place, group)]

    def _entering(self, count: int) -> Iterator[SessionUnderWay]:
        for journalled in itertools.islice(self._waiting, count):
            if journalled.is_continuation:
                self._alone(journalled)
            else:
                yield SessionUnderWay(self._make(journalled), journalled)

    def _by_place(self, going: Collection[SessionUnderWay]) -> Iterator[tuple[str, list[SessionUnderWay]]]:
        """Group sessions by the part of the store that has them. Those of a part that is away wait."""
        groups: defaultdict[str, list[SessionUnderWay]] = defaultdict(list)
        for one in going:
            groups[self._part.store.place_of(one.journalled.session_id)].append(one)
        return ((place, group) for place, group in groups.items() if place not in self._away)

    def _round(self, place: str, group: Sequence[SessionUnderWay]) -> list[SessionUnderWay]:
        """Send the next commands of a *group*. Return those that go on."""
        ready, hard = self._prepared(group)
        commands = [command for one in ready for command in one.sent]
        answers = iter(self._part.store.apply_each(commands) if commands else ())
        errors = [one.take(list(itertools.islice(answers, len(one.sent)))) for one in ready]
        going = self._noted(ready, errors)
        hard += [
            one for one, error in zip(ready, errors, strict=True) if error and not isinstance(error, StoreUnavailable)
        ]
        self._note_away(place, errors)
        for one in hard:
            self._alone(one.journalled)
        return going

    def _prepared(self, group: Sequence[SessionUnderWay]) -> tuple[list[SessionUnderWay], list[SessionUnderWay]]:
        """Read the next commands of a *group*. Return the sessions with some for this round, and those with none."""
        ready: list[SessionUnderWay] = []
        hard: list[SessionUnderWay] = []
        most = max(1, min(self._batch, _COMMANDS // len(group)))
        sessions = [one.journalled for one in group]
        read = self._journal.next_rows(self._part.namespace, sessions, most, _ROUND_BYTES // len(group))
        for one, rows in zip(group, read, strict=True):
            (ready if one.prepare(rows) else hard).append(one)
        return ready, hard

    def _noted(
        self, ready: Sequence[SessionUnderWay], errors: Sequence[ConvstoreError | None]
    ) -> list[SessionUnderWay]:
        """Note what was done. Return the sessions that go on here."""
        notes = self._journal.all_replayed(self._part.namespace, [one.journalled for one in ready])
        going = []
        for one, error, noted in zip(ready, errors, notes, strict=True):
            if noted is None:
                self._part.fallback.forget(one.journalled.session_id)
            elif error is None:
                one.journalled = noted
                going.append(one)
        return going

    def _note_away(self, place: str, errors: Sequence[ConvstoreError | None]) -> None:
        """Note that sessions could not be reached, and the whole part of the store if none of them could."""
        away = [error for error in errors if isinstance(error, StoreUnavailable)]
        if away:
            self.failed = away[0]
            if len(away) == len(errors):
                self._away.add(place)
