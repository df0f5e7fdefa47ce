"""What a machine can run out of while it answers: memory, or room on the disk. Both are said, and both pass."""

from __future__ import annotations

import errno
import gc
import traceback
from collections.abc import Callable
from html import escape

NO_MEMORY = (
    "There was not enough memory for this question. What it held has been let go, and the page goes on: ask with less, "
    "or with a smaller picture."
)
NO_ROOM = "The server's disk is full, so a file of this request could not be written; try again in a few minutes."
_FULL = (errno.ENOSPC, errno.EDQUOT)


def of_memory(problem: BaseException) -> bool:
    """Whether a failure was for want of memory, of a GPU or of the machine itself."""
    import torch

    # On a CPU torch has no class of its own for it.
    return isinstance(problem, MemoryError | torch.OutOfMemoryError) or (
        isinstance(problem, RuntimeError) and "can't allocate memory" in str(problem)
    )


def of_room(problem: BaseException) -> bool:
    """Whether a failure was for want of room on a disk."""
    return isinstance(problem, OSError) and problem.errno in _FULL


def said(problem: BaseException) -> str:
    """The sentence for a shortage; "" for any other failure."""
    return NO_MEMORY if of_memory(problem) else NO_ROOM if of_room(problem) else ""


def relieved(problem: BaseException, forget: Callable[[], None] | None = None) -> bool:
    """If memory ran out, let go of what the failed run held, and of what `forget` lets go of, and say so.

    A failure holds on to its functions' variables, so these go first; then a GPU's unused memory is handed back.
    """
    if not of_memory(problem):
        return False
    import torch

    one: BaseException | None = problem
    while one is not None:
        traceback.clear_frames(one.__traceback__)
        one = one.__cause__ or one.__context__
    if forget is not None:
        forget()
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return True


def offer(dial: str, run: str, now: int, unit: str) -> str:
    """A button that sets a dial to half of what it shows and asks again (`assets/js/again.js`); "" at 1 already.

    dial, run: elem_ids of the slider and of the button to press. unit: what the slider counts.
    """
    less = now // 2
    if less < 1:
        return ""
    return (
        f'<button type="button" class="note-again" data-dial="{escape(dial)}" data-value="{less}" '
        f'data-run="{escape(run)}">Ask again with {less:,} {escape(unit)}</button>'
    )
