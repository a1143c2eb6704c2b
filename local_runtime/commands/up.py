"""`gpu-telemetry up`."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import click

from local_runtime.commands.background import describe_running, start_detached
from local_runtime.commands.output import DATA_DIR, Seconds
from local_runtime.plan import REPOSITORY, Options, Plan
from local_runtime.ports import LOOPBACK, build_url
from local_runtime.running import announce, signed
from local_runtime.runtime import Runtime, lock_data_dir
from shared import clock
from shared.client import Client
from shared.errors import PipelineError
from shared.tokens import ROLES_OF_SOURCES, TokenFile

_PORT = click.IntRange(1, 65535)
_MANIFESTS = REPOSITORY / "deploy" / "knative" / "base"
_SAMPLE = "sample.csv"
_GENERATOR = REPOSITORY / "samples" / "generate.py"

#: Tells a person something; from any thread.
Tell = Callable[[str, str], None]


def _port_option(name: str, default: int) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--{name}-port", default=default, show_default=True, type=_PORT, help=f"The port of {name}."
    )


@click.command()
@click.option(
    "--data-dir",
    default=DATA_DIR,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Where everything is kept.",
)
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
    host: str,
    query_port: int,
    upload_port: int,
    collect_port: int,
    admin_port: int,
    metrics_port: int,
    manifests: Path,
    etcd_endpoints: str | None,
    auth_tokens: Path | None,
    insecure: bool,
    overrides: tuple[str, ...],
    quiet_period: float,
    backend: str,
    image: str,
    reload: bool,
    no_sample: bool,
    detach: bool,
) -> None:
    """Run the whole pipeline here, in the foreground, until Ctrl-C."""
    if image and backend != "docker":
        raise click.UsageError("--image is what containers run in: it goes with --backend docker")
    if detach:
        start_detached(data_dir)
        return
    options = Options(
        data_dir=data_dir,
        host=host,
        ports={"query": query_port, "upload": upload_port, "collect": collect_port},
        admin_port=admin_port,
        metrics_port=metrics_port,
        manifests=manifests,
        etcd_endpoints=etcd_endpoints or None,
        sample=not no_sample,
        auth_tokens=auth_tokens,
        insecure=insecure,
        overrides=overrides,
        quiet_period_s=quiet_period,
        reload=reload,
        backend=backend,
        image=image,
    )
    with lock_data_dir(data_dir) as lock, signed(data_dir, lock):
        runtime = Runtime(options, lock, tell)
        binary = runtime.etcd_binary
        if binary is not None and binary.warning:
            click.secho(binary.warning, fg="yellow")
        click.echo(
            f"starting: {'etcd ' + binary.version_text if binary else 'etcd at ' + str(etcd_endpoints)}"
        )
        runtime.run(lambda plan, tell_later: _ready(plan, options, tell_later, fresh=runtime.is_fresh))
    click.echo("stopped: everything is down, the data stays in " + str(data_dir))


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
    upload = plan.urls.get("upload", "")
    metrics = build_url(options.host, options.metrics_port) + "/metrics" if options.metrics_port else None
    running = announce(
        options.data_dir,
        host=options.host,
        urls=plan.urls,
        admin=build_url(LOOPBACK, options.admin_port),
        metrics=metrics,
        auth_tokens=options.auth_tokens,
    )
    try:
        click.echo(describe_running(running, options.data_dir, "Ctrl-C or `gpu-telemetry down` stops it."))
    except OSError:
        return
    # The file is left when the first run ended before it was uploaded.
    if options.sample and upload and (fresh or (options.data_dir / _SAMPLE).exists()):
        threading.Thread(
            target=_upload_sample, args=(options, upload, tell_later), name="sample", daemon=True
        ).start()


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
