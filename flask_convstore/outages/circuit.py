"""A circuit breaker, and a store around a store that uses it.

After so many calls in a row without an answer the circuit is open: calls fail at once, without a try. After 1, 2, 4 … 32
seconds one caller tries, while the others still fail at once. The first answer closes the circuit.

A server that refuses us for good is no outage, and opens no circuit (``refusals``).
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from ..domain.clock import monotonic
from ..domain.commands import BeginTurn, Command, RenewTurn
from ..domain.deadlines import OPERATION
from ..domain.figures import Counted, Sums
from ..domain.forks import Forking, watch
from ..domain.operation_names import operation_of
from ..domain.results import Receipt
from ..domain.types import ANY, Owner
from ..errors import ConvstoreError, StoreMisconfigured, StoreUnavailable, TooSlow
from ..stores.figures import FiguresStore, Portion
from ..stores.store import Store, StoreAround
from .outage_watch import OutageWatch
from .refusals import Kind, Refusals, kind_of

_T = TypeVar("_T")

_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 32.0


class Circuit(Forking):
    """This process's knowledge of whether a server answers. Its lock is never held during a call.

    Args:
        failures: Number of failures in a row that open it.
        clock: Seconds since any point in time.

    Attributes:
        failures: Number of failures in a row, up to now.
        refusals: This process's knowledge of what the server refuses.
        tell: Called when it opens (True), and when it closes (False).
    """

    def __init__(self, failures: int, clock: Callable[[], float] = monotonic) -> None:
        self.refusals = Refusals()
        self.tell: Callable[[bool], None] | None = None
        self._threshold = failures
        self._clock = clock
        self._lock = threading.RLock()  # collecting garbage may end another call in its midst
        self.failures = 0
        self._pause = _FIRST_PAUSE
        self._next_try = 0.0
        self._is_trying = False
        watch(self)

    def in_child(self) -> None:
        # The call that tries is another thread's, of the parent.
        self._lock = threading.RLock()
        self._is_trying = False

    @property
    def is_open(self) -> bool:
        """Calls fail at once, except for one that tries now and then."""
        return self.failures >= self._threshold

    def enter(self) -> None:
        """Let a call begin.

        Raises:
            StoreUnavailable: The circuit is open, and this is not the call that tries. Nothing was written.
        """
        if self.failures < self._threshold:
            return
        with self._lock:
            wait = self._next_try - self._clock()
            if self.is_open and (self._is_trying or wait > 0):
                when = "now" if self._is_trying else f"in {max(wait, 0.0):.1f} s"
                times = "once" if self.failures == 1 else f"{self.failures} times in a row"
                reason = f"the server did not answer {times}. It is tried again {when}"
                raise StoreUnavailable(reason, written=False, is_down=True)
            self._is_trying = True

    def try_now(self) -> None:
        """Let the next call try, since another process has got an answer."""
        with self._lock:
            self._next_try = 0.0

    def answered(self) -> None:
        """Note that a call got an answer, whatever it says."""
        if self.failures:
            with self._lock:
                was_open = self.is_open
                self.failures, self._pause, self._is_trying = 0, _FIRST_PAUSE, False
            if was_open and self.tell:
                self.tell(False)

    def failed(self) -> None:
        """Note that a call got no answer."""
        with self._lock:
            self.failures += 1
            # Calls that began before the circuit opened do not lengthen the pause.
            if self.failures == self._threshold or (self.is_open and self._is_trying):
                self._next_try = self._clock() + self._pause
                self._pause = min(2 * self._pause, _LONGEST_PAUSE)
            self._is_trying = False
            opens = self.failures == self._threshold
        if opens and self.tell:
            self.tell(True)

    def gave_up(self) -> None:
        """Note that a call ended without telling whether the server answers."""
        with self._lock:
            self._is_trying = False


class CircuitStore(StoreAround):
    """A ``Store``. See there for its methods.

    Args:
        watch: Is told of outages.
        budget: Seconds that a call may take with all its round trips, unless the operation around it has less left.
        is_for_callers: Errors that nobody knows are counted. Those of the replay, which tries again and again, are not.
    """

    def __init__(
        self,
        store: Store,
        circuit: Circuit,
        watch: OutageWatch,
        budget: float = math.inf,
        *,
        is_for_callers: bool = True,
    ) -> None:
        super().__init__(store)
        self._is_for_callers = is_for_callers
        self._budget = budget
        self._circuit = circuit
        self._watch = watch

    def apply_each(self, commands: Sequence[Command | BeginTurn]) -> list[Receipt | ConvstoreError]:
        """Do as ``Store.apply_each``. Where no write got an answer, the server has not answered."""
        answers: list[Receipt | ConvstoreError] = []

        def apply_each() -> None:
            answers.extend(self._store.apply_each(commands))
            if answers and all(isinstance(answer, _AWAY) for answer in answers):
                raise answers[0]  # type: ignore[misc]

        try:
            self._call(apply_each)
        except StoreMisconfigured as error:
            return [copy.copy(error) for _ in commands]
        except StoreUnavailable as error:
            return answers or [copy.copy(error) for _ in commands]
        return answers

    def renew(self, commands: Sequence[RenewTurn]) -> list[ConvstoreError | None]:
        """Do as ``Store.renew``. Nobody waits for leases, so that they are tried, and open no circuit.

        A primary of a Cluster that does not answer would open it for the turns of the others.
        """
        failed = self._store.renew(commands)
        self._circuit.answered()
        return failed

    def _call(self, method: Callable[..., _T], *arguments: Any, **options: Any) -> _T:
        circuit = self._circuit
        if circuit.failures:
            self._enter(method, arguments)
        try:
            latest = monotonic() + self._budget
            if OPERATION.moment <= latest:  # as in every operation
                given = method(*arguments, **options)
            else:
                with OPERATION.of(latest):
                    given = method(*arguments, **options)
        except BaseException as error:
            self._note(error, method, arguments)
            raise
        if circuit.failures:
            circuit.answered()
        if self._watch.is_out or circuit.refusals.kinds:
            self._end(kind_of(method, arguments), given)
        return given

    def _enter(self, method: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Let a call begin, or tell that it may not."""
        try:
            self._circuit.enter()
        except StoreUnavailable as error:
            self._watch.failed(error, operation_of(method, arguments))
            raise

    def _note(self, error: BaseException, method: Callable[..., object], arguments: tuple[Any, ...]) -> None:
        """Tell the circuit and the watch of a call that has raised *error*.

        Raises:
            StoreMisconfigured: Nobody knows the error, and it has come too often for an outage.
        """
        if isinstance(error, StoreMisconfigured):
            self._circuit.answered()
            self._refused(kind_of(method, arguments), error)
        elif isinstance(error, StoreUnavailable):
            self._note_silence(error, operation_of(method, arguments))
            if error.is_unexplained and self._is_for_callers:
                self._explain(kind_of(method, arguments), error)
        elif isinstance(error, ConvstoreError):
            self._circuit.answered()
        else:
            self._circuit.gave_up()

    def _note_silence(self, error: StoreUnavailable, operation: str) -> None:
        """Tell the circuit and the watch of a call without an answer."""
        if error.is_down:
            self._circuit.failed()
        elif error.is_down is None:
            self._circuit.gave_up()
        else:
            self._circuit.answered()
        if not isinstance(error, TooSlow):
            self._watch.failed(error, operation)
        elif self._is_for_callers:  # the server has answered, and there is no outage
            self._watch.failed_alone(error, operation)

    def _end(self, kind: Kind, given: object) -> None:
        """Tell of the end of a refusal, or of an outage."""
        if self._circuit.refusals.accepted(kind):
            self._watch.accepted()
        if self._watch.is_out:
            self._watch.answered(given)

    def _explain(self, kind: Kind, error: StoreUnavailable) -> None:
        """Count an error that nobody knows.

        Raises:
            StoreMisconfigured: It has come too often for an outage.
        """
        refused = self._circuit.refusals.explained(kind, error)
        if refused:
            self._refused(kind, refused)
            raise refused from error

    def _refused(self, kind: Kind, error: StoreMisconfigured) -> None:
        if self._circuit.refusals.refused(kind, error):
            self._watch.refused(error)


