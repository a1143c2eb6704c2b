"""`gpu-telemetry up`."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from local_runtime.commands.bars import spinner
from local_runtime.commands.output import (
    QUERY_URL,
    UPLOAD_URL,
    Seconds,
    data_dir_option,
    name_data_dir,
)
from local_runtime.detach import start_detached
from local_runtime.plan import REPOSITORY, Options, Plan
from local_runtime.ports import LOOPBACK, build_url
from local_runtime.running import announce, lock_data_dir, signed
from local_runtime.runtime import Runtime
from local_runtime.supervisor import Tell
from shared import clock
from shared.client import Client
from shared.errors import PipelineError
from shared.tokens import ROLES_OF_SOURCES, TokenFile

_PORT = click.IntRange(1, 65535)
_MANIFESTS = REPOSITORY / "deploy" / "knative" / "base"
_SAMPLE = "sample.csv"
_GENERATOR = REPOSITORY / "samples" / "generate.py"


def _port_option(name: str, default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}-port", default=default, show_default=True, type=_PORT, help=f"The port of {name}."
    )


@click.command()
@data_dir_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@_port_option("query", 8080)
@_port_option("upload", 8081)
@_port_option("collect", 8082)
@_port_option("admin", 8090)
@click.option(
    "--metrics-port",
    default=8083,
    show_default=True,
    envvar="METRICS_PORT",
    type=click.IntRange(0, 65535),
    help="The port of the queue's metrics; 0: none.",
)
@click.option(
    "--manifests",
    default=_MANIFESTS,
    show_default="deploy/knative/base",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="The folder that says what to start.",
)
@click.option(
    "--etcd-endpoints",
    envvar="ETCD_ENDPOINTS",
    metavar="HOST:PORT,...",
    help="An etcd that runs already, instead of one of our own. Also ETCD_ENDPOINTS.",
)
@click.option(
    "--auth-tokens",
    envvar="AUTH_TOKENS",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A file of tokens, `role token` a line: every request needs one. Also AUTH_TOKENS.",
)
@click.option(
    "--insecure",
    envvar="INSECURE",
    is_flag=True,
    help="Without tokens serve not only this machine but everybody. Also INSECURE.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="SERVICE.KEY=VALUE",
    help="What a manifest should say instead, such as upload.autoscaling.knative.dev/window=6s.",
)
@click.option(
    "--quiet-period",
    "quiet_period_s",
    default="1s",
    show_default=True,
    type=Seconds(),
    help="How long an instance that goes is kept without requests; a cluster takes 30s.",
)
@click.option(
    "--backend",
    default="process",
    show_default=True,
    type=click.Choice(["process", "docker"]),
    help="What runs each instance and source: a process, or a container of the local docker engine.",
)
@click.option(
    "--image",
    default="",
    metavar="NAME",
    help="With --backend docker, an image the engine has; else one is built of the Dockerfile.",
)
@click.option("--reload", is_flag=True, help="Replace the instances of a function when its code changes.")
@click.option("--no-sample", is_flag=True, help="Do not upload the sample into an empty data directory.")
@click.option("--detach", is_flag=True, help="In the background: return when it is ready; `down` ends it.")
def up(
    *,
    data_dir: Path,
    query_port: int,
    upload_port: int,
    collect_port: int,
    etcd_endpoints: str | None,
    no_sample: bool,
    detach: bool,
    **asked: Any,
) -> None:
    """Run the whole pipeline here, in the foreground, until Ctrl-C."""
    if asked["image"] and asked["backend"] != "docker":
        raise click.UsageError("--image is what containers run in: it goes with --backend docker")
    if detach:
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)  # nothing half started is left behind
        with spinner("starting"):
            said = start_detached([word for word in sys.argv[1:] if word != "--detach"], data_dir)
        click.echo(said, nl=False)
        return
    options = Options(
        data_dir=data_dir,
        ports={"query": query_port, "upload": upload_port, "collect": collect_port},
        etcd_endpoints=etcd_endpoints or None,
        sample=not no_sample,
        **asked,
    )
    with lock_data_dir(data_dir) as lock, signed(data_dir, lock):
        runtime = Runtime(options, lock, tell)
        binary = runtime.etcd_binary
        if binary is not None and binary.warning:
            click.secho(binary.warning, fg="yellow")
        click.echo(f"starting: etcd {binary.version_text if binary else f'at {etcd_endpoints}'}")
        runtime.run(lambda plan, tell_later: _ready(plan, options, tell_later, fresh=runtime.is_fresh))
    click.echo(f"stopped: everything is down, the data stays in {data_dir}")


def tell(name: str, sentence: str) -> None:
    """Print one event; a reader that went away does not stop the pipeline."""
    now = datetime.fromtimestamp(clock.now_s(), UTC).astimezone()
    # What is kept, such as the log of a detached runtime, must say the day too.
    at = f"{now:%H:%M:%S}" if sys.stdout.isatty() else now.isoformat(timespec="milliseconds")
    try:
        click.echo(f"{at} {click.style(name, bold=True)}: {sentence}")
    except OSError:
        return


def _ready(plan: Plan, options: Options, tell_later: Tell, *, fresh: bool) -> None:
    """Say where everything is and what to try; upload the sample if this is the first run."""
    admin = build_url(LOOPBACK, options.admin_port)
    with contextlib.suppress(OSError):  # whoever reads it may have gone away
        click.echo(_describe(plan, options, admin))
    announce(options.data_dir, host=options.host, urls=plan.urls, admin=admin)
    upload = plan.urls.get("upload", "")
    # The file is left when the first run ended before it was uploaded.
    if options.sample and upload and (fresh or (options.data_dir / _SAMPLE).exists()):
        threading.Thread(
            target=_upload_sample, args=(options, upload, tell_later), name="sample", daemon=True
        ).start()


def _describe(plan: Plan, options: Options, admin: str) -> str:
    """Say where everything is and what to try."""
    upload, query = plan.urls.get("upload", ""), plan.urls.get("query", "")
    addresses = {**plan.urls, "admin": admin}
    if plan.metrics_url:
        addresses["metrics"] = plan.metrics_url
    header = token = ""
    if options.auth_tokens is not None:
        header = '-H "Authorization: Bearer $GPU_TELEMETRY_TOKEN" '
        token = f", with a token of {options.auth_tokens} in GPU_TELEMETRY_TOKEN"
    lines = "\n".join(f"  {name:8} {url}" for name, url in addresses.items())
    elsewhere = name_data_dir(options.data_dir)
    return f"""
{click.style("The pipeline is up.", bold=True)}
{lines}
  logs     {options.data_dir}/logs

