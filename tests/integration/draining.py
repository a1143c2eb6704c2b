"""A collector in a process of its own: drains by listing and prints what it did.

Run as: draining.py ENDPOINT PREFIX WORKERS. It says `ready`, and begins when it reads a line.
"""

from __future__ import annotations

import sys
from dataclasses import asdict

import orjson

from functions.collect.drain import Drain
from functions.collect.move import Mover
from shared.etcd import Etcd
from shared.keys import Keys
from shared.queue import Queue

endpoint, prefix, workers = sys.argv[1:]
etcd, keys = Etcd([endpoint]), Keys(prefix)
queue = Queue(etcd, keys)
drain = Drain(queue, lambda: Mover(etcd, keys, queue, 30), int(workers))
queue.depth_now()
sys.stdout.write("ready\n")
sys.stdout.flush()
sys.stdin.readline()
sys.stdout.write(orjson.dumps(asdict(drain.take_all(120))).decode() + "\n")
