"""What a start from zero puts off is the same once it is there."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from types import ModuleType

import pytest
from flask import Request
from werkzeug.test import EnvironBuilder

from shared.api import gpus, health, stored
from shared.boot import defer, make_bare, put_off
from shared.errors import MethodNotAllowed, NotFound
from shared.http import Route, Routes
from tests.functions import ROOT


@pytest.fixture
def make_value(monkeypatch):
    """Make a dataclass whose methods are put off, and the same without."""

    def make(**how):
        def declare():
            @dataclasses.dataclass(**how)
            class Value:
                """A value."""

                number: int
                text: str = "x"

            return Value

        plain = declare()
        with monkeypatch.context() as patch:
            patch.setattr(dataclasses, "_create_fn", put_off(dataclasses._create_fn))
            return declare(), plain

    return make


pytestmark = pytest.mark.skipif(not hasattr(dataclasses, "_create_fn"), reason="nothing is put off")


@pytest.mark.parametrize(
    "how", [{}, {"frozen": True}, {"frozen": True, "slots": True}, {"order": True, "kw_only": True}]
)
def test_a_dataclass_whose_methods_are_put_off_does_what_it_does_otherwise(make_value, how):
    value, plain = make_value(**how)
    for _ in range(2):  # compiled, and there already
        one, other, same = value(number=1), value(number=2), value(number=1)
        assert repr(one) == repr(plain(number=1))
        assert (one == same, one == other, one == plain(number=1)) == (True, False, False)
        assert dataclasses.asdict(one) == {"number": 1, "text": "x"}
        assert dataclasses.replace(one, number=2) == other
        if how.get("order"):
            assert sorted([other, one]) == [one, other]
        if how.get("frozen"):
            assert hash(one) == hash(same)
            with pytest.raises(dataclasses.FrozenInstanceError):
                one.number = 3
            with pytest.raises(dataclasses.FrozenInstanceError):
                del one.number
        else:
            with pytest.raises(TypeError, match="unhashable"):
                hash(one)
    assert value.__eq__.__qualname__ == plain.__eq__.__qualname__


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Make a package `slow` that can be imported, with a module `part`."""
    folder = tmp_path / "slow"
    folder.mkdir()
    (folder / "__init__.py").write_text("from slow import part\nWHOLE = True\n")
    (folder / "part.py").write_text("ANSWER = 42\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield "slow"
    for name in ("slow", "slow.part"):
        sys.modules.pop(name, None)


def test_a_deferred_module_is_loaded_when_something_of_it_is_used(package):
    defer(f"{package}.part")
    stand_in = sys.modules["slow.part"]
    from slow import part  # noqa: PLC0415

    assert part is stand_in
    assert "ANSWER" not in vars(stand_in)
    assert part.ANSWER == 42
    assert sys.modules["slow.part"] is not stand_in
    assert part.ANSWER == 42
    with pytest.raises(AttributeError):
        _ = part.QUESTION


def test_what_is_loaded_is_not_deferred():
    assert defer("json") is None
    assert isinstance(sys.modules["json"].loads("{}"), dict)


def test_the_modules_of_a_bare_package_come_without_it(package):
    make_bare(package)
    import slow.part  # noqa: PLC0415

    assert slow.part.ANSWER == 42
    assert not hasattr(slow, "WHOLE")
    assert isinstance(slow, ModuleType)


def ask(method, path):
    return Request(EnvironBuilder(path=path, method=method).get_environ())


def test_further_routes_are_built_once_and_when_no_other_is_meant():
    built = []

    def build():
        built.append(1)
        return [Route(stored.LIST_FIELDS, None)]

    routes = Routes("query", [Route(gpus.LIST_GPUS, None), Route(health.HEALTH, None)], build)
    assert routes.find(ask("GET", "/api/v1/gpus"))[0].endpoint is gpus.LIST_GPUS
    with pytest.raises(MethodNotAllowed):
        routes.find(ask("DELETE", "/api/v1/gpus"))
    assert not built
    for _ in range(2):
        assert routes.find(ask("GET", "/api/v1/fields"))[0].endpoint is stored.LIST_FIELDS
    with pytest.raises(NotFound) as raised:
        routes.find(ask("GET", "/nowhere"))
    assert raised.value.details["paths"] == ["GET /api/v1/fields", "GET /api/v1/gpus", "GET /health"]
    assert built == [1]


_SHADOWED = """
import re, sys
from functions_framework import create_app
create_app(sys.argv[1], f"functions/{sys.argv[1]}/main.py")
routes = sys.modules["main"]._service._routes
further = routes.load()[len(routes._routes):]
assert further
for route in further:
    path = re.sub(r"{[^}]*}", "x", route.endpoint.path)
    print(*(other.endpoint.path for other in routes._routes if other.match(path, exactly=False)), end="")
"""


@pytest.mark.parametrize("function", ["upload", "collect", "query"])
def test_no_further_route_is_at_a_path_that_another_answers(function):
    done = subprocess.run(
        [sys.executable, "-c", _SHADOWED, function], cwd=ROOT, capture_output=True, check=True
    )
    assert done.stdout == b""
