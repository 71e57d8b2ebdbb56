"""What changed: a session's content against what the store is known to hold, as a ``Save`` command.

Content is encoded and its JSON texts are compared with those that were loaded: what is equal was not changed, however deep
a change may lie, and only the difference travels. Appending messages and dropping the oldest become an ``Extend``, which
merges with what others write; any other change of the history is a ``Rewrite``, which conflicts if it moved meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from . import codecs
from .commands import Extend, FieldChange, Mode, Rewrite, Save
from .errors import InvalidInput, NotSerializable, TooLarge
from .messages import NO_USAGE, Message, Usage, bodies_of, facts_of, join_element, with_body
from .models import Alias, Owner, Receipt, Shape, Snapshot
from .times import now_ms
from .values import as_value

MAX_FIELDS = 1000
"""Data fields of one write. Each costs the server about a microsecond, during which it serves nobody else."""

Content = Mapping[str, Any] | Sequence[Any]
"""A dict of fields, with the history under its key if it has one, or a bare list of messages. Mappings beside the sessions
may also hold any other JSON value, as the nameless field of a session."""


@dataclass(frozen=True, slots=True)
class Form:
    """How content is given: the key of the history in a dict, and the limits: bytes of JSON text, levels of nesting."""

    history_key: str
    max_message_bytes: int
    max_data_bytes: int
    max_metadata_depth: int


@as_value
class Base:
    """What the store is known to hold: the ground that changes are measured from.

    Attributes:
        origin: The store it lies in.
        seqs: The numbers of *elements*; there are gaps where others wrote between.
        first_seq: The seq of the oldest message in the store, loaded or not.
        count: How many messages the store has, loaded or not.
        history_version: The version at the last change of the messages that is known whole.
        history_key: Where the messages lie, for error texts.
        own_ttl_ms: Its lifetime, if it has one of its own.
        moved_to: The session in which the conversation goes on.
        aliases: Those that were led here.
        usage: What its messages cost.
        fallback: What served it while the store was away; None: the store.
        pending: A ``Save`` whose answer never came; it is repeated, with its token, before the next one.
    """

    origin: str

    session_id: str
    version: int
    created_at_ms: int
    updated_at_ms: int
    expires_at_ms: int
    title: str | None = None
    shape: Shape
    fields: Mapping[str, bytes]
    elements: Sequence[bytes]
    seqs: Sequence[int]
    first_seq: int
    count: int
    history_version: int
    history_key: str = ""
    own_ttl_ms: int | None = None
    moved_to: str | None = None
    aliases: tuple[Alias, ...] = ()
    usage: Usage = NO_USAGE
    fallback: str | None = None
    pending: Save | None = None

    @property
    def is_partial(self) -> bool:
        """Whether only the last messages were loaded."""
        return self.count > len(self.elements)


def base_read(snapshot: Snapshot, origin: str) -> Base:
    """What was just read."""
    return Base(
        origin=origin,
        session_id=snapshot.session_id,
        version=snapshot.version,
        created_at_ms=snapshot.created_at_ms,
        updated_at_ms=snapshot.updated_at_ms,
        expires_at_ms=snapshot.expires_at_ms,
        title=snapshot.title,
        shape=snapshot.shape,
        fields=snapshot.fields,
        elements=snapshot.elements,
        seqs=range(snapshot.next_seq - len(snapshot.elements), snapshot.next_seq),
        first_seq=snapshot.next_seq - snapshot.count,
        count=snapshot.count,
        history_version=snapshot.history_version,
        history_key=snapshot.history_key,
        own_ttl_ms=snapshot.own_ttl_ms,
        moved_to=snapshot.moved_to,
        aliases=snapshot.aliases,
        usage=snapshot.usage,
        fallback=snapshot.fallback,
    )


def whole(
    session_id: str,
    content: Any,
    form: Form,
    owner: Owner,
    ttl_ms: int | None,
    mode: Mode = "replace",
) -> Save:
    """The command that makes *content* the whole session, whatever was there, or only if nothing was.

    An ``upsert`` adds *content* to what another writer may have put there meanwhile.

    Raises:
        InvalidInput: *content* cannot be saved; the error says where and why.
    """
    shape, fields, history = texts(content, form)
    check_data_size(fields.items(), form)
    elements = None if history is None else tuple(_elements(history, form))
    change: Extend | Rewrite | None = Rewrite(0, elements)
    if mode == "upsert":
        change = None if elements is None else Extend(0, elements)
    return Save(
        session_id=session_id,
        owner=owner,
        mode=mode,
        shape=shape,
        fields=tuple(FieldChange(name, None, text) for name, text in fields.items()),
        history=change,
        ttl_ms=ttl_ms,
        first_title=_first_title(history or ()),
        usage=_usage(history or ()),
    )


def copied(snapshot: Snapshot, session_id: str, owner: Owner, elements: Sequence[bytes], usage: Usage | None) -> Save:
    """The command that makes another session with the fields, the title and the lifetime of *snapshot*, and *elements*."""
    has_history = snapshot.shape != "data" or bool(elements)
    return Save(
        session_id=session_id,
        owner=owner,
        mode="create",
        shape=snapshot.shape,  # with its first message, a session without a history has one
        fields=tuple(FieldChange(name, None, text) for name, text in snapshot.fields.items()),
        history=Rewrite(0, tuple(elements) if has_history else None),
        ttl_ms=snapshot.own_ttl_ms,
        first_title=snapshot.title or "",
        usage=usage,
    )


Given = tuple[bytes, dict[str, Any]]
"""A message as given: the JSON text of its body, and what else its envelope holds."""

Texts = tuple[Shape, dict[str, bytes], list[Given] | None]
"""The shape of a content, the JSON texts of its fields, and its messages; None if it has no history."""


def difference(
    base: Base, content: Any, form: Form, owner: Owner, ttl_ms: int | None, *, given: Texts | None = None
) -> Save | None:
    """The command that merges what differs between *base* and *content*; None if nothing does.

    Args:
        given: What the app was *given* of what is stored: only what differs from that was changed. None: all of it.

    Raises:
        InvalidInput: *content* cannot be saved; the error says where and why.
    """
    before = bodies_of(base.elements)
    shape, fields, history = texts(content, form, before)
    history_is_same = False
    if given is not None:
        given_shape, given_fields, given_history = given
        shape = base.shape if shape == given_shape else shape
        fields = _moved(base.fields, given_fields, fields)
        history_is_same = _bodies(history) == _bodies(given_history)
    changes = _compared(base.fields, fields, form)
    history_change = None if history_is_same else _history_change(base, before, history, form)
    if given is not None and given[2] is not None and history and not history_is_same:
        history_change = _given_change(base, given[2], history, history_change, form)
    if not changes and history_change is None and shape == base.shape:
        return None
    count = len(history_change.elements) if isinstance(history_change, Extend) else 0
    news = history[-count:] if history and count else []
    return Save(
        session_id=base.session_id,
        owner=owner,
        mode="merge",
        shape=None if shape == base.shape else shape,
        fields=changes,
        history=history_change,
        created_at_ms=base.created_at_ms,
        loaded_version=base.version,
        ttl_ms=ttl_ms,
        first_title=_first_title(news),
        usage=_usage(news),
    )


def _given_change(
    base: Base, given: list[Given], now: list[Given], change: Extend | Rewrite | None, form: Form
) -> Extend | Rewrite | None:
    """How a history became *now* that was *given* to the app, and may not be all that is stored."""
    before = [body for body, _ in given]
    if before == bodies_of(base.elements):
        return change
    if dropped_of(before, [body for body, _ in now]) == 0:
        return Extend(0, tuple(_elements(now[len(before) :], form, len(before))))
    return Rewrite(-1, tuple(_elements(now, form)))  # conflicts: others' messages lie between


def _moved(stored: Mapping[str, bytes], given: Mapping[str, bytes], now: Mapping[str, bytes]) -> dict[str, bytes]:
    """The *stored* fields with what has changed from *given* to *now*."""
    fields = {name: text for name, text in stored.items() if given.get(name) == now.get(name)}
    return fields | {name: text for name, text in now.items() if given.get(name) != text}


def _bodies(history: list[Given] | None) -> list[bytes] | None:
    return None if history is None else [body for body, _ in history]


def changed_fields(loaded: Mapping[str, bytes], data: Mapping[str, Any], form: Form) -> tuple[FieldChange, ...]:
    """What differs between the fields as they were *loaded* and *data*.

    Raises:
        InvalidInput: A field cannot be saved; the error says where and why.
    """
    return _compared(loaded, encoded_fields(data, form, "data"), form)


def _compared(before: Mapping[str, bytes], after: Mapping[str, bytes], form: Form) -> tuple[FieldChange, ...]:
    changes = tuple(
        FieldChange(name, before.get(name), after.get(name))
        for name in {**after, **before}
        if before.get(name) != after.get(name)
    )
    check_data_size(((name, text) for name, _, text in changes), form)
    return changes


def base_created(save: Save, receipt: Receipt, origin: str) -> Base:
    """What a *save* of the whole left in the store."""
    elements = save.history.elements or () if save.history else ()
    return Base(
        origin=origin,
        session_id=save.session_id,
        version=receipt.version,
        created_at_ms=receipt.created_at_ms,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        shape=save.shape or "full",
        fields={name: text for name, _, text in save.fields if text is not None},
        elements=elements,
        seqs=_numbers(elements, receipt),
        # An empty history says nothing of where the next one begins: dropping from it later is a rewrite, if need be.
        first_seq=receipt.first_seq or 1,
        count=len(elements),
        history_version=0 if save.history is None else receipt.version,
        own_ttl_ms=save.ttl_ms,
        title=save.first_title or None,
        usage=save.usage or NO_USAGE,
        fallback=receipt.fallback,
    )


def base_merged(base: Base, save: Save, receipt: Receipt) -> Base:
    """*base* with what a merging *save* changed, and nothing of what others wrote meanwhile.

    Where others changed the history, ``history_version`` stays behind: a later rewrite, which would undo their change,
    conflicts.
    """
    fields = {**base.fields, **{name: text for name, _, text in save.fields if text is not None}}
    for name, _, text in save.fields:
        if text is None:
            fields.pop(name, None)
    base = replace(
        base,
        version=receipt.version,
        updated_at_ms=receipt.updated_at_ms,
        expires_at_ms=receipt.expires_at_ms,
        shape=save.shape or base.shape,
        fields=fields,
        own_ttl_ms=save.ttl_ms or base.own_ttl_ms,
        fallback=receipt.fallback,
        pending=None,
    )
    if isinstance(save.history, Extend):
        return _extended(base, save.history, receipt)
    if isinstance(save.history, Rewrite):
        elements = save.history.elements or ()
        return replace(
            base,
            elements=elements,
            seqs=_numbers(elements, receipt),
            first_seq=receipt.first_seq or base.first_seq + base.count,
            count=len(elements),
            history_version=receipt.version,
        )
    return base


def _extended(base: Base, change: Extend, receipt: Receipt) -> Base:
    dropped = sum(seq < change.drop_below for seq in base.seqs)
    nobody_else = receipt.history_version_before == base.history_version
    return replace(
        base,
        elements=[*base.elements[dropped:], *change.elements],
        seqs=[*base.seqs[dropped:], *_numbers(change.elements, receipt)],
        first_seq=max(base.first_seq, change.drop_below),
        count=base.count - dropped + len(change.elements),
        history_version=receipt.version if nobody_else else base.history_version,
    )


def encoded_fields(data: Mapping[str, Any], form: Form, path: str = "") -> dict[str, bytes]:
    """The JSON text of each field; *path* is where *data* lies, for errors.

    Raises:
        NotSerializable: A name is no text, or JSON cannot hold a value.
        InvalidInput: A field has the name of the history.
    """
    fields = {}
    for name, value in data.items():
        if not isinstance(name, str):
            raise NotSerializable(f"the key {name!r} is no text; nothing was written", path)
        place = f"{path}.{name}" if path else name
        if name == form.history_key:
            raise InvalidInput("this is the key of the history, not of a field; nothing was written", place)
        codecs.encode(name, path)
        fields[name] = codecs.encode(value, place)
    return fields


def set_fields(data: Mapping[str, Any], form: Form) -> tuple[tuple[str, bytes], ...]:
    """The names and texts of fields that are to be set.

    Raises:
        InvalidInput: They cannot be stored; the error says where and why.
    """
    fields = tuple(encoded_fields(data, form, "data").items())
    check_data_size(fields, form)
    return fields


def check_data_size(fields: Iterable[tuple[str, bytes | None]], form: Form) -> None:
    """TooLarge if *fields* are too many, or their names and texts are over the limit."""
    given = [(name, text) for name, text in fields if text is not None]
    if len(given) > MAX_FIELDS:
        raise TooLarge("there are too many data fields", limit=MAX_FIELDS, size=len(given))
    size = sum(len(name.encode()) + len(text) for name, text in given)
    if size > form.max_data_bytes:
        reason = "the data is too large in bytes of JSON"
        raise TooLarge(reason, limit=form.max_data_bytes, size=size)


class Added(NamedTuple):
    """Messages to add, as the history keeps them, and what they tell of their session."""

    elements: tuple[bytes, ...]
    first_title: str
    usage: Usage | None


def added(messages: Sequence[Any], form: Form) -> Added:
    """Bodies, or ``Message`` objects with metadata, accepted now.

    Raises:
        NotSerializable: JSON cannot hold one; the error says which.
        TooLarge: One is over the limit.
    """
    now, elements, first_title, usage = now_ms(), [], "", None
    for index, message in enumerate(messages):
        body, facts = (message.body, facts_of(message)) if isinstance(message, Message) else (message, _NO_FACTS)
        if facts:
            check_facts(facts, f"{form.history_key}[{index}]", form)
            usage = _sum(usage, facts)
        element = join_element(now, _body_text(body, form, index), facts)
        if len(element) > form.max_message_bytes:
            _check_message_size(element, form, index)
        elements.append(element)
        first_title = first_title or title_of(body)
    return Added(tuple(elements), first_title, usage)


_LONGEST_TITLE = 60
_LOOKED_AT = 200


def title_of(body: Any) -> str:
    """How a conversation is called that begins with *body*: the beginning of a user's text; "" if it is none."""
    if not isinstance(body, dict) or body.get("role") != "user":
        return ""
    content = body.get("content", body.get("parts"))
    words: list[str] = []
    for part in content if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, dict) else part
        if isinstance(text, str):
            words += text[:_LOOKED_AT].split()
    title = " ".join(words)
    return title if len(title) <= _LONGEST_TITLE else f"{title[: _LONGEST_TITLE - 1].rstrip()}…"