class CircuitFigures:
    """A ``FiguresStore``. See there for its methods.

    Its calls open no circuit, since a single primary of a Cluster that is away lets them fail. They may close one.

    Args:
        budget: Seconds that a call may take.
    """

    def __init__(self, figures: FiguresStore, circuit: Circuit, budget: float) -> None:
        self._figures = figures
        self._circuit = circuit
        self._budget = budget

    def count(self, places: Mapping[str, str], owner: Owner = ANY) -> Counted:
        return self._guarded(self._figures.count, places, owner)

    def add(self, portion: Portion) -> bool:
        return self._guarded(self._figures.add, portion)

    def note_alive(self, places: Mapping[str, str]) -> None:
        self._guarded(self._figures.note_alive, places)

    def totals(self) -> Sums:
        return self._guarded(self._figures.totals)

    def minutes(self, starts_ms: Sequence[int]) -> list[Sums]:
        return self._guarded(self._figures.minutes, starts_ms)

    def _guarded(self, method: Callable[..., _T], *arguments: Any) -> _T:
        self._circuit.enter()
        try:
            with OPERATION.within(self._budget):
                given = method(*arguments)
        except BaseException as error:
            was_try = self._circuit.is_open and isinstance(error, StoreUnavailable)
            (self._circuit.failed if was_try else self._circuit.gave_up)()
            raise
        self._circuit.answered()
        return given


_AWAY = (StoreUnavailable, StoreMisconfigured)
