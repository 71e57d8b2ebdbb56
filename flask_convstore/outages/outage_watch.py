"""Who is told when a store stops answering, and when it answers again: the log and the signals, once each time."""

from __future__ import annotations

import logging

from .. import signals
from ..domain.results import Begun, Receipt
from ..errors import StoreUnavailable

_log = logging.getLogger("flask_convstore")


class OutageWatch:
    """Is told of every call to a store.

    Args:
        send: Sends a signal.
        target: Names it in the log, without a password.
        fallback: What is done meanwhile, as ``CONVSTORE_FALLBACK`` says.

    Attributes:
        is_out: It has not answered, or refused what it must not.
    """

    def __init__(self, send: signals.Send, target: str, fallback: str) -> None:
        self._send = send
        self._facts = {"convstore_target": target, "convstore_fallback": fallback}
        self._is_down = False
        self.is_out = False

    def failed(self, error: StoreUnavailable) -> None:
        """A call got no answer."""
        self._is_down = self._is_down or error.is_down
        if not self.is_out:
            self.is_out = True
            facts = {**self._facts, "convstore_reason": error.reason}
            text = "the store at %(convstore_target)s does not answer: %(convstore_reason)s"
            _log.warning(f"{text}; fallback: %(convstore_fallback)s", facts, extra=facts)
            self._send(signals.store_degraded, reason=str(error))

    def answered(self, given: object) -> None:
        """A call got what was asked for, while the store was out."""
        # A server that refuses writes only, being full say, answers everything else as before.
        if self._is_down or isinstance(given, (Receipt, Begun)):
            self.is_out, self._is_down = False, False
            _log.warning("the store at %(convstore_target)s answers again", self._facts, extra=self._facts)
            self._send(signals.store_recovered)