def _first_title(given: Iterable[Given]) -> str:
    return next((title for body, _ in given if b'"user"' in body and (title := title_of(codecs.decode(body)))), "")


def _usage(given: Iterable[Given]) -> Usage | None:
    usage = None
    for _, facts in given:
        usage = _sum(usage, facts)
    return usage


def _sum(usage: Usage | None, facts: Mapping[str, Any]) -> Usage | None:
    """*usage*, and that of one more message, if it tells of any."""
    if "tokens" not in facts:
        return usage
    before = usage or Usage()
    more = Usage(*facts["tokens"])
    return Usage(before.input + more.input, before.output + more.output)


def texts(content: Any, form: Form, known: list[bytes] | None = None) -> Texts:
    """What *content* is made of.

    Args:
        known: The texts with which its messages probably begin, since they were loaded so.

    Raises:
        InvalidInput: It cannot be saved; the error says where and why.
    """
    if isinstance(content, (list, tuple)):
        return "list", {}, _given(content, form, known)
    if not isinstance(content, Mapping):
        return "value", {"": codecs.encode(content)}, None
    fields = encoded_fields({name: value for name, value in content.items() if name != form.history_key}, form)
    if form.history_key not in content:
        return "data", fields, None
    return "full", fields, _given(content[form.history_key], form, known)


