"""The rules and figures of a table as suites of Great Expectations, and what they found.

A suite of rows is one pass over the table: Great Expectations adds its counts up in one aggregate, and a rule
that it has no expectation for is a column of true and false, computed on the way. Figures are a small frame.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame
from pyspark.sql import functions as F

from pipelines.declare import Measure, Rule, Severity, Table
from pipelines.errors import ReelhouseError
from pipelines.quality.rules import ColumnRule, key_text
from pipelines.text import nearest

# Before the import: a check tells nobody outside about the tables.
os.environ["GX_ANALYTICS_ENABLED"] = "false"

import great_expectations as gx
from great_expectations import expectations as gxe
from great_expectations.data_context.types.base import DataContextConfig, InMemoryStoreBackendDefaults

if TYPE_CHECKING:
    from great_expectations.data_context import AbstractDataContext

_SITE = "reelhouse"
_SEVERITIES = {"error": "critical", "warn": "warning"}
# Counts of all rows, and no list of the broken ones, which would be a pass over the table for each rule.
_COUNTS = {"result_format": "BASIC", "partial_unexpected_count": 0}


@dataclass(frozen=True)
class Found:
    """What one rule, or one figure, found."""

    table: str
    rule: str
    comment: str
    severity: Severity
    checked: int
    """Rows, or parts of the table, that it looked at (count)."""
    violations: int
    """Of these, the ones that break it (count)."""
    example: str | None = None
    """One that breaks it: the least key, or the least part with its figure."""

    @property
    def is_failure(self) -> bool:
        """Whether it is broken, and more than a warning."""
        return bool(self.violations) and self.severity == "error"


class Checks:
    """A run of suites, with the pages (Data Docs) about what they found."""

    def __init__(self) -> None:
        # Its pages are written where the caller says, or nowhere.
        project = DataContextConfig(
            store_backend_defaults=InMemoryStoreBackendDefaults(), progress_bars={"globally": False}
        )
        self._context: AbstractDataContext = gx.get_context(mode="ephemeral", project_config=project)
        self._source = self._context.data_sources.add_spark("reelhouse")

    def rows(self, table: Table, rows: DataFrame, rules: Sequence[Rule]) -> list[Found]:
        """Whether every row fulfils the rules, and every column has its type. Raises ReelhouseError."""
        own = [rule for rule in rules if not isinstance(rule, ColumnRule)]
        widened = rows.withColumns({rule.name: _expression(table, rows, rule) for rule in own})
        expected = [*_types(table, rows), *(_of_rule(table, rows, rule) for rule in rules)]
        found = list(self._validated(table.full_name, table, widened, expected))
        by_name = {rule.name: rule for rule in rules}
        broken = [by_name[one.rule] for one in found if one.violations and one.rule in by_name]
        return _with_examples(found, _examples(table, rows, broken))

    def figures(self, table: Table, figures: DataFrame, measures: Sequence[Measure]) -> list[Found]:
        """Whether the figures (`measure`, `subject`, `value`) stay within bounds."""
        by_measure = {m.name: F.when(F.col("measure") == m.name, F.col("value")) for m in measures}
        expected = [_of_measure(measure) for measure in measures]
        widened = figures.withColumns(by_measure)
        found = list(self._validated(f"{table.full_name} figures", table, widened, expected))
        outside = {m.name: F.col("measure").eqNullSafe(m.name) & ~_within(m) for m in measures}
        value = F.regexp_replace(F.col("value").cast("decimal(28,6)").cast("string"), r"\.?0+$", "")
        shown = F.concat_ws(": ", "subject", value)
        examples = figures.agg(*[F.min(F.when(c, shown)).alias(name) for name, c in outside.items()]).first()
        return _with_examples(found, examples.asDict() if examples else {})

    def write_docs(self, folder: Path) -> Path:
        """Write Great Expectations' pages about every suite of this run; returns the first page."""
        backend = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
        config = {
            "class_name": "SiteBuilder",
            "store_backend": backend,
            "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
        }
        self._context.add_data_docs_site(site_name=_SITE, site_config=config)
        self._context.build_data_docs(site_names=[_SITE])
        return folder / "index.html"

    def _validated(self, name: str, table: Table, frame: DataFrame, expected: list[Any]) -> Iterator[Found]:
        asset = self._source.add_dataframe_asset(name)
        batch = asset.add_batch_definition_whole_dataframe("as it stands")
        suite = self._context.suites.add(gx.ExpectationSuite(name=name, expectations=expected))
        definition = gx.ValidationDefinition(name=name, data=batch, suite=suite)
        added = self._context.validation_definitions.add(definition)
        told = added.run(batch_parameters={"dataframe": frame}, result_format=_COUNTS)
        for result in told.results:
            yield _found(table, result)


