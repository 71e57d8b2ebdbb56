"""Reports of outages: log and signals tell once that a store stops answering, and once that it answers again.

The log also tells once that a server refuses us for good, with the cure.
"""

from __future__ import annotations

import logging

from .. import signals
from ..domain.results import Begun, Receipt
from ..errors import StoreMisconfigured, StoreUnavailable

_log = logging.getLogger("flask_convstore")


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

    def failed(self, error: StoreUnavailable) -> None:
        """Note that a call got no answer."""
        if error.is_down is None:
            return  # there was too little time to tell
        self._is_down = self._is_down or error.is_down
        if not self.is_out:
            self.is_out = True
            facts = {**self._facts, "convstore_reason": error.reason}
            text = "the store at %(convstore_target)s does not answer: %(convstore_reason)s"
            _log.warning(f"{text}. Fallback: %(convstore_fallback)s", facts, extra=facts)
            self._send(signals.store_degraded, reason=str(error))

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
            _log.warning("the store at %(convstore_target)s answers again", self._facts, extra=self._facts)
            self._send(signals.store_recovered)
