"""A small server that answers what the runtime's admin port answers, and the queue source's /metrics."""

from __future__ import annotations

import json
from contextlib import contextmanager

from tests.serving import Handler, Server

METRICS = """# HELP gpu_telemetry_queue_depth messages
# TYPE gpu_telemetry_queue_depth gauge
gpu_telemetry_etcd_up 1.0
gpu_telemetry_queue_depth 1234.0
gpu_telemetry_queue_bytes 3.145728e+06
gpu_telemetry_queue_oldest_message_age_seconds 3.25
gpu_telemetry_queue_claimed 40.0
gpu_telemetry_dead_letters 2.0
gpu_telemetry_etcd_database_bytes 1.048576e+07
gpu_telemetry_events_total{result="sent"} 7.0
"""


def service(name, **given):
    """What /services says of a service at zero; `states` are those of its instances."""
    states = given.pop("states", [])
    instances = [
        {
            "name": f"{name}-00001-{i}",
            "pid": 100 + i,
            "port": 5000 + i,
            "state": state,
            "in_flight": 0,
            "restarts": 0,
        }
        for i, state in enumerate(states, 1)
    ]
    at_zero = {
        "ready": states.count("ready"), "desired": len(states), "min_scale": 0, "max_scale": 10, "in_flight": 0,
        "queued": 0, "cold_starts": 0, "panic": False, "url": f"http://127.0.0.1/{name}",
        "revision": f"{name}-00001", "rows_per_s": 0.0, "requests_per_s": 0.0, "concurrency": 0.0, "restarts": 0,
    }  # fmt: skip
    return {"name": name, **at_zero, "instances": instances, **given}


class Admin:
    """What is answered; a test changes it as it goes."""

    def __init__(self):
        self.services = [
            service(
                "collect", states=["ready"] * 4 + ["starting"] * 3, desired=10, in_flight=12, queued=3, panic=True,
                concurrency=14.2, requests_per_s=31.4, rows_per_s=812_345.0, cold_starts=5,
            ),
            service("query"),
            service("upload", states=["ready"], in_flight=1, requests_per_s=0.5, rows_per_s=1_203_111.0),
        ]  # fmt: skip
        self.processes = [
            {"name": "etcd", "ready": True, "pid": 7, "port": 2379, "restarts": 0},
            {"name": "queue-source", "ready": False, "pid": 8, "port": None, "restarts": 3},
        ]
        self.events = [
            {"at": f"2026-01-02T03:04:0{i}Z", "service": "collect", "action": "scale", "reason": f"reason {i}",
             "from": i, "to": i + 1}
            for i in range(7)
        ]  # fmt: skip
        self.looks = 0
        self.metrics = None
        self.url = ""

    def answer(self, path):
        if path == "/services":
            self.looks += 1
            return {"services": self.services, "processes": self.processes, "metrics": self.metrics}
        return {"events": self.events} if path == "/events" else None


@contextmanager
def serving_admin():
    """Serve it on a free port."""
    admin = Admin()

    class Telling(Handler):
        def serve(self):
            said = METRICS if self.path == "/metrics" else admin.answer(self.path)
            body = said.encode() if isinstance(said, str) else json.dumps(said or {"success": False}).encode()
            self.answer(200 if said else 404, body)

    with Server(Telling) as server:
        admin.url = server.url
        yield admin
