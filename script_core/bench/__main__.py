"""`python -m script_core.bench`: measure, print the tables, and write them as JSON under benchmarks/."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from script_core.bench import parity, selection
from script_core.bench.selection import LLAVA, NEXT, WALKS, Shape
from script_core.bench.tables import Table, collect, write
from script_core.bench.timing import Effort, facts

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("parity", "walks", "methods", "answers", "growth", "shapes", "page")
QUESTION = "is there an apple ?"
FORTY = "is there a ripe apple?"  # 40 text tokens with the prompt around it, by the shapes' tokenizer
BUDGETS = (192, 64, 16)  # of the embedded model's 576; methods inside its four layers reach the first alone
PICTURE = ROOT / "assets" / "examples" / "penguins.png"
QUICK = Effort(least=1, most=1, seconds=0.0)


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("There is no GPU here; use --device cpu.", file=sys.stderr)
        return 2
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    parts = [part for part in PARTS if part in (options.parts or _usual(options))]
    about = facts(device)
    print(_heading(about))
    clock, busy = time.perf_counter(), time.process_time()
    tables, left_out = [], []
    for part in parts:
        reason = _missing(part, options, device)
        if reason:
            left_out.append(reason)
            continue
        for table in _measure(part, options, device):
            tables.append(table)
            print(table.text(), flush=True)
    if left_out:
        print("Not measured here:", *left_out, sep="\n  ")
    about["wall_s"], about["processor_s"] = round(time.perf_counter() - clock), round(time.process_time() - busy)
    print(f"This took {about['wall_s']} s, with {about['processor_s']} s of processor time.")
    path = options.json or ROOT / "benchmarks" / f"bench-{device.type}.json"
    command = " ".join(["python -m script_core.bench", *(sys.argv[1:] if argv is None else argv)])
    write(path, about, command, tables, left_out)
    print(f"Written to {path}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m script_core.bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes, one run each: to see that everything works")
    parser.add_argument("--json", type=Path, help="where to write the results; default benchmarks/bench-<device>.json")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--model", help="a checkpoint folder or hub id for `answers`; default: the embedded model")
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="default: all but the page")
    parser.add_argument("--limit", type=float, default=30.0, help="seconds that one walk of `growth` may take")
    parser.add_argument("--page", nargs="?", const="", metavar="ADDRESS", help="also measure the page in a browser")
    return parser


def _usual(options: argparse.Namespace) -> list[str]:
    return [part for part in PARTS if part != "page" or options.page is not None]


def _missing(part: str, options: argparse.Namespace, device: torch.device) -> str:
    """Why a part cannot be measured here, or ""."""
    if part == "shapes" and device.type != "cuda" and not options.quick:
        return "shapes: 7-billion-parameter prefill, decoding and memory, which need a GPU."
    if part == "answers" and not options.model:
        from script_core.backends import EMBEDDED_FOLDER

        if not (EMBEDDED_FOLDER / "config.json").is_file():
            return "answers: the embedded model, which is not in assets/models/stickers."
    return ""


def _measure(part: str, options: argparse.Namespace, device: torch.device) -> Iterator[Table]:
    """The tables of one part."""
    show: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    effort = QUICK if options.quick else Effort()
    if part == "parity":
        tried = parity.Sizes(4, 2, 24, 60) if options.quick else parity.Sizes(200, 8, 576, 2880)
        yield collect(part, "The reference's picks", _PARITY, parity.parity(device, tried), show)
    elif part == "walks":
        walked = ((1, 64, 8), (2, 36, 4)) if options.quick else WALKS
        rows = selection.walks(device, effort, 64 if options.quick else 4096, walked)
        yield collect(part, "Greedy walk", _WALKS, rows, show)
    elif part == "methods":
        quick = (Shape("LLaVA-1.5, small", 1, 6, 64, (8,)), Shape("LLaVA-NeXT, small", 3, 6, 64, (12,)))
        for place in dict.fromkeys((torch.device("cpu"), device)):
            for shape in quick if options.quick else (LLAVA, NEXT):
                crops = f"{shape.blocks} x {shape.side**2} tokens, d = {shape.d}, {place.type}"
                title, name = f"Selection, {shape.name}: {crops}", f"{part}-{shape.total}-{place.type}"
                yield collect(name, title, _METHODS, selection.methods(shape, place, effort), show)
    elif part == "answers":
        yield _answers(options, device, effort, show)
    elif part == "growth":
        sizes: tuple[int, ...] = (36, 72) if options.quick else (144, 576, 1152, 2880, 5824, 11648)
        shares: tuple[float, ...] = (0.02, 0.1, 0.5) if options.quick else (0.02, 0.05, 0.1, 0.2, 0.35, 0.5)
        yield collect(part, "Walk against size", _GROWTH, selection.growth(sizes, shares, options.limit, effort), show)
    elif part == "shapes":
        yield from _shapes(options, device, show)
    else:
        from script_core.bench.page import page

        yield collect(part, "Page", "Milliseconds since the app or the page was started.", page(options.page), show)


def _answers(options: argparse.Namespace, device: torch.device, effort: Effort, show: Callable[[str], None]) -> Table:
    from script_core.bench.answers import answers
    from script_core.engine import Engine

    engine = Engine.load(options.model, device=device.type)
    title = f"Answers, {engine.info.name}, {engine.info.dtype} on {engine.info.device}"
    media, text = engine.encode(PICTURE).media, engine.understand(QUESTION).text
    return collect("answers", title, _ANSWERS, answers(engine.backend, media, text, BUDGETS, effort), show)


def _shapes(options: argparse.Namespace, device: torch.device, show: Callable[[str], None]) -> Iterator[Table]:
    from script_core.bench import shapes
    from script_core.bench.answers import answers

    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    for published in (shapes.NEXT_7B, shapes.VIDEO_7B):
        shape = shapes.small(published) if options.quick else published
        effort = QUICK if options.quick else Effort(least=10)
        title = f"{shape.name}, random weights, {str(dtype).removeprefix('torch.')} on {device.type}"
        backend = shapes.made(shape, device, dtype)
        rows = answers(backend, shapes.media(shape), FORTY, shape.budgets, effort)
        yield collect(f"shapes-{shape.family}", title, _ANSWERS, rows, show)
        del backend, rows  # two models of this size need not fit at once


def _heading(about: dict[str, Any]) -> str:
    machine, libraries = about["machine"], about["libraries"]
    load = f", load {machine['load'][0]}" if machine["load"] else ""
    gpu = f", {machine['gpu']}" if machine["gpu"] else ""
    known = ", ".join(f"{name} {version}" for name, version in libraries.items() if version)
    return (
        f"{machine['processor']}, {machine['cores']} cores, {machine['threads']} threads{load}{gpu}\n{known}\n"
        "Medians in milliseconds, quartiles in brackets.\n"
    )


_PARITY = (
    "In how many of the kernels the walk makes the picks of the float64 reference on the CPU, ties and exhausted ranks "
    "included. A matrix made on another device rounds otherwise, so raw features may differ where two gains are equal."
)
_WALKS = (
    "The exact float64 walk. `matrix`: the cosine matrix, once per encoding. `plain torch`: float32, one Python step "
    "per pick. Picks are per crop."
)
_METHODS = (
    "Methods that choose before the language model runs. `fresh picture` includes all similarities, `new question` "
    "only what depends on it. Budgets are for all crops together."
)
_ANSWERS = (
    "`full / pruned` compares prefills. `first token` = encode + select + prefill. `select` is of a picture seen "
    "for the first time, similarities included. `text`: text tokens of the prompt. "
    "`select` of methods that act inside the language model is what they add to its prefill."
)
_GROWTH = (
    "The walk alone, to a share of the tokens, over a kernel of full rank; up to 4,096 tokens it is held, beyond that "
    "rows are computed as they are needed."
)

if __name__ == "__main__":
    raise SystemExit(main())
