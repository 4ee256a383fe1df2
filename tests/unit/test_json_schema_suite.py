"""The official JSON Schema test suite, draft 7, for the keywords of contracts: our verdict is the suite's.

Later drafts are held to the same cases: the keywords that are compiled say the same in each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from itertools import product
from pathlib import Path
from typing import Any

import pytest

from pipelines.contracts.compiled import KNOWN, KNOWN_IN_FIELD
from pipelines.contracts.load import contracts, event_types
from pipelines.contracts.referee import DRAFTS, validator_of

SUITE = Path(__file__).parents[1] / "data" / "json_schema_suite"
_SILENT = {"$schema", "$id", "title", "description"}
# Where we differ, on purpose: seconds 60 cannot be stored, and no contract may have integers.
_OURS = {
    "date-time: validation of date-time strings: a valid date-time with a leap second, UTC",
    "date-time: validation of date-time strings: a valid date-time with a leap second, with minus offset",
    "type: integer type matches integers: a float with zero fractional part is an integer",
}
_FILE_OF = {"if": "if-then-else", "then": "if-then-else", "format": "date-time"}


def _cases() -> Iterator[Any]:
    for file in sorted(SUITE.glob("*.json")):
        for draft, group in product(DRAFTS, json.loads(file.read_text())):
            if "2020-12" in draft and '"items": [' in json.dumps(group["schema"]):
                continue  # what is `prefixItems` there; no list of items is compiled
            schema = {"$schema": f"https://{draft}", **group["schema"]}
            for case in group["tests"]:
                # As the referee reads a record: numbers with all their digits.
                data = json.loads(json.dumps(case["data"]), parse_float=Decimal)
                name = f"{file.stem}: {group['description']}: {case['description']}"
                valid = case["valid"] and name not in _OURS
                yield pytest.param(schema, data, valid, id=f"{name} ({draft.split('/')[-2]})")


@pytest.mark.parametrize(("schema", "data", "valid"), [*_cases()])
def test_the_verdict_is_the_suites(schema: dict[str, Any], data: Any, valid: bool) -> None:
    assert validator_of(schema).is_valid(data) == valid


def _keywords(schema: Any) -> set[str]:
    if not isinstance(schema, dict):
        return set()
    inner = [*schema.get("properties", {}).values(), *(schema.get(k) for k in ("items", "if", "then"))]
    return set(schema) | set().union(*map(_keywords, inner))


def test_every_keyword_of_a_contract_is_in_the_suite() -> None:
    files = {file.stem for file in SUITE.glob("*.json")}
    used = set().union(*(_keywords(c.schema) for t in event_types() for c in contracts(t).values()))
    assert used <= KNOWN | KNOWN_IN_FIELD
    assert {_FILE_OF.get(word, word) for word in (KNOWN | KNOWN_IN_FIELD) - _SILENT} <= files


def test_a_schema_is_judged_by_the_draft_that_it_names() -> None:
    needs = {"dependentRequired": {"a": ["b"]}}
    later = {"$schema": "https://json-schema.org/draft/2020-12/schema", **needs}
    assert not validator_of(later).is_valid({"a": 1})
    assert validator_of(later).is_valid({"a": 1, "b": 2})
    # Draft-07, which is meant where nothing is named, does not know the word.
    assert validator_of(needs).is_valid({"a": 1})
