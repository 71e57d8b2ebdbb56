"""ETags of sessions in the headers of requests, also as servers and middleware on the way have changed them.

An ETag of ours names one state of one session, not the bytes of one answer. So a compressed or weakened form of it names the
same state, and may be compared as strongly. Apache appends ``-gzip``, Flask-Compress ``:br``, and nginx puts ``W/`` before.
"""

from __future__ import annotations

import re

from ..errors import ConvstoreError

_ONE = r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]+"'
_LIST = re.compile(rf"[ \t]*(?:\*[ \t]*|{_ONE}[ \t]*(?:,[ \t]*(?:{_ONE}[ \t]*)?)*)")
"""``*``, or entity tags and commas (RFC 9110, 13.1). An empty tag is left out, since it names nothing."""
_OURS = re.compile(r'"([0-9]{1,16}-[0-9]{1,16})(?:(?:--?|[:;])[A-Za-z][A-Za-z0-9]{0,9})?"')
_LONGEST = 8000
"""Characters of the longest header that is read. Servers limit headers likewise."""


class BadEtag(ConvstoreError):
    """The header ``If-Match`` is no list of ETags. Nothing was written."""


def states_of(header: str) -> list[str] | None:
    """List the states that a header names, each once. None for ``*``, which is any state.

    An ETag that is none of ours names no state.

    Raises:
        BadEtag: The header is no list of ETags.
    """
    if len(header) > _LONGEST or not _LIST.fullmatch(header):
        raise BadEtag('If-Match must be * or ETags in double quotes, such as "1767605400000-3". Nothing was written.')
    return None if header.strip() == "*" else list(dict.fromkeys(_OURS.findall(header)))
