"""What every row of a table fulfils, from its declaration and its contract, as Spark expressions.

The stream counts by these, and `reelhouse check` makes its suites of them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pyspark.sql import Column as SparkColumn
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.contracts.load import all_fields, contracts, kind_of
from pipelines.declare import Column, Rule, Table


@dataclass(frozen=True)
class ColumnRule(Rule):
    """A rule about one column, which Great Expectations has an expectation of its own for."""

    column: str = ""
    values: tuple[str, ...] = ()
    """The values allowed; empty: the rule is not about them."""
    minimum: float | None = None
    """The least value allowed; with no values either, the rule is that there is a value."""


def row_rules(table: Table) -> tuple[Rule, ...]:
    """Every rule of the table's rows: of its columns and its contract, and those written by hand."""
    return (*_of_columns(table), *table.rules)


def _of_columns(table: Table) -> Iterator[Rule]:
    for column in table.columns:
        told = _from_contract(table, column)
        if told.required:
            yield not_null(column.name)
        if told.values:
            yield in_set(column.name, told.values)
        if told.minimum is not None:
            yield at_least(column.name, told.minimum)


def _from_contract(table: Table, column: Column) -> Column:
    """The column with what its contract says: what it says stands, whatever the declaration."""
    path = table.contract.fields.get(column.name) if table.contract else None
    if table.contract is None or path is None:
        return column
    event_type, (name, *inner) = table.contract.event_type, path.split(".")
    field = _field(all_fields(event_type)[name], inner)
    required = not inner and all(name in one.required for one in contracts(event_type).values())
    # Of an array the rules are about its items, which no rule here looks at.
    values = () if kind_of(field) == "array" else tuple(v for v in field.get("enum", ()) if v is not None)
    return Column(column.name, column.type, column.comment, required, values, field.get("minimum"))


def _field(field: dict[str, Any], inner: list[str]) -> dict[str, Any]:
    for name in inner:
        field = field["properties"][name]
    return field


def counts_by_day(table: Table, rows: DataFrame) -> DataFrame:
    """How the rules of a table with an `event_date` were kept, by day, in one pass.

    Columns: `table_name`, `rule`, `event_date`, `severity`, `checked`, `violations`, `example` (the least key
    of a row that breaks it); a rule that looked at nothing on a day has no row for it.
    """
    rules = row_rules(table)
    key = key_text(table.keys)
    structs = []
    for rule in rules:
        kept = F.expr(rule.condition)
        structs.append(
            F.struct(
                F.lit(rule.name).alias("rule"),
                F.lit(rule.severity).alias("severity"),
                F.count(kept).alias("checked"),
                F.count_if(~kept).alias("violations"),
                F.min(F.when(~kept, key)).alias("example"),
            )
        )
    by_day = rows.groupBy("event_date").agg(F.array(*structs).alias("rules"))
    each = by_day.select(F.lit(table.full_name).alias("table_name"), "event_date", F.inline("rules"))
    return each.where("checked > 0")


def key_text(keys: Sequence[str]) -> SparkColumn:
    """A key in one text, as results show it."""
    return F.concat_ws(" ", *[F.coalesce(F.col(f"`{k}`").cast("string"), F.lit("null")) for k in keys])


def not_null(column: str) -> Rule:
    """The column has a value."""
    return ColumnRule(f"{column}_told", f"`{column}` IS NOT NULL", f"{column} is told.", column=column)


def in_set(column: str, values: tuple[str, ...]) -> Rule:
    """The column has one of these values, or none."""
    listed = ", ".join(json.dumps(value) for value in values)
    comment = f"{column} is one of {', '.join(values)}."
    return ColumnRule(f"{column}_known", f"`{column}` IN ({listed})", comment, column=column, values=values)


def at_least(column: str, minimum: float) -> Rule:
    """The column is not less than this, or null."""
    name, condition = f"{column}_in_range", f"`{column}` >= {minimum:g}"
    return ColumnRule(name, condition, f"{column} is at least {minimum:g}.", column=column, minimum=minimum)
