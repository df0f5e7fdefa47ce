"""Trains the embedded model from scratch: `python -m script_core.stickers.train --preset cpu`.

Stages (see `stages`): align and symbols run side by side, one thread each; the later ones run as two processes that
average their gradients. Every stage is bounded by minutes or by steps, resumes from its checkpoint, and ends with a
gate: accuracy on scenes whose seeds training never uses. The result is written to assets/models/stickers.

The command runs itself again with four allocator variables, because glibc otherwise hands large tensors back to the
kernel after every operation, and the page faults that follow cost several times the arithmetic.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from script_core.stickers.batches import TRAINING_SEED
from script_core.stickers.checkpoints import adopt, blend, build, finished_kit, save, start_from, weights
from script_core.stickers.curriculum import LAST, STAGES
from script_core.stickers.curves import KEYS, draw_curves
from script_core.stickers.export import save_checkpoint
from script_core.stickers.gates import language_gate, picture_gate
from script_core.stickers.kit import Kit
from script_core.stickers.optimiser import Optimiser
from script_core.stickers.presets import PRESETS, ROOT, Length, Preset
from script_core.stickers.questions import VOCABULARY
from script_core.stickers.tokenizer import word_ids

ALLOCATOR = {
    "MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": "20000000000", "MALLOC_TOP_PAD_": "500000000",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "OMP_WAIT_POLICY": "PASSIVE",
}  # fmt: skip


def stage_groups(stage: Any, kit: Kit) -> Optimiser:
    """The stage's optimiser; weights in no group are frozen for the stage."""
    optimiser = Optimiser(stage.groups())
    moving = {id(p) for g in optimiser.groups for p in g.parameters}
    for p in [*kit.model.parameters(), *kit.heads.parameters()]:
        p.requires_grad_(id(p) in moving)
    return optimiser


def rate(progress: float, step: int, decay: float) -> float:
    """Warm-up over 30 steps, then constant, then linear to 2 %."""
    tail = min(1.0, max(0.0, (1 - progress) / decay))
    return min(1.0, (step + 1) / 30) * (0.02 + 0.98 * tail)


class Log:
    """Running means, a progress line and a JSON line every ten seconds (first process only)."""

    def __init__(self, out: Path, name: str, speaks: bool) -> None:
        self.path, self.name, self.speaks = out / f"{name}.jsonl", name, speaks
        self.sums: dict[str, list[float]] = {}
        self.images, self.since = 0, time.time()
        earlier = self.path.read_text().splitlines() if self.path.exists() else []
        self.total = int(json.loads(earlier[-1])["images"]) if earlier else 0  # a resumed stage counts on

    def add(self, parts: dict[str, Tensor], images: int, norm: float) -> None:
        self.images += images
        for key, value in (parts | {"norm": torch.tensor(norm)}).items():
            self.sums.setdefault(key, []).append(float(value.detach()))

    def maybe(self, step: int, progress: float, workers: int, every: float = 10) -> None:
        spent = time.time() - self.since
        if not self.speaks or spent < every:
            return
        self.total += self.images * workers
        line = {
            "stage": self.name,
            "step": step,
            "progress": round(progress, 4),
            "images": self.total,
            "per_second": round(self.images * workers / spent, 1),
        }
        line |= {k: round(sum(v) / len(v), 4) for k, v in self.sums.items()}
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        bar = "#" * round(20 * progress)
        losses = " ".join(f"{k} {v}" for k, v in line.items() if k in KEYS)
        print(f"{self.name:8} [{bar:20}] {100 * progress:5.1f} %  {line['per_second']} images/s  {losses}", flush=True)
        self.sums, self.images, self.since = {}, 0, time.time()


def run_stage(name: str, preset: Preset, out: Path, seed: int) -> None:
    """Train one stage in this process (one of `workers`), resuming if its checkpoint is unfinished."""
    length = preset.stages[name]
    rank = int(os.environ.get("RANK", "0"))
    if length.workers > 1:
        dist.init_process_group("gloo", rank=rank, world_size=length.workers)
    words = out / "vocabulary.json"
    vocabulary = json.loads(words.read_text()) if words.exists() else word_ids(VOCABULARY)
    if preset.device == "cpu":
        torch.set_num_threads(1)
    path = out / f"{name}.pt"
    stored = torch.load(path, weights_only=True) if path.exists() else None
    resumed = None if stored is None or stored["done"] else stored
    step = resumed["optimiser"]["steps"] if resumed else 0
    kit = build(preset, vocabulary, seed + 10_000 * list(STAGES).index(name), length.batch, rank, step)
    start_from(kit, name, out)
    stage = STAGES[name](kit)
    begun = weights(kit)
    if resumed:
        adopt(kit, resumed["weights"])
    optimiser = stage_groups(stage, kit)
    elapsed = 0.0
    if resumed:
        optimiser.load(resumed["optimiser"])
        elapsed = resumed["elapsed"]
    elapsed += train_loop(
        stage, kit, optimiser, length, Log(out, name, rank == 0), path if rank == 0 else None, elapsed
    )
    if length.keep:
        blend(kit, optimiser, begun, length.keep)
    if rank == 0:
        save(path, kit, optimiser, elapsed, True)
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    if rank == 0:
        report_gate(name, kit, preset, out)


