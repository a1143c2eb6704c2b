"""Logs of a function: which of its instances a line is of."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

_PROGRAM = "import logging; from shared.http.startup import start; start('query'); logging.warning('hello')"


@pytest.mark.parametrize(
    ("given", "instance"),
    [
        ({"K_SERVICE": "query", "HOSTNAME": "query-00001-2"}, "query-00001-2"),
        ({"HOSTNAME": "a-laptop"}, None),
        ({"K_SERVICE": "query"}, None),
    ],
)
def test_a_line_names_the_instance_where_there_may_be_several(given, instance):
    environment = {k: v for k, v in os.environ.items() if k not in ("K_SERVICE", "HOSTNAME")}
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], env={**environment, **given}, capture_output=True, check=True
    )
    line = json.loads(done.stderr)
    assert (line["message"], line.get("instance")) == ("hello", instance)