_NO_FACTS: dict[str, Any] = {}


def _given(history: object, form: Form, known: list[bytes] | None = None) -> list[Given]:
    if not isinstance(history, (list, tuple)):
        kind = type(history).__name__
        cure = "use another key for it, or name that of the messages by history_key= or CONVSTORE_HISTORY_KEY"
        raise InvalidInput(
            f"a history is a list of messages, not a {kind}: {cure}; nothing was written", form.history_key
        )
    same = len(known) if known and codecs.is_encoded(history[: len(known)], known) else 0
    rest = ((one.body, facts_of(one)) if isinstance(one, Message) else (one, _NO_FACTS) for one in history[same:])
    given = [(_body_text(body, form, index), facts) for index, (body, facts) in enumerate(rest, same)]
    return [(text, _NO_FACTS) for text in known[:same]] + given if known else given


def _body_text(body: Any, form: Form, index: int) -> bytes:
    try:
        return codecs.encode(body)
    except NotSerializable:
        codecs.encode(body, f"{form.history_key}[{index}]")  # says where
        raise


def _history_change(
    base: Base, before: list[bytes], history: list[Given] | None, form: Form
) -> Extend | Rewrite | None:
    """How the messages of *base*, with the bodies *before*, become *history*; None if they are the same."""
    had_history = base.shape in ("full", "list")
    if history is None:
        return _rewrite(base, None, form) if had_history else None
    after = [body for body, _ in history]
    if before == after and had_history:
        return None
    dropped = dropped_of(before, after)
    if dropped == 0 or (dropped is not None and _known_whole(base, dropped)):
        kept = len(before) - dropped
        added = tuple(_elements(history[kept:], form, kept))
        return Extend(base.first_seq + dropped if dropped else 0, added)
    return _rewrite(base, tuple(_rewritten(base.elements, before, history, form)), form)