def train_loop(
    stage: Any, kit: Kit, optimiser: Optimiser, length: Length, log: Log, path: Path | None, elapsed: float
) -> float:
    """Steps until time or steps are over, with a checkpoint every two minutes; returns the seconds it took."""
    started = saved = time.time()
    progress = elapsed / (60 * length.minutes)
    while progress < 1:
        loss, parts, images = stage.losses(progress)
        loss.backward()
        spent = elapsed + time.time() - started
        mine = max(spent / (60 * length.minutes), (optimiser.steps + 1) / length.steps)
        scale = length.pace * rate(progress, optimiser.steps, length.decay)
        norm, progress = optimiser.step(scale, mine)
        log.add(parts, images, norm)
        log.maybe(optimiser.steps, progress, length.workers)
        if path is not None and time.time() - saved > 120:
            save(path, kit, optimiser, spent, False)
            saved = time.time()
    return time.time() - started


def report_gate(name: str, kit: Kit, preset: Preset, out: Path) -> dict[str, Any]:
    """Held-out accuracy after a stage, printed and kept beside the checkpoint.

    Exits with a sentence if the stage did not learn what the next one needs (see `presets.Gate`).
    """
    if name == "symbols":
        found: dict[str, Any] = language_gate(kit, preset.gate_scenes)
    else:
        found = picture_gate(kit, preset.gate_scenes, answers=name != "align")
    (out / f"{name}.gate.json").write_text(json.dumps(found, indent=1))
    print(f"gate {name}: {json.dumps(found)}", flush=True)
    failure = preset.gates[name].failure(found) if name in preset.gates else None
    if failure:
        raise SystemExit(f"The gate after stage {name} is closed: {failure}")
    return found


def export(preset: Preset, out: Path, stage: str, destination: Path, note: str = "") -> None:
    """Write the checkpoint folder from a stage's weights; `note` goes into its card."""
    kit = finished_kit(preset, out, stage).model.cpu()
    state = torch.load(out / f"{stage}.pt", weights_only=True)
    gate = out / f"{stage}.gate.json"
    card = {
        "trained": True,
        "note": note,
        "last_stage": stage,
        "finished": state["done"],
        "parameters": sum(p.numel() for p in kit.parameters()),
        "minutes": {
            n: round(torch.load(out / f"{n}.pt", weights_only=True)["elapsed"] / 60, 1)
            for n in STAGES
            if (out / f"{n}.pt").exists()
        },
        "held_out": json.loads(gate.read_text()) if gate.exists() else None,
    }
    save_checkpoint(kit, state["vocabulary"], destination, card)
    print(f"exported {stage} to {destination}", flush=True)


def launch(name: str, args: argparse.Namespace, workers: int) -> list[subprocess.Popen]:
    """Start a stage as its own processes."""
    command = [
        sys.executable,
        "-m",
        "script_core.stickers.train",
        "--preset",
        args.preset,
        "--out",
        str(args.out),
        "--seed",
        str(args.seed),
        "--stage",
        name,
    ]
    port = str(29500 + os.getpid() % 2000)
    return [
        subprocess.Popen(
            command,
            cwd=ROOT,
            env=os.environ | {"RANK": str(rank), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORKER": "1"},
        )
        for rank in range(workers)
    ]


def run_all(args: argparse.Namespace, preset: Preset) -> None:
    """All stages in order, those that are finished left out; align and symbols at the same time."""

    def unfinished(name: str) -> bool:
        path = args.out / f"{name}.pt"
        return not path.exists() or not torch.load(path, weights_only=True)["done"]

    for group in (("align", "symbols"), ("connect",), ("tune",), ("modes",), ("order",)):
        running = [p for name in group if unfinished(name) for p in launch(name, args, preset.stages[name].workers)]
        if any([p.wait() for p in running]):
            raise SystemExit(f"Training stopped in stage {' / '.join(group)}; run the same command again to resume.")
    export(preset, args.out, LAST, args.destination or preset.destination)
    draw_curves(args.out, tuple(STAGES))


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", choices=sorted(PRESETS), default="cpu")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "stickers", help="run directory")
    parser.add_argument("--stage", choices=[*STAGES, "export", "curves"], help="one stage only; default: all")
    parser.add_argument("--source", choices=list(STAGES), default=LAST, help="with --stage export: whose weights")
    parser.add_argument("--note", default="", help="with --stage export: a sentence for the model card")
    parser.add_argument("--destination", type=Path, help="where the checkpoint goes")
    parser.add_argument("--seed", type=int, default=TRAINING_SEED, help=f"at least {TRAINING_SEED}")
    args = parser.parse_args(argv)
    if args.seed < TRAINING_SEED:
        parser.error(f"--seed must be at least {TRAINING_SEED}; smaller seeds are held out for evaluation.")
    preset = PRESETS[args.preset]
    if preset.device == "cuda" and not torch.cuda.is_available():
        parser.error("--preset gpu needs a CUDA device; use --preset cpu here.")
    args.out.mkdir(parents=True, exist_ok=True)
    stored = args.out / "vocabulary.json"
    if not stored.exists():
        stored.write_text(json.dumps(word_ids(VOCABULARY)))
    if args.stage == "export":
        export(preset, args.out, args.source, args.destination or preset.destination, args.note)
    elif args.stage == "curves":
        draw_curves(args.out, tuple(STAGES))
    elif args.stage is None:
        run_all(args, preset)
    elif preset.stages[args.stage].workers > 1 and "WORKER" not in os.environ:
        raise SystemExit(max(p.wait() for p in launch(args.stage, args, preset.stages[args.stage].workers)))
    else:
        run_stage(args.stage, preset, args.out, args.seed)


if __name__ == "__main__":
    if any(os.environ.get(k) != v for k, v in ALLOCATOR.items()):
        again = [sys.executable, "-m", "script_core.stickers.train", *sys.argv[1:]]
        os.execve(sys.executable, again, os.environ | ALLOCATOR)
    main()
