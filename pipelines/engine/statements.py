"""Which statements of SQL only read: the streams alone write, one writer to a table."""

from __future__ import annotations

import re
from typing import Any

from pyspark.sql import SparkSession

from pipelines.errors import UsageError

# The classes that Spark's parser makes of a query. All others are refused, so also those that are to come.
_QUERY = re.compile(
    "Aggregate|Distinct|Except|Filter|Generate|GlobalLimit|Intersect|Join|LateralJoin|LimitAll|LocalLimit|"
    "LocalRelation|Offset|OneRowRelation|PipeOperator|Pivot|Project|RelationTimeTravel|"
    "RepartitionByExpression|Sample|ScriptTransformation|Sort|SubqueryAlias|Union|Unpivot|UnresolvedHaving|"
    "UnresolvedHint|UnresolvedInlineTable|UnresolvedRelation|UnresolvedSubqueryColumnAliases|"
    "UnresolvedTVFAliases|UnresolvedTableValuedFunction|UnresolvedWith|WithWindowDefinition"
)
# Commands that show something, or change this session only. A view that is not temporary is `CreateView`.
_COMMANDS = re.compile(
    "(Show|Describe)[A-Za-z]+|ExplainCommand|(Set|Reset)Command|Set(CatalogCommand|CatalogAndNamespace)|"
    "CreateViewCommand|CreateTempViewUsing|(Create|Set|Drop)Variable|"
    "CacheTable(AsSelect)?|UncacheTable|ClearCacheCommand|RefreshTable"
)
# `IDENTIFIER(…)`: inside a query it is a table; in place of a whole statement it may be any.
_NAMED_LATER = "PlanWithUnresolvedIdentifier"


def require_reading(spark: SparkSession, text: str) -> None:
    """Refuse a statement that may write. Raises UsageError (`read_only`), and Spark's own of wrong syntax."""
    plan = spark._jsparkSession.sessionState().sqlParser().parsePlan(text)
    if _COMMANDS.fullmatch(_class(plan)):
        return
    refused = _no_query(plan)
    if refused is not None:
        message = (
            f"`reelhouse sql` only reads, and this statement is {refused}; `reelhouse run` writes new "
            "events, `rebuild` computes a table anew, `quarantine replay` releases held events"
        )
        raise UsageError(message, code="read_only")


def _no_query(plan: Any, *, is_statement: bool = True) -> str | None:
    """The first class that is no part of a query; `is_statement`: a whole statement may stand there."""
    name = _class(plan)
    if not _QUERY.fullmatch(name) and (is_statement or name != _NAMED_LATER):
        return name
    # `WITH … INSERT`, and `FROM … INSERT … INSERT …`.
    below = is_statement and name in ("UnresolvedWith", "Union")
    children = plan.children()
    found = (_no_query(children.apply(n), is_statement=below) for n in range(children.size()))
    return next(filter(None, found), None)


def _class(plan: Any) -> str:
    return str(plan.getClass().getSimpleName()).rstrip("$")
