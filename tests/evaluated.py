"""An engine that answers by rule, for tests of the evaluation."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from script_core.evaluation import Job, Journal, run
from script_core.evaluation.questions import sheets
from script_core.evaluation.results import summarise
from script_core.evaluation.runner import LONGEST, header

PROVENANCE = {"date": "2026-01-01 00:00", "commit": "abc", "machine": {"title": "a machine"}}


class Answering:
    """An engine that answers by rule, and counts. `rule(pruner, budget, question) -> answer`."""

    def __init__(self, rule: Any) -> None:
        self.rule, self.encoded, self.asked = rule, 0, 0
        weights = torch.nn.Linear(2, 2)
        torch.nn.init.ones_(weights.weight)
        torch.nn.init.zeros_(weights.bias)
        self.backend = SimpleNamespace(language_model=weights)
        self.info = SimpleNamespace(name="rule", dtype="float32", frames=8)
        self.newlines, self.positions = "drop", "compact"

    def encode(self, media: Any) -> Any:
        self.encoded += 1
        return SimpleNamespace(tokens=range(576))

    def ask(self, encoded: Any, question: str, *, pruner: Any, budget: int, max_new_tokens: int) -> Any:
        assert max_new_tokens == LONGEST
        self.asked += 1
        measured = SimpleNamespace(decode_ms=None, select_ms=1.0, prefill_ms=budget / 10)
        computed = SimpleNamespace(paper_flops=budget * 1e6, flops=budget * 2e6, kv_bytes=budget * 1024)
        counters = SimpleNamespace(
            kept=budget, entering=(budget, budget), generated=1, measured=measured, computed=computed
        )
        return SimpleNamespace(answer=self.rule(pruner, budget, question), counters=counters)


def truths(count: int) -> dict[str, str]:
    return {item.text: item.answer for sheet in sheets("image", count) for item in sheet.items}


def right(count: int) -> Answering:
    known = truths(count)
    return Answering(lambda pruner, budget, question: known[question])


def finished(engine: Any, job: Job) -> tuple[Journal, dict[str, Any]]:
    journal = Journal(None, header(engine, job.kind))
    assert run(engine, job, journal)
    return journal, summarise(job, journal, PROVENANCE)
