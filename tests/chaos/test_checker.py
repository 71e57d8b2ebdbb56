"""The checker of the chaos suite finds each fault that it is there for, and nothing where there is none."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .checker import COUNTS, check, counted
from .records import Attempt, Final, Kind, Mark, Operation, Read, Seen, mark_of, text_of

BOUNDS: dict[Kind, float] = dict.fromkeys(("start", "turn", "append", "drop", "get", "stranger", "delete"), 5.0)


def operation(kind: Kind, number: int, at: float, **more: Any) -> Operation:
    """One of client c1 on session s1: from *at* to a second later, in one attempt, and acknowledged."""
    status = more.pop("status", 200)
    attempt = Attempt(at, at + 1, status, slug=more.pop("slug", ""), seconds_inside=more.pop("inside", 0.5))
    attempt.detail = more.pop("detail", "")
    given = {"outcome": "ok", "client": "c1", "label": "s1", **more}
    return Operation(
        number=number, kind=kind, session_id="id", owner=None, began=at, ended=at + 1, attempts=[attempt], **given
    )


def history() -> list[Operation]:
    """A start, an append of three, a turn."""
    return [
        operation("start", 1, 0),
        operation("append", 2, 10, parts=3, first_seq=1),
        operation("turn", 3, 20, parts=1, has_reply=True, first_seq=4, reply_seq=5),
    ]


def read_of(operations: Sequence[Operation]) -> list[Mark]:
    return [mark for operation in operations for mark in operation.marks()]


def final(marks: Sequence[Mark], first_seq: int = 1) -> Final:
    return Final("s1", "id", "http", Read(tuple(Seen(seq, text_of(mark)) for seq, mark in enumerate(marks, first_seq))))


def counts(operations: Sequence[Operation], *finals: Final) -> dict[str, int]:
    """The counts that are not zero."""
    return {count: number for count, number in counted(check(operations, finals, BOUNDS)).items() if number}


def test_a_mark_survives_its_text() -> None:
    for mark in (Mark("s1", "c1", 2, 1, 3), Mark("s1", "c1", 3, 1, 1, is_reply=True)):
        assert mark_of(text_of(mark)) == mark
    for text in ("", "hello", "s1 c1 x 1/3", "re: s1 c1 3", None, 7):
        assert mark_of(text) is None


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    told = history()
    whole = read_of(told)
    told.append(operation("get", 4, 30, seen=final(whole).read))
    window = Read(tuple(Seen(seq, text_of(mark)) for seq, mark in enumerate(whole[2:], 3)), last=3)
    told.append(operation("get", 5, 30, seen=window))
    told.append(operation("append", 6, 40, parts=2, outcome="unknown"))
    told.append(operation("turn", 7, 50, parts=1, has_reply=True, outcome="unknown", left=True))
    told.append(operation("append", 8, 60, parts=1, outcome="failed", status=503, slug="unavailable"))
    told.append(operation("stranger", 9, 70, status=404, slug="not-found"))
    lonely = Mark("s1", "c1", 7, 1, 1)
    assert counts(told, final([*whole, lonely])) == {}
    assert counts(told, final([*whole, *told[5].marks(), lonely])) == {}
    told.append(operation("append", 10, 80, parts=1, first_seq=9))
    told.append(operation("get", 11, 90, seen=Read((Seen(9, text_of(told[-1].marks()[0])),), last=1)))
    assert counts(told) == {}, "where the message that was left stands is not known"
    assert list(counted([])) == list(COUNTS)


def test_lost() -> None:
    told = history()
    assert counts(told, final(read_of(told)[:-2])) == {"lost": 2}
    assert counts(told, Final("s1", "id", "http", None)) == {"lost": 5, "false absence": 1}
    told.append(operation("turn", 4, 30, parts=1, outcome="unknown", left=True))
    assert counts(told, final(read_of(told)[:-1])) == {"lost": 1}


def test_what_was_asked_to_be_deleted_is_not_lost() -> None:
    told = history()
    told.append(operation("delete", 4, 30, outcome="unknown"))
    assert counts(told, Final("s1", "id", "http", None)) == {}
    told[-1].outcome = "failed"
    assert counts(told, Final("s1", "id", "http", None)) == {"lost": 5, "false absence": 1}


def test_duplicated() -> None:
    told = history()
    whole = read_of(told)
    assert counts(told, final([*whole, whole[-1]])) == {"duplicated": 1}


def test_seen_twice_counts_once() -> None:
    told = history()
    whole = read_of(told)
    assert counts(told, final([*whole, whole[-1]]), final([*whole, whole[-1]])) == {"duplicated": 1}


def test_reordered_against_what_was_acknowledged() -> None:
    told = history()
    told.append(operation("append", 4, 15, parts=1, outcome="unknown"))
    (late,) = told[-1].marks()
    whole = read_of(told[:3])
    assert counts(told, final([*whole[:3], late, *whole[3:]])) == {"reordered": 2}, "both of the turn moved"
    assert counts(told, final(whole, first_seq=2)) == {"reordered": 6}, "all moved, and it does not begin with 1"


def test_a_seq_of_the_journal_may_move_forward_where_a_fail_over_took_back_what_nobody_was_told() -> None:
    told = [operation("start", 1, 0), operation("append", 2, 10, parts=1), operation("append", 3, 20, parts=1)]
    whole = read_of(told)
    told[2].first_seq = 4
    assert counts(told, final(whole)) == {"reordered": 1}
    told[2].attempts = [Attempt(20, 21, 201, is_degraded=True)]
    assert counts(told, final(whole)) == {}
    told[2].first_seq = 1
    assert counts(told, final(whole)) == {"reordered": 1}, "it never moves back"


def test_reordered_against_time() -> None:
    told = [operation("start", 1, 0), operation("append", 2, 10, parts=1), operation("append", 3, 20, parts=1)]
    first, second = (told[1].marks(), told[2].marks())
    assert counts(told, final([*first, *second])) == {}
    assert counts(told, final([*second, *first])) == {"reordered": 1}
    told[2].began = 10.5  # they overlap
    assert counts(told, final([*second, *first])) == {}


def test_torn() -> None:
    told = history()[:1]
    told.append(operation("append", 2, 10, parts=3, outcome="unknown"))
    told.append(operation("append", 3, 10, parts=1, outcome="unknown", client="c2"))
    told.append(operation("turn", 4, 10, parts=1, has_reply=True, outcome="unknown", client="c2"))
    one, two, three = told[1].marks()
    (other,) = told[2].marks()
    asked, reply = told[3].marks()
    told.append(operation("turn", 5, 10, parts=1, has_reply=True, outcome="unknown", client="c3"))
    mixed, mixed_reply = told[4].marks()
    for marks in ([one, two], [two, three], [one, three], [one, other, two, three]):
        assert counts(told, final(marks)) == {"torn": 1}, marks
    for marks in ([asked, mixed, reply], [reply], [reply, asked], [mixed, asked, mixed_reply, other]):
        assert counts(told, final(marks)) == {"torn": 1}, marks
    assert counts(told, final([asked, mixed, reply, mixed_reply])) == {"torn": 2}
    assert counts(told, final([asked, other, reply])) == {}, "an append is no turn"
    assert counts(told, final([one, two, three, asked, reply, other])) == {}
    assert counts(told, final([asked])) == {}
    window = Read((Seen(5, text_of(three)), Seen(6, text_of(other))), last=2)
    assert counts([*told, operation("get", 5, 30, seen=window)]) == {}
    window = Read((Seen(5, text_of(other)), Seen(6, text_of(three))), last=2)
    assert counts([*told, operation("get", 5, 30, seen=window)]) == {"torn": 1}


def test_foreign() -> None:
    told = history()
    whole = read_of(told)
    assert counts(told, final([*whole, Mark("s2", "c1", 2, 1, 1)])) == {"foreign": 1}
    assert counts(told, final([*whole, Mark("s1", "c1", 99, 1, 1)])) == {"foreign": 1}
    told.append(operation("stranger", 4, 30, seen=Read(())))
    assert counts(told, final(whole)) == {"foreign": 1}
    told.append(operation("turn", 5, 40, odd="the reply is another's"))
    assert counts(told, final(whole)) == {"foreign": 2}


def test_revived() -> None:
    told = [*history(), operation("delete", 4, 30)]
    whole = read_of(told)
    assert counts(told, final(whole)) == {"revived": 1}
    told.append(operation("append", 5, 40, parts=1, first_seq=6))
    told.append(operation("get", 6, 30.5, seen=final(whole).read))  # began before it was acknowledged
    assert counts(told, Final("s1", "id", "http", None)) == {"revived": 1}


def test_a_dropped_message_stays_dropped() -> None:
    told = history()
    whole = read_of(told)
    told.append(operation("drop", 4, 30, dropped=(whole[1],)))
    kept = zip((1, 3, 4, 5), (whole[0], *whole[2:]), strict=True)
    left = Final("s1", "id", "http", Read(tuple(Seen(seq, text_of(mark)) for seq, mark in kept)))
    assert counts(told, left) == {}
    assert counts(told, final(whole)) == {"revived": 1}
    told.append(operation("get", 5, 30.5, seen=final(whole).read))  # began before it was acknowledged
    told.append(operation("get", 6, 40, seen=left.read))
    assert counts(told, left) == {}
    told.append(operation("get", 7, 40, seen=final(whole).read))
    assert counts(told, left) == {"revived": 1}
    told[3].outcome = "unknown"
    assert counts(told, left) == counts(told, final(whole)) == {}
    told[3].outcome = "failed"
    assert counts(told[:4], left) == {"lost": 1, "reordered": 1, "torn": 1}
    told[3].outcome, told[1].outcome = "ok", "unknown"  # it may have landed late
    assert counts(told[:4], final(whole)) == {}


def test_false_absence() -> None:
    told = history()
    told.append(operation("get", 4, 30, status=404, slug="not-found", outcome="failed"))
    assert counts(told) == {"false absence": 1}
    told[-1] = operation("get", 4, 30, seen=Read(()))
    assert counts(told) == {"false absence": 5}
    told[-1] = operation("get", 4, 20.5, seen=final(read_of(told[:2])).read)  # the turn was not yet acknowledged
    assert counts(told) == {}
    told.append(operation("delete", 5, 40, status=404, slug="not-found"))
    assert counts(told) == {"false absence": 1}
    told[-1].attempts.insert(0, Attempt(40, 40.5, None))  # the first attempt has deleted it
    assert counts(told) == {}
    told.append(operation("get", 6, 50, status=404, slug="not-found", outcome="failed"))
    assert counts(told) == {}


def test_ghosts() -> None:
    told = history()
    told.append(operation("append", 4, 30, parts=2, outcome="failed", status=503, slug="unavailable"))
    assert counts(told, final(read_of(told))) == {"ghosts": 2}
    told = [operation("start", 1, 0, outcome="failed", status=503, slug="unavailable")]
    assert counts(told, final([])) == {"ghosts": 1}


def test_late() -> None:
    told = [operation("start", 1, 0, inside=5.1), operation("get", 2, 10, seen=Read(()))]
    assert counts(told) == {"late": 1}
    told.append(operation("get", 3, 20, status=None, detail="timeout", outcome="unknown", inside=None))
    assert counts(told) == {"late": 2}


def test_errors() -> None:
    told = history()
    told.append(operation("append", 4, 30, parts=1, outcome="unknown", status=500))
    told.append(operation("append", 5, 40, parts=1, outcome="failed", status=422, slug="invalid"))
    assert counts(told, Final("s1", "id", "http", None, problem="503")) == {"errors": 3}


def test_a_turn_keeps_one_seq_for_its_reply_and_no_more() -> None:
    told = [
        operation("start", 1, 0),
        operation("turn", 2, 10, parts=1, has_reply=True, first_seq=1),
        operation("append", 3, 10, parts=1, first_seq=3),
    ]
    message, reply, between = read_of(told)
    for seqs, found in (((1, 3, 4), {}), ((1, 4, 5), {"reordered": 2}), ((1, 3, 5), {"reordered": 1})):
        marks = zip(seqs, (message, between, reply), strict=True)
        seen = tuple(Seen(seq, text_of(mark)) for seq, mark in marks)
        assert counts(told, Final("s1", "id", "http", Read(seen))) == found
