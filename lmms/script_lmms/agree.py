"""Hold lmms-eval's samples against this project's own answers, question by question:

    python -m script_lmms.agree SAMPLES.jsonl JOURNAL.jsonl --method script --budget 64

The samples come from `--log_samples`, the journal from `python -m script_core.evaluation`. Exit code 1 if any differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from script_core.evaluation.methods import parse
from script_core.evaluation.questions import sheets


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def differing(samples: list[dict[str, Any]], records: list[dict[str, Any]], prefix: str) -> tuple[list[str], int]:
    """Keys of questions whose answers differ or that only the samples have, and how many were compared."""
    ours = {r["key"].removeprefix(prefix): r["answer"] for r in records if r.get("key", "").startswith(prefix)}
    keys = [item.key for sheet in sheets("image", len(samples)) for item in sheet.items]
    theirs = {keys[int(sample["doc_id"])]: _answer(sample) for sample in samples}
    return [key for key, answer in theirs.items() if ours.get(key) != answer], len(theirs)


def _answer(sample: dict[str, Any]) -> str:
    found = sample["filtered_resps"]
    while isinstance(found, list):
        found = found[0]
    return str(found)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("samples", type=Path)
    parser.add_argument("journal", type=Path)
    parser.add_argument("--method", default="full")
    parser.add_argument("--budget", type=int, default=0)
    options = parser.parse_args()
    prefix = f"{parse(options.method).key}|{options.budget}|0|"
    wrong, count = differing(lines(options.samples), lines(options.journal), prefix)
    print(f"{count - len(wrong)} of {count} answers agree" + (f"; {', '.join(wrong[:10])} differ" if wrong else ""))
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