def _found(table: Table, result: Any) -> Found:
    told, config, counts = result.exception_info or {}, result.expectation_config, result.result or {}
    meta = config.meta
    if told.get("raised_exception", any(isinstance(v, dict) for v in told.values())):
        reason = told.get("exception_message") or next(iter(told.values()))["exception_message"]
        message = f"the check {meta['rule']} of {table.full_name} failed: {reason.splitlines()[0]}"
        raise ReelhouseError(f"{message}; correct it in the table's declaration", code="check_failed")
    # Of a column's type there is one verdict, and no count.
    looked = counts.get("element_count", 1) - (counts.get("missing_count") or 0)
    violations = counts.get("unexpected_count", 0 if result.success else 1)
    return Found(table.full_name, meta["rule"], config.description, meta["severity"], looked, violations)


def _of_rule(table: Table, rows: DataFrame, rule: Rule) -> Any:
    known = _known(rule)
    if not isinstance(rule, ColumnRule):
        return gxe.ExpectColumnValuesToBeInSet(column=rule.name, value_set=[True], **known)
    _require_column(table, rows, rule.name, rule.column)
    if rule.values:
        return gxe.ExpectColumnValuesToBeInSet(column=rule.column, value_set=list(rule.values), **known)
    if rule.minimum is not None:
        return gxe.ExpectColumnValuesToBeBetween(column=rule.column, min_value=rule.minimum, **known)
    return gxe.ExpectColumnValuesToNotBeNull(column=rule.column, **known)


def _of_measure(measure: Measure) -> Any:
    bounds = {"min_value": measure.minimum, "max_value": measure.maximum}
    return gxe.ExpectColumnValuesToBeBetween(column=measure.name, **bounds, **_known(measure))


def _types(table: Table, rows: DataFrame) -> Iterator[Any]:
    for field in table.schema():
        rule = Rule(f"{field.name}_type", "", f"{field.name} is {field.dataType.simpleString()}.")
        if field.name not in rows.columns:
            message = (
                f"{table.full_name} has no column {field.name} yet; start `reelhouse run`, which adds it"
            )
            raise ReelhouseError(message, code="check_column_missing")
        kind = type(field.dataType).__name__
        yield gxe.ExpectColumnValuesToBeOfType(column=field.name, type_=kind, **_known(rule))


def _known(rule: Rule | Measure) -> dict[str, Any]:
    meta = {"rule": rule.name, "severity": rule.severity}
    return {"description": rule.comment, "severity": _SEVERITIES[rule.severity], "meta": meta}


def _within(measure: Measure) -> Any:
    least, most = measure.minimum, measure.maximum
    above = F.lit(True) if least is None else F.col("value") >= least
    return above if most is None else above & (F.col("value") <= most)


def _expression(table: Table, rows: DataFrame, rule: Rule) -> Any:
    """The rule as a column. Raises ReelhouseError when it names what the table does not have."""
    try:
        rows.select(F.expr(rule.condition))
    except AnalysisException as error:
        name = (error.getMessageParameters() or {}).get("objectName", "").strip("`")
        if name:
            _require_column(table, rows, rule.name, name)
        message = f"the check {rule.name} of {table.full_name} is no condition over its rows"
        reason = str(error).splitlines()[0]
        raise ReelhouseError(f"{message} ({reason}); correct it", code="check_failed") from error
    return F.expr(rule.condition)


def _require_column(table: Table, rows: DataFrame, rule: str, column: str) -> None:
    if column in rows.columns:
        return
    hint = nearest(column, rows.columns, f"its columns are {', '.join(rows.columns)}", cutoff=0.5)
    message = (
        f"the check {rule} of {table.full_name} names the column {column}, which the table does not have"
    )
    raise ReelhouseError(f"{message}; {hint}", code="check_column_missing")


def _examples(table: Table, rows: DataFrame, broken: Sequence[Rule]) -> dict[str, Any]:
    """By rule the least key that breaks it: another pass, and only when something is broken."""
    if not broken:
        return {}
    key = key_text(table.keys)
    least = [F.min(F.when(~F.expr(rule.condition), key)).alias(rule.name) for rule in broken]
    found = rows.agg(*least).first()
    return found.asDict() if found else {}


def _with_examples(found: Sequence[Found], examples: dict[str, Any]) -> list[Found]:
    return [replace(one, example=examples.get(one.rule)) for one in found]
