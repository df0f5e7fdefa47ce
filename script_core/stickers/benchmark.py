"""Accuracy of a checkpoint on held-out sticker scenes, through the same engine that the page uses.

    python -m script_core.stickers.benchmark --method script --budget 64 --questions 300 --seed 77 --json

Seeds from `TRAINING_SEED` on belong to training and are refused here; every smaller one gives fresh scenes.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from script_core.stickers.batches import MIXED, TRAINING_SEED, picture
from script_core.stickers.canvas import Scene
from script_core.stickers.gates import auc
from script_core.stickers.questions import NEGATIVES, Question, ask
from script_core.stickers.rendering import render
from script_core.stickers.scenes import make_scene

MIX: Mapping[str, float] = {
    "existence": 0.34, "colour": 0.11, "kind": 0.11, "count": 0.14, "where": 0.09, "leftright": 0.08,
    "abovebelow": 0.07, "nextto": 0.06,
}  # fmt: skip
POSITION = ("where", "leftright", "abovebelow", "nextto")
PER_SCENE = 6


@dataclass(frozen=True)
class Asked:
    """One question of the benchmark with the model's answer."""

    scene: int
    question: Question
    answer: str

    @property
    def right(self) -> bool:
        return self.answer == self.question.answer


def held_out(
    seed: int, questions: int, *, mix: Mapping[str, float] = MIX, negatives: str = "random", per_scene: int = PER_SCENE
) -> Iterator[tuple[Scene, list[Question]]]:
    """Scenes with up to `per_scene` questions each until there are `questions`, the same for every method.

    Raises ValueError for a seed that training uses.
    """
    if not 0 <= seed < TRAINING_SEED:
        raise ValueError(f"Seed {seed} is not held out; use one from 0 to {TRAINING_SEED - 1}.")
    left = questions
    for number in range(questions):
        if left <= 0:
            return
        rng = np.random.default_rng([seed, number])
        scene = make_scene(rng)
        asked = ask(scene, rng, min(per_scene, left), mix, negatives)
        left -= len(asked)
        yield scene, asked


def measure(
    engine: Any,
    *,
    method: str = "full",
    budget: int = 576,
    questions: int = 300,
    seed: int = 77,
    negatives: str = "random",
    style: str = "noto",
    mix: Mapping[str, float] = MIX,
    per_scene: int = PER_SCENE,
) -> dict[str, Any]:
    """Ask everything and count; exact match of the whole answer. Relevance is measured before pruning."""
    started = time.perf_counter()
    found: list[Asked] = []
    areas: list[float] = []
    drawn = held_out(seed, questions, mix=mix, negatives=negatives, per_scene=per_scene)
    for number, (scene, asked) in enumerate(drawn):
        encoded = engine.encode(render(scene, 336, style).image)
        owner = picture(scene, 336).owner
        for question in asked:
            result = engine.ask(encoded, question.text, pruner=method, budget=budget, max_new_tokens=4)
            found.append(Asked(number, question, result.answer))
            area = relevance_area(engine, encoded.tokens, question, owner)
            if area is not None:
                areas.append(area)
    report = summarise(found)
    return report | {
        "relevance_auc": round(float(np.mean(areas)), 4) if areas else None,
        "relevance_auc_p10": round(float(np.quantile(areas, 0.1)), 4) if areas else None,
        "method": method, "budget": budget, "questions": len(found), "seed": seed, "negatives": negatives,
        "style": style, "seconds": round(time.perf_counter() - started, 1),
    }  # fmt: skip


def relevance_area(engine: Any, tokens: Any, question: Question, owner: np.ndarray) -> float | None:
    """AUC of signed patch-text cosine for the patches of the stickers asked about; None if there are none."""
    clear = owner != MIXED
    positive = np.isin(owner, question.about)
    if not question.about or tokens.joint is None or not positive[clear].any() or positive[clear].all():
        return None
    text = torch.nn.functional.normalize(engine.query(question.text).joint, dim=-1).mean(0)
    score = torch.nn.functional.normalize(tokens.joint, dim=-1) @ text * tokens.relevance_sign
    return auc(score.cpu().numpy()[clear], positive[clear])


def summarise(found: list[Asked]) -> dict[str, Any]:
    """Accuracy and counts per kind; "position" is the mean over its four kinds, "yes" and "no" split existence."""
    by_kind: dict[str, list[bool]] = defaultdict(list)
    for item in found:
        by_kind[item.question.kind].append(item.right)
        if item.question.kind == "existence":
            by_kind[item.question.answer].append(item.right)
    accuracy = {kind: round(float(np.mean(right)), 4) for kind, right in by_kind.items()}
    counts = {kind: len(right) for kind, right in by_kind.items()}
    parts = [accuracy[kind] for kind in POSITION if kind in accuracy]
    if parts:
        accuracy["position"] = round(float(np.mean(parts)), 4)
        counts["position"] = sum(counts[kind] for kind in POSITION if kind in counts)
    return {"accuracy": dict(sorted(accuracy.items())), "counts": dict(sorted(counts.items()))}


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, help="checkpoint folder; default: the embedded model")
    parser.add_argument("--method", default="full", help="pruning method, by its registry name")
    parser.add_argument("--budget", type=int, default=576, help="visual tokens to keep")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=77, help=f"below {TRAINING_SEED}, which training never uses")
    parser.add_argument("--negatives", choices=NEGATIVES, default="random", help="how absent objects are chosen (POPE)")
    parser.add_argument("--only", choices=sorted(MIX), help="one kind of question only")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    args = parser.parse_args(argv)
    from script_core.engine import Engine

    # One thread: a model this small gains little from two, which wait for each other on a machine that others use.
    torch.set_num_threads(1)
    engine = Engine.load(args.model)
    mix = {args.only: 1.0} if args.only else MIX
    try:
        report = measure(
            engine,
            method=args.method,
            budget=args.budget,
            questions=args.questions,
            seed=args.seed,
            negatives=args.negatives,
            mix=mix,
        )
    except ValueError as error:
        parser.error(str(error))
    if args.json:
        print(json.dumps(report))
        return
    for kind, value in report["accuracy"].items():
        print(f"{kind:12} {100 * value:5.1f} %  of {report['counts'][kind]}")
    print(f"relevance AUC {report['relevance_auc']}, {report['seconds']} s", file=sys.stderr)


if __name__ == "__main__":
    main()
