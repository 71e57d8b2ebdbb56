"""Reports of outages: log and signals tell once that a store stops answering, and once that it answers again.

While it does not, the calls that fail are counted, and the log sums them up each minute and in the end. The log also tells
once that a server refuses us for good, with the cure. Calls that fail while others succeed are told at most once in 10 s.
"""

from __future__ import annotations

import logging

from .. import signals
from ..domain.clock import monotonic
from ..domain.repeats import Repeats
from ..domain.results import Begun, Receipt
from ..errors import StoreMisconfigured, StoreUnavailable

_log = logging.getLogger("flask_convstore")

_SUMMED_UP_EVERY = 60.0
"""Seconds between two lines about an outage that lasts."""


class OutageWatch:
    """Watches every call to a store.

    Args:
        send: Sends a signal.
        target: Name of the store in the log, without a password.
        fallback: Value of ``CONVSTORE_FALLBACK``, for the log.
        is_out: It is told already that the store does not answer.

    Attributes:
        is_out: The store has not answered, or has refused work.
    """

    def __init__(self, send: signals.Send, target: str, fallback: str, *, is_out: bool = False) -> None:
        self._send = send
        self._facts = {"convstore_target": target, "convstore_fallback": fallback}
        self._is_down = is_out
        self.is_out = is_out
        self._failures = 0
        self._failing_since = self._summed_up_at = monotonic()
        self._alone = Repeats()

    def failed(self, error: StoreUnavailable, operation: str = "a call") -> None:
        """Note that a call got no answer."""
        if error.is_down is None:
            self.failed_alone(error, operation)  # there was too little time to tell
            return
        self._is_down = self._is_down or error.is_down
        if self.is_out:
            self._failures += 1
            self._sum_up()
        else:
            self.is_out = True
            self._failures = 1
            self._failing_since = self._summed_up_at = monotonic()
            facts = {**self._facts, "convstore_operation": operation, "convstore_reason": error.reason}
            text = "the store at %(convstore_target)s does not answer: %(convstore_reason)s"
            _log.warning(f"{text}. Fallback: %(convstore_fallback)s", facts, extra=facts)
            self._send(signals.store_degraded, reason=str(error))

    def _sum_up(self) -> None:
        """Tell once in a while that the outage lasts."""
        now = monotonic()
        if now - self._summed_up_at < _SUMMED_UP_EVERY:
            return
        self._summed_up_at = now
        text = "the store at %(convstore_target)s still does not answer: %(convstore_failures)d calls have failed in "
        facts = self._of_outage(now)
        _log.warning(f"{text}%(convstore_seconds).0f s. Fallback: %(convstore_fallback)s", facts, extra=facts)

    def _of_outage(self, now: float) -> dict[str, object]:
        seconds = round(now - self._failing_since, 1)
        return {**self._facts, "convstore_failures": self._failures, "convstore_seconds": seconds}

    def failed_alone(self, error: StoreUnavailable, operation: str) -> None:
        """Tell of a call that got no answer in time, which says nothing of the server. Those that follow are summed up."""
        left_out = self._alone.left_out(operation)
        if left_out is None:
            return
        facts = {**self._facts, "convstore_operation": operation, "convstore_reason": error.reason}
        more = f". {left_out} more failed before this one" if left_out else ""
        text = "%(convstore_operation)s failed at the store at %(convstore_target)s: %(convstore_reason)s"
        _log.warning(f"{text}{more}", facts, extra={**facts, "convstore_failures": left_out + 1})

    def refused(self, error: StoreMisconfigured) -> None:
        """Tell that the server refuses us for good."""
        facts = {**self._facts, "convstore_reason": str(error)}
        text = "the store at %(convstore_target)s cannot be used: %(convstore_reason)s"
        _log.error(f"{text}. Nothing goes to a fallback because of it", facts, extra=facts)
        if not self.is_out:
            self._send(signals.store_degraded, reason=str(error))

    def accepted(self) -> None:
        """Tell that the server does again what it has refused."""
        _log.warning("the store at %(convstore_target)s can be used again", self._facts, extra=self._facts)
        if not self.is_out:  # else the outage is not over
            self._send(signals.store_recovered)

    def answered(self, given: object) -> None:
        """Note that a call got its answer, while the store was out."""
        # A server that refuses only writes, because it is full, answers everything else as before.
        if self._is_down or isinstance(given, (Receipt, Begun)):
            self.is_out, self._is_down = False, False
            facts = self._of_outage(monotonic())
            text = "the store at %(convstore_target)s answers again: %(convstore_failures)d calls have failed in "
            _log.warning(f"{text}%(convstore_seconds).1f s", facts, extra=facts)
            self._send(signals.store_recovered)
