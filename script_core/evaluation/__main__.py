"""Methods x budgets over held-out questions, from a terminal:

    python -m script_core.evaluation --methods script,cdpruner,random --budgets 64,16 --questions 200 --out results.json

Parameters go into brackets: --methods "script(p=0.3,tau=0.2,scope=global),random". The answers are kept in a journal
beside the results; the same command goes on where it was stopped or killed. A CSV file is written beside the JSON.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from script_core.evaluation.methods import parse_list
from script_core.evaluation.questions import SIZES
from script_core.evaluation.runner import Job, Progress
from script_core.pipe import quietly

MODELS = {"image": "stickers", "video": "stickers-video", "tiles": "stickers-anyres"}
CSV, JOURNAL = ".csv", ".journal.jsonl"


def main(argv: Sequence[str] | None = None) -> int:
    """Run, write, and print the table; 0, or 2 with a sentence on stderr, 130 when interrupted, 141 if unread."""
    return quietly(lambda: _run(_parser().parse_args(argv)))


def _run(args: argparse.Namespace) -> int:
    try:
        budgets = tuple(int(part) for part in args.budgets.split(",") if part.strip())
        job = Job(parse_list(args.methods), budgets, args.questions, args.kind, args.seeds)
        _check(args.out)
        return _measure(args, job)
    except (ValueError, RuntimeError) as error:  # all of this project's own errors are one of the two
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    about = "Measure methods x budgets on the embedded benchmark."
    parser = argparse.ArgumentParser(prog="python -m script_core.evaluation", description=about)
    parser.add_argument(
        "--methods", default="script,cdpruner,divprune,random", help="names, with parameters in brackets"
    )
    parser.add_argument("--budgets", default="64,16", help="visual tokens, such as 128,64,32,16")
    parser.add_argument(
        "--questions",
        type=int,
        default=200,
        help=f"up to {SIZES['image']} (image) or {SIZES['video']}, {SIZES['tiles']}",
    )
    parser.add_argument("--kind", choices=sorted(SIZES), default="image")
    parser.add_argument("--seeds", type=int, default=3, help="runs of random methods")
    parser.add_argument("--out", type=Path, default=Path("results.json"))
    parser.add_argument("--model", default=None, help="folder or hub id; default: the embedded model")
    parser.add_argument("--device", default=None)
    parser.add_argument("--threads", type=int, default=0, help="CPU threads of the model; default: all")
    parser.add_argument("--fresh", action="store_true", help="forget the answers of an earlier run")
    return parser


def _check(out: Path) -> None:
    """Raises ValueError if the results could not be written: said now, and not after minutes or hours of answers."""
    if out.suffix.lower() == CSV:
        raise ValueError(
            f"{out} would be overwritten by the table of that name; give --out a name such as results.json."
        )
    try:
        if out.is_dir() or out.with_suffix(CSV).is_dir():
            raise ValueError(f"{out} or its table is a folder; give --out the name of a file, such as results.json.")
        out.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=out.parent):  # permissions alone do not tell of a disk that is read-only
            pass
        if out.with_suffix(JOURNAL).exists():
            out.with_suffix(JOURNAL).open("ab").close()
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ValueError(f"{out} cannot be written ({reason}); give --out another place.") from error


def _measure(args: argparse.Namespace, job: Job) -> int:
    import torch

    from script_core.engine import Engine
    from script_core.evaluation.journal import Journal
    from script_core.evaluation.provenance import describe, differences, together
    from script_core.evaluation.results import as_csv, summarise, write, write_json
    from script_core.evaluation.runner import header, run

    if args.threads > 0:
        torch.set_num_threads(args.threads)
    engine = Engine.load(args.model or MODELS[job.kind], device=args.device)
    path = args.out.with_suffix(JOURNAL)
    if args.fresh:
        path.unlink(missing_ok=True)
    here = describe(engine)
    with Journal(path, header(engine, job.kind), here) as journal:
        if journal.resumed:
            print(f"{journal.resumed:,} answers are there already, from {path.name}", file=sys.stderr)
            differ = differences(together(journal.origins.values()), here)
            if differ:
                print(
                    f"They were not measured as the next ones are ({', '.join(differ)}: other or not known): the "
                    "results list every commit and machine, and --fresh asks everything again.",
                    file=sys.stderr,
                )
        try:
            run(engine, job, journal, _bar())
            code = 0
        except KeyboardInterrupt:  # what all methods have answered so far makes results, too
            print("\nstopped; the same command goes on from here", file=sys.stderr)
            code = 130
        results = summarise(job, journal, here)
    write_json(args.out, results)
    write(args.out.with_suffix(CSV), as_csv(results))
    print(_table(results))
    print(f"\nwritten: {args.out} and {args.out.with_suffix('.csv').name}", file=sys.stderr)
    return code


def _bar() -> Any:
    """Redraws one line on a terminal, at most five times a second; elsewhere a line every half minute."""
    live = sys.stderr.isatty()
    last = [0.0]

    def show(at: Progress) -> None:
        now, finished = time.monotonic(), at.answered == at.total
        if now - last[0] < (0.2 if live else 30) and not finished:
            return
        last[0] = now
        filled = 30 * at.answered // at.total
        left = "" if at.left is None or finished else f", {_minutes(at.left)} left"
        count = f"{at.answered:,} of {at.total:,} answers, {_minutes(at.seconds)}{left}"
        line = f"[{'#' * filled}{'.' * (30 - filled)}] {count}"
        start, end = ("\r\033[K", "\n" if finished else "") if live else ("", "\n")
        print(start + line, end=end, file=sys.stderr, flush=True)

    return show


def _minutes(seconds: float) -> str:
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def _table(results: dict[str, Any]) -> str:
    """The rows for people; everything else is in the files."""
    wide = max(len(row["method"]) for row in results["rows"])
    lines = [
        f"{results['questions']} {results['kind']} questions about {results['scenes']} scenes, {results['set']}, "
        f"{results['model']}, commit {results['commit']}",
        f"{'method':{wide}} budget  accuracy (95 %)        F1  ratio of means  mean of ratios  select  prefill ms",
    ]
    for row in results["rows"]:
        bounds = _range(row["accuracy_low"], row["accuracy_high"], "4.1f", "5.1f")
        lines.append(
            f"{row['method']:{wide}} {row['budget']:6}  {100 * row['accuracy']:5.1f} ({bounds:>13})  "
            f"{_percent(row['f1']):>6}  {_percent(row['ratio_of_means']):>14}  {_percent(row['mean_of_ratios']):>14}  "
            f"{row['select_ms']:6.1f}  {row['prefill_ms']:10.1f}"
        )
    lines += [
        f"{t['first']} against {t['second']} at {t['budget']}: {100 * t['difference']:+.1f} points "
        f"({_range(t['low'], t['high'], '+.1f', '+.1f')}), "
        f"one-sided p: t {t['p_t']:.3g}, Wilcoxon {t['p_wilcoxon']:.3g}"
        for t in results["tests"]
    ]
    lines += [f"{x['method']} at {x['budget']}: not possible. {x['reason']}" for x in results["impossible"]]
    return "\n".join(lines)


def _range(low: float | None, high: float | None, *forms: str) -> str:
    """An interval in percent; "-" where there is none, as of a single scene."""
    if low is None or high is None:
        return "-"
    return f"{100 * low:{forms[0]}} .. {100 * high:{forms[1]}}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


if __name__ == "__main__":
    sys.exit(main())
