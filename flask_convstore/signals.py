"""Signals (blinker) for what happens to the sessions and to the store.

The sender is the Flask application. Every signal comes with ``convstore`` (the extension) and ``namespace`` ("" for the
sessions, ``map:<name>`` for a mapping, ``conversations``). No signal has the text of a message.

| signal              | also comes with                     | when                                                   |
| ------------------- | ----------------------------------- | ------------------------------------------------------ |
| session_started     | session_id, owner, receipt          | a session was created                                  |
| messages_appended   | session_id, owner, receipt, count   | so many messages were added, from receipt.first_seq on |
| session_saved       | session_id, owner, receipt          | a session was created, replaced or merged              |
| session_deleted     | session_id, owner, receipt          | a session was deleted                                  |
| message_edited      | session_id, owner, receipt, seq     | a message was edited or redacted                       |
| messages_dropped    | session_id, owner, receipt,         | messages were taken out: receipt.first_seq was the     |
|                     | replaced (None, a seq or an id)     | oldest, or *replaced* and all behind it gave way       |
| changes_overwritten | session_id, owner, fields (paths)   | a change in a mapping collided, and the last one won   |
| changes_lost        | error                               | changes could not be written, or were dropped          |
| store_degraded      | reason                              | the store does not answer, after it did, or refuses us |
| store_recovered     |                                     | it answers again, or refuses us no longer              |

Each of these writes sends its signal once, from the process of the write, after the acknowledgement. A repeat sends none.
Changes of fields by ``append``, ``update_session`` and a turn send none. Where a turn ends with several messages,
``receipt.first_seq`` is that of the last. *owner* is the owner of the call: a name, None or ``ANY``. An error of a receiver
is logged and goes no further: the write is done.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from blinker import NamedSignal, Namespace

_log = logging.getLogger("flask_convstore")

_signals = Namespace()
session_started = _signals.signal("session-started")
messages_appended = _signals.signal("messages-appended")
session_saved = _signals.signal("session-saved")
session_deleted = _signals.signal("session-deleted")
message_edited = _signals.signal("message-edited")
messages_dropped = _signals.signal("messages-dropped")
changes_overwritten = _signals.signal("changes-overwritten")
changes_lost = _signals.signal("changes-lost")
store_degraded = _signals.signal("store-degraded")
store_recovered = _signals.signal("store-recovered")

Send = Callable[..., None]
"""Function that sends a signal with its facts. The sender is known."""


def sender(app: Any, **known: Any) -> Send:
    """Make a function that sends signals of *app*. Every signal comes with *known*."""

    def send(signal: NamedSignal, **facts: Any) -> None:
        if not signal.receivers:
            return
        for receiver in signal.receivers_for(app):
            try:
                receiver(app, **known, **facts)
            except Exception:
                _log.exception("a receiver of the signal %s failed", signal.name)

    return send
