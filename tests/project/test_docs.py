"""README and docs say what is true: their code runs, and what they name exists.

Every Python block runs, in memory and on a real Valkey. It has ``app``, a ``convstore`` on it unless it makes its own, all
that ``flask_convstore`` exports, ``llm``, and a few names of Flask's. HTML comments, which no reader sees, tell more:

    <!-- given: … -->      before a block: statements that it relies on
    <!-- continues -->     before a block: it goes on where the block before has ended
    <!-- not run: why -->  before a block: it is compiled only
    <!-- then: … -->       behind a block: statements about its effect, with ``client``, the app's test client

Every diff that is marked ``<!-- same: … -->`` is run as it was before and as it is after. That code calls ``post``, ``get``
and ``delete``, and the answers must be the same. A diff too says ``not run`` otherwise.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import re
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flask
import pytest
from blinker import NamedSignal
from flask import Flask

import flask_convstore
from flask_convstore import ConversationStore, errors, signals
from flask_convstore.config import Settings
from flask_convstore.http.routes import ENDPOINTS

from ..conftest import check_lifetimes
from ..servers import Server, programs, running

ROOT = Path(__file__).parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))]
TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text("utf-8") for page in PAGES}

BLOCK = re.compile(
    r"(?P<before>(?:^ *<!--(?:(?!-->).)*-->\n\s*)*)"
    r"^(?P<indent> *)```(?P<language>[^\n]*)\n(?P<code>.*?)^(?P=indent)```$"
    r"(?P<after>(?:\n+ *<!-- (?:then|same):(?:(?!-->).)*-->)?)",
    re.MULTILINE | re.DOTALL,
)
COMMENT = re.compile(r"<!-- (given|continues|not run|same|then):? ?(.*?) ?-->", re.DOTALL)
MADE = re.compile(
    r"^<!-- (?:made of .*|end|/?(?:bench|layers|streaming|followers|others|measured|assumed|plan|cluster)) -->$",
    re.MULTILINE,
)
"""Marks of what a program writes."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and what is said about it in comments."""

    page: str
    line: int
    language: str
    code: str
    notes: dict[str, str]

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    def compiled(self, code: str) -> Any:
        """Its code as code whose lines are those of the page."""
        return compile("\n" * self.line + code, self.page, "exec", dont_inherit=True)


def blocks_of(page: str) -> Iterator[Block]:
    text = TEXTS[page]
    for found in BLOCK.finditer(text):
        notes = {kind: textwrap.dedent(said) for kind, said in COMMENT.findall(found["before"] + found["after"])}
        line = text.count("\n", 0, found.start("code"))
        yield Block(page, line, found["language"].strip(), textwrap.dedent(found["code"]), notes)


BLOCKS = [block for page in TEXTS for block in blocks_of(page)]
PYTHON = [block for block in BLOCKS if block.language == "python"]
DIFFS = [block for block in BLOCKS if block.language == "diff"]
CHAINS = [
    [block, *itertools.takewhile(lambda later: "continues" in later.notes, PYTHON[number + 1 :])]
    for number, block in enumerate(PYTHON)
    if "continues" not in block.notes and "not run" not in block.notes
]
"""Blocks that are run one after the other."""


def llm(history: list[Any]) -> str:
    return f"reply to {len(history)}"


def names(url: str) -> dict[str, Any]:
    """Names that the code of a page finds."""
    app = Flask("docs")
    app.config.update(CONVSTORE_URL=url, SECRET_KEY="docs")
    given = {name: getattr(flask_convstore, name) for name in flask_convstore.__all__}
    given.update({name: getattr(flask, name) for name in ("Flask", "abort", "g", "request", "session", "url_for")})
    return {**given, "__name__": __name__, "app": app, "llm": llm}


def run(chain: list[Block], url: str) -> None:
    known = names(url)
    own_app = known["app"]
    if not any("ConversationStore(" in block.code for block in chain):
        known["convstore"] = ConversationStore(own_app)
    for block in chain:
        with own_app.app_context():
            exec(block.notes.get("given", ""), known)
            exec(block.compiled(block.code), known)
        known["client"] = known["app"].test_client()
        exec(block.notes.get("then", ""), known)


