"""The admin port, for this machine only: GET /health, /services, /events and /metrics."""

from __future__ import annotations

from importlib.metadata import version

from aiohttp import web

from local_runtime.metrics import CONTENT_TYPE, render
from local_runtime.pipeline import Pipeline

_PATHS = ("/health", "/services", "/events", "/metrics")


class Admin:
    """Answers from `start` to `stop`, in the runtime's loop."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._runner: web.AppRunner | None = None

    async def start(self, host: str, port: int) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        application = web.Application()
        application.router.add_get("/health", self._health)
        application.router.add_get("/services", self._services)
        application.router.add_get("/events", self._events)
        application.router.add_get("/metrics", self._metrics)
        application.router.add_route("*", "/{path:.*}", self._nothing)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()

    async def stop(self) -> None:
        """Answer no more and close the port."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _request: web.Request) -> web.Response:
        about = {"service": "runtime", "version": version("gpu-telemetry"), "ready": self._pipeline.is_ready}
        return web.json_response({"status": "healthy", **about})

    async def _services(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "services": self._pipeline.describe_services(),
                "processes": self._pipeline.describe_processes(),
                "metrics": self._pipeline.metrics_url,
            }
        )

    async def _events(self, _request: web.Request) -> web.Response:
        return web.json_response({"events": self._pipeline.describe_events()})

    async def _metrics(self, _request: web.Request) -> web.Response:
        body = render(self._pipeline.describe_services(), self._pipeline.describe_processes())
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE})

    async def _nothing(self, request: web.Request) -> web.Response:
        message = f"there is no {request.method} {request.path[:200]}: {', '.join(_PATHS)}"
        error = {"code": "not_found", "message": message, "details": {}}
        return web.json_response({"success": False, "error": error}, status=404)