def dropped_of(before: list[bytes], after: list[bytes]) -> int | None:
    """How many of the oldest messages are missing in *after*, which goes on from the others; None if it does not.

    All dropped and others added is a rewrite: what looks like it may as well be an edit.
    """
    if not after:
        return len(before)
    for index in range(len(before)):
        if before[index] == after[0] and before[index:] == after[: len(before) - index]:
            return index
    return None if before else 0


def _known_whole(base: Base, dropped: int) -> bool:
    """Whether the *dropped* oldest messages are the oldest in the store, and nothing unseen lies between them."""
    return list(base.seqs[:dropped]) == list(range(base.first_seq, base.first_seq + dropped))


def _rewrite(base: Base, elements: tuple[bytes, ...] | None, form: Form) -> Rewrite:
    if base.is_partial:
        loaded = f"only its last {len(base.elements)} messages were loaded"
        raise InvalidInput(f"{loaded}: load all to drop or rewrite any; nothing was written", form.history_key)
    return Rewrite(base.history_version, elements)


def _rewritten(elements: Sequence[bytes], before: list[bytes], history: list[Given], form: Form) -> Iterator[bytes]:
    """The elements of *history*. Unchanged messages at both ends keep their envelopes, and so does a single edited one."""
    after = [body for body, _ in history]
    shorter = min(len(before), len(after))
    head = next((index for index in range(shorter) if before[index] != after[index]), shorter)
    rest = shorter - head
    tail = next((index for index in range(rest) if before[-1 - index] != after[-1 - index]), rest)
    yield from elements[:head]
    if len(before) == len(after) == head + 1 + tail:
        element = with_body(elements[head], after[head])
        _check_message_size(element, form, head)
        yield element
    else:
        yield from _elements(history[head : len(after) - tail], form, head)
    yield from elements[len(before) - tail :]


