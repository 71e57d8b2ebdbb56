"""Values of the app's own classes in a mapping: loading, finding changes, and failures."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import enum
import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, NewType, TypedDict
from zoneinfo import ZoneInfo

import attrs
import marshmallow
import pydantic
import pytest

from flask_convstore import NotSerializable, SessionMapping
from flask_convstore.mapping.converters import converter_of

from ..mapping.test_mapping import Site, no_writes
from ..service import in_memory, problem

AT = dt.datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=dt.UTC)
ID = uuid.UUID(int=5)


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Point:
    x: int
    y: float = 0.5


@dataclasses.dataclass
class Everything:
    """A field of each known kind."""

    point: Point
    maybe: Point | None = None
    none: Point | None = None
    points: list[Point] = dataclasses.field(default_factory=list)
    named: dict[str, Point] = dataclasses.field(default_factory=dict)
    deep: dict[str, list[Point | None]] = dataclasses.field(default_factory=dict)
    at: dt.datetime = AT
    day: dt.date = dt.date.min
    time: dt.time = dt.time.max
    maybe_at: dt.datetime | None = None
    id: uuid.UUID = ID
    price: Decimal = Decimal("1.10")
    color: Color = Color.RED
    level: Level = Level.HIGH
    colors: list[Color] = dataclasses.field(default_factory=list)
    numbers: set[int] = dataclasses.field(default_factory=set)
    ids: frozenset[uuid.UUID] = frozenset()
    pair: tuple[int, Point] = (1, Point(2))
    many: tuple[Point, ...] = ()
    bare: tuple = ()  # type: ignore[type-arg]
    number_or_text: int | str = ""
    point_or_color: Point | Color | None = None
    anything: Any = None
    text: str = ""
    total: int = dataclasses.field(init=False, default=0)

    def __post_init__(self) -> None:
        self.total = self.point.x + 1


EVERYTHING = Everything(
    Point(1),
    maybe=Point(2, 1.5),
    points=[Point(3), Point(4)],
    named={"a": Point(5)},
    deep={"a": [Point(6), None], "b": []},
    maybe_at=AT,
    price=Decimal("-0.00"),
    color=Color.BLUE,
    colors=[Color.RED, Color.BLUE],
    numbers={1, 2, 3},
    ids=frozenset([ID]),
    pair=(7, Point(8)),
    many=(Point(9), Point(10)),
    bare=(1, "a"),
    number_or_text="5",
    point_or_color=Color.RED,
    anything={"x": [1, None]},
    text="2026-01-02",
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    name: str
    _private: int = 0
    children: list[Tree] = dataclasses.field(default_factory=list)
    parent: Tree | None = None


@attrs.define
class AttrsPoint:
    x: int
    _private: str = "p"
    at: dt.datetime | None = None
    tags: list[str] = attrs.field(factory=list)
    total: int = attrs.field(init=False, default=7)


@attrs.define
class AttrsLine:
    start: AttrsPoint
    others: dict[str, AttrsPoint] = attrs.field(factory=dict)
    point: Point | None = None


class Message(pydantic.BaseModel):
    role: str
    content: str


class Chat(pydantic.BaseModel):
    messages: list[Message] = []
    at: dt.datetime = AT
    id: uuid.UUID = ID
    price: Decimal = Decimal("1.10")
    numbers: set[int] = set()
    color: Color | None = None


@dataclasses.dataclass
class User:
    """A class whose schema makes it."""

    name: str
    born: dt.date | None = None
    tags: list[str] = dataclasses.field(default_factory=list)


class UserSchema(marshmallow.Schema):
    name = marshmallow.fields.String(required=True)
    born = marshmallow.fields.Date(load_default=None, allow_none=True)
    tags = marshmallow.fields.List(marshmallow.fields.String(), load_default=list)

    @marshmallow.post_load
    def make(self, data: dict[str, Any], **_: Any) -> User:
        return User(**data)


class PlainSchema(marshmallow.Schema):
    at = marshmallow.fields.DateTime()
    n = marshmallow.fields.Integer()


class Own:
    """A class that no converter knows."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Own) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]

    def dump(self) -> list[Any]:
        return self.items


