"""The engine as an lmms-eval model: greedy answers from the visual tokens that a method keeps.

    --model script_demo --model_args model=llava-hf/llava-v1.6-vicuna-7b-hf,method=script,budget=320

A method's parameters go into brackets, with semicolons, as commas separate lmms-eval's own arguments:
method=script(p=0.3;tau=0.2;scope=global). Without a budget every token stays.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import torch
from accelerate import Accelerator
from lmms_eval.api.instance import Instance
from lmms_eval.api.model import lmms
from tqdm import tqdm

from script_core.engine import MAX_ANSWER, Engine
from script_core.evaluation.methods import parse

LONGEST = 128  # tokens, where a task does not say


class ScriptDemo(lmms):
    """One engine per process; lmms-eval deals the questions out."""

    is_simple = True

    def __init__(
        self,
        model: str = "stickers",
        method: str = "full",
        budget: int = 0,
        device: str | None = None,
        dtype: str | None = None,
        newlines: str = "drop",
        batch_size: int | str = 1,
        **unknown: Any,
    ) -> None:
        super().__init__()
        if unknown:
            raise ValueError(f"script_demo has no argument {sorted(unknown)[0]!r}.")
        if int(batch_size) != 1:
            raise ValueError("script_demo answers one question at a time; use --batch_size 1.")
        self.accelerator = Accelerator()
        self._rank, self._world_size = self.accelerator.process_index, self.accelerator.num_processes
        place = device or str(self.accelerator.device)
        if torch.device(place).type == "cpu" and self._world_size > 1:
            torch.set_num_threads(max(1, (os.cpu_count() or 1) // self._world_size))
        self.engine = Engine.load(model, device=place, dtype=dtype, newlines=newlines)
        self.method = parse(str(method).replace(";", ",")).pruner
        self.budget = int(budget)

    @property
    def device(self) -> torch.device:
        return torch.device(self.engine.info.device)

    @property
    def rank(self) -> int:
        return self._rank

    @property
    def world_size(self) -> int:
        return self._world_size

    def generate_until(self, requests: Sequence[Instance]) -> list[str]:
        """One answer per request. Raises ValueError for a question with several pictures, which no model here takes."""
        found = []
        for request in tqdm(requests, disable=self._rank != 0, desc="script_demo"):
            context, options, pictures, number, task, split = request.args
            seen = pictures(self.task_dict[task][split][number])
            if len(seen) != 1:
                raise ValueError(f"{task} asks about {len(seen)} pictures at once; one is what these models take.")
            found.append(self._answer(seen[0], context, options))
        return found

    def _answer(self, picture: Any, context: str, options: dict[str, Any]) -> str:
        encoded = self.engine.encode(picture)
        question = context.replace("<image>", "").strip()
        longest = min(int(options.get("max_new_tokens", LONGEST)), MAX_ANSWER)
        result = self.engine.ask(
            encoded, question, pruner=self.method, budget=self.budget or len(encoded.tokens), max_new_tokens=longest
        )
        return cut(result.answer, options.get("until", ()))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        raise ValueError("script_demo generates answers; choose tasks that are scored by what is generated.")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        raise ValueError("script_demo answers single questions, no rounds of them.")


def cut(answer: str, until: str | Sequence[str]) -> str:
    """The answer up to the first of the task's stop strings."""
    for stop in [until] if isinstance(until, str) else until:
        if stop:
            answer = answer.split(stop)[0]
    return answer.strip()
