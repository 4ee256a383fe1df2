"""Reads the values of an Arrow batch all at once, and finds those that cannot be read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa

Rows = np.ndarray
"""Where values stand in their batch."""
Part = tuple[Rows, pa.StructArray]
"""Some of a batch's rows, and what they hold."""


def read_all(
    values: pa.Array,
    rows: Rows,
    read: Callable[[pa.Array], pa.StructArray],
    faulty: Callable[[ValueError], int | None] = lambda _: None,
) -> Iterator[Part]:
    """What `read` makes of the values that it can read, in order; the others are left out.

    `read` raises ValueError when one of the values cannot be read. Which one it was is what `faulty` makes of
    the error; None: that is not known, and the values are halved.
    """
    waiting = [(0, len(values))]
    while waiting:
        start, stop = waiting.pop()
        if start == stop:
            continue
        try:
            yield rows[start:stop], read(values.slice(start, stop - start))
        except ValueError as error:
            if stop - start == 1:
                continue
            at = faulty(error)
            if at is not None and start + at < stop:
                waiting += [(start + at + 1, stop), (start, start + at)]
            else:
                middle = (start + stop) // 2
                waiting += [(middle, stop), (start, middle)]


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
