"""Releases: an sdist and a wheel that are complete, and work far from a checkout, with each extra.

Packages come from the package index that pip is set up for, under its constraints (``PIP_CONSTRAINT``), as they would for a
user. Without an index the tests are skipped.
"""

from __future__ import annotations

import configparser
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import flask_convstore

from ..processes import servers, supervisors, wait_for
from ..project.test_docs import PYTHON

ROOT = Path(__file__).parents[2]

APP = """
import importlib, os, pkgutil, sys
import flask_convstore
from flask import Flask
from flask_convstore import ConfigurationError, ConversationStore

assert flask_convstore.__file__.startswith(sys.prefix)
for module in pkgutil.iter_modules(flask_convstore.__path__):
    if module.name != "pytest_plugin":
        importlib.import_module(f"flask_convstore.{{module.name}}")

os.environ["CONVSTORE_URL"] = {url!r}
{code}
client = app.test_client()
{then}
"""
"""The complete app of the README, and every module."""

EXTRAS = {
    "": """
assert "the extra [openapi] of flask-convstore" in client.get("/sessions/openapi.json").json["detail"]
app = Flask("embedded")
app.config["CONVSTORE_URL"] = "embedded:///nowhere"
try:
    ConversationStore(app)
except ConfigurationError as error:
    assert "the extra [embedded] of flask-convstore" in str(error)
else:
    raise AssertionError("there is a server")
for setting, extra in (("METRICS", "metrics"), ("TRACING", "tracing")):
    try:
        app = Flask(extra)
        app.config[f"CONVSTORE_{setting}"] = True
        ConversationStore(app)
    except ConfigurationError as error:
        assert f"the extra [{extra}] of flask-convstore" in str(error)
    else:
        raise AssertionError(f"{extra} needs nothing")
""",
    "embedded": """
with app.app_context():
    assert convstore.health().server == "valkey"
""",
    "openapi": """
assert "/sessions" in client.get("/sessions/openapi.json").json["paths"]
""",
    "metrics": """
app = Flask("metered")
app.config["CONVSTORE_METRICS"] = True
app.register_blueprint(ConversationStore(app).blueprint)
assert 'convstore_up{store="convstore"} 1.0' in app.test_client().get("/sessions/metrics").text
""",
    "tracing": """
app = Flask("traced")
app.config["CONVSTORE_TRACING"] = True
app.register_blueprint(ConversationStore(app).blueprint)
assert app.test_client().post("/sessions", json={}).status_code == 201
""",
}
"""Extras, each with code that needs it. Without an extra an error names it."""

FOR_A_CHECKOUT = {"mutate", "examples", "docs", "test", "lint"}
"""Extras for a checkout only. make installs them."""


