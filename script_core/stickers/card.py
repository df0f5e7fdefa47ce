"""Writes the model card from measurements: `python -m script_core.stickers.card`.

Everything in the results sections of assets/models/stickers/README.md comes out of this command; nothing is typed in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from script_core.stickers.batches import TRAINING_SEED
from script_core.stickers.benchmark import MIX, measure
from script_core.stickers.catalogue import COLOURS, NAMES, TINTABLE
from script_core.stickers.presets import ROOT

FOLDER = ROOT / "assets" / "models" / "stickers"
METHODS = ("script", "cdpruner", "divprune", "trim", "cls_attention", "random", "uniform")
BUDGETS = (64, 32, 16, 8)
ONLY_EXISTENCE = {"existence": 1.0}


def machine() -> str:
    """Processor and number of cores, as the operating system names them."""
    info = Path("/proc/cpuinfo")
    names = (
        [x.split(":", 1)[1].strip() for x in info.read_text().splitlines() if x.startswith("model name")]
        if info.exists()
        else []
    )
    return f"{os.cpu_count()} cores of {names[0] if names else platform.processor() or platform.machine()}"


def commit() -> str:
    """The checked-out commit, "unknown" outside a git checkout."""
    command = ["git", "rev-parse", "--short", "HEAD"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def gather(engine: Any, questions: int, seed: int, pruned: int) -> dict[str, Any]:
    """All measurements: existence by kind of negative, all kinds, the unseen emoji style, methods against budgets."""
    others = {kind: weight for kind, weight in MIX.items() if kind != "existence"}
    existence = {
        negatives: measure(
            engine,
            questions=questions if negatives == "random" else questions // 2,
            seed=seed,
            negatives=negatives,
            mix=ONLY_EXISTENCE,
        )
        for negatives in ("random", "popular", "adversarial")
    }
    return {
        "commit": commit(),
        "machine": machine(),
        "existence": existence,
        "kinds": measure(engine, questions=questions, seed=seed + 1, mix=others),
        "style": measure(engine, questions=pruned, seed=seed, style="twemoji", mix=ONLY_EXISTENCE),
        "full": measure(engine, questions=pruned, seed=seed + 2, mix=ONLY_EXISTENCE),
        "methods": {
            method: {
                budget: measure(
                    engine, method=method, budget=budget, questions=pruned, seed=seed + 2, mix=ONLY_EXISTENCE
                )
                for budget in BUDGETS
            }
            for method in METHODS
        },
    }


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def results(found: dict[str, Any]) -> str:
    """The two tables."""
    lines = ["| question kind | accuracy | questions |", "|---|---|---|"]
    for negatives, report in found["existence"].items():
        a, n = report["accuracy"], report["counts"]["existence"]
        split = f"yes {percent(a['yes'])}, no {percent(a['no'])}"
        lines.append(f"| existence, {negatives} negatives ({split}) | {percent(a['existence'])} | {n} |")
    style = found["style"]
    lines.append(
        f"| existence, emoji style never trained on (Twemoji) | {percent(style['accuracy']['existence'])} "
        f"| {style['counts']['existence']} |"
    )
    kinds = found["kinds"]
    for kind, value in kinds["accuracy"].items():
        lines.append(f"| {kind} | {percent(value)} | {kinds['counts'][kind]} |")
    areas = found["existence"]["random"]
    lines += [
        "",
        f"Relevance (cosine of patch and whole question, AUC of the patches asked about): mean "
        f"{areas['relevance_auc']}, 10th percentile {areas['relevance_auc_p10']}.",
        "",
        "Existence accuracy against the number of visual tokens kept of 576 (the same "
        f"{found['full']['counts']['existence']} questions in every cell; all tokens: "
        f"{percent(found['full']['accuracy']['existence'])}):",
        "",
        "| method | " + " | ".join(map(str, BUDGETS)) + " |",
        "|---|" + "---|" * len(BUDGETS),
    ]
    for method, row in found["methods"].items():
        cells = [percent(row[str(budget)]["accuracy"]["existence"]) for budget in BUDGETS]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def text(card: dict[str, Any], found: dict[str, Any], seed: int) -> str:
    minutes = ", ".join(f"{name} {value:.0f}" for name, value in card["minutes"].items())
    return f"""# The embedded model

A LLaVA-NeXT with {card["parameters"] / 1e6:.1f} million parameters, trained from scratch on pictures of stickers.
It exists so that the demo runs anywhere: it knows {len(NAMES)} objects, {len(COLOURS)} colours for {len(TINTABLE)} of
them, and a few kinds of question about a picture of them. It knows nothing else, and photographs mean nothing to it.

## Architecture
Vision: CLIP, 336 px, patches of 14 px, width 192, 6 layers of which LLaVA reads the fifth (the sixth is the identity).
Language: Llama, width 256, 4 layers, tied embeddings, one token per word. Projector: two layers, GELU. `joint/`: a
CLIP text tower of 2 layers and the visual projection; patches are aligned with whole questions, so relevance has a
positive sign. The weights load as `LlavaNextForConditionalGeneration` and, without `image_newline`, as
`LlavaForConditionalGeneration`.

## Data
Scenes drawn by `script_core.stickers.scenes` from Noto Color Emoji (SIL Open Font License 1.1): 1 to 9 stickers of
11 to 45 % of the side, six kinds of background, clutter; questions with exact answers from
`script_core.stickers.questions`. Seeds from {TRAINING_SEED:,} on are training, smaller ones are held out.

## Training
`python -m script_core.stickers.train --preset cpu`: bfloat16 with float32 master weights, Muon for the matrices inside
layers and AdamW for the rest. Minutes per stage: {minutes} (align and symbols side by side).
{card.get("note", "")}

## Results
Held-out scenes, seeds {seed} to {seed + 2}, exact match of the whole answer, all 576 tokens unless said, float32,
commit {found["commit"]}, {found["machine"]}.

{results(found)}

## Limits
One training run. Accuracy is about sticker scenes at 336 px only. Token dropping is part of the training (4 % to 100 %
of the tokens), so short inputs are familiar to the model. Words outside its vocabulary become `<unk>`.

## Licence
Weights as the project; the pictures trained on are rendered from Noto Color Emoji (SIL Open Font License 1.1).
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=1000, help="existence, and as many of all others")
    parser.add_argument("--pruned", type=int, default=300, help="questions per method and budget")
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--rewrite", action="store_true", help="only write the text again from results.json")
    args = parser.parse_args(argv)
    if args.rewrite:
        found = json.loads((FOLDER / "results.json").read_text())
    else:
        from script_core.engine import Engine

        torch.set_num_threads(1)  # as in the benchmark
        found = json.loads(json.dumps(gather(Engine.load(), args.questions, args.seed, args.pruned)))
        (FOLDER / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    card = json.loads((FOLDER / "card.json").read_text())
    (FOLDER / "README.md").write_text(text(card, found, args.seed))


if __name__ == "__main__":
    main()
