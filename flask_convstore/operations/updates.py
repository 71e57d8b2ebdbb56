"""Changes of a session beside its messages: fields, title, lifetime, and the owners who share the session."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..domain.commands import Share, Update
from ..domain.results import Receipt
from ..domain.types import Lifetime, Role
from ..domain.validation import check_name, check_session_id, check_title
from ..errors import InvalidInput, too_many_fields
from ..sessions import content
from .access import Access, in_time


@in_time
def update(
    access: Access,
    session_id: str,
    data: Mapping[str, Any] | None = None,
    *,
    title: str | None = None,
    ttl: Lifetime | None = None,
    expected: str = "",
    removed: tuple[str, ...] = (),
) -> Receipt:
    """Set the fields of *data*, remove the *removed* ones, set title and lifetime, in one round trip.

    Args:
        title: A new title. "" removes the title, None leaves it.
        expected: The version that the session must have, or its state (an ETag, ``<created_ms>-<version>``). "": any.
    """
    check_session_id(session_id)
    fields: dict[str, bytes | None] = dict.fromkeys(removed)
    fields.update(content.fields_to_set(data or {}, access.limits))
    if len(fields) > content.MAX_FIELDS:
        raise too_many_fields(content.MAX_FIELDS, len(fields))
    if title is not None:
        check_title(title)
    return access.apply(
        Update(
            session_id=session_id,
            owner=access.owner,
            fields=tuple(fields.items()),
            title=title,
            ttl_ms=access.ttl_ms(ttl),
            expected=expected,
        )
    )


@in_time
def share(access: Access, session_id: str, name: str, role: Role | None) -> None:
    """Give another owner, *name*, a *role* in a session. None takes it away."""
    check_session_id(session_id)
    if role not in (None, "reader", "writer"):
        raise InvalidInput(f"must be 'reader' or 'writer', not {role!r}. Nothing was written.", "role")
    check_name(name, "name")
    access.apply(Share(session_id=session_id, owner=access.owner, name=name, role=role))
