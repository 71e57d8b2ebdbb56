"""Control characters in the library's log lines, escaped in one place.

A key or an id that a client has chosen forges no line.
"""

from __future__ import annotations

import logging
import re

_UNFIT = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


class OneLine(logging.Filter):
    """Make each record one line of characters that a terminal shows."""

    def filter(self, record: logging.LogRecord) -> bool:
        text = record.getMessage()
        if _UNFIT.search(text):
            record.msg, record.args = _UNFIT.sub(_escaped, text), ()
        return True


def _escaped(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def install() -> None:
    """Let every record of the library's logger pass, once."""
    log = logging.getLogger("flask_convstore")
    if not any(isinstance(one, OneLine) for one in log.filters):
        log.addFilter(OneLine())
