"""Accuracy of methods at budgets on held-out sticker scenes, with resumption, paired tests and intervals.

questions   what is asked: fixed, versioned, the same for every method
methods     "script(p=0.3,scope=global)" -> an instance
journal     one durable line per answer, so that a killed run goes on where it was
runner      scenes x questions x methods x budgets x seeds
statistics  F1, ratios to the full model, paired tests, bootstrap intervals
results     rows, tests and provenance as JSON and CSV
"""

from __future__ import annotations

from script_core.evaluation.journal import Journal as Journal
from script_core.evaluation.journal import JournalError as JournalError
from script_core.evaluation.runner import Job as Job
from script_core.evaluation.runner import Progress as Progress
from script_core.evaluation.runner import run as run