def run(*command: str | Path, cwd: Path) -> None:
    done = subprocess.run(command, check=False, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what ``python -m build`` makes: an sdist, and a wheel from it."""
    ask = [sys.executable, "-m", "pip", "index", "versions", "--retries", "0", "--timeout", "20", "setuptools"]
    asked = subprocess.run(ask, check=False, capture_output=True, text=True)
    if asked.returncode:
        pytest.skip(f"the package index cannot be reached: {asked.stderr.strip().splitlines()[-1]}")
    folder = tmp_path_factory.mktemp("packaging")
    others = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "site")
    shutil.copytree(ROOT, folder / "source", ignore=others)  # building leaves things behind, and uses what it finds
    run(sys.executable, "-m", "build", "--outdir", "dist", "source", cwd=folder)
    return folder / "dist"


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    [wheel] = dist.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def sdist(dist: Path) -> Path:
    [sdist] = dist.glob("*.tar.gz")
    return sdist


def in_wheel(wheel: Path) -> dict[str, bytes]:
    """Files of a wheel, by name."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def python_with(folder: Path, *requirements: str) -> Path:
    """The Python of a new environment that has nothing but *requirements* and what they need."""
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    run(sys.executable, "-m", "pip", "--python", python, "install", "--quiet", *requirements, cwd=folder)
    return python


@pytest.mark.slow
def test_the_wheel_is_the_package_and_nothing_else(wheel: Path) -> None:
    """Lua scripts and py.typed are there, tests are not."""
    package = {
        path.relative_to(ROOT).as_posix(): path.read_bytes()
        for path in (ROOT / "flask_convstore").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "flask_convstore/py.typed" in package
    assert "flask_convstore/stores/redis/lua/append.lua" in package
    held = in_wheel(wheel)
    about = {name.partition(".dist-info/")[2] for name in held.keys() - package.keys()}
    assert {name: held.get(name) for name in package} == package
    assert about == {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}


@pytest.mark.slow
def test_the_sdist_has_no_half_of_the_tests_and_builds_the_wheel_of_the_checkout(
    dist: Path, sdist: Path, wheel: Path
) -> None:
    """``python -m build`` makes its wheel from the sdist: what that forgot would be missing."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml", "setup.cfg"} <= names
    assert not {name for name in names if name.startswith("tests")}
    run(sys.executable, "-m", "build", "--wheel", "--outdir", "direct", "source", cwd=dist.parent)
    assert in_wheel(dist.parent / "direct" / wheel.name) == in_wheel(wheel)


@pytest.mark.slow
def test_the_version_is_that_of_the_code(wheel: Path) -> None:
    assert wheel.name.startswith(f"flask_convstore-{flask_convstore.__version__}-")


@pytest.mark.slow
@pytest.mark.parametrize("extra", EXTRAS)
def test_the_wheel_serves_the_app_of_the_readme(extra: str, wheel: Path, tmp_path: Path) -> None:
    python = python_with(tmp_path / "environment", f"{wheel}[{extra}]" if extra else str(wheel))
    data = tmp_path / "data"
    url = f"embedded://{data}?idle=0.3" if extra == "embedded" else "memory://"
    block = next(block for block in PYTHON if block.page == "README.md")
    app = APP.format(url=url, code=block.code, then=block.notes["then"])
    (tmp_path / "app.py").write_text(app + EXTRAS[extra], "utf-8")
    run(python, "-I", "-W", "error", "app.py", cwd=tmp_path)
    wait_for(lambda: not servers(data) and not supervisors(data), "a process is left behind")


@pytest.mark.slow
def test_the_wheel_brings_the_fixtures(wheel: Path, tmp_path: Path) -> None:
    """pytest finds them by the entry point of the wheel."""
    python = python_with(tmp_path / "environment", f"{wheel}[embedded]", "pytest")
    (tmp_path / "test_app.py").write_text(
        "import os\n\n\n"
        "def test_app(convstore_memory, convstore_valkey):\n"
        "    assert convstore_memory == 'memory://'\n"
        "    assert os.environ['CONVSTORE_URL'] == convstore_valkey\n",
        "utf-8",
    )
    run(python, "-I", "-W", "error", "-m", "pytest", "--basetemp", "data", "test_app.py", cwd=tmp_path)


@pytest.mark.slow
def test_the_wheel_brings_the_commands(wheel: Path, tmp_path: Path) -> None:
    """Flask finds them by the entry point of the wheel. Without an app they are the package's own."""
    python = python_with(tmp_path / "environment", str(wheel))
    (tmp_path / "site_app.py").write_text(
        "from flask import Flask\nfrom flask_convstore import ConversationStore\n\n"
        "app = Flask(__name__)\napp.config['CONVSTORE_URL'] = 'memory://'\nConversationStore(app)\n",
        "utf-8",
    )
    run(python, "-I", "-W", "error", "-m", "flask", "--app", "site_app", "convstore", "ls", cwd=tmp_path)
    run(python, "-I", "-W", "error", "-m", "flask_convstore", "--url", "memory://", "stats", cwd=tmp_path)


@pytest.mark.server
def test_make_demo_installs_what_the_demo_needs(wheel: Path, tmp_path: Path) -> None:
    """The demo's own environment: the extras that the Makefile names are enough to load the chat."""
    makefile = (ROOT / "Makefile").read_text("utf-8")
    [extras] = re.findall(r"^\t\$\(VENV\)-demo/bin/pip install .* '\.\[([\w,]+)\]'$", makefile, re.MULTILINE)
    python = python_with(tmp_path / "environment", f"{wheel}[{extras}]")
    gunicorn = [str(python), "-W", "error", "-m", "gunicorn", "--check-config", "-c", "examples/gunicorn.py"]
    environment = {**os.environ, "CONVSTORE_URL": f"embedded://{tmp_path}/data", "PYTHONPATH": ""}
    command = [*gunicorn, "examples.chat.app:create_app()"]
    done = subprocess.run(command, check=False, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


# ---- what setup.cfg says

SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
REQUIRED = {"": SETUP["options"]["install_requires"], **SETUP["options.extras_require"]}
"""Requirements by extra."""


def bounds(*extras: str) -> dict[str, tuple[str, str]]:
    """Requirements of *extras*: the lowest version, and the one that is too new, or nothing."""
    found: dict[str, tuple[str, str]] = {}
    for requirement in (Requirement(line) for extra in extras for line in REQUIRED[extra].split("\n") if line):
        said = {one.operator: one.version for one in requirement.specifier}
        assert said.keys() <= {">=", "<"}, requirement
        bound = (said[">="], said.get("<", ""))
        assert found.setdefault(requirement.name, bound) == bound, requirement
    return found


def test_every_extra_is_tried() -> None:
    assert REQUIRED.keys() == EXTRAS.keys() | FOR_A_CHECKOUT


def test_the_workflow_tries_every_python_that_is_named() -> None:
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    tried = re.findall(r'"(3\.\d+)"', workflow)
    named = re.findall(r"^Programming Language :: Python :: (3\.\d+)$", SETUP["metadata"]["classifiers"], re.MULTILINE)
    assert set(named) <= set(tried)
    assert tried[0] == SETUP["options"]["python_requires"].removeprefix(">=")


def test_make_test_lowest_tries_the_lower_bounds() -> None:
    tried = re.findall(r"^([\w-]+)==([\w.]+)$", (ROOT / "constraints" / "lowest.txt").read_text("utf-8"), re.MULTILINE)
    said = {name: lowest for name, (lowest, _) in bounds(*REQUIRED).items()}
    assert {name: Version(version) for name, version in tried} == {name: Version(said[name]) for name in said}


def test_the_docs_name_the_bounds() -> None:
    page = (ROOT / "docs" / "versions.md").read_text("utf-8")
    rows = re.findall(
        r"^\| ([\w-]+)(?:, with `flask-convstore\[\w+\]`)? \| ([\d.]+) \| ([\d.]*) ?\|$", page, re.MULTILINE
    )
    python = SETUP["options"]["python_requires"].removeprefix(">=")
    assert {name: (lowest, too_new) for name, lowest, too_new in rows} == {"Python": (python, ""), **bounds(*EXTRAS)}
