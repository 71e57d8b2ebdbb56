"""The messages of a stored session: find them, take them out, number them. The Lua scripts mirror these rules."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

from ..errors import MessageIdReused, MessageNotFound
from . import json_text, numbering
from .commands import Extend, Rewrite, Target
from .messages import own_id, with_id
from .pairs import is_prompt
from .results import HEAD
from .stored_session import StoredSession


def find(target: Target, session: StoredSession) -> int | None:
    """Find the place of the message with that seq or id. None: there is none."""
    if isinstance(target, int):
        return session.index_of(target)
    for place, element in enumerate(session.elements):
        if own_id(element) == target:
            return place
    seq = numbering.seq_in(target)
    index = session.index_of(seq) if seq else None
    return None if index is None or own_id(session.elements[index]) else index


def place_of(target: Target, session: StoredSession) -> int:
    """Find the place of a message among the elements.

    Raises:
        MessageNotFound: There is no such message.
    """
    index = find(target, session)
    if index is None:
        raise MessageNotFound(session.session_id, target)
    return index


def known_ids(elements: Iterable[bytes], session: StoredSession, replaces: Target = "") -> dict[str, bytes]:
    """Find the messages of *session* that have an id of one of *elements*, but for those that are replaced."""
    wanted = {name for name in map(own_id, elements) if name}
    if not wanted:
        return {}
    end = find(replaces, session) if replaces else None
    there = ((own_id(element), element) for element in session.elements[:end])
    return {name: element for name, element in there if name in wanted}


def unknown(elements: Sequence[bytes], session: StoredSession, replaces: Target = "") -> list[bytes]:
    """Leave out the messages that *session* has by their ids."""
    known = known_ids(elements, session, replaces)
    return [element for element in elements if own_id(element) not in known]


def refuse_known(elements: Iterable[bytes], session: StoredSession) -> None:
    known = known_ids(elements, session)
    for name in filter(known.get, map(own_id, elements)):
        raise MessageIdReused(name)


def is_same_message(given: bytes, stored: bytes) -> bool:
    """Tell whether *given* is what was *stored*. One that was edited since may have been anything."""
    head, _, body = stored.partition(b"\n")
    return b'"edited_at"' in head or given.partition(b"\n")[2] == body


def take_out(session: StoredSession, begin: int, end: int) -> int | None:
    """Take out the messages at places from *begin* to before *end*. Return the seq of the first one. None: there is none."""
    gone = session.seqs[begin:end]
    if not gone:
        return None
    seqs, following = list(session.seqs), session.next_seq
    del session.elements[begin:end], seqs[begin:end]
    _number(session, seqs, following)
    session.history_version = session.version
    if session.turn and session.turn.seq in gone:
        session.turn = None
    return gone[0]


def give_kept_seq(session: StoredSession, kept: int, elements: list[bytes]) -> None:
    """Let the reply, the last of *elements*, have the seq *kept* for it, or its id where others have written since.

    A turn that needs no reply gives the seq back. One that failed does not, since a part of the reply may have been shown.
    """
    is_newest = session.gaps[-1:] == ((kept, kept),) and session.next_seq == kept + 1
    if is_newest and len(elements) <= 1:
        session.gaps = session.gaps[:-1]
    elif elements and kept < session.next_seq and session.index_of(kept) is None:
        elements[-1] = with_id(elements[-1], numbering.id_of(kept))


def drop_oldest(session: StoredSession, count: int) -> None:
    """Drop the oldest *count* messages, as far as there are any."""
    count = max(0, min(count, len(session.elements)))
    seqs, following = session.seqs, session.next_seq
    del session.elements[:count]
    if session.gaps:
        _number(session, seqs[count:], following)
    else:
        session.first_seq += count


def trim(session: StoredSession, most: int, added: int) -> None:
    """Drop the oldest messages over *most*, of which *added* are new.

    The first system messages stay, up to ``HEAD``, but leave a place for the message before the new ones.
    """
    over = len(session.elements) - most
    places = max(0, min(HEAD, len(session.elements) - added, most - added - 1))
    stay = sum(1 for _ in itertools.takewhile(_has_prompt, session.elements[:places])) if over > 0 else 0
    if not stay:
        drop_oldest(session, over)
        return
    seqs, following = list(session.seqs), session.next_seq
    del session.elements[stay : stay + over], seqs[stay : stay + over]
    _number(session, seqs, following)


def _has_prompt(element: bytes) -> bool:
    try:
        return is_prompt(json_text.parse(element.partition(b"\n")[2]))
    except ValueError:  # damaged
        return False


def _number(session: StoredSession, seqs: Sequence[int], following: int) -> None:
    """Give the messages these numbers, and the next one that is *following*."""
    session.first_seq = seqs[0] if seqs else following
    session.gaps = numbering.gaps_between(seqs, following)


def goes_on(before: list[bytes], after: tuple[bytes, ...]) -> bool:
    """Tell whether a conversation goes on in the one that takes its place, which then has its newest message too."""
    body = before[-1][max(0, before[-1].find(b"\n")) :]
    return any(element.endswith(body) for element in after)


def has_other_history(change: Extend | Rewrite | None, loaded_version: int | None, session: StoredSession) -> bool:
    """Tell whether the messages that are to be rewritten or dropped are not those any more, or the oldest was taken."""
    if isinstance(change, Rewrite):
        return change.history_version != session.history_version
    if change is None or not change.drop_below:
        return False
    is_renumbered = loaded_version is not None and loaded_version < session.rewritten
    return is_renumbered or change.oldest_seq not in (0, session.first_seq)
