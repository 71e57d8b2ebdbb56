"""Commands as the journal keeps them. A host that is updated has to read what the version before has left there."""

from __future__ import annotations

import json
from typing import Any, get_args

import pytest

from flask_convstore.domain.commands import (
    Append,
    BeginTurn,
    Command,
    CommitTurn,
    Delete,
    Drop,
    Edit,
    Extend,
    FieldChange,
    Merge,
    MoveConversation,
    NoteAlias,
    Put,
    RenewTurn,
    Rewrite,
    Share,
    Touch,
    Update,
)
from flask_convstore.domain.messages import Usage, join_element
from flask_convstore.domain.types import ANY, Alias
from flask_convstore.outages.command_json import command_of, text_of

SAID = join_element(1, b'"a"')
ONCE: dict[str, Any] = {"token": "T", "digest": "d"}

EARLIER: list[tuple[str, Any]] = [
    (
        (
            r'{"Save":{"session_id":"s","owner":"alice","mode":"replace","shape":"full",'
            r'"fields":[{"FieldChange":["f",null,{"bytes":"1"}]}],"history":{"Rewrite":{"history_version":0,'
            r'"elements":[{"bytes":"1{\"at\":1}\n\"a\""}]}},"created_at_ms":null,"loaded_version":null,'
            r'"ttl_ms":9,"overwrites":[],"started_at_ms":5,"instead_of":"r","earlier_token":"S","counts":true,'
            r'"spared":null,"first_title":"t","usage":{"Usage":[1,2]},"token":"T","digest":"d"}}'
        ),
        Put(
            session_id="s",
            owner="alice",
            mode="replace",
            shape="full",
            fields=(("f", b"1"),),
            elements=(SAID,),
            ttl_ms=9,
            started_at_ms=5,
            instead_of="r",
            first_title="t",
            usage=Usage(1, 2),
            token="S",
            digest="d",
        ),
    ),
    (
        (
            r'{"Save":{"session_id":"s","owner":null,"mode":"create","shape":"data","fields":[],'
            r'"history":{"Rewrite":{"history_version":0,"elements":null}},"created_at_ms":null,'
            r'"loaded_version":null,"ttl_ms":null,"overwrites":[],"started_at_ms":null,"instead_of":null,'
            r'"earlier_token":"","counts":false,"spared":"p","first_title":"","usage":null,"token":"T",'
            r'"digest":"d"}}'
        ),
        Put(session_id="s", owner=None, mode="create", shape="data", counts=False, spared="p", **ONCE),
    ),
    (
        (
            r'{"Save":{"session_id":"s","owner":null,"mode":"first","shape":"list","fields":[],"history":null,'
            r'"created_at_ms":null,"loaded_version":null,"ttl_ms":null,"overwrites":[],"started_at_ms":null,'
            r'"instead_of":null,"earlier_token":"","counts":true,"spared":null,"first_title":"","usage":null,'
            r'"token":"T","digest":"d"}}'
        ),
        Put(session_id="s", owner=None, mode="first", shape="list", **ONCE),
    ),
    (
        (
            r'{"Save":{"session_id":"s","owner":{"scope":"any"},"mode":"merge","shape":null,'
            r'"fields":[{"FieldChange":["f",{"bytes":"1"},null]}],"history":{"Extend":{"drop_below":2,'
            r'"elements":[{"bytes":"1{\"at\":1}\n\"a\""}]}},"created_at_ms":3,"loaded_version":4,"ttl_ms":null,'
            r'"overwrites":["f"],"started_at_ms":null,"instead_of":null,"earlier_token":"","counts":true,'
            r'"spared":null,"first_title":"","usage":null,"token":"T","digest":"d"}}'
        ),
        Merge(
            session_id="s",
            owner=ANY,
            fields=(FieldChange("f", b"1", None),),
            history=Extend(2, (SAID,)),
            created_at_ms=3,
            loaded_version=4,
            overwrites=("f",),
            **ONCE,
        ),
    ),
    (
        (
            r'{"Save":{"session_id":"s","owner":{"scope":"any"},"mode":"merge","shape":"data","fields":[],'
            r'"history":{"Rewrite":{"history_version":2,"elements":null}},"created_at_ms":null,'
            r'"loaded_version":null,"ttl_ms":null,"overwrites":[],"started_at_ms":null,"instead_of":null,'
            r'"earlier_token":"","counts":true,"spared":null,"first_title":"","usage":null,"token":"T",'
            r'"digest":"d"}}'
        ),
        Merge(session_id="s", owner=ANY, history=Rewrite(2, None), shape="data", **ONCE),
    ),
    (
        (
            r'{"Save":{"session_id":"s","owner":{"scope":"any"},"mode":"upsert","shape":"full",'
            r'"fields":[{"FieldChange":["f",null,{"bytes":"1"}]}],"history":{"Extend":{"drop_below":0,'
            r'"elements":[{"bytes":"1{\"at\":1}\n\"a\""}]}},"created_at_ms":null,"loaded_version":null,'
            r'"ttl_ms":9,"overwrites":[],"started_at_ms":null,"instead_of":null,"earlier_token":"","counts":true,'
            r'"spared":null,"first_title":"","usage":null,"token":"T","digest":"d"}}'
        ),
        Merge(
            session_id="s",
            owner=ANY,
            fields=(FieldChange("f", None, b"1"),),
            history=Extend(0, (SAID,)),
            shape="full",
            creates=True,
            ttl_ms=9,
            **ONCE,
        ),
    ),
    (
        (
            r'{"Append":{"session_id":"s","owner":null,"elements":[{"bytes":"1{\"at\":1}\n\"a\""}],'
            r'"fields":[["f",null]],"expected":"3-4","created_at_ms":null,"ttl_ms":null,"title":null,'
            r'"first_title":"t","usage":{"Usage":[1,2]},"token":"T","digest":"d"}}'
        ),
        Append(
            session_id="s",
            owner=None,
            elements=(SAID,),
            fields=(("f", None),),
            expected="3-4",
            first_title="t",
            usage=Usage(1, 2),
            **ONCE,
        ),
    ),
    (
        (
            r'{"Append":{"session_id":"s","owner":null,"elements":[],"fields":[["f",{"bytes":"1"}]],'
            r'"expected":"4","created_at_ms":null,"ttl_ms":null,"title":"","first_title":"","usage":null,'
            r'"token":"T","digest":"d"}}'
        ),
        Update(session_id="s", owner=None, fields=(("f", b"1"),), title="", expected="4", **ONCE),
    ),
    (
        (
            r'{"Append":{"session_id":"s","owner":null,"elements":[],"fields":[],"expected":"",'
            r'"created_at_ms":null,"ttl_ms":9,"title":null,"first_title":"","usage":null,"token":"T",'
            r'"digest":"d"}}'
        ),
        Update(session_id="s", owner=None, ttl_ms=9, **ONCE),
    ),
    (
        (
            r'{"Touch":{"session_id":"s","owner":{"scope":"any"},"created_at_ms":3,"ttl_ms":9,"led_by":null,'
            r'"left_by":null}}'
        ),
        Touch(session_id="s", owner=ANY, created_at_ms=3, ttl_ms=9),
    ),
    (
        (
            r'{"Touch":{"session_id":"s","owner":{"scope":"any"},"created_at_ms":null,"ttl_ms":null,'
            r'"led_by":{"Alias":[null,"x"]},"left_by":null}}'
        ),
        NoteAlias(session_id="s", owner=ANY, alias=Alias(None, "x"), leads_here=True),
    ),
    (
        (
            r'{"Touch":{"session_id":"s","owner":"alice","created_at_ms":null,"ttl_ms":null,"led_by":null,'
            r'"left_by":{"Alias":["alice","x"]}}}'
        ),
        NoteAlias(session_id="s", owner="alice", alias=Alias("alice", "x"), leads_here=False),
    ),
    (
        (
            r'{"CommitTurn":{"session_id":"s","owner":null,"turn":"A",'
            r'"elements":[{"bytes":"1{\"at\":1}\n\"a\""}],'
            r'"fields":[{"FieldChange":["f",{"bytes":"1"},{"bytes":"2"}]}],"status":"","moved_to":"",'
            r'"expected":"","usage":{"Usage":[1,2]},"token":"T","digest":"d"}}'
        ),
        CommitTurn(
            session_id="s",
            owner=None,
            turn="A",
            elements=(SAID,),
            fields=(FieldChange("f", b"1", b"2"),),
            usage=Usage(1, 2),
            **ONCE,
        ),
    ),
    (
        (
            r'{"CommitTurn":{"session_id":"s","owner":null,"turn":"A","elements":[],"fields":[],"status":"",'
            r'"moved_to":"t","expected":"4","usage":null,"token":"T","digest":"d"}}'
        ),
        MoveConversation(session_id="s", owner=None, turn="A", moved_to="t", expected="4", **ONCE),
    ),
    (
        (
            r'{"BeginTurn":{"session_id":"s","owner":null,"element":{"bytes":"1{\"at\":1}\n\"a\""},"lease_ms":7,'
            r'"supersede":true,"last":0,"expected":"","first_title":"","usage":null,"attempt":"A","token":"T",'
            r'"digest":"d"}}'
        ),
        BeginTurn(session_id="s", owner=None, element=SAID, lease_ms=7, supersede=True, last=0, attempt="A", **ONCE),
    ),
    (
        (
            r'{"Delete":{"session_id":"s","owner":null,"expected":"4","created_at_ms":null,"at_ms":3,"token":"T",'
            r'"digest":"d"}}'
        ),
        Delete(session_id="s", owner=None, expected="4", at_ms=3, **ONCE),
    ),
    (
        r'{"RenewTurn":{"session_id":"s","owner":null,"turn":"A","lease_ms":7}}',
        RenewTurn(session_id="s", owner=None, turn="A", lease_ms=7),
    ),
    (
        (
            r'{"Drop":{"session_id":"s","owner":null,"newest":2,"after":null,"message":null,"expected":"",'
            r'"token":"T","digest":"d"}}'
        ),
        Drop(session_id="s", owner=None, newest=2, **ONCE),
    ),
    (
        (
            r'{"Edit":{"session_id":"s","owner":null,"seq":1,"loaded":{"bytes":"1{\"at\":1}\n\"a\""},'
            r'"element":{"bytes":"1{\"at\":1}\n\"a\""},"title":"t","expected":"","created_at_ms":null,'
            r'"token":"T","digest":"d"}}'
        ),
        Edit(session_id="s", owner=None, seq=1, loaded=SAID, element=SAID, title="t", **ONCE),
    ),
    (
        r'{"Share":{"session_id":"s","owner":"alice","name":"bob","role":"reader"}}',
        Share(session_id="s", owner="alice", name="bob", role="reader"),
    ),
]
"""Texts that the version of commit 3b7c09c has written, and the commands that they are."""


