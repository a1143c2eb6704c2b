"""What `gpu-telemetry top` shows, of a small server that answers as the runtime does."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from local_runtime.commands.screen import build_screen, describe_queue, draw_bars, format_rate
from local_runtime.commands.top import read_look
from shared.client import Client
from shared.errors import Transient
from tests.admin import Admin, service, serving_admin
from tests.terminal import on_terminal
from tests.waiting import wait_until

COMMAND = Path(sys.executable).parent / "gpu-telemetry"
AT = "2026-01-02T03:04:05.000+00:00"


QUEUE = {
    "etcd_up": 1.0, "queue_depth": 1234.0, "queue_bytes": 3_145_728.0, "queue_oldest_message_age_seconds": 3.25,
    "queue_claimed": 40.0, "dead_letters": 2.0, "etcd_database_bytes": 10_485_760.0,
}  # fmt: skip


@pytest.fixture
def admin():
    with serving_admin() as served:
        yield served


def top(*arguments, **environment):
    return subprocess.run(
        [COMMAND, "top", *arguments], capture_output=True, text=True, timeout=30, check=False, **environment
    )


def look_at(admin, queue=None):
    said = {"services": admin.services, "processes": admin.processes, "events": admin.events}
    return {"at": AT, "queue": queue, **said}


def draw(look, *, width=80, rows=None):
    console = Console(width=width, force_terminal=False)
    with console.capture() as drawn:
        console.print(build_screen(look, rows or {}, "http://127.0.0.1:8090", width))
    return drawn.get().splitlines()


def test_everything_fits_into_eighty_columns():
    lines = draw(look_at(Admin(), QUEUE))
    assert max(map(len, lines)) <= 80
    assert len(lines) <= 24
    collect = next(line for line in lines if line.startswith("collect"))
    assert " ".join(collect.split()) == "collect ●●●●◐◐◐··· 4/10/10 12 3 14.2 31.4 812,345 5 panic"
    assert next(line for line in lines if line.startswith("query")).split()[1:3] == ["0/0/10", "0"]
    assert "1,234 messages (3.0 MiB), oldest 3.2 s, 40 claimed, 2 dead letters" in "\n".join(lines)
    assert "● etcd ready   ✖ queue-source away (3 restarts)   database 10.0 MiB" in lines


def test_the_last_five_decisions_are_shown_with_their_reasons():
    lines = draw(look_at(Admin()))
    shown = lines[lines.index("scaling") + 1 :]
    assert [line.split()[1:] for line in shown] == [
        ["collect", str(i), "->", str(i + 1), "reason", str(i)] for i in range(2, 7)
    ]


@pytest.mark.parametrize("width", [20, 40, 79, 80, 132, 300])
def test_no_line_is_wider_than_the_terminal(width):
    rows = {"collect": [812_345.0] * 500}
    assert max(map(len, draw(look_at(Admin(), QUEUE), width=width, rows=rows))) <= width


def test_more_instances_than_there_is_room_for_are_a_number():
    admin = Admin()
    admin.services = [service("many", states=["ready"] * 40, max_scale=0)]
    line = next(line for line in draw(look_at(admin)) if line.startswith("many"))
    assert line.split()[1:3] == ["●●●●●●●●●+", "40/40/∞"]


def test_an_instance_that_crashes_is_said_to():
    admin = Admin()
    admin.services = [service("bad", states=["backoff"])]
    assert next(line for line in draw(look_at(admin)) if line.startswith("bad")).endswith("crashing")


def test_rows_are_drawn_for_those_who_had_some():
    lines = draw(look_at(Admin()), rows={"collect": [0.0, 100.0, 800.0], "query": [0.0], "upload": [1.0]})
    flows = lines[lines.index("rows/s") + 1 : lines.index("scaling") - 1]
    assert [flow.split()[0] for flow in flows] == ["collect", "upload"]
    assert flows[0].startswith("collect  ▁█ up to 800")


@given(st.lists(st.floats(0, 1e12), max_size=50))
def test_bars_are_as_many_as_values_and_nothing_else_is_zero(values):
    drawn = draw_bars(values)
    assert len(drawn) == len(values)
    assert all((bar == " ") == (value == 0) for bar, value in zip(drawn, values, strict=True))
    assert not any(values) or drawn[values.index(max(values))] == "█"


@given(st.floats(0, 1e11))
def test_a_rate_fits_into_its_column(value):
    assert len(format_rate(value)) <= 11


def test_the_queue_is_said_to_be_unknown_rather_than_empty():
    assert "not known" in describe_queue(None)
    assert "etcd is away" in describe_queue({"etcd_up": 0.0})
    assert describe_queue({"queue_depth": 0.0}) == "0 messages"


def test_the_queue_is_read_from_where_the_runtime_says(admin):
    assert read_look(Client(admin.url))["queue"] is None
    admin.metrics = admin.url + "/metrics"
    look = read_look(Client(admin.url))
    assert look["queue"] == QUEUE
    admin.metrics = admin.url + "/nothing"
    assert read_look(Client(admin.url))["queue"] is None
    assert "1,234 messages" in describe_queue(look["queue"])


def test_without_a_terminal_it_is_drawn_once(admin):
    done = top("--url", admin.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    collect = next(line.split() for line in lines if line.startswith("collect"))
    assert collect[2:] == ["4/10/10", "12", "3", "14.2", "31.4", "812,345", "5", "panic"]
    assert lines[-1].rstrip().endswith("collect  6 -> 7  reason 6")
    assert "\x1b" not in done.stdout
    assert admin.looks == 1


def test_as_json_each_look_is_one_object(admin):
    done = top("--url", admin.url, "--json", "--once")
    look = json.loads(done.stdout)
    assert (look["services"], look["events"], look["queue"]) == (admin.services, admin.events, None)
    assert len(done.stdout.splitlines()) == 1
    with subprocess.Popen(
        [COMMAND, "top", "--url", admin.url, "--json", "--interval", "100ms"],
        stdout=subprocess.PIPE,
        text=True,
    ) as looking:
        first, second = (json.loads(looking.stdout.readline()) for _ in range(2))
        looking.send_signal(signal.SIGINT)
        looking.communicate(timeout=10)
    assert first["at"] < second["at"]


def test_on_a_terminal_it_is_drawn_again_and_again_until_q(admin):
    with on_terminal(COMMAND, "top", "--url", admin.url, "--interval", "100ms") as shown:
        wait_until(lambda: "812,345" in shown.text)
        admin.services[0]["rows_per_s"] = 765_432.0
        wait_until(lambda: any("765,432" in line for line in shown.screen))
        shown.press("x")
        looks = admin.looks
        wait_until(lambda: admin.looks > looks + 1)
        shown.press("q")
        assert shown.wait() == 0
        # The screen that was there before is shown again, with its cursor.
        assert shown.raw.rstrip().endswith("\x1b[?25h\x1b[?1049l")
        assert "\x1b[1;31mcollect" in shown.raw


def test_it_follows_the_size_of_the_terminal_between_two_looks(admin):
    with on_terminal(COMMAND, "top", "--url", admin.url, "--interval", "1h", columns=120) as shown:
        wait_until(lambda: "812,345" in shown.text)
        before = len(shown.raw)
        shown.resize(24, 60)
        wait_until(lambda: "gpu-telemetry" in shown.raw[before:])
        shown.process.send_signal(signal.SIGINT)
        assert shown.wait() == 130
    assert admin.looks == 1


def test_colours_are_left_out_where_they_are_not_wanted(admin):
    with on_terminal(COMMAND, "top", "--url", admin.url, "--once", NO_COLOR="1") as shown:
        assert shown.wait() == 0
        assert "collect" in shown.text
        assert "\x1b[1;31m" not in shown.raw
        assert "\x1b[?1049h" not in shown.raw


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 130), (signal.SIGHUP, 130), (None, 1)])
def test_whatever_ends_it_leaves_the_terminal_as_it_was(number, code):
    with serving_admin() as admin:
        shown = on_terminal(COMMAND, "top", "--url", admin.url, "--interval", "100ms")
        terminal = shown.__enter__()
        before = terminal.modes
        wait_until(lambda: "812,345" in terminal.text)
        assert terminal.modes != before
        terminal.process.send_signal(signal.SIGTSTP)
        if number:
            terminal.process.send_signal(number)
            terminal.wait()
    try:
        assert terminal.wait() == code
        assert terminal.modes == before
        after = terminal.raw.rpartition("\x1b[?25h\x1b[?1049l")[2].strip().splitlines()
        assert ["answer" in line for line in after] == [True] * (number is None)
    finally:
        shown.__exit__(None, None, None)


def test_a_runtime_that_does_not_answer_is_not_waited_for_for_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", idle_s=0.1)
        with pytest.raises(Transient, match="stopped answering"):
            read_look(client)


def test_where_nothing_is_it_says_what_starts_it(admin):
    done = top("--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "`gpu-telemetry up`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    admin.services = None
    assert "not the admin port" in top("--url", admin.url).stderr
    assert top("--url", admin.url, "--interval", "0").returncode == 2
    assert top("--url", admin.url, "--interval", "soon").returncode == 2
