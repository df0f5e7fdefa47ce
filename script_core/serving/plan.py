"""How the workers are laid out, from `name=value` pairs as `serve run` passes them on. Knows no Ray."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


@dataclass(frozen=True)
class Plan:
    """One deployment of model workers.

    models: what each worker loads, separated by commas. replicas: how many workers at least; most: at most, 0 for
    exactly `replicas`. gpus, cpus: share of each that one worker reserves (0.5: two workers on one GPU); a worker
    computes with as many threads as whole CPUs, at least one. target: calls per worker, waiting ones included, that
    the autoscaler aims at. ongoing: calls that one worker takes at a time before others are asked. queued: calls that
    may wait per front end. cache_mb: encodings held per model and worker.
    """

    models: str = "stickers,stickers-anyres,stickers-video"
    replicas: int = 1
    most: int = 0
    gpus: float = 0.0
    cpus: float = 1.0
    device: str = ""
    target: float = 2.0
    ongoing: int = 8
    queued: int = 64
    cache_mb: int = 512

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Plan:
        """From pairs of strings. Raises ValueError for an unknown name or an impossible value."""
        known = {one.name: type(getattr(cls, one.name)) for one in fields(cls)}
        unknown = sorted(set(given) - set(known))
        if unknown:
            raise ValueError(f"There is no setting {unknown[0]!r}; the settings are {', '.join(known)}.")
        values: dict[str, Any] = {}
        for name, value in given.items():
            try:
                values[name] = known[name](value)
            except ValueError as error:
                raise ValueError(f"{name}={value} is not a number; write {name}={getattr(cls, name)}, say.") from error
        plan = cls(**values)
        plan._check()
        return plan

    def _check(self) -> None:
        if not self.names:
            raise ValueError("models names no model; write models=stickers, say.")
        if self.replicas < 1 or (self.most and self.most < self.replicas):
            raise ValueError("replicas is at least 1, and most is 0 or at least replicas.")
        if self.gpus < 0 or self.cpus < 0 or (self.gpus > 1 and self.gpus != int(self.gpus)):
            raise ValueError("gpus and cpus are not negative, and more than one GPU means a whole number of them.")
        if self.ongoing < 1 or self.queued < 1 or self.target <= 0 or self.cache_mb < 1:
            raise ValueError("ongoing, queued, target and cache_mb are positive.")

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.models.split(",") if name.strip())

    def options(self) -> dict[str, Any]:
        """Arguments of `Deployment.options`.

        A worker that is told to leave has a minute for the answers it has begun, and one whose check fails three times
        in a row is replaced.
        """
        size: dict[str, Any] = {"num_replicas": self.replicas}
        if self.most:
            size = {
                "autoscaling_config": {
                    "min_replicas": self.replicas,
                    "max_replicas": self.most,
                    "target_ongoing_requests": self.target,
                    "upscale_delay_s": 10,  # loading a model takes longer; a short peak is better waited out
                    "downscale_delay_s": 300,
                }
            }
        return {
            **size,
            "ray_actor_options": {"num_gpus": self.gpus, "num_cpus": self.cpus},
            "max_ongoing_requests": self.ongoing,
            "max_queued_requests": self.queued,
            "health_check_period_s": 5,
            "health_check_timeout_s": 30,
            "graceful_shutdown_timeout_s": 60,
            "logging_config": {"enable_access_log": False},  # a slider is many calls
        }