@pytest.fixture
def site(url: str) -> Iterator[Site]:
    site = Site(url)
    yield site
    site.close()


def raw(site: Site) -> Any:
    """Read the stored value of the only key of the mapping ``typed``."""
    with site.app.app_context():
        return dict(site.convstore.mapping("typed"))["a"]


VALUES: dict[str, tuple[dict[str, Any], Any]] = {
    "dataclass": ({"load": Everything}, EVERYTHING),
    "dataclass with defaults": ({"load": Everything}, Everything(Point(1))),
    "dataclass of itself": (
        {"load": Tree},
        Tree(name="a", _private=1, children=[Tree(name="b")], parent=Tree(name="c")),
    ),
    "attrs": ({"load": AttrsLine}, AttrsLine(AttrsPoint(1), {"a": AttrsPoint(2, "q", AT, ["t"])}, Point(3))),
    "pydantic": (
        {"load": Chat},
        Chat(messages=[Message(role="user", content="hi")], numbers={1}, color=Color.RED),
    ),
    "schema class": ({"load": UserSchema}, User("Ada", dt.date(1815, 12, 10), ["math"])),
    "schema": ({"load": UserSchema()}, User("Ada")),
    "schema without objects": ({"load": PlainSchema}, {"at": AT, "n": 5}),
    "schema and dump": ({"load": UserSchema(), "dump": lambda user: {"name": user.name}}, User("Ada")),
    "functions": ({"load": Own, "dump": Own.dump}, Own([1, {"a": 2}])),
    "functions for a value": ({"load": Decimal, "dump": str}, Decimal("1.10")),
    "functions for a set": ({"load": set, "dump": sorted}, {1, 2}),
    "dataclass and dump": ({"load": Point, "dump": lambda point: {"x": point.x}}, Point(5)),
}


@pytest.mark.parametrize("name", VALUES)
def test_a_value_comes_back_as_it_was(site: Site, name: str) -> None:
    """A request that only reads the value writes nothing."""
    options, value = VALUES[name]
    typed = site.convstore.mapping("typed", **options)

    def view() -> None:
        found = typed["a"]
        assert (found, type(found)) == (value, type(value))
        assert found is typed["a"] is typed.get("a")

    site.ok(lambda: typed.update(a=value))
    with no_writes(site):
        site.ok(view)
    with site.app.app_context():
        assert (list(typed.values()), typed.pop("a"), len(typed)) == ([value], value, 0)


def test_the_fields_of_a_dataclass_are_the_fields_of_the_session(site: Site) -> None:
    """Changes of different attributes merge, and other programs can read the fields."""
    typed = site.convstore.mapping("typed", load=Everything)
    site.ok(lambda: typed.update(a=EVERYTHING))
    stored = raw(site)
    assert set(stored) == {field.name for field in dataclasses.fields(Everything)}
    assert (stored["at"], stored["color"], stored["price"]) == ("2026-01-02T03:04:05.678901+00:00", "blue", "-0.00")
    assert (stored["deep"], stored["pair"]) == ({"a": [{"x": 6, "y": 0.5}, None], "b": []}, [7, {"x": 8, "y": 0.5}])
    with site.app.app_context():
        assert typed["a"].total == 2


@dataclasses.dataclass(slots=True)
class Talk:
    """A class whose state is no argument of ``__init__``."""

    name: str
    turns: list[Point] = dataclasses.field(init=False, default_factory=list)
    count: int = dataclasses.field(init=False, default=0)
    seen_at: dt.datetime = dataclasses.field(init=False)
    lock: Any = dataclasses.field(init=False, compare=False, repr=False, default_factory=threading.Lock)


@attrs.define
class AttrsTalk:
    name: str
    turns: list[Point] = attrs.field(init=False, factory=list)
    count: int = attrs.field(init=False, default=0)
    seen_at: dt.datetime | None = attrs.field(init=False, default=None)
    lock: Any = attrs.field(init=False, eq=False, repr=False, factory=threading.Lock)