Try next{token}:
  gpu-telemetry upload samples/two_hosts.csv --wait{"" if upload == UPLOAD_URL else f" --url {upload}"}
  gpu-telemetry gpus{"" if query == QUERY_URL else f" --url {query}"}
  curl {header}{query}/api/v1/gpus
  gpu-telemetry top{elsewhere}
`gpu-telemetry down{elsewhere}` stops it; in the foreground, so does Ctrl-C.
"""


def _upload_sample(options: Options, url: str, tell_later: Tell) -> None:
    """Make the sample, an hour that ends now, and upload it; a failure costs no more than a line."""
    file = options.data_dir / _SAMPLE
    try:
        subprocess.run(
            [sys.executable, _GENERATOR, "--end", "now", "--output", file],
            check=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )
        token = TokenFile(options.auth_tokens).first(*ROLES_OF_SOURCES).value if options.auth_tokens else ""
        data = Client(url, token).upload(file, lambda _count: None)["data"]
    except (OSError, subprocess.SubprocessError, PipelineError) as exc:
        tell_later("sample", f"not uploaded: {exc}")
        return
    file.unlink(missing_ok=True)
    tell_later(
        "sample",
        f"the data directory was empty, so {data['accepted']} synthetic records of {data['gpus']} GPUs "
        f"on {data['hosts']} hosts were uploaded (--no-sample leaves that out)",
    )
