"""The same from a terminal: `python -m script_core ask PICTURE "QUESTION"`, `budget`, `models`, `methods`."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from script_core.backends.progress import Step
from script_core.pipe import quietly
from script_core.report import Result


class _Parser(argparse.ArgumentParser):
    """One line to stderr and exit code 2, without the usage block."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} (see --help)\n")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, or 2 with one line on stderr, or 141 if its output was closed."""
    return quietly(lambda: _run(argv))


def _run(argv: Sequence[str] | None) -> int:
    args = _parser().parse_args(argv)
    from script_core.backends.base import CannotLoad
    from script_core.engine import QuestionError
    from script_core.media import MediaError
    from script_core.pruners.base import CannotPrune

    try:
        return {"ask": _ask, "budget": _budget, "models": _models, "methods": _methods}[args.command](args)
    except (CannotLoad, CannotPrune, MediaError, QuestionError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _parser() -> _Parser:
    parser = _Parser(prog="python -m script_core", description="Prune the visual tokens that a question does not need.")
    commands = parser.add_subparsers(dest="command", required=True, parser_class=_Parser)
    ask = commands.add_parser("ask", help="ask a picture a question")
    ask.add_argument("picture", help="path of an image file")
    ask.add_argument("question")
    ask.add_argument("--model", default=None, help="checkpoint folder or hub id; default: the embedded sticker model")
    ask.add_argument("--method", default="script", help="see `methods` (default: script)")
    ask.add_argument("--budget", type=int, default=64, help="visual tokens to keep (default: 64)")
    ask.add_argument("--tau", type=float, default=None, help="similarity from which two tokens are neighbours")
    ask.add_argument("--gamma", type=float, default=None, help="weight of how similar neighbours are")
    ask.add_argument("--device", default=None, help="cpu, cuda, or auto for all GPUs; default: a GPU if there is one")
    ask.add_argument("--dtype", default=None, help="float16, bfloat16 or float32")
    ask.add_argument("--quantize", default="", choices=["8bit", "4bit"], help="weights of fewer bits (bitsandbytes)")
    ask.add_argument("--max-new-tokens", type=int, default=64)
    ask.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    budget = commands.add_parser("budget", help="tokens per layer, FLOPs and KV bytes of a method; nothing is loaded")
    budget.add_argument("--method", default="script", help="see `methods` (default: script)")
    budget.add_argument("--model", default="llava-1.5-7b", help="llava-1.5-7b (default), llava-next-13b, and so on")
    budget.add_argument("--budget", type=int, default=64, help="average visual tokens per layer (default: 64)")
    budget.add_argument("--text", type=int, default=0, help="other tokens of the prompt, for the whole forward pass")
    budget.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    for name, text in (("models", "list the models and what they take"), ("methods", "list the pruning methods")):
        commands.add_parser(name, help=text).add_argument("--json", action="store_true")
    return parser


def _ask(args: argparse.Namespace) -> int:
    from script_core.backends import KNOWN, describe, load
    from script_core.engine import Engine
    from script_core.media import read_image

    method = _method(args.method, tau=args.tau, gamma=args.gamma)
    media = read_image(args.picture)  # before minutes of loading
    if args.model in KNOWN:
        print(describe(args.model), file=sys.stderr)
    engine = Engine(load(args.model, device=args.device, dtype=args.dtype, bits=args.quantize, told=_progress))
    result = engine.ask(media, args.question, pruner=method, budget=args.budget, max_new_tokens=args.max_new_tokens)
    print(json.dumps(as_dict(result)) if args.json else _text(result))
    return 0


def _progress(step: Step) -> None:
    """How far a load has come, on one line of a terminal; nothing where stderr is a file."""
    if sys.stderr.isatty():
        print("\r\x1b[K" + ("" if step.phase == "ready" else step.said()), end="", file=sys.stderr, flush=True)


def _method(name: str, **parameters: float | None) -> Any:
    """An instance of a method with the parameters that were given. Raises `CannotPrune`."""
    from script_core.engine import find_pruner
    from script_core.pruners.base import CannotPrune

    plain = find_pruner(name)
    given = {key: value for key, value in parameters.items() if value is not None}
    for key in given:
        if key not in {field.name for field in dataclasses.fields(plain)}:
            raise CannotPrune(f"The method {name} has no parameter {key}.")
    return dataclasses.replace(plain, **given)


def as_dict(result: Result) -> dict[str, Any]:
    """A result as plain JSON values; `kept` are token indices, ascending."""
    return {
        "answer": result.answer,
        "declined": result.declined,
        "question": result.question,
        "model": result.model,
        "method": result.method,
        "budget": result.budget,
        "kept": result.selection.kept.tolist(),
        "total": result.selection.total,
        "counters": dataclasses.asdict(result.counters),
        "token_ids": list(result.token_ids),
        "notes": list(result.selection.notes),
        "notice": result.notice,
    }


def _text(result: Result) -> str:
    if result.declined:
        return result.notice or result.answer
    counters, measured, computed = result.counters, result.counters.measured, result.counters.computed
    lines = [
        result.answer,
        "",
        f"{counters.kept} of {counters.total} visual tokens by {result.method}, model {result.model}",
        f"measured: encode {measured.encode_ms:.0f} ms, select {measured.select_ms:.0f} ms, "
        f"prefill {measured.prefill_ms:.0f} ms, KV cache {measured.cache_bytes / 2**20:.2f} MiB",
        f"computed: {computed.flops / 1e9:.2f} of {computed.flops_full / 1e9:.2f} GFLOP in the prefill, "
        f"KV cache {computed.kv_bytes / 2**20:.2f} of {computed.kv_bytes_full / 2**20:.2f} MiB",
    ]
    return "\n".join([*lines, *result.selection.notes, *([result.notice] if result.notice else [])])


def _budget(args: argparse.Namespace) -> int:
    from script_core.budgets import cost, shape

    found = cost(args.method, shape(args.model), args.budget, max(args.text, 0))
    if args.json:
        print(json.dumps({**dataclasses.asdict(found), "average": found.average}))
        return 0
    claimed = "no count" if found.claimed is None else f"{found.claimed} tokens"
    whose = "; this schedule or split is this project's own" if found.ours else ""
    average = f"{round(found.average, 2)} of {found.total}"
    print(
        f"{found.title} on {found.model}: {average} visual tokens enter a layer on average\n"
        f"per layer: {_runs(found.entering)}\n"
        f"in the words of its authors' code: {claimed} ({found.configuration}{whose})\n"
        f"FLOPs, the papers' formula: {found.paper_flops / 1e12:.3f} of {found.paper_flops_full / 1e12:.3f} T\n"
        f"FLOPs, whole forward pass: {found.flops / 1e12:.3f} of {found.flops_full / 1e12:.3f} T\n"
        f"KV cache of visual tokens: {found.kv_bytes / 2**20:.1f} of {found.kv_bytes_full / 2**20:.1f} MiB"
    )
    return 0


def _runs(counts: Sequence[int]) -> str:
    """576 x 2, 166 x 30"""
    return ", ".join(f"{value} x {len(list(same))}" for value, same in itertools.groupby(counts))


def _models(args: argparse.Namespace) -> int:
    from script_core.backends import EMBEDDED, KNOWN, describe

    names = [*(name for name in EMBEDDED if name != "toy"), *KNOWN]
    if args.json:
        print(json.dumps({name: describe(name) for name in names}))
    else:
        print("\n".join(f"{name}\n    {describe(name)}" for name in names))
    return 0


def _methods(args: argparse.Namespace) -> int:
    from script_core.pruners import PRUNERS

    classes: dict[str, Any] = dict(PRUNERS)
    listed = {name: {"title": cls.title, "acts": cls.acts, "asks": cls.reads_question} for name, cls in classes.items()}
    if args.json:
        print(json.dumps(listed))
    else:
        for name, about in listed.items():
            asks = "reads the question" if about["asks"] else "does not read the question"
            print(f"{name:<18} {about['title']}: acts {about['acts']} the language model, {asks}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