@in_memory
@pytest.mark.parametrize("load", [Talk, AttrsTalk])
def test_fields_that_init_does_not_take_are_kept(site: Site, load: Any) -> None:
    talks = site.convstore.mapping("talks", load=load)
    site.ok(lambda: talks.update(ada=load("Ada")))

    def say() -> None:
        talks["ada"].turns.append(Point(1))
        talks["ada"].count += 1
        talks["ada"].seen_at = AT

    site.ok(say)
    site.ok(say)
    with site.app.app_context():
        talk = talks["ada"]
        assert (talk.turns, talk.count, talk.seen_at) == ([Point(1), Point(1)], 2, AT)
        assert talk.lock.acquire(blocking=False)


@pytest.mark.parametrize(
    ("load", "value"), [(UserSchema, User("Ada")), (User, User("Ada")), (Message, Message(role="user", content="hi"))]
)
def test_a_given_dump_replaces_that_of_the_class(site: Site, load: Any, value: Any) -> None:
    site.ok(lambda: site.convstore.mapping("typed", load=load, dump=lambda _: ["dumped"]).update(a=value))
    assert raw(site) == ["dumped"]


CHANGES: dict[str, tuple[dict[str, Any], Callable[[], Any], Callable[[Any], Any]]] = {
    "an attribute": ({"load": Everything}, lambda: Everything(Point(1)), lambda v: setattr(v, "text", "new")),
    "a nested attribute": ({"load": Everything}, lambda: Everything(Point(1)), lambda v: setattr(v.point, "y", 5.5)),
    "a list": ({"load": Everything}, lambda: Everything(Point(1)), lambda v: v.points.append(Point(2))),
    "a set": ({"load": Everything}, lambda: Everything(Point(1)), lambda v: v.numbers.add(2)),
    "an object in a dict": (
        {"load": Everything},
        lambda: Everything(Point(1), named={"a": Point(1)}),
        lambda v: setattr(v.named["a"], "y", 2.5),
    ),
    "attrs": ({"load": AttrsLine}, lambda: AttrsLine(AttrsPoint(1)), lambda v: v.start.tags.append("new")),
    "pydantic": (
        {"load": Chat},
        lambda: Chat(messages=[Message(role="user", content="hi")]),
        lambda v: setattr(v.messages[0], "content", "new"),
    ),
    "a schema's": ({"load": UserSchema}, lambda: User("Ada"), lambda v: v.tags.append("new")),
    "functions": ({"load": Own, "dump": Own.dump}, lambda: Own([]), lambda v: v.items.append(["new"])),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_in_an_object_is_found_and_saved(site: Site, name: str) -> None:
    options, make, change = CHANGES[name]
    typed = site.convstore.mapping("typed", **options)
    site.ok(lambda: typed.update(a=make()))
    site.ok(lambda: change(typed["a"]))
    expected = make()
    change(expected)
    with site.app.app_context():
        assert typed["a"] == expected
        with typed.scope():
            change(typed["a"])
        change(expected)
        assert typed["a"] == expected
        change(typed["a"])
        change(expected)
    with site.app.app_context():
        assert typed["a"] == expected, "written at the end of the app context"


def test_a_default_makes_objects(site: Site) -> None:
    users = site.convstore.mapping("users", load=User, default=lambda: User("new"))
    site.ok(lambda: users["a"].tags.append("x"))
    site.ok(lambda: users["a"].tags.append("y"))
    with site.app.app_context():
        assert users.copy() == {"a": User("new", tags=["x", "y"])}


# ---- merging


def test_different_attributes_of_two_requests_both_land(site: Site) -> None:
    typed = site.convstore.mapping("typed", load=Everything)

    def view() -> None:
        value = typed["a"]
        site.ok(lambda: setattr(typed["a"], "text", "theirs"))
        value.point.x = 5
        value.numbers.add(5)

    site.ok(lambda: typed.update(a=Everything(Point(1))))
    site.ok(view)
    with site.app.app_context():
        expected = Everything(Point(5), numbers={5}, text="theirs")
        expected.total = 2  # as in a dict, where nothing computes it anew
        assert typed["a"] == expected


@pytest.mark.parametrize(
    ("options", "make"),
    [
        ({"load": Chat}, Chat),
        ({"load": AttrsPoint, "history_key": "tags"}, lambda: AttrsPoint(1)),
        ({"load": UserSchema, "history_key": "tags"}, lambda: User("Ada")),
        ({"load": lambda plain: Own(plain["items"]), "dump": vars, "history_key": "items"}, lambda: Own([])),
    ],
)
def test_messages_that_two_requests_append_to_an_object_merge(
    site: Site, options: dict[str, Any], make: Callable[[], Any]
) -> None:
    """``history_key=`` names them."""
    typed = site.convstore.mapping("typed", **{"history_key": "messages", **options})

    def add(text: str) -> None:
        value = typed["a"]
        if isinstance(value, Chat):
            value.messages.append(Message(role="user", content=text))
        else:
            (value.items if isinstance(value, Own) else value.tags).append(text)

    def view() -> None:
        assert typed["a"] is not None
        site.ok(lambda: add("theirs"))
        add("mine")

    site.ok(lambda: typed.update(a=make()))
    site.ok(lambda: add("first"))
    site.ok(view)
    found = raw(site)[options.get("history_key", "messages")]
    assert [message["content"] if isinstance(message, dict) else message for message in found] == [
        *("first", "theirs", "mine")
    ]


def test_without_a_history_key_lists_merge_too(site: Site) -> None:
    users = site.convstore.mapping("typed", load=User)

    def view() -> None:
        user = users["a"]
        site.ok(lambda: users["a"].tags.append("theirs"))
        user.tags.append("mine")

    site.ok(lambda: users.update(a=User("Ada")))
    site.ok(view)
    assert raw(site)["tags"] == ["theirs", "mine"]


def test_a_change_of_an_inner_scope_is_loaded_into_the_outer_one(site: Site) -> None:
    typed = site.convstore.mapping("typed", load=PlainSchema)

    def view() -> None:
        assert typed["a"]["at"] == AT
        with typed.scope():
            typed["a"]["at"] = AT.replace(year=2027)
        assert typed["a"]["at"] in {AT, AT.replace(year=2027)}

    site.ok(lambda: typed.update(a={"at": AT, "n": 5}))
    site.ok(view)


# ---- values stored by another version of the app

OLDER: dict[str, tuple[Any, dict[str, Any]]] = {
    "a field that the class has not": (User, {"name": "Ada", "born": None, "tags": [], "later": "kept"}),
    "a field that the class has since": (User, {"name": "Ada"}),
    "a set in another order": (Everything, {"point": {"x": 1}, "numbers": [3, 2, 1]}),
    "a time in another form": (Chat, {"messages": [], "at": "2026-01-02T03:04:05Z"}),
}


@pytest.mark.parametrize("name", OLDER)
def test_a_value_that_is_only_read_stays_as_stored(site: Site, name: str) -> None:
    """Two versions of an app run side by side. The older one must not remove fields of the newer one."""
    load, stored = OLDER[name]
    typed = site.convstore.mapping("typed", load=load)
    with site.app.app_context():
        site.convstore.mapping("typed")["a"] = stored
    with no_writes(site):
        site.ok(lambda: typed["a"])


def test_a_change_leaves_unknown_fields_as_stored(site: Site) -> None:
    users = site.convstore.mapping("typed", load=User)
    with site.app.app_context():
        site.convstore.mapping("typed")["a"] = {"name": "Ada", "later": "kept"}
    site.ok(lambda: setattr(users["a"], "name", "Bob"))
    assert (raw(site)["name"], raw(site).get("later")) == ("Bob", "kept")


# ---- failures


@in_memory
@pytest.mark.parametrize(
    "options",
    [
        {"load": dict},
        {"load": lambda plain: plain},
        {"dump": lambda value: value},
        {"load": int},
        {"load": Point(1)},
        {"load": Color},
    ],
)
def test_load_without_dump_is_refused(site: Site, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="load= and dump= both"):
        site.convstore.mapping("typed", **options)


@pytest.mark.parametrize(
    "options",
    [
        {"load": lambda: 1, "dump": lambda value: value},
        {"load": lambda plain: plain, "dump": lambda: 1},
        {"load": Point, "dump": lambda: 1},
        {"load": 5, "dump": lambda value: value},
        {"load": type("Two", (), {"__init__": lambda self, a, b: None}), "dump": lambda value: value},
    ],
)
def test_functions_that_cannot_be_called_with_one_value_are_refused(site: Site, options: dict[str, Any]) -> None:
    with pytest.raises(TypeError, match="one value"):
        site.convstore.mapping("typed", **options)


class Said:
    at: dt.datetime

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = AT


class Memory:
    """A class as people write it: no decorator, annotated attributes, an ``__init__`` that takes something else."""

    said: list[Said]
    tags: set[str]

    def __init__(self, user: str) -> None:
        self.user = user
        self.said = []
        self.tags = set()

    def add(self, text: str) -> None:
        self.said.append(Said(text))
        self.tags.add(text)


@pytest.mark.parametrize("options", [{"load": Memory}, {"load": Memory, "dump": vars}], ids=["load", "load and vars"])
def test_a_plain_class_needs_nothing_else(site: Site, options: dict[str, Any]) -> None:
    """Objects come back with their attributes and methods, nested ones too, and their lists merge."""
    memories = site.convstore.mapping("typed", **options)

    def say(text: str) -> None:
        if "a" not in memories:
            memories["a"] = Memory("ada")
        memories["a"].add(text)

    def view() -> None:
        assert memories["a"].user == "ada"
        site.ok(lambda: say("theirs"))
        memories["a"].add("mine")

    site.ok(lambda: say("first"))
    site.ok(view)

    def look() -> None:
        memory = memories["a"]
        assert (type(memory), memory.user, memory.tags) == (Memory, "ada", {"first", "theirs", "mine"})
        assert [(type(said), said.text, said.at) for said in memory.said] == [
            (Said, text, AT) for text in ("first", "theirs", "mine")
        ]

    site.ok(look)


class Note(TypedDict):
    at: dt.datetime
    tags: set[str]


class Numbered(NamedTuple):
    number: int
    at: dt.datetime


@pytest.mark.parametrize(
    ("load", "value"),
    [
        (Note, {"at": AT, "tags": {"x"}}),
        (Numbered, Numbered(1, AT)),
        (list[Numbered], [Numbered(1, AT), Numbered(2, AT)]),
        (dict[str, Said | None], {"none": None}),
        (dict[str, dt.datetime], {"a": AT}),
    ],
    ids=repr,
)
def test_an_annotation_is_enough(site: Site, load: Any, value: Any) -> None:
    typed = site.convstore.mapping("typed", load=load)
    site.ok(lambda: typed.update(a=value))

    def look() -> None:
        assert (typed["a"], type(typed["a"])) == (value, type(value))

    site.ok(look)


def test_no_converter_is_made_for_plain_json() -> None:
    assert converter_of(None, None) is None


class Unspeakable(Exception):
    pass


def refuse(*_: object) -> Any:
    raise Unspeakable("the user's secret text")


BAD_DUMPS: list[Callable[[Any], Any]] = [refuse, lambda value: {"x": {1}}, lambda value: object(), lambda value: {1: 2}]


@pytest.mark.parametrize("dump", BAD_DUMPS)
def test_a_failed_dump_is_a_problem_and_writes_nothing(
    site: Site, caplog: pytest.LogCaptureFixture, dump: Callable[[Any], Any]
) -> None:
    """The log names the error and its place, and shows no text of a conversation."""
    site.app.testing = True
    typed = site.convstore.mapping("typed", load=Own, dump=dump)

    def view() -> None:
        typed["a"] = Own(["the user's secret text"])
        site.sessions["other"] = {}

    with no_writes(site):
        problem(site.visit(view), 500, "not-stored")
    assert "'a'" in caplog.text
    assert "secret" not in caplog.text
    assert (dump is not refuse) == ("Unspeakable" not in caplog.text)
    with site.app.app_context(), pytest.raises(NotSerializable, match="othing was written"):
        typed["a"] = Own([])


def test_a_failed_dump_at_the_end_of_a_stream_logs_no_text_either(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    typed = site.convstore.mapping("typed", load=Own, dump=lambda own: refuse() if own.items else [])

    def view() -> Any:
        value = typed["a"] = Own([])

        def reply() -> Iterator[str]:
            yield "x"
            value.items.append("secret")

        return site.app.response_class(reply())

    assert site.visit(view).data == b"x"
    assert "not written" in caplog.text
    assert "secret" not in caplog.text


def test_a_failed_load_raises_at_the_read(site: Site) -> None:
    """The error is the app's own. The stored value stays."""
    typed = site.convstore.mapping("typed", load=refuse, dump=Own.dump)
    with site.app.app_context():
        site.convstore.mapping("typed")["a"] = [1]
    reads: list[Callable[[SessionMapping], Any]] = [
        lambda d: d["a"],
        lambda d: d.get("a"),
        lambda d: d.setdefault("a", Own([])),
        lambda d: list(d.values()),
        lambda d: d.copy(),
    ]

    def view() -> None:
        for read in reads:
            with pytest.raises(Unspeakable):
                read(typed)
        assert list(typed) == ["a"]

    site.ok(view)
    assert site.visit(lambda: typed["a"]).status_code == 500
    assert raw(site) == [1]


@in_memory
@pytest.mark.parametrize(
    ("load", "stored", "error"),
    [
        (Point, {"y": 1.5}, TypeError),
        (Everything, {"point": {"x": 1}, "at": "yesterday"}, ValueError),
        (Everything, {"point": {"x": 1}, "color": "green"}, ValueError),
        (Everything, {"point": {"x": 1}, "pair": [1]}, ValueError),
        (Chat, {"messages": [{"role": "user"}]}, pydantic.ValidationError),
        (UserSchema, {"name": 5}, marshmallow.ValidationError),
        (UserSchema, {"name": "Ada", "later": 1}, marshmallow.ValidationError),
    ],
)
def test_a_value_that_does_not_fit_the_class_raises(site: Site, load: Any, stored: Any, error: type[Exception]) -> None:
    with site.app.app_context():
        site.convstore.mapping("typed")["a"] = stored
        with pytest.raises(error):
            site.convstore.mapping("typed", load=load)["a"]


# ---- annotations


@dataclasses.dataclass
class Circle:
    radius: int = 1


@dataclasses.dataclass
class Square:
    side: int = 1


class Pair(NamedTuple):
    one: int
    two: Point


UserId = NewType("UserId", uuid.UUID)

ANNOTATIONS: dict[str, tuple[Any, Any]] = {
    "list of list": (list[list[Point]], [[Point(1)], []]),
    "list or None": (list[Point] | None, [Point(1)]),
    "Mapping": (Mapping[str, Point], {"a": Point(1)}),
    "dict of Decimal": (dict[str, Decimal], {"a": Decimal("1.0")}),
    "set of Enum": (set[Color], {Color.RED}),
    "tuple of Enum": (tuple[Color, ...], (Color.RED, Color.BLUE)),
    "dict of tuple": (dict[str, tuple[int, Point]], {"a": (1, Point(2))}),
    "Annotated": (Annotated[dt.datetime, "when"], AT),
    "Literal": (Literal["a", "b"], "a"),
    "attrs in a dataclass": (AttrsPoint, AttrsPoint(1, at=AT)),
    "text or number": (str | int, 5),
    "date or None": (dt.date | None, dt.date.max),
    "list or text": (list[Point] | str, "text"),
    "Any": (Any, {"a": [1, 1.5, None, True]}),
    "Sequence": (Sequence[Point], [Point(1)]),
    "NewType": (UserId, ID),
    "NamedTuple": (Pair, Pair(1, Point(2))),
}


def check_annotation(site: Site, annotation: Any, value: Any) -> None:
    kind = dataclasses.make_dataclass("Made", [("field", annotation)])
    typed: SessionMapping = site.convstore.mapping("typed", load=kind)
    with site.app.app_context():
        typed["a"] = kind(value)
        found = typed["a"].field
    assert (found, type(found)) == (value, type(value))


@in_memory
@pytest.mark.parametrize("name", ANNOTATIONS)
def test_a_field_is_loaded_as_annotated(site: Site, name: str) -> None:
    check_annotation(site, *ANNOTATIONS[name])


def test_the_class_of_a_union_that_has_the_fields_is_chosen(site: Site) -> None:
    check_annotation(site, Circle | Square, Square(5))


@in_memory
@pytest.mark.parametrize(
    "value", [dt.timedelta(1), b"a", 1j, {1: "a"}, dt.time(tzinfo=ZoneInfo("Europe/Berlin"))], ids=repr
)
def test_a_value_that_json_cannot_hold_is_refused(site: Site, value: Any) -> None:
    kind = dataclasses.make_dataclass("Made", [("field", Any)])
    typed: SessionMapping = site.convstore.mapping("typed", load=kind)
    with site.app.app_context():
        with pytest.raises(NotSerializable, match="field"):
            typed["a"] = kind(value)
        assert len(typed) == 0


def test_an_unknown_annotation_leaves_json_as_it_is(site: Site) -> None:
    kind = dataclasses.make_dataclass("Made", [("field", Any)])
    typed: SessionMapping = site.convstore.mapping("typed", load=kind)
    with site.app.app_context():
        typed["a"] = kind([Point(1), AT, {1}, Color.RED])
    with site.app.app_context():
        assert typed["a"] == kind([{"x": 1, "y": 0.5}, AT.isoformat(), [1], "red"])


@attrs.define
class AttrsWithAlias:
    inner: int = attrs.field(alias="outer")


class ModelWithAlias(pydantic.BaseModel):
    inner: int = pydantic.Field(alias="outer")


@pytest.mark.parametrize("kind", [AttrsWithAlias, ModelWithAlias])
def test_an_attribute_with_an_alias(site: Site, kind: Any) -> None:
    typed = site.convstore.mapping("typed", load=kind)
    with site.app.app_context():
        typed["a"] = kind(outer=5)
        assert typed["a"] == kind(outer=5)


@dataclasses.dataclass
class OfCollections:
    """Types that JSON holds by way of an annotation only."""

    length: dt.timedelta
    raw: bytes
    at: dt.time
    counts: collections.Counter[str]
    lists: collections.defaultdict[str, list[dt.date]]
    ordered: collections.OrderedDict[str, uuid.UUID]
    recent: collections.deque[dt.timedelta]


def test_annotations_bring_back_collections_durations_and_bytes() -> None:
    lists = collections.defaultdict(list, a=[dt.date.min])
    value = OfCollections(
        dt.timedelta(days=1, microseconds=7),
        b"\x00\xff",
        dt.time(0, 0, 0, 10_000),
        collections.Counter("aab"),
        lists,
        collections.OrderedDict(a=ID),
        collections.deque([dt.timedelta(seconds=2)]),
    )
    converter = converter_of(OfCollections, None)
    assert converter is not None
    loaded = converter.load(json.loads(json.dumps(converter.dump(value), default=str)))
    assert loaded == value
    for field in dataclasses.fields(OfCollections):
        assert type(getattr(loaded, field.name)) is type(getattr(value, field.name))
    loaded.lists["new"].append(dt.date.max)
    assert loaded.counts["new"] == 0


@in_memory
@pytest.mark.parametrize("load", [None, dict[str, collections.deque[int]]])
def test_a_deque_with_a_length_is_refused_with_the_cure(
    site: Site, load: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """JSON does not hold the length, so such a deque would come back without it, and grow for ever."""
    windows = site.convstore.mapping("windows", load=load)
    problem(site.visit(lambda: windows.update(a={"last": collections.deque([1], maxlen=3)})), 500, "not-stored")
    assert "last: JSON cannot hold a deque with maxlen=3. Use a list, and cut it with del last[:-3]" in caplog.text


@in_memory
def test_hints_work_in_a_tagged_store_too(site: Site) -> None:
    """Parts of a class are tagged, and annotations take what came back."""
    tagged = Site("memory://", TYPES="tagged")

    class Free:
        def __init__(self) -> None:
            self.at, self.numbers = AT, {1: ID}

    free = tagged.convstore.mapping("free", load=Free)
    everything = tagged.convstore.mapping("everything", load=Everything)
    pair = tagged.convstore.mapping("pair", load=dt.datetime.fromisoformat, dump=lambda value: value)
    made = Everything(Point(1))
    tagged.ok(lambda: (free.update(a=Free()), everything.update(a=made), pair.update(a=AT)))

    def view() -> None:
        assert vars(free["a"]) == {"at": AT, "numbers": {1: ID}}
        assert everything["a"] == made
        assert pair["a"] == AT, "a pair of functions gets plain JSON"

    tagged.ok(view)
