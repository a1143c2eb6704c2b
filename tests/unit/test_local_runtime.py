"""The runtime's decisions: restarts, the etcd to run, what to start, which log lines to show."""

from __future__ import annotations

import json
import resource
import shutil
import socket
from pathlib import Path

import pytest

from local_runtime.embedded_etcd import parse_last_problem
from local_runtime.etcd_binary import EtcdBinary, build_command, is_sound, parse_version
from local_runtime.instance import decide_restart, describe_exit
from local_runtime.log_tail import LogTail, parse_log_line
from local_runtime.manifests import read_manifests
from local_runtime.plan import REPOSITORY, Options, build_plan
from local_runtime.ports import InstancePorts, is_loopback
from shared.config import read_settings
from shared.errors import BadConfig, Conflict

BASE = REPOSITORY / "deploy" / "knative" / "base"


def plan(tmp_path, *, manifests=BASE, host="127.0.0.1", auth_tokens=None, insecure=False, **environment):
    options = Options(
        data_dir=tmp_path,
        host=host,
        ports={"upload": 8081, "query": 8080, "collect": 8082},
        admin_port=8090,
        metrics_port=8083,
        manifests=BASE,
        etcd_endpoints=None,
        sample=False,
        auth_tokens=auth_tokens,
        insecure=insecure,
    )
    return build_plan(
        read_manifests(manifests),
        options,
        etcd_endpoints="127.0.0.1:2379",
        environment={"PATH": "/bin", **environment},
    )


def function_of(built, name):
    return next(f for f in built.functions if f.service.metadata.name == name)


def test_backoff_doubles_up_to_five_seconds():
    failures, delays = 0, []
    for _ in range(8):
        decision = decide_restart(ran_for_s=0.5, failures=failures)
        failures = decision.failures
        delays.append(decision.delay_s)
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]


def test_backoff_begins_anew_after_a_good_run():
    assert decide_restart(ran_for_s=60, failures=7).delay_s == 0.1
    assert decide_restart(ran_for_s=60, failures=7).failures == 1


def test_backoff_stays_bounded_for_ever():
    assert decide_restart(ran_for_s=0, failures=10**9).delay_s == 5.0


def test_an_exit_is_described():
    assert describe_exit(3) == "exit status 3"
    assert describe_exit(-9) == "killed by SIGKILL"


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 3, 27), False),
        ((3, 4, 21), False),
        ((3, 4, 22), True),
        ((3, 5, 1), False),
        ((3, 5, 5), False),
        ((3, 5, 6), True),
        ((3, 6, 0), True),
        ((4, 0, 0), True),
    ],
)
def test_which_etcd_is_sound(version, sound):
    assert is_sound(version) is sound


def test_versions_are_read_from_what_etcd_prints():
    assert parse_version("etcd Version: 3.5.16\nGit SHA: x") == (3, 5, 16)
    assert parse_version("bash: etcd: command not found") is None


@pytest.mark.parametrize(
    ("version", "flag"),
    [
        ((3, 4, 23), None),
        ((3, 5, 1), None),
        ((3, 5, 16), "--experimental-snapshot-catchup-entries=50"),
        ((3, 6, 0), "--snapshot-catchup-entries=50"),
    ],
)
def test_the_catch_up_flag_goes_by_version(version, flag):
    binary = EtcdBinary(path=Path("/bin/etcd"), version=version)
    command = build_command(binary, data_dir=Path("/d"), client_url="http://a:1", peer_url="http://a:2")
    assert [part for part in command if "catchup" in part] == ([flag] if flag else [])
    assert "--snapshot-count=500" in command


def test_the_last_problem_in_an_etcd_log():
    log = (
        '{"level":"warn","msg":"simple token"}\n'
        '{"level":"fatal","msg":"discovery failed","error":"no space left on device"}\n'
        "goroutine 1 [running]:\n"
    )
    assert parse_last_problem(log) == "discovery failed: no space left on device"
    assert parse_last_problem("panic: freepages: failed\n\tmain.go") == "panic: freepages: failed"
    assert parse_last_problem('{"level":"warn","msg":"simple token"}') == ""


def test_functions_get_what_knative_promises(tmp_path):
    function = function_of(plan(tmp_path), "upload")
    upload = function.template
    expected = {"K_SERVICE": "upload", "K_CONFIGURATION": "upload", "ETCD_ENDPOINTS": "127.0.0.1:2379"}
    assert {name: upload.environment[name] for name in expected} == expected
    assert (function.host, function.port) == ("127.0.0.1", 8081)
    assert upload.command[0].endswith("/functions-framework")
    assert upload.command[1:] == ("--source=functions/upload/main.py", "--target=upload")


def test_sources_are_told_where_collect_is(tmp_path):
    built = plan(tmp_path)
    assert built.sources[0].environment["K_SINK"] == "http://127.0.0.1:8082"
    assert built.crons[0].url == "http://127.0.0.1:8082"


def test_sources_are_told_what_their_events_carry_and_who_vouches_for_the_sink(tmp_path):
    folder = tmp_path / "manifests"
    shutil.copytree(BASE, folder)
    with (folder / "queue-source.yaml").open("a") as file:
        file.write('    CACerts: "-----BEGIN"\n  ceOverrides:\n    extensions: {team: gpu}\n')
    told = plan(tmp_path, manifests=folder).sources[0].environment
    assert json.loads(told["K_CE_OVERRIDES"]) == {"extensions": {"team": "gpu"}}
    assert told["K_CA_CERTS"] == "-----BEGIN"
    assert not {"K_CE_OVERRIDES", "K_CA_CERTS"} & plan(tmp_path).sources[0].environment.keys()


