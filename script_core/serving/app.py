"""The model workers as a Ray Serve application (needs requirements-ray.txt).

    serve run script_core.serving.app:app replicas=2

The settings are `plan.Plan`'s. Calls about one picture go to the worker that its hash points to, by Serve's consistent
hash router, and to the next one on the ring while that one is full; a worker that joins or leaves moves only its share.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ray import serve
from ray.serve import Application
from ray.serve.config import RequestRouterConfig
from starlette.requests import Request as HttpRequest

from script_core.serving.messages import Facts, Reply, Request
from script_core.serving.plan import Plan
from script_core.serving.worker import Worker
from script_core.spacefile.manifest import load

ROUTER = "ray.serve.experimental.consistent_hash_router.ConsistentHashRouter"


class Replica:
    """`Worker` in a process of its own: its methods, beside the event loop so that checks and stops get through."""

    def __init__(self, plan: Plan) -> None:
        self._threads = ThreadPoolExecutor(plan.ongoing, thread_name_prefix="call")
        manifest = load()
        sources = [manifest.models[name].source if name in manifest.models else name for name in plan.names]
        self._worker = Worker.load(
            sources, device=plan.device or None, held_bytes=plan.cache_mb << 20, revisions=manifest.revisions()
        )

    async def call(self, request: Request) -> Reply:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._worker.call, request)

    async def stream(self, request: Request) -> AsyncIterator[Reply]:
        loop = asyncio.get_running_loop()
        events = self._worker.stream(request)
        try:
            while (reply := await loop.run_in_executor(self._threads, next, events, None)) is not None:
                yield reply
        finally:  # the caller has left: what runs in the thread ends at its next token
            self._worker.stop(request.run)

    async def stop(self, run: str) -> None:
        self._worker.stop(run)

    async def describe(self) -> dict[str, Facts]:
        return self._worker.describe()

    async def where(self) -> tuple[str, int, int]:
        """(replica, process id, streams under way) of the worker that took this call."""
        return serve.get_replica_context().replica_id.unique_id, os.getpid(), self._worker.streams

    async def check_health(self) -> None:
        """Called by Serve every few seconds; raising has this worker replaced."""
        self._worker.check()

    async def __call__(self, request: HttpRequest) -> dict[str, Any]:
        """GET on Serve's own port: which models are up."""
        return {"models": {name: facts.info.name for name, facts in self._worker.describe().items()}}


def app(settings: dict[str, str]) -> Application:
    """What `serve run` builds. Raises ValueError for settings that cannot be (see `Plan.of`)."""
    plan = Plan.of(settings)
    router = RequestRouterConfig(request_router_class=ROUTER)
    deployment = serve.deployment(name="ModelWorker", request_router_config=router)(Replica)
    return deployment.options(**plan.options()).bind(plan)
