"""What `gpu-telemetry top` shows, of a small server that answers as the runtime does."""

from __future__ import annotations

import io
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

from local_runtime.commands.looks import History, Look, Looker, describe_queue, parse_gauges
from local_runtime.commands.screen import build_screen, draw_bars, format_rate
from shared.client import Client
from shared.errors import Transient
from tests.admin import METRICS, Admin, service, serving_admin
from tests.terminal import on_terminal
from tests.waiting import wait_until

COMMAND = Path(sys.executable).parent / "gpu-telemetry"
AT_S = 1_767_323_045.0


@pytest.fixture
def admin():
    with serving_admin() as served:
        yield served


def top(*arguments, **environment):
    return subprocess.run(
        [COMMAND, "top", *arguments], capture_output=True, text=True, timeout=30, check=False, **environment
    )


def look_at(admin, queue=None):
    return Look(
        at_s=AT_S, services=admin.services, processes=admin.processes, events=admin.events, queue=queue
    )


def draw(look, *, width=80, encoding="utf-8", history=None):
    if history is None:
        history = History()
        history.add(look)
    raw = io.BytesIO()
    console = Console(
        file=io.TextIOWrapper(raw, encoding=encoding, errors="replace"), width=width, force_terminal=False
    )
    console.print(build_screen(look, history, console, "http://127.0.0.1:8090"))
    console.file.flush()
    return raw.getvalue().decode(encoding).splitlines()


def test_everything_fits_into_eighty_columns():
    lines = draw(look_at(Admin(), parse_gauges(METRICS)))
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


def test_a_terminal_without_unicode_gets_ascii():
    text = "\n".join(draw(look_at(Admin(), parse_gauges(METRICS)), encoding="ascii"))
    assert "####+++..." in text
    assert "?" not in text


@pytest.mark.parametrize("width", [20, 40, 79, 80, 132, 300])
def test_no_line_is_wider_than_the_terminal(width):
    look = look_at(Admin(), parse_gauges(METRICS))
    history = History()
    for _ in range(500):
        history.add(look)
    assert max(map(len, draw(look, width=width, history=history))) <= width


def test_more_instances_than_there_is_room_for_are_a_number():
    admin = Admin()
    admin.services = [service("many", states=["ready"] * 40, max_scale=0)]
    line = next(line for line in draw(look_at(admin)) if line.startswith("many"))
    assert line.split()[1:3] == ["●●●●●●●●●+", "40/40/∞"]


def test_what_a_service_does_not_say_is_not_made_up():
    admin = Admin()
    admin.services = [{"name": "bare", "ready": 1}]
    line = next(line for line in draw(look_at(admin)) if line.startswith("bare"))
    assert "0" not in line


def test_an_instance_that_crashes_is_said_to():
    admin = Admin()
    admin.services = [service("bad", states=["backoff"])]
    assert next(line for line in draw(look_at(admin)) if line.startswith("bad")).endswith("crashing")


def test_rows_are_drawn_for_those_who_had_some():
    look, history = look_at(Admin()), History()
    for rows in (0.0, 100.0, 800.0):
        look.services[0]["rows_per_s"] = rows
        history.add(look)
    lines = draw(look, history=history)
    flows = lines[lines.index("rows/s") + 1 : lines.index("scaling") - 1]
    assert [flow.split()[0] for flow in flows] == ["collect", "upload"]
    assert flows[0].startswith("collect  ▁█ up to 800")


@given(st.lists(st.floats(0, 1e12), max_size=50))
def test_bars_are_as_many_as_values_and_nothing_else_is_zero(values):
    bars = " ▁▂▃▄▅▆▇█"
    drawn = draw_bars(values, bars)
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


def test_the_queue_is_read_from_who_always_runs(admin):
    look = Looker(Client(admin.url), admin.url + "/metrics").look(AT_S)
    assert look.queue["queue_oldest_message_age_seconds"] == 3.25
    assert "events_total" not in look.queue
    assert Looker(Client(admin.url), admin.url + "/nothing").look(AT_S).queue is None
    assert Looker(Client(admin.url), None).look(AT_S).queue is None


def test_without_a_terminal_it_is_one_plain_table(admin):
    done = top("--url", admin.url)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:4] == ["NAME", "READY", "DESIRED", "MAX_SCALE"]
    assert lines[1].split() == ["collect", "4", "10", "10", "12", "3", "14.2", "31.4", "812345", "5", "panic"]
    assert lines[-1].endswith("collect  6 -> 7  reason 6")
    assert done.stdout.isascii()
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


def test_a_runtime_that_goes_away_is_one_line_and_status_one():
    with serving_admin() as admin:
        shown = on_terminal(COMMAND, "top", "--url", admin.url, "--interval", "100ms")
        terminal = shown.__enter__()
        wait_until(lambda: "812,345" in terminal.text)
    try:
        assert terminal.wait() == 1
        after = terminal.raw.rpartition("\x1b[?1049l")[2].strip().splitlines()
        assert len(after) == 1
        assert "is gone: `gpu-telemetry up` starts one" in after[0]
    finally:
        shown.__exit__(None, None, None)


def test_a_runtime_that_does_not_answer_is_not_waited_for_for_long():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        looker = Looker(Client(f"http://127.0.0.1:{silent.getsockname()[1]}", idle_s=0.1), None)
        with pytest.raises(Transient, match="stopped answering"):
            looker.look(AT_S)


def test_where_nothing_is_it_says_what_starts_it(admin):
    done = top("--url", "http://127.0.0.1:9")
    assert done.returncode == 1
    assert "`gpu-telemetry up`" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    admin.services = None
    assert "not the admin port" in top("--url", admin.url).stderr
    assert top("--url", admin.url, "--interval", "0").returncode == 2
    assert top("--url", admin.url, "--interval", "soon").returncode == 2
