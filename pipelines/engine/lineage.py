"""Which silver columns a gold column is computed from, read off Spark's plans of the definitions."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pyspark.sql import DataFrame, SparkSession

from pipelines.config import Stream
from pipelines.declare import Table
from pipelines.engine.rebuild import from_silver
from pipelines.gold import media_catalog, playbacks
from pipelines.silver import content_uploads, user_actions
from pipelines.tables import GOLD

_ALIAS, _ATTRIBUTE, _TABLE = "Alias", "AttributeReference", "SubqueryAlias"
Node = dict[str, Any]


def lineage(spark: SparkSession) -> dict[str, dict[str, list[str]]]:
    """By gold table and column, the columns (`silver.user_actions.occurred_at`) that its values come from.

    Those that choose rows (filters, keys of joins) are not among them; a count of rows has none.
    """
    actions, uploads = (_empty(spark, table) for table in (user_actions.TABLE, content_uploads.TABLE))
    clock = playbacks.stream_clock(actions, Stream().jitter_seconds)
    plays = playbacks.playbacks(actions, media_catalog.durations(uploads), clock)
    frames = from_silver(actions, uploads, clock, plays)
    return {table.full_name: _sources(frames[table.full_name]) for table in GOLD}


def _empty(spark: SparkSession, table: Table) -> DataFrame:
    """A table without rows, which its plan names."""
    return spark.createDataFrame([], table.schema()).alias(table.full_name.replace(".", "/"))


def _sources(frame: DataFrame) -> dict[str, list[str]]:
    nodes: list[Node] = json.loads(frame._jdf.queryExecution().analyzed().toJSON())
    plan = _Plan()
    outputs = plan.walk(iter(nodes))
    return {name: sorted(plan.origins(i)) for name, i in zip(frame.columns, outputs, strict=True)}


@dataclass
class _Plan:
    """What each attribute of a plan, by its number, is computed from."""

    made_of: dict[int, set[int]] = field(default_factory=dict)
    column: dict[int, str] = field(default_factory=dict)
    """Attributes that are columns of a table."""
    names: dict[int, str] = field(default_factory=dict)
    """What relations call the attributes that they put out."""

    def origins(self, attribute: int) -> set[str]:
        """The tables' columns that an attribute comes from in the end."""
        seen, waiting, found = {attribute}, [attribute], set[str]()
        while waiting:
            one = waiting.pop()
            if one in self.column:
                found.add(self.column[one])
                continue
            new = self.made_of.get(one, set()) - seen
            seen |= new
            waiting += new
        return found

    def walk(self, nodes: Iterator[Node]) -> list[int]:
        """Note one node and those below it, which follow it; returns the attributes that it puts out."""
        node = next(nodes)
        below = [self.walk(nodes) for _ in range(node["num-children"])]
        for expression in _expressions(node):
            if _kind(expression[0]) == _ALIAS:
                self.made_of.setdefault(_number(expression[0]), set()).update(_attributes(expression))
        kind = _kind(node)
        if kind == _TABLE and "/" in node["identifier"]["name"]:
            table = node["identifier"]["name"].replace("/", ".")
            self.column |= {number: f"{table}.{self.names[number]}" for number in below[0]}
        return self._output(kind, node, below)

    def _output(self, kind: str, node: Node, below: list[list[int]]) -> list[int]:
        chosen = node.get("projectList") or node.get("aggregateExpressions")
        if chosen:
            return [_number(expression[0]) for expression in chosen]
        if not below:
            found = {_number(expression[0]): expression[0]["name"] for expression in node["output"]}
            self.names |= found
            return list(found)
        if kind == "Union":
            for others in below[1:]:
                for first, other in zip(below[0], others, strict=True):
                    self.made_of.setdefault(first, set()).add(other)
            return below[0]
        if kind == "Join":
            only_left = node["joinType"]["object"].rpartition(".")[2] in ("LeftSemi$", "LeftAnti$")
            return below[0] if only_left else below[0] + below[1]
        if kind == "Generate":
            made = [_number(expression[0]) for expression in node["generatorOutput"]]
            for one in made:
                self.made_of.setdefault(one, set()).update(_attributes(node["generator"]))
            return below[0] + made
        return below[0] + [_number(expression[0]) for expression in node.get("windowExpressions", ())]


def _expressions(node: Node) -> Iterator[list[Node]]:
    for value in node.values():
        if isinstance(value, list) and value and isinstance(value[0], list):
            yield from value


def _attributes(expression: list[Node]) -> set[int]:
    return {_number(part) for part in expression if _kind(part) == _ATTRIBUTE}


def _kind(node: Node) -> str:
    return str(node["class"]).rpartition(".")[2]


def _number(expression: Node) -> int:
    return int(expression["exprId"]["id"])
