"""What a command does once nobody reads what it prints, as in `python -m script_core models | head -1`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

UNREAD = 141  # 128 and the number of SIGPIPE, as a shell tells of other tools that end this way


def quietly(command: Callable[[], int]) -> int:
    """Run a command; its exit code, or `UNREAD` without a word if its output was closed before its end."""
    try:
        try:
            return command()
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # here, because nobody can catch what the flush at the interpreter's end raises
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still to be flushed
        return UNREAD
