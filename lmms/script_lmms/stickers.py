"""The embedded benchmark as a local lmms-eval task:

    python -m script_lmms.stickers --questions 200 --out lmms-tasks

writes the questions with their pictures, and a task `script_stickers` that scores exact answers. Each sample keeps the
question's key, so that lmms-eval's samples can be held against this project's own journal, question by question.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from datasets import Dataset, Features, Image, Value
from PIL import Image as Pictures

from script_core.evaluation.questions import VERSION, sheets
from script_core.evaluation.runner import LONGEST

_TASK = """task: script_stickers
dataset_path: parquet
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
output_type: generate_until
doc_to_visual: !function utils.visual
doc_to_text: !function utils.text
doc_to_target: answer
generation_kwargs:
  max_new_tokens: {longest}
  temperature: 0
  do_sample: false
process_results: !function utils.results
metric_list:
  - metric: accuracy
    aggregation: mean
    higher_is_better: true
metadata:
  version: {version}
"""

_UTILS = '''"""How lmms-eval reads and scores a question of the embedded benchmark."""


def visual(doc):
    return [doc["image"].convert("RGB")]


def text(doc, lmms_eval_specific_kwargs=None):
    return doc["question"]


def results(doc, answers):
    return {"accuracy": float(answers[0] == doc["answer"])}
'''


def write(folder: Path, questions: int) -> None:
    """The data and the task that reads it. Raises ValueError for more questions than there are."""
    rows = []
    for sheet in sheets("image", questions):
        held = io.BytesIO()
        Pictures.fromarray(sheet.media().frames[0]).save(held, "PNG")
        picture = {"bytes": held.getvalue(), "path": None}
        rows += [{"key": i.key, "question": i.text, "answer": i.answer, "image": picture} for i in sheet.items]
    kinds = Features({"key": Value("string"), "question": Value("string"), "answer": Value("string"), "image": Image()})
    folder.mkdir(parents=True, exist_ok=True)
    data = folder / "questions.parquet"
    Dataset.from_list(rows, features=kinds).to_parquet(str(data))
    task = _TASK.format(data=data.resolve(), longest=LONGEST, version=VERSION)
    (folder / "script_stickers.yaml").write_text(task, encoding="utf-8")
    (folder / "utils.py").write_text(_UTILS, encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--out", type=Path, default=Path("lmms-tasks"))
    options = parser.parse_args()
    write(options.out, options.questions)
    print(
        f"wrote {options.questions} questions; run lmms_eval with --include_path {options.out} --tasks script_stickers"
    )
