"""Which services a change of their code concerns, with real files."""

from __future__ import annotations

import queue
import threading
from pathlib import Path

import pytest

from local_runtime.manifests import read_manifests
from local_runtime.reload import Reloader, find_code, find_problem, is_code
from shared.errors import BadConfig
from tests.functions import ROOT
from tests.waiting import wait_until

NAMES = {
    "upload": (Path("functions/upload"), Path("shared")),
    "query": (Path("functions/query"), Path("shared")),
    "collect": (Path("functions/collect"), Path("shared")),
    "queue-source": (Path("functions/collect"), Path("shared")),
}
ALL = frozenset(NAMES)
COLLECT = frozenset({"collect", "queue-source"})


@pytest.fixture
def code(tmp_path):
    """The code of a project, and a function that writes into it."""
    root = tmp_path / "project"
    for folder in ("functions/upload", "functions/query/live", "functions/collect", "shared/http", "docs"):
        (root / folder).mkdir(parents=True)

    def write(path, text="x = 1\n"):
        (root / path).write_text(text)
        return root / path

    for path in ("functions/upload/main.py", "functions/query/main.py", "shared/keys.py"):
        write(path)
    write.root = root
    return write


@pytest.fixture
def reports(code):
    """What is reported, one after the other."""
    told = queue.Queue()
    reloader = Reloader(code.root, NAMES, lambda names, problem: told.put((names, problem)))
    reloader.start()
    yield told
    reloader.stop()


def settle(code, reports):
    """Wait until everything that was changed before has been reported; returns it."""
    code("functions/upload/settled.py", f"x = {threading.get_ident()}, {id(object())}, {reports.qsize()}\n")
    told = [reports.get(timeout=10)]
    while told[-1] != ({"upload"}, ""):
        told.append(reports.get(timeout=10))
    (code.root / "functions/upload/settled.py").unlink()
    assert reports.get(timeout=10) == ({"upload"}, "")
    return told[:-1]


@pytest.mark.parametrize(
    ("path", "concerned"),
    [
        ("functions/upload/main.py", {"upload"}),
        ("functions/query/live/new.py", {"query"}),
        ("functions/collect/main.py", COLLECT),
        ("shared/http/route.py", ALL),
    ],
)
def test_a_change_concerns_whoever_has_the_code(code, reports, path, concerned):
    code(path, "x = 2\n")
    assert reports.get(timeout=10) == (concerned, "")


def test_changes_that_come_together_are_reported_together(code, reports):
    code("functions/upload/main.py", "x = 2\n")
    code("functions/query/main.py", "x = 2\n")
    code("functions/upload/other.py")
    assert reports.get(timeout=10) == ({"upload", "query"}, "")
    assert reports.empty()


def test_what_is_no_code_is_not_reported(code, reports):
    (code.root / "functions/query/__pycache__").mkdir()
    for path in (
        "functions/query/__pycache__/main.cpython-311.pyc",
        "functions/query/__pycache__/main.py",
        "functions/query/.#main.py",
        "functions/query/#main.py#",
        "functions/query/main.py~",
        "functions/query/.main.py.swp",
        "functions/query/4913",
        "functions/query/page.html",
        "docs/example.py",
    ):
        code(path, "y = 3\n")
    assert settle(code, reports) == []


def test_an_editor_that_writes_another_file_and_renames_it(code, reports):
    temporary = code("functions/query/.main.py.tmp", "x = 5\n")
    temporary.rename(code.root / "functions/query/main.py")
    assert reports.get(timeout=10) == ({"query"}, "")


def test_a_module_that_is_removed_or_moved(code, reports):
    (code.root / "functions/query/main.py").unlink()
    assert reports.get(timeout=10) == ({"query"}, "")
    (code.root / "functions/upload/main.py").rename(code.root / "functions/collect/main.py")
    # That it has gone is known a moment later than that it has come.
    told = [reports.get(timeout=10), reports.get(timeout=10)]
    assert told == [(COLLECT, ""), ({"upload"}, "")]


def test_a_folder_that_is_new(code, reports):
    (code.root / "functions/query/graph").mkdir()
    code("functions/query/graph/schema.py")
    assert reports.get(timeout=10) == ({"query"}, "")
    code("functions/query/graph/schema.py", "x = 2\n")
    assert reports.get(timeout=10) == ({"query"}, "")


def test_code_that_cannot_be_compiled_is_told_and_held_back_until_it_is_mended(code, reports):
    code("functions/query/main.py", "x = 1\ndef f(:\n")
    names, problem = reports.get(timeout=10)
    assert names == {"query"}
    assert problem.startswith("functions/query/main.py, line 2: ")
    # Meanwhile the others are restarted, and query not ...
    code("shared/keys.py", "x = 2\n")
    assert reports.get(timeout=10) == (ALL - {"query"}, "")
    # ... before it can be.
    code("functions/query/main.py", "x = 3\n")
    assert reports.get(timeout=10) == ({"query"}, "")
    assert settle(code, reports) == []


def test_a_mistake_in_what_all_share_holds_all_back(code, reports):
    code("shared/keys.py", "if:\n")
    names, problem = reports.get(timeout=10)
    assert (names, problem[:22]) == (ALL, "shared/keys.py, line 1")
    code("functions/upload/main.py", "x = 9\n")
    (code.root / "shared/keys.py").unlink()
    assert reports.get(timeout=10) == (ALL, "")


def test_another_mistake_is_told_too(code, reports):
    code("functions/query/main.py", "if:\n")
    assert ", line 1: " in reports.get(timeout=10)[1]
    code("functions/query/main.py", "x = 1\nif:\n")
    assert ", line 2: " in reports.get(timeout=10)[1]


def test_nothing_is_reported_once_stopped(code):
    told = queue.Queue()
    before = {t.name for t in threading.enumerate()}
    reloader = Reloader(code.root, NAMES, lambda names, problem: told.put((names, problem)))
    reloader.start()
    code("functions/query/main.py", "x = 7\n")
    reloader.stop()
    wait_until(lambda: {t.name for t in threading.enumerate()} <= before)
    assert told.empty()
    reloader.stop()


def test_without_code_there_is_nothing_to_watch(tmp_path):
    with pytest.raises(BadConfig, match="--reload"):
        Reloader(tmp_path, NAMES, lambda *_: None).start()


@pytest.mark.parametrize(
    ("text", "said"),
    [("x = 1\n", ""), ("x = (\n", "line 1"), ("x = '\0'\n", "null bytes"), ("x = 'ä'\n", "")],
)
def test_what_is_wrong_with_a_file(tmp_path, text, said):
    path = tmp_path / "module.py"
    path.write_text(text)
    assert said in find_problem(path, tmp_path)
    assert find_problem(tmp_path / "gone.py", tmp_path) == ""


def test_bytes_that_are_no_text_are_a_mistake(tmp_path):
    path = tmp_path / "module.py"
    path.write_bytes(b"x = '\xff'\n")
    assert "module.py" in find_problem(path, tmp_path)


def test_the_code_of_each_program_is_found_in_its_manifest():
    manifests = read_manifests(ROOT / "deploy/knative/base")
    containers = {m.metadata.name: m.container for m in (*manifests.services, *manifests.container_sources)}
    assert {name: find_code((*c.command, *c.args)) for name, c in containers.items()} == NAMES
    assert find_code(["functions-framework", "--source", "functions/upload/main.py"]) == NAMES["upload"]
    assert find_code(["sleep", "1"]) == (Path("shared"),)


def test_what_is_code():
    assert is_code(Path("a/main.py"))
    assert not is_code(Path("a/__pycache__/main.py"))