@pytest.mark.parametrize("chain", CHAINS, ids=lambda chain: str(chain[0]))
def test_every_python_block_runs(chain: list[Block], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CONVSTORE_URL", url)
    run(chain, url)


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # it is what people write
@pytest.mark.parametrize("diff", [one for one in DIFFS if "same" in one.notes], ids=str)
def test_every_diff_answers_the_same_before_and_after(
    diff: Block, valkey: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", valkey.url)
    answers = []
    for kept in "-+":
        code = "".join(line[1:] or "\n" for line in diff.code.splitlines(keepends=True) if line[0] in (kept, " ", "\n"))
        known = names(valkey.url)
        exec(diff.notes.get("given", ""), known)
        exec(diff.compiled(code), known)
        answers.append(asked(known, diff.notes["same"]))
        if kept == "-":
            valkey.client.flushall()  # what is written by hand may live for ever
    check_lifetimes(valkey.client)
    assert answers[0] == answers[1]
    assert all(status < 400 for status, _ in answers[1])


def asked(known: dict[str, Any], code: str) -> list[tuple[int, Any]]:
    """Answers of the app in *known* to the requests in *code*."""
    client = known["app"].test_client()
    answers: list[tuple[int, Any]] = []

    def asking(method: str) -> Any:
        def ask(path: str, **body: Any) -> Any:
            answer = client.open(path, method=method, json=body or None)
            answers.append((answer.status_code, answer.json))
            return answer.json

        return ask

    exec(code, {method: asking(method) for method in ("post", "get", "delete")})
    assert answers
    return answers


def test_no_block_is_left_out_silently() -> None:
    assert {block.language for block in BLOCKS} <= {"python", "diff", "js", "mermaid", "text", ""}, (
        "a language that nobody looks after"
    )
    for block in (*PYTHON, *DIFFS):
        known = [kind for kind in ("not run", "same", "continues") if kind in block.notes]
        assert block.language == "python" or known in (["same"], ["not run"]), f"{block}: it says neither"
        assert block.notes.get("not run") != "", f"{block}: it does not say why it is not run"
        if block.language == "python":
            block.compiled(block.code)
    assert sum(text.count("```") for text in TEXTS.values()) == 2 * len(BLOCKS), "a block that is not understood"
    for page, text in TEXTS.items():
        told = sum(len(block.notes) for block in BLOCKS if block.page == page)
        told += len(MADE.findall(text))
        assert text.count("<!--") == told, f"{page}: a comment that is not understood, or belongs to no block"
    run_blocks = [block for chain in CHAINS for block in chain]
    assert run_blocks == [block for block in PYTHON if "not run" not in block.notes]


# ---- what is named exists


@pytest.mark.parametrize("page", TEXTS)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if not re.match(r"https?:|mailto:|#", target):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", TEXTS)
def test_every_file_and_test_that_is_named_exists(page: str) -> None:
    inline = re.findall(r"(?<!`)`([^`\n]+)`(?!`)", TEXTS[page])
    for word in (word for one in inline for word in one.split()):
        path, _, test = word.strip(",").partition("::")
        if re.fullmatch(r"(tests|examples|docs|benchmarks|flask_convstore)/[\w./*-]+", path):
            assert list(ROOT.glob(path)), word
            if test:
                assert re.search(rf"^def {test}\b", (ROOT / path).read_text("utf-8"), re.MULTILINE), word
        elif re.fullmatch(r"[\w/]+\.(py|lua)", path) and path not in ("app.py", "chat.py"):
            assert list(ROOT.glob(f"[a-z]*/**/{path}")), word


@pytest.mark.parametrize("page", TEXTS)
def test_every_setting_that_is_named_exists(page: str) -> None:
    declared = {f"CONVSTORE_{setting.name.upper()}" for setting in dataclasses.fields(Settings)}
    assert set(re.findall(r"\bCONVSTORE_[A-Z_]+\b", TEXTS[page])) <= declared


@pytest.mark.parametrize("page", TEXTS)
def test_every_command_that_is_named_exists(page: str) -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for target in set(re.findall(r"(?:`|^)make ([\w-]+)", TEXTS[page], re.MULTILINE)):
        assert re.search(rf"^(?:[\w-]+ )*{target}(?: [\w-]+)*:", makefile, re.MULTILINE), target
    for module in set(re.findall(r"python -m ([\w.]+)", TEXTS[page])):
        assert importlib.util.find_spec(module), module
    for name in set(re.findall(r"`convstore\.([a-z]\w*)", TEXTS[page])):
        assert hasattr(ConversationStore, name) or name in ENDPOINTS, name
    for name in set(re.findall(r"\b_?ConversationStore\.(\w+)", TEXTS[page])):
        assert hasattr(ConversationStore, name), name


# ---- plain English


def prose(page: str) -> str:
    """A page without its code, and without rows and tables that programs write."""
    text = re.sub(
        r"<!-- (made of|bench|layers|streaming|followers|others|measured|assumed|plan|cluster)\b.*?<!-- (end|/\w+) -->",
        "",
        TEXTS[page],
        flags=re.DOTALL,
    )
    text = re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    if page == "docs/chaos.md":
        text = re.sub(r"^\| world \| single.*?(?=^## )", "", text, flags=re.DOTALL | re.MULTILINE)
    if page == "docs/settings.md":
        text = re.sub(r"^\| `.*\n", "", text, flags=re.MULTILINE)
    if page == "docs/mutation.md":
        text = re.sub(r"^- `.*\n", "", text, flags=re.MULTILINE)
    return re.sub(r"`[^`\n]+`", "code", text)


@pytest.mark.parametrize("page", TEXTS)
def test_a_page_is_in_plain_english(page: str) -> None:
    """Only a part of plain English can be checked: no semicolons, and no sentence whose subject is a clause."""
    text = prose(page)
    assert ";" not in text, re.findall(r"^.*;.*$", text, re.MULTILINE)
    sentences = re.split(r"(?<=[.!?])\s+|\n\s*\n|\|", text)
    clauses = re.compile(r"(?:[-*]\s+)?(?:What|Who|Whose|Whoever|Whatever|Whether)\b")
    found = [sentence for sentence in map(str.strip, sentences) if clauses.match(sentence) and sentence[-1] != "?"]
    assert not found


@pytest.mark.parametrize("page", TEXTS)
def test_no_page_installs_from_an_index_that_lacks_the_package(page: str) -> None:
    assert not re.search(r"pip install '?flask-convstore(?!\S* @ )", TEXTS[page])


# ---- the pages together


def test_every_page_stands_in_the_navigation() -> None:
    lines = (ROOT / "mkdocs.yml").read_text("utf-8").splitlines()
    named = [found[1] for line in lines if (found := re.fullmatch(r" +- [^#]+: ([\w-]+\.md)", line))]
    assert sorted(named) == sorted(page.name for page in PAGES if page.parent == ROOT / "docs"), "mkdocs.yml: nav"


def test_the_search_works_on_pages_from_the_disk() -> None:
    """A browser starts no Worker from file://. A script of ours stands in, and the theme fetches none from another host."""
    settings = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert re.search(r"^plugins:\n  - search\n  - offline\b", settings, re.MULTILINE)
    [script] = re.findall(r"^  polyfills:\n    - (\S*iframe-worker\S*)", settings, re.MULTILINE)
    assert (ROOT / "docs" / script).exists()


def test_the_picture_shows_the_layers_of_the_contract() -> None:
    """The wings of docs/architecture.md, and their order, are those that import-linter checks."""
    [picture] = [block.code for block in BLOCKS if block.language == "mermaid"]
    nodes = re.findall(r'^ +(\w+)\["(.+?)<br>.+"\]$', picture, re.MULTILINE)
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["importlinter"]["contracts"]
    [wings] = [contract for contract in contracts if contract["id"] == "wings"]
    shown = [sorted(names.split(", ")) for _, names in nodes]
    assert shown == [sorted(layer.split(" | ")) for layer in wings["layers"]]
    assert picture.splitlines()[-1].strip() == " --> ".join(node for node, _ in nodes)


def test_the_reference_has_every_name() -> None:
    reference = TEXTS["docs/reference.md"]
    assert set(re.findall(r"^::: flask_convstore\.([\w.]+)", reference, re.MULTILINE)) == {
        *flask_convstore.__all__,
        "signals",
    }
    assert errors.__doc__ is not None
    assert errors.__doc__.partition("\n\n")[2].strip() in reference
    sent = {name for name, value in vars(signals).items() if isinstance(value, NamedSignal)}
    assert signals.__doc__ is not None
    assert set(re.findall(r"^\| (\w+) +\|", signals.__doc__, re.MULTILINE)) - {"signal"} == sent


def test_pages_are_short() -> None:
    for page in (
        "index",
        "quickstart",
        "migration",
        "streaming",
        "events",
        "promises",
        "security",
        "architecture",
        "comparison",
    ):
        assert len(TEXTS[f"docs/{page}.md"].splitlines()) <= 120, page


@pytest.mark.parametrize("kind", sorted(programs()))
def test_the_permissions_are_enough(kind: str) -> None:
    """docs/security.md names the permissions that a server has to give. Nothing needs more."""
    [rule] = re.findall(r"^ACL SETUSER convstore (.*)$", TEXTS["docs/security.md"], re.MULTILINE)
    with running(kind) as server:
        told: Any = server.client.execute_command
        told("ACL", "SETUSER", "convstore", *rule.split())
        password = rule.partition(">")[2].split()[0]
        do_everything(f"redis://convstore:{password}@{server.host}:{server.port}/0")
        assert told("ACL", "LOG") == []
        for command in (("FLUSHALL",), ("KEYS", "*"), ("CONFIG", "GET", "*"), ("GET", "another:key")):
            assert b"no permissions" in told("ACL", "DRYRUN", "convstore", *command)


def do_everything(url: str) -> None:
    app = Flask("docs")
    app.config.update(CONVSTORE_URL=url, CONVSTORE_FALLBACK="none", CONVSTORE_MAX_TURNS_PER_MINUTE=100)
    app.config.update(CONVSTORE_FIGURES=True)
    store = ConversationStore(app)
    store.reply(lambda turn: "hello")
    app.register_blueprint(store.blueprint)
    hi = {"role": "user", "content": "hi"}
    with app.app_context():
        store.save_session("a", {"history": [hi, hi], "n": 1}, owner="ada")
        store.append("a", hi, data={"complete": True}, owner="ada")
        with store.turn("a", hi, owner="ada") as turn:
            turn.reply("hello")
        with store.turn("a", hi, owner="ada") as turn:
            streamed = turn.stream(iter(["a", "b"]))
        assert streamed.wait()
        assert streamed.is_resumable
        assert store.follow_reply("a", streamed.id, owner="ada").wait()  # type: ignore[union-attr]
        store.stop_reply("a", streamed.id, owner="ada")
        next(store.subscribe("a", owner="ada"))
        session: Any = store.get_session("a", owner="ada")
        session.pop("n")
        store.save_session("a", session, owner="ada")
        store.update_session("a", {"m": 1}, title="a title", ttl=60, owner="ada")
        store.edit_message("a", 1, hi, owner="ada")
        store.redact_message("a", 1, owner="ada")
        store.messages("a", owner="ada")
        store.share("a", "bob", owner="ada")
        store.unshare("a", "bob", owner="ada")
        store.link("telegram:1", "a", owner="ada")
        store.resolve("telegram:2", create=True, owner="ada")
        store.clear("telegram:2", owner="ada")
        store.fork("a", owner="ada")
        store.compact("a", "a summary", keep=1, owner="ada")
        store.set_current_session("a", owner="ada")
        store.current_session(owner="ada")
        store.usage(owner="ada")
        everything = [one for one in store.export_owner(owner="ada") if "session_id" in one]
        store.delete_owner(owner="ada")
        store.import_sessions(everything, owner="ada")
        store.rotate_id(everything[0]["session_id"], new_owner="eve", owner="ada")
        store.list_sessions()
        store.figures()
        store.figures("eve")
        store.save_message("ada", "user", "hi")
        store.get_conversation("ada")
        store.clear_conversation("ada")
        notes = store.mapping("notes", default=list)
        notes["a"] = [1]
        assert list(notes) == ["a"]
        notes.clear(confirm=True)
        assert store.health().server
    client = app.test_client()
    started = client.post("/sessions", json={"message": {"content": "hi"}}, headers={"Accept": "text/event-stream"})
    assert "event: done" in started.text
    assert client.delete(started.headers["Location"]).status_code == 200
    with app.app_context():
        store.timeline()  # sends what was counted
        store.close()


def test_the_counts_of_the_promises_are_zero() -> None:
    told = re.findall(r"^- \*\*Chaos\.\*\*(.*)$", TEXTS["docs/promises.md"], re.MULTILINE)
    assert len(told) == 9
    counts = set(re.findall(r"\*([a-z ]+)\*", "\n".join(told)))
    rows = dict(re.findall(r"^\| \*\*([a-z ]+)\*\* \| (.*) \|$", TEXTS["docs/chaos.md"], re.MULTILINE))
    assert counts == rows.keys()
    assert {cell for row in rows.values() for cell in row.split(" | ")} == {"**0**"}
