"""Journalled writes, fitted to what others have written to the same session in the store.

A session that was saved whole while the store was away may be there all the same: the first try has landed, or another host
has written it. Nothing that was written since is replaced. The messages of a journalled write go behind those that are
there, and a field that others have changed stays theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple, TypeGuard

from ..domain.commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Drop,
    Edit,
    Extend,
    FieldChange,
    Merge,
    Put,
    Rewrite,
)
from ..domain.messages import bodies_of, own_id, with_id
from ..domain.results import Snapshot
from ..domain.types import ANY
from ..errors import ConflictError, ConvstoreError, SessionExists
from .redaction import is_redaction
from .united import united

Load = Callable[[], Snapshot]
"""Function that reads the session as it is in the store."""


_EMPTY = (b"null", b"false", b"0", b'""', b"[]", b"{}")


class Fitted(NamedTuple):
    """A command that fits, and a part of the one before that was left out for it ("": nothing)."""

    command: Command | BeginTurn
    left_out: str


def fitted(command: Command | BeginTurn, error: ConvstoreError, load: Load) -> Fitted | None:
    """Fit *command*, which the store has refused with *error*, to the session as it is. None if that cannot be done."""
    if isinstance(command, Edit):
        return _edit_where_it_is(command, load())
    if isinstance(command, Put) and isinstance(error, (ConflictError, SessionExists)):
        return _as_addition(command, load())
    return _beside(command, error, load) if isinstance(error, ConflictError) else None


def _beside(command: Command | BeginTurn, error: ConflictError, load: Load) -> Fitted | None:
    """Fit *command* beside what it conflicts with. None if that cannot be done."""
    if isinstance(command, (Append, BeginTurn)):
        return Fitted(replace(command, expected=""), "") if command.expected else None
    return _merged(command, error, load) if isinstance(command, (Merge, CommitTurn)) else None


def _merged(command: Merge | CommitTurn, error: ConflictError, load: Load) -> Fitted | None:
    """Leave out the field that others have changed, or the order of the messages. None if it is neither."""
    if error.is_field:
        return _field_beside(command, error.what, load().fields.get(error.what))
    if isinstance(command, Merge) and isinstance(command.history, Rewrite):
        more = _new_behind(command.history.elements or (), load().elements)
        return Fitted(replace(command, history=Extend(0, more)), "the order of the messages")
    return None


def _field_beside(command: Merge | CommitTurn, name: str, there: bytes | None) -> Fitted:
    """Fit the change of the field *name* to what is *there*, which stays. Of two dicts the keys of both stay."""
    (change,) = (change for change in command.fields if change.name == name)
    others = tuple(change for change in command.fields if change.name != name)
    both = united(change.loaded, change.value, there)
    if both is None:
        loses = change.value != there and not _is_beginning(command, change)
        return Fitted(replace(command, fields=others), name if loses else "")
    fields = (*others, FieldChange(name, there, both.text)) if both.text != there else others
    return Fitted(replace(command, fields=fields), "" if both.is_whole else name)


def _is_beginning(command: Merge | CommitTurn, change: FieldChange) -> bool:
    """Tell whether a change is the empty value with which a session was begun."""
    return isinstance(command, Merge) and command.creates and change.value in _EMPTY


def added_to(command: Put, there: Snapshot) -> Merge:
    """Make of a session of which the app has read a part, or nothing, what is added to the one that is *there*.

    The messages that were read stand there in their order, and others' may stand between. A field of another value is a
    conflict.
    """
    ours, theirs = bodies_of(command.elements), bodies_of(there.elements)
    known = count_seen(ours, theirs, command.seen_in_part or 0)
    addition = _as_addition(command, there).command
    assert isinstance(addition, Merge)
    fields = tuple(FieldChange(name, None, text) for name, text in command.fields if there.fields.get(name) != text)
    return replace(addition, fields=fields, history=Extend(0, command.elements[known:]))


def count_seen(ours: list[bytes], theirs: list[bytes], seen: int) -> int:
    """Count the bodies at the beginning of *ours*, no more than were *seen*, that stand in *theirs* in the same order."""
    rest = iter(theirs)
    count = 0
    for body in ours[: max(0, seen)]:
        if body not in rest:  # which goes on behind the one before
            break
        count += 1
    return count


def _as_addition(command: Put, there: Snapshot) -> Fitted:
    """Make of a whole session what can be added to the one that is *there*: its messages, and the fields that are new."""
    lost = sorted(name for name, text in command.fields if there.fields.get(name, text) != text)
    new = tuple(FieldChange(name, None, text) for name, text in command.fields if name not in there.fields)
    addition = Merge(
        session_id=command.session_id,
        owner=command.owner,
        fields=new,
        history=Extend(0, behind(command.elements, there.elements)),
        first_title=command.first_title,
        usage=command.usage,
        token=command.token,
        digest=command.digest,
    )
    return Fitted(addition, ", ".join(lost))


def _new_behind(ours: Iterable[bytes], theirs: list[bytes]) -> tuple[bytes, ...]:
    """The messages of *ours* that are not there, by their ids or their times."""
    known = {own_id(element) for element in theirs} - {""}
    same = {_identity(element) for element in theirs}
    return tuple(element for element in ours if own_id(element) not in known and _identity(element) not in same)


def behind(ours: Iterable[bytes], theirs: list[bytes]) -> tuple[bytes, ...]:
    """The messages of *ours* behind those with which both begin. The times of messages do not count."""
    ours = list(ours)
    same = 0
    for our, their in zip(bodies_of(ours), bodies_of(theirs), strict=False):
        if our != their:
            break
        same += 1
    return tuple(ours[same:])


def _edit_where_it_is(command: Edit, there: Snapshot) -> Fitted | None:
    """Find the message that was edited at the seq that it has in the store. A redaction finds it whatever it says."""
    if is_redaction(command):
        return _redaction_where_it_is(command, there)
    for seq, element in zip(there.seqs, there.elements, strict=True):
        if with_id(element, own_id(command.loaded)) == command.loaded:
            return Fitted(_where(command, seq, element), "")
    return None


def _redaction_where_it_is(command: Edit, there: Snapshot) -> Fitted | None:
    """Find the message with the id. One of a save whose first try has landed has none, and has its time and its seq."""
    name, time = own_id(command.loaded), _identity(command.loaded)[0]
    pairs = list(zip(there.seqs, there.elements, strict=True))
    named = [pair for pair in pairs if own_id(pair[1]) == name]
    nameless = [pair for pair in pairs if (own_id(pair[1]), _identity(pair[1])[0]) == ("", time)]
    found = named or [pair for pair in nameless if pair[0] == command.seq] or nameless
    return Fitted(_where(command, *found[0]), "") if len(found) == 1 else None


def _where(command: Edit, seq: int, loaded: bytes) -> Edit:
    return replace(command, seq=seq, loaded=loaded, expected="")


def _identity(element: bytes) -> tuple[bytes, bytes]:
    """The time and the body of a message. A turn that was interrupted has marked its message since."""
    head, _, body = element.partition(b"\n")
    return head.partition(b",")[0].rstrip(b"}"), body


def seqs_there(own: Iterable[bytes], there: Snapshot) -> list[int]:
    """Find the seqs that messages of a journalled session have in the store, as far as they are there.

    Those of a save whose first try has landed have no ids there.
    """
    names = (own_id(element) or _identity(element) for element in there.elements)
    seqs: dict[object, int] = dict(zip(names, there.seqs, strict=True))
    found = (seqs.get(own_id(element)) or seqs.get(_identity(element)) for element in own)
    return [seq for seq in found if seq]


Taking = Drop | Append | BeginTurn
"""The commands that can take messages out."""


def takes_out(command: Command | BeginTurn) -> TypeGuard[Taking]:
    """Tell whether *command* takes messages out by their place or name."""
    return isinstance(command, Drop) or (isinstance(command, (Append, BeginTurn)) and bool(command.replaces))


def taking_own(command: Taking, gone: Sequence[bytes], there: Snapshot) -> tuple[list[Drop], Taking]:
    """Let *command* take out no messages but *gone*, which were its own session's.

    Returns the drops that come before it where others have written between, and *command* as it is behind them. One that
    takes several messages from the end expects the version of *there*.
    """
    if command.expected:
        return [], command  # nobody has written since, or it is refused
    seqs = seqs_there(gone, there)
    bare = replace(command, newest=0, after=None, message=None) if isinstance(command, Drop) else command
    if isinstance(bare, Drop) and len(seqs) == 1:
        return [], replace(bare, message=seqs[0])
    if seqs and seqs == list(there.seqs[-len(seqs) :]):
        version = str(there.version)
        if isinstance(bare, Drop):
            return [], replace(bare, newest=len(seqs), expected=version)
        return [], replace(bare, replaces=seqs[0], expected=version)
    this = command.session_id
    drops = [Drop(session_id=this, owner=ANY, message=seq, token=f"{command.token}'{seq}") for seq in seqs]
    return drops, bare if isinstance(bare, Drop) else replace(bare, replaces="")


def with_own_drops(command: Merge, own: Snapshot, there: Snapshot) -> Merge:
    """Let *command* drop no messages but its session's own, which stand under other seqs where others have written.

    Args:
        own: The session as its own commands before this one tell it.
    """
    assert isinstance(command.history, Extend)
    below = command.history.drop_below
    drops = [_identity(element) for seq, element in zip(own.seqs, own.elements, strict=True) if seq < below]
    dropped = 0
    while dropped < min(len(drops), len(there.elements)) and _identity(there.elements[dropped]) in drops:
        dropped += 1
    drop_below = there.seqs[dropped] if dropped < len(there.elements) else there.next_seq
    return replace(command, history=replace(command.history, drop_below=drop_below, oldest_seq=0))
