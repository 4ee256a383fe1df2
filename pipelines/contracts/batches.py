"""Rows of an Arrow batch that were read in parts, laid out as a column of it."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

Rows = np.ndarray
"""Where values stand in their batch."""
Part = tuple[Rows, pa.StructArray]
"""Some of a batch's rows, and what they hold."""


def without(part: Part, bad: np.ndarray | None) -> Part:
    """The rows of a part that are not `bad`."""
    if bad is None or not bad.any():
        return part
    rows, found = part
    return rows[~bad], found.filter(pa.array(~bad))


def laid_out(parts: Iterable[Part], kind: pa.DataType, count: int) -> pa.Array:
    """A column of `count` rows with what the parts hold, and nulls where none has the row."""
    known = [part for part in parts if len(part[0])]
    if not known:
        return pa.nulls(count, kind)
    if len(known) == 1 and len(known[0][0]) == count:
        return known[0][1]
    place = np.full(count, -1)
    place[np.concatenate([rows for rows, _ in known])] = np.arange(sum(len(rows) for rows, _ in known))
    return pa.concat_arrays([found for _, found in known]).take(pa.array(place, mask=place < 0))
