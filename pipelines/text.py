"""Text for people."""

from __future__ import annotations

from collections.abc import Iterable


def shortened(text: str, most: int) -> str:
    """The text, cut to so many characters, the last of which says that it was."""
    return text if len(text) <= most else text[: most - 1] + "…"


def nearest(name: str, known: Iterable[str], otherwise: str = "", cutoff: float = 0.0) -> str:
    """Which of the known names may have been meant, as a hint; `otherwise` when none is alike enough."""
    import difflib  # only when something is wrong

    close = difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)
    return f"did you mean {close[0]}?" if close else otherwise