def _elements(history: list[Given], form: Form, first_index: int = 0) -> Iterator[bytes]:
    """New messages as the history keeps them; *first_index* is the place of the first one, for errors."""
    now = now_ms()
    for index, (body, facts) in enumerate(history, first_index):
        if facts:
            check_facts(facts, f"{form.history_key}[{index}]", form)
        element = join_element(now, body, facts)
        if len(element) > form.max_message_bytes:
            _check_message_size(element, form, index)
        yield element


def check_element(element: bytes, message: Message, form: Form) -> None:
    """InvalidInput if a message that is to take another one's place is not what it should be."""
    check_facts(facts_of(message), "message", form)
    _check_message_size(element, form, 0)


def check_facts(facts: Mapping[str, Any], path: str, form: Form) -> None:
    """InvalidInput if what a message tells beside its body is not what it should be."""
    if "metadata" in facts:
        codecs.check_depth(facts["metadata"], f"{path}.metadata", form.max_metadata_depth)
    for count in facts.get("tokens", ()):
        if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count < 2**50:
            reason = f"tokens are counted in whole numbers, 0 or more, not {count!r}; nothing was written"
            raise InvalidInput(reason, f"{path}.tokens")


def _check_message_size(element: bytes, form: Form, index: int) -> None:
    if len(element) > form.max_message_bytes:
        path = f"{form.history_key}[{index}]"
        reason = "the message is too large in bytes of JSON"
        raise TooLarge(reason, path, limit=form.max_message_bytes, size=len(element))


def _numbers(elements: Sequence[bytes], receipt: Receipt) -> Sequence[int]:
    first = receipt.first_seq or 1
    return range(first, first + len(elements))
