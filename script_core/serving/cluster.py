"""Ray Serve's workers as a `remote.Cluster`: calls through a deployment handle, Ray's failures in our words.

Ray is imported only once a cluster is asked for.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from typing import Any

from script_core.backends.base import CannotLoad
from script_core.serving.messages import Facts, Reply, Request
from script_core.serving.remote import RemoteEngine
from script_core.serving.replay import Busy, Lost, Unreachable
from script_core.serving.worker import Broken

log = logging.getLogger("script")
SCHEME = "ray://"
WAIT_S = 120.0  # for the application to be there


def parse(address: str) -> tuple[str, str]:
    """(where the cluster is, which application) of `ray://HOST:PORT/APPLICATION`.

    The host may be `auto` (the cluster that this machine is part of) and stands for it if left out; the application is
    Serve's "default" if left out. Raises ValueError.
    """
    if not address.startswith(SCHEME):
        raise ValueError(f"An engine's address reads {SCHEME}auto or {SCHEME}host:6379, not {address!r}.")
    where, _, name = address.removeprefix(SCHEME).partition("/")
    host, colon, port = where.rpartition(":")
    if where not in ("", "auto") and not (host and colon and port.isdigit()):
        raise ValueError(f"{address!r} names no port; Ray's is 6379 unless it was started with another one.")
    return where or "auto", name.strip("/") or "default"


def connect(address: str, wait_s: float = WAIT_S) -> RayCluster:
    """The workers at that address, once one of them is up. Raises ValueError, `CannotLoad` and `Unreachable`.

    This machine has to be part of the cluster (`ray start --address=...`): Ray's own client protocol cannot stream.
    """
    where, name = parse(address)
    try:
        import ray
        from ray import serve
        from ray.serve.exceptions import RayServeException
    except ImportError as error:
        raise CannotLoad("A cluster of workers needs Ray: pip install -r requirements-ray.txt.") from error
    if not ray.is_initialized():
        try:
            ray.init(address=where, log_to_driver=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise Unreachable(
                f"There is no Ray cluster at {where}, or this machine is not part of it, or it has another token; "
                "run `ray start --address=HOST:6379` here first, with RAY_AUTH_MODE and the token as there."
            ) from error
    logging.getLogger("ray.serve").setLevel(logging.ERROR)  # it tells of each worker that comes and goes
    ends = time.monotonic() + wait_s
    while True:
        try:
            cluster = RayCluster(serve.get_app_handle(name))
            cluster.describe(max(1.0, ends - time.monotonic()))
            return cluster
        except (RayServeException, RuntimeError, Lost) as error:  # not deployed yet, or no worker up yet
            if time.monotonic() > ends:
                raise Unreachable(
                    f"The cluster has no application {name!r} that answers; see `serve status`."
                ) from error
            time.sleep(1.0)


class RayCluster:
    """The workers behind one Serve application. May be used from many threads, but not from an event loop."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle
        self._facts: dict[str, Facts] = {}

    def describe(self, timeout_s: float = 30.0) -> dict[str, Facts]:
        """The models that the workers serve; asked once."""
        if not self._facts:
            try:
                self._facts = self.handle.describe.remote().result(timeout_s=timeout_s)
            except Exception as problem:
                raise in_our_words(problem) from problem
        return self._facts

    def engine(self, model: str = "", **options: Any) -> RemoteEngine:
        """The engine of that model, or of the first one. Options are `RemoteEngine`'s. Raises `CannotLoad`."""
        facts = self.describe()
        model = model or next(iter(facts))
        if model not in facts:
            raise CannotLoad(f"The cluster does not serve {model!r}; it serves {', '.join(facts)}.")
        return RemoteEngine(self, model, facts[model], **options)

    def call(self, request: Request, affinity: str) -> Reply:
        try:
            return self._options("call", affinity).remote(request).result()
        except Exception as problem:
            raise in_our_words(problem) from problem

    def stream(self, request: Request, affinity: str) -> Generator[Reply, None, None]:
        replies = self._options("stream", affinity, stream=True).remote(request)
        ended = False
        try:
            yield from replies
            ended = True
        except Exception as problem:
            ended = True
            raise in_our_words(problem) from problem
        finally:
            if not ended:
                replies.cancel()

    def stop(self, run: str) -> None:
        def tell() -> None:
            try:
                self.handle.broadcast("stop", run).results(timeout_s=10, return_exceptions=True)
            except Exception:
                log.warning("a stop did not reach the workers", exc_info=True)

        threading.Thread(target=tell, name="stop", daemon=True).start()

    def close(self) -> None:
        """Leave the cluster; to be called before `ray.shutdown`, which the handle's own threads would undo."""
        self.handle.shutdown()

    def _options(self, method: str, affinity: str, **more: Any) -> Any:
        return self.handle.options(method_name=method, **({"session_id": affinity} if affinity else {}), **more)


def in_our_words(problem: Exception) -> Exception:
    """`Lost` if the call can be made again, `Busy` or `Unreachable` if not; anything that is not Ray's as it is."""
    from ray import exceptions as ray_errors
    from ray.serve import exceptions as serve_errors

    lost = (
        ray_errors.RayActorError,  # and what it stands above: died, unavailable
        ray_errors.WorkerCrashedError,
        ray_errors.NodeDiedError,
        ray_errors.ObjectLostError,
        ray_errors.TaskCancelledError,  # by the cluster: when we cancel, nobody reads on
        serve_errors.ReplicaUnavailableError,
    )
    if isinstance(problem, serve_errors.BackPressureError):
        return Busy("All model workers are busy and the queue is full; try again in a moment.")
    if isinstance(problem, (*lost, Broken)):
        return Lost(str(problem))
    if isinstance(problem, ray_errors.RayTaskError):
        log.error("a worker failed", exc_info=problem)
        return RuntimeError("A model worker failed; its log says more.")
    if isinstance(problem, ray_errors.RayError | serve_errors.RayServeException | TimeoutError):
        log.error("the cluster does not answer", exc_info=problem)
        return Unreachable("The model workers cannot be reached; try again in a minute.")
    return problem