@pytest.mark.parametrize(("text", "command"), EARLIER)
def test_what_an_earlier_version_has_written_is_read(text: str, command: Any) -> None:
    assert command_of(text.encode()) == command
    assert command_of(text_of(command)) == command


def test_no_operation_has_ever_put_messages_and_a_title_into_one_command() -> None:
    """Neither of the two may be lost: the text is set aside for somebody to look at."""
    text = (
        r'{"Append":{"session_id":"s","owner":null,"elements":[{"bytes":"1{\"at\":1}\n\"a\""}],"fields":[],'
        r'"expected":"","created_at_ms":null,"ttl_ms":null,"title":"t","first_title":"","usage":null,'
        r'"token":"T","digest":"d"}}'
    )
    with pytest.raises(ValueError, match="it adds messages and changes the title"):
        command_of(text.encode())


TAGS = {
    "Drop",
    "Put",
    "Merge",
    "Append",
    "Update",
    "Delete",
    "BeginTurn",
    "CommitTurn",
    "MoveConversation",
    "Edit",
    "Touch",
    "NoteAlias",
    "RenewTurn",
    "Share",
}


def test_the_tags_are_a_stored_format() -> None:
    """A class may be renamed, its tag may not. Every command has one."""
    written = [command for _, command in EARLIER]
    assert {tag for command in written for tag in json.loads(text_of(command))} == TAGS
    assert {type(command) for command in written} == {*get_args(Command), BeginTurn}


@pytest.mark.parametrize(
    "text",
    [
        '{"Save": {"mode": "sideways", "fields": [], "history": null, "session_id": "s"}}',
        '{"Touch": {"session_id": "s", "owner": null, "unknown": 1}}',
        '{"Rewrite": {"history_version": 1, "elements": null}}',
        '{"Alias": [null, "x"]}',
        '{"Touch": {}, "Delete": {}}',
        "[]",
        "1",
        '{"Touch": 1}',
        '{"Put": {"session_id": {"what": 1}}}',
    ],
)
def test_text_that_is_no_command_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        command_of(text.encode())
