"""The tree of errors in the docstring is the tree of classes, and each limit has one sentence."""

from __future__ import annotations

import copy
import pickle
import re

from flask_convstore import errors
from flask_convstore.errors import ConvstoreError
from flask_convstore.operations.replies import TurnEnded


def drawn() -> dict[str, str]:
    """The base of each class in the drawing."""
    assert errors.__doc__
    path: list[str] = []
    bases = {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"((?:│   |    )*)(?:├── |└── )(\w+)", line)
        if found:
            depth = len(found[1]) // 4 + 1
            path[depth:] = [found[2]]
            bases[found[2]] = path[depth - 1]
        elif line == "ConvstoreError":
            path = [line]
    return bases


def test_the_drawing_is_the_tree() -> None:
    classes = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ConvstoreError)]
    bases = {kind.__name__: kind.__mro__[1].__name__ for kind in [*classes, TurnEnded] if kind is not ConvstoreError}
    assert drawn() == bases


def test_an_error_can_be_copied_and_sent_to_another_process() -> None:
    made: list[ConvstoreError] = [
        errors.StoreUnavailable("no answer", written=None, is_down=True),
        errors.TurnInProgress("s", 12, is_stored=True),
        errors.ConflictError("s", "version", expected=1, actual=2),
        errors.MessageNotFound("s", "q-7"),
        errors.message_too_large(10, 12, "messages[1]"),
        errors.ReplyFailed("s", "the handler failed"),
    ]
    for error in made:
        for again in (copy.copy(error), pickle.loads(pickle.dumps(error))):
            assert type(again) is type(error)
            assert (str(again), again.facts(), vars(again)) == (str(error), error.facts(), vars(error))
            assert (again.written, again.retry_after_ms) == (error.written, error.retry_after_ms)


def test_a_limit_tells_what_is_allowed_and_what_was_given() -> None:
    made = [
        errors.too_many_messages(10, 12),
        errors.too_many_fields(10, 12),
        errors.data_too_large(10, 12),
        errors.stored_data_too_large(10, 12),
        errors.session_too_large(10, 12),
        errors.message_too_large(10, 12, "messages[1]"),
        errors.body_too_large(10, 12),
    ]
    assert len({str(error) for error in made}) == len(made)
    for error in made:
        assert error.facts() == {"limit": 10, "size": 12}
        assert "12" in str(error)
        assert "10" in str(error)
        assert "nothing was written" in str(error).lower()
    assert made[5].path == "messages[1]"


def test_a_key_that_a_client_has_chosen_forges_no_line_of_a_log() -> None:
    error = errors.InvalidInput("it is wrong", "data.x\nERROR all is lost")
    assert str(error) == r"data.x\nERROR all is lost: it is wrong"
    assert error.path == "data.x\nERROR all is lost"