def test_the_environment_wins_over_the_manifest_and_the_runtime_over_both(tmp_path):
    built = plan(tmp_path, THREADS="3", ETCD_ENDPOINTS="elsewhere:1", LOG_LEVEL="debug")
    upload = function_of(built, "upload").template
    assert upload.environment["THREADS"] == "3"
    assert upload.environment["LOG_LEVEL"] == "debug"
    assert upload.environment["ETCD_ENDPOINTS"] == "127.0.0.1:2379"


def test_the_queue_source_serves_metrics_where_the_options_say(tmp_path):
    environment = plan(tmp_path).sources[0].environment
    assert (environment["HOST"], environment["METRICS_PORT"]) == ("127.0.0.1", "8083")


def test_manifests_of_a_cluster_do_not_open_this_machine(tmp_path):
    for function in plan(tmp_path, INSECURE="true").functions:
        config = read_settings(function.template.environment)
        assert config.insecure is False
        assert config.rate_limit == 100
        assert not config.auth_tokens
    limited = plan(tmp_path, RATE_LIMIT="7").functions[0].template
    assert read_settings(limited.environment).rate_limit == 7


def test_options_of_access_reach_functions_and_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    built = plan(tmp_path, auth_tokens=Path("tokens"), insecure=True)
    for child in (*(f.template for f in built.functions), *built.sources):
        config = read_settings(child.environment)
        assert (config.auth_tokens, config.insecure) == (str(tmp_path / "tokens"), True)


@pytest.mark.parametrize(
    ("host", "told"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("node-a", False),
    ],
)
def test_which_hosts_only_this_machine_reaches(host, told):
    assert is_loopback(host) is told


def test_what_is_cluster_local_is_this_machines_alone(tmp_path):
    built = plan(tmp_path, host="0.0.0.0", insecure=True)
    assert {f.service.metadata.name: f.host for f in built.functions} == {
        "upload": "0.0.0.0",
        "query": "0.0.0.0",
        "collect": "127.0.0.1",
    }


def test_a_sink_that_no_manifest_describes_is_named(tmp_path):
    (tmp_path / "upload.yaml").write_text((BASE / "upload.yaml").read_text())
    (tmp_path / "cron.yaml").write_text((BASE / "cron.yaml").read_text())
    options = Options(
        data_dir=tmp_path,
        host="127.0.0.1",
        ports={},
        admin_port=1,
        manifests=tmp_path,
        etcd_endpoints=None,
        sample=False,
    )
    with pytest.raises(
        BadConfig, match=r"cron.yaml: spec.sink.ref.name: expected a Service .*, not 'collect'"
    ):
        build_plan(read_manifests(tmp_path), options, etcd_endpoints="x:1", environment={})


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ('{"level": "warning", "message": "etcd is away"}', "etcd is away"),
        (
            '{"level": "error", "message": "GET /", "exception": "Traceback\\nKeyError: 1"}',
            "GET /: KeyError: 1",
        ),
        ('{"level": "info", "message": "hello"}', None),
        ("plain text", None),
        ("{broken", None),
        pytest.param('{"a":' * 100_000, None, id="deep"),
    ],
)
def test_which_log_lines_are_shown(line, shown):
    assert parse_log_line(line) == shown


def test_a_log_is_followed_from_its_end_and_over_a_fresh_start(tmp_path):
    log = tmp_path / "x.log"
    line = '{"level": "error", "message": "%s"}\n'
    log.write_text(line % "old")
    tail = LogTail(log)
    with log.open("a") as file:
        file.write(line % "one")
        file.write('{"level": "error", "mess')
    assert tail.read_new() == ["one"]
    with log.open("a") as file:
        file.write('age": "two"}\n')
    assert tail.read_new() == ["two"]
    log.write_text(line % "3")
    assert tail.read_new() == ["3"]


def test_many_lines_at_once_are_cut(tmp_path):
    log = tmp_path / "x.log"
    tail = LogTail(log)
    log.write_text('{"level": "error", "message": "x"}\n' * 100)
    assert tail.read_new() == ["x"] * 5 + [f"and 95 more: see {log}"]


def test_a_line_that_never_ends_is_not_kept(tmp_path):
    log = tmp_path / "x.log"
    tail = LogTail(log)
    log.write_text("{" * 3_000_000 + '\n{"level": "error", "message": "x"}\n')
    shown = [line for _ in range(20) for line in tail.read_new()]
    assert shown == ["x"]
    with log.open("a") as file:
        file.write("{" * 3_000_000)
    for _ in range(20):
        tail.read_new()
    assert len(tail._rest) < 1_000_000


def test_ports_of_instances_are_free_and_differ():
    ports = InstancePorts()
    first = ports.take()
    ports._next = first + 1
    with socket.create_server(("127.0.0.1", first + 1)):
        second = ports.take()
    assert second > first + 1


def test_a_process_that_has_too_many_files_open_gets_no_port_and_says_why():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        with pytest.raises(Conflict, match="Too many open files"):
            InstancePorts().take()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
