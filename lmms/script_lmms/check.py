"""Whether lmms-eval and this project's own runner agree on the embedded model, question by question:

    python -m script_lmms.check --questions 200

runs the real lmms-eval in one process and in two on a local task, then the own runner, in a folder that goes again.
Needs no network. Exit code 1 if an answer differs, or if a run failed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from script_core.evaluation.methods import parse
from script_lmms.agree import differing, lines
from script_lmms.stickers import write

ALONE = (sys.executable, "-m", "lmms_eval")
BY_TWO = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m", "lmms_eval")
OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}


def run(command: tuple[str, ...], where: Path) -> None:
    """Its output goes to a file and is shown only if it fails, as lmms-eval says a great deal."""
    environment = os.environ | OFFLINE | {"PYTHONPATH": os.getcwd(), "HF_HOME": str(where / "cache")}
    with (where / "said.txt").open("w+", encoding="utf-8") as said:
        if subprocess.run(command, env=environment, stdout=said, stderr=subprocess.STDOUT).returncode:
            said.seek(0)
            raise SystemExit(said.read()[-4000:] + f"\n{' '.join(command)} failed.")


def samples(start: tuple[str, ...], where: Path, method: str, budget: int) -> Path:
    """What lmms-eval logged of each question."""
    out = where / f"out-{len(start)}"
    model = f"model=stickers,method={method},budget={budget},device=cpu"
    run(
        (
            *start, "--model", "script_demo", "--model_args", model, "--include_path", str(where / "tasks"),
            "--tasks", "script_stickers", "--batch_size", "1", "--log_samples", "--output_path", str(out),
        ),
        where,
    )  # fmt: skip
    return next(out.rglob("*samples_script_stickers.jsonl"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--method", default="script")
    parser.add_argument("--budget", type=int, default=64)
    options = parser.parse_args()
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        where = Path(folder)
        write(where / "tasks", options.questions)
        own = ("--methods", options.method, "--budgets", str(options.budget), "--questions", str(options.questions))
        run((sys.executable, "-m", "script_core.evaluation", *own, "--out", str(where / "own.json")), where)
        records = lines(where / "own.journal.jsonl")
        for said, start in (("one process", ALONE), ("two processes", BY_TWO)):
            theirs = lines(samples(start, where, options.method, options.budget))
            wrong, count = differing(theirs, records, f"{parse(options.method).key}|{options.budget}|0|")
            failed |= bool(wrong) or count != options.questions
            print(f"lmms-eval in {said}: {count - len(wrong)} of {options.questions} answers as by the own runner")
    return failed


if __name__ == "__main__":
    sys.exit(main())
