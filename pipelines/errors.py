"""Errors for people: one sentence that says what is wrong and how to fix it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable


class ReelhouseError(Exception):
    """An operation failed, or found a fault, for a reason that a person can act on.

    The message is one sentence with the fix. `code` is stable snake_case, so that programs and tests can
    tell errors apart without reading the sentence. The command line exits with `exit_code`.
    """

    exit_code = 1

    def __init__(self, message: str, *, code: str = "failed") -> None:
        super().__init__(message)
        self.code = code


class UsageError(ReelhouseError):
    """The caller asked for something that does not exist: an unknown key, option, file or name."""

    exit_code = 2

    def __init__(self, message: str, *, code: str = "usage") -> None:
        super().__init__(message, code=code)


def disk_full(error: Exception) -> ReelhouseError | None:
    """The sentence for a disk that is full, which any write may meet; None for another error."""
    if not isinstance(error, OSError) or error.errno != errno.ENOSPC:
        return None
    return ReelhouseError("the disk is full; free some space and try again", code="disk_full")


def exit_code_of(program: Callable[[], int | None]) -> int:
    """Run a program of `make`: its exit code, or the sentence of its error and the code of that."""
    try:
        return program() or 0
    except ReelhouseError as error:
        return _told(error, error.exit_code)
    except OSError as error:
        return _told(disk_full(error) or f"{error}; see to that, and try again", 1)
    except KeyboardInterrupt:
        return _told("interrupted", 130)


def _told(sentence: object, code: int) -> int:
    print(f"reelhouse: {sentence}", file=sys.stderr)
    return code
