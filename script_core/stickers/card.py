"""Writes the model card from measurements: `python -m script_core.stickers.card`.

Everything in the results sections of assets/models/stickers/README.md comes out of this command; nothing is typed in.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from script_core.stickers.batches import TRAINING_SEED
from script_core.stickers.benchmark import measure
from script_core.stickers.catalogue import COLOURS, NAMES, READABLE, TINTABLE
from script_core.stickers.clips import CLIP_KINDS
from script_core.stickers.curves import draw_accuracy
from script_core.stickers.held_out import MIX, MODES
from script_core.stickers.presets import ROOT
from script_core.stickers.questions import NEGATIVES

FOLDER = ROOT / "assets" / "models" / "stickers"
METHODS = ROOT / "assets" / "results" / "pictures.json"
CLIPS = ROOT / "assets" / "results" / "clips.json"
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


def gather(load: Callable[[str], Any], questions: int, seed: int) -> dict[str, Any]:
    """All measurements with every token kept. load: a model's name -> its engine."""
    engine = load("stickers")
    others = {kind: weight for kind, weight in MIX.items() if kind != "existence"}
    few = max(questions // 2, 1)
    return {
        "commit": commit(),
        "machine": machine(),
        "existence": {
            negatives: measure(engine, questions=few, seed=seed, negatives=negatives, mix=ONLY_EXISTENCE)
            for negatives in NEGATIVES
        },
        "kinds": measure(engine, questions=2 * questions, seed=seed + 1, mix=others),
        "hard": measure(engine, questions=few, seed=seed + 2, hard=True),
        "style": measure(engine, questions=few, seed=seed, style="twemoji", mix=ONLY_EXISTENCE),
        "anyres": measure(load("stickers-anyres"), mode="anyres", questions=few, seed=seed),
        "video": measure(load("stickers-video"), mode="video", questions=few, seed=seed),
    }


def percent(value: float) -> str:
    return f"{100 * value:.1f} %"


def results(found: dict[str, Any]) -> str:
    """The table of what the model can do with all tokens."""
    lines = ["| with all tokens | accuracy | questions |", "|---|---|---|"]

    def add(label: str, report: dict[str, Any], kind: str) -> None:
        lines.append(f"| {label} | {percent(report['accuracy'][kind])} | {report['counts'][kind]} |")

    for negatives, report in found["existence"].items():
        a = report["accuracy"]
        split = f"yes {percent(a['yes'])}, no {percent(a['no'])}"
        add(f"existence, {negatives} negatives ({split})", report, "existence")
    for kind in found["kinds"]["accuracy"]:
        add(NAMED.get(kind, kind), found["kinds"], kind)
    add("existence, 1 to 16 stickers of 20 to 160 px", found["hard"], "existence")
    add("existence, emoji style never trained on (Twemoji)", found["style"], "existence")
    for kind in MODES["anyres"].mix:
        add(f"2,880 tokens, stickers of 24 to 60 px in 672: {kind}", found["anyres"], kind)
    for kind in CLIP_KINDS:
        add(f"clips of 8 frames: {kind}", found["video"], kind)
    areas = found["existence"]["random"]
    lines += [
        "",
        f"Relevance (cosine of patch and whole question, AUC of the patches asked about): mean "
        f"{areas['relevance_auc']}, 10th percentile {areas['relevance_auc_p10']}.",
    ]
    return "\n".join(lines)


NAMED = {
    "position": "position (mean of the four)", "where": "where (3 x 3)", "leftright": "left or right",
    "abovebelow": "above or below", "nextto": "next to", "reading": "reading a word", "kind": "kind or name",
}  # fmt: skip


def against_budget(path: Path) -> str:
    """Accuracy of the methods against the number of tokens kept, from the shipped results of the evaluation."""
    report = json.loads(path.read_text())
    rows = [row for row in report["rows"] if row["method"] != "full"]
    full = next(row for row in report["rows"] if row["method"] == "full")
    budgets = sorted({row["budget"] for row in rows}, reverse=True)
    methods = list(dict.fromkeys(row["method"] for row in rows))
    cells = {(row["method"], row["budget"]): percent(row["accuracy"]) for row in rows}
    exist = {(row["method"], row["budget"]): percent(_existence(row)) for row in rows}
    lines = [
        f"Accuracy against the number of visual tokens kept of 576, {report['questions']} questions of all kinds, the "
        f"same in every cell; all tokens: {percent(full['accuracy'])} (existence: {percent(_existence(full))}). From "
        f"`assets/results/{path.name}`, commit {report['commit']}; `accuracy.png` has it by kind of question.",
    ]
    for title, table in (("all kinds", cells), ("existence", exist)):
        lines += ["", f"| {title} | " + " | ".join(map(str, budgets)) + " |", "|---|" + "---|" * len(budgets)]
        lines += [f"| {m} | " + " | ".join(table.get((m, b), "") for b in budgets) + " |" for m in methods]
    lines += ["", differences(report)]
    return "\n".join(lines)


def in_time(path: Path) -> str:
    """What few tokens do to a question that names nothing, from the shipped results on clips."""
    report = json.loads(path.read_text())
    full = next(row for row in report["rows"] if row["method"] == "full")
    few = min((row for row in report["rows"] if row["method"] == "script"), key=lambda row: row["budget"])
    return (
        f"Which of all things comes first in a clip names nothing that a token could be relevant to: "
        f"{percent(full['suites']['first'])} are right with all {full['budget']} tokens, "
        f"{percent(few['suites']['first'])} with {few['budget']} chosen by `script` "
        f"(`assets/results/{path.name}`, {report['suites']['first']} questions)."
    )


def _existence(row: dict[str, Any]) -> float:
    values = [value for suite, value in row["suites"].items() if suite.startswith("existence")]
    return sum(values) / len(values)


def differences(report: dict[str, Any]) -> str:
    """Which methods differ beyond chance from the one that the results' paired tests put first."""
    better, worse = [], []
    for test in report["tests"]:
        where = f"{test['second']} at {test['budget']}"
        if test["p_t"] < 0.05:
            better.append(where)
        elif test["p_t"] > 0.95:
            worse.append(where)
    first = report["tests"][0]["first"]
    return (
        f"By the paired one-sided t test over {report['scenes']} scenes (5 %, not corrected for the number of tests) "
        f"`{first}` is better than {', '.join(better) or 'nothing'}, and worse than {', '.join(worse) or 'nothing'}."
    )


def text(card: dict[str, Any], found: dict[str, Any], seed: int) -> str:
    minutes = ", ".join(f"{name} {value:.0f}" for name, value in card["minutes"].items())
    return f"""# The embedded model

A LLaVA-NeXT with {card["parameters"] / 1e6:.1f} million parameters, trained from scratch on pictures of stickers.
It exists so that the demo runs anywhere: it knows {len(NAMES)} objects, {len(COLOURS)} colours for {len(TINTABLE)} of
them, {len(READABLE)} written words, and a few kinds of question about a picture or a clip of them. It knows nothing
else, and photographs mean nothing to it.

## Architecture
Vision: CLIP, 336 px, patches of 14 px, width 192, 6 layers of which LLaVA reads the fifth (the sixth is the identity).
Language: Llama, width 256, 4 layers, tied embeddings, one token per word. Projector: two layers, GELU. `joint/`: a
CLIP text tower of 2 layers and the visual projection; patches are aligned with whole questions, so relevance has a
positive sign. The weights load as `LlavaNextForConditionalGeneration` and, without `image_newline`, as
`LlavaForConditionalGeneration`. One checkpoint serves single views (576 tokens), high resolution (2,880) and clips
(8 frames of 144 tokens, each the mean of 2 x 2 patches).

## Data
Scenes drawn by `script_core.stickers.scenes` from Noto Color Emoji (SIL Open Font License 1.1): 1 to 16 stickers of
20 to 160 px, six kinds of background, clutter, written words; clips in which stickers move or come in. Questions with
exact answers from `script_core.stickers.questions` and `clips`. Seeds from {TRAINING_SEED:,} on are training, smaller
ones are held out.

## Training
`python -m script_core.stickers.train --preset shipped`: bfloat16 with float32 master weights, Muon for the matrices
inside layers and AdamW for the rest. Minutes per stage: {minutes} (align and symbols side by side).
{card.get("note", "")}

![Loss curves](curves.png)

## Results
Held-out scenes, seeds {seed} to {seed + 2}, exact match of the whole answer, all tokens, float32, commit
{found["commit"]}, {found["machine"]}. The same figures for any seed: `python -m script_core.stickers.benchmark`.

{results(found)}

{against_budget(METHODS)}

![Accuracy against budget by kind of question](accuracy.png)

## Limits
One training run. Accuracy is about sticker scenes only. Token dropping is part of the training (4 % to 100 % of the
tokens), so short inputs are familiar to the model. Words outside its vocabulary become `<unk>`; the demo says that it
does not know them instead of asking the model. {in_time(CLIPS)}

## Licence
Weights as the project; the pictures trained on are rendered from Noto Color Emoji (SIL Open Font License 1.1).
"""


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--questions", type=int, default=1000, help="half of them existence, twice as many of all others"
    )
    parser.add_argument("--seed", type=int, default=77)
    parser.add_argument("--rewrite", action="store_true", help="only write the text again from results.json")
    args = parser.parse_args(argv)
    if args.rewrite:
        found = json.loads((FOLDER / "results.json").read_text())
    else:
        from script_core.engine import Engine

        torch.set_num_threads(1)  # as in the benchmark
        found = json.loads(json.dumps(gather(Engine.load, args.questions, args.seed)))
        (FOLDER / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    card = json.loads((FOLDER / "card.json").read_text())
    draw_accuracy(json.loads(METHODS.read_text())["rows"], FOLDER / "accuracy.png")
    (FOLDER / "README.md").write_text(text(card, found, args.seed))


if __name__ == "__main__":
    main()
