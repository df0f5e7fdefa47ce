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
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from script_core.stickers.atlas import STYLES
from script_core.stickers.batches import MIXED, TRAINING_SEED
from script_core.stickers.gates import auc
from script_core.stickers.held_out import MODES, held_out
from script_core.stickers.questions import NEGATIVES, Question

POSITION = ("where", "leftright", "abovebelow", "nextto")
KINDS = tuple(dict.fromkeys(kind for mode in MODES.values() for kind in mode.mix))


@dataclass(frozen=True)
class Asked:
    """One question of the benchmark with the model's answer."""

    scene: int
    question: Question
    answer: str

    @property
    def right(self) -> bool:
        return self.answer == self.question.answer


def measure(
    engine: Any,
    *,
    mode: str = "image",
    method: str = "full",
    budget: int | None = None,
    questions: int = 300,
    seed: int = 77,
    negatives: str = "random",
    style: str = "noto",
    mix: Mapping[str, float] | None = None,
    hard: bool = False,
) -> dict[str, Any]:
    """Ask everything and count; exact match of the whole answer. Relevance is measured before pruning.

    engine: of the model that `MODES[mode]` names. budget: visual tokens to keep, None for all. The rest as in
    `held_out`.
    """
    started = time.perf_counter()
    keep = MODES[mode].tokens if budget is None else budget
    found: list[Asked] = []
    areas: list[float] = []
    drawn = held_out(seed, questions, mode, mix=mix, negatives=negatives, hard=hard)
    for number, sheet in enumerate(drawn):
        encoded = engine.encode(sheet.media(style))
        for question in sheet.asked:
            result = engine.ask(encoded, question.text, pruner=method, budget=keep, max_new_tokens=4)
            found.append(Asked(number, question, result.answer))
            area = relevance_area(engine, encoded.tokens, question, sheet.owner)
            if area is not None:
                areas.append(area)
    report = summarise(found)
    return report | {
        "relevance_auc": round(float(np.mean(areas)), 4) if areas else None,
        "relevance_auc_p10": round(float(np.quantile(areas, 0.1)), 4) if areas else None,
        "mode": mode, "method": method, "budget": keep, "questions": len(found), "seed": seed, "negatives": negatives,
        "style": style, "hard": hard, "seconds": round(time.perf_counter() - started, 1),
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


CARD = "card.json"  # what `export` writes beside the weights of a trained checkpoint


def _engine(model: str, mode: str) -> Any:
    """A model by name or folder. A folder that training wrote is read as the embedded model is in this mode."""
    from script_core.backends.loading import Wish, locate, read
    from script_core.engine import Engine

    if not (Path(model) / CARD).is_file():
        return Engine.load(model)
    return Engine(read(replace(locate(Wish(MODES[mode].model)), folder=Path(model))))


def main(argv: list[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    # One thread: a model this small gains little from two, which wait for each other on a machine that others use.
    torch.set_num_threads(1)
    try:
        report = measure(
            _engine(args.model or MODES[args.mode].model, args.mode),
            mode=args.mode,
            method=args.method,
            budget=args.budget,
            questions=args.questions,
            seed=args.seed,
            negatives=args.negatives,
            style=args.style,
            mix={args.only: 1.0} if args.only else None,
            hard=args.hard,
        )
    except (ValueError, RuntimeError) as error:  # all of this project's own errors are one of the two
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        raise SystemExit(2) from None
    if args.json:
        print(json.dumps(report))
        return
    for kind, value in report["accuracy"].items():
        print(f"{kind:12} {100 * value:5.1f} %  of {report['counts'][kind]}")
    print(f"relevance AUC {report['relevance_auc']}, {report['seconds']} s", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="checkpoint folder or name; default: the embedded model for the mode")
    parser.add_argument("--mode", choices=sorted(MODES), default="image", help="single view, high resolution, clips")
    parser.add_argument("--method", default="full", help="pruning method, by its registry name")
    parser.add_argument("--budget", type=int, help="visual tokens to keep; default: all")
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=77, help=f"below {TRAINING_SEED}, which training never uses")
    parser.add_argument("--negatives", choices=NEGATIVES, default="random", help="how absent objects are chosen (POPE)")
    parser.add_argument("--style", choices=STYLES, default="noto", help="emoji; the second one was never trained on")
    parser.add_argument("--only", choices=KINDS, help="one kind of question only")
    parser.add_argument("--hard", action="store_true", help="1 to 16 stickers of 20 to 160 px")
    parser.add_argument("--json", action="store_true", help="print one JSON object and nothing else")
    return parser


if __name__ == "__main__":
    main()
