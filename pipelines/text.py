"""Text for people."""

from __future__ import annotations


def shortened(text: str, most: int) -> str:
    """The text, cut to so many characters, the last of which says that it was."""
    return text if len(text) <= most else text[: most - 1] + "…"
