"""What the command line writes: whatever a record holds, terminals get text, and CI gets XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from pipelines.cli.junit import write_junit
from pipelines.cli.output import show
from pipelines.quality.suites import Found


def test_a_table_gives_the_terminal_no_commands(capsys: pytest.CaptureFixture[str]) -> None:
    show(("media_id",), [("\x1b[31mred\r\n\x9b2J\ud800",)], "table")
    assert capsys.readouterr().out.splitlines()[-1] == r"\x1b[31mred\x0d\n\x9b2J\ud800"


def test_what_is_no_finite_number_is_text_in_json(capsys: pytest.CaptureFixture[str]) -> None:
    show(("a", "b"), [(float("nan"), [1.5, float("-inf")])], "json")
    assert capsys.readouterr().out == '{"a": "NaN", "b": [1.5, "-Infinity"]}\n'


@pytest.mark.parametrize("severity", ["error", "warn"])
def test_junit_is_xml_whatever_the_example_holds(tmp_path: Path, severity: str) -> None:
    examples = {"\x01bad <é>": r"\x01bad <é>", "\ud800\ufffe": r"\ud800\ufffe"}
    found = [Found("t", "rule", "Good.", severity, 3, 1, example) for example in examples]
    write_junit(tmp_path / "check.xml", found)
    cases = ElementTree.parse(tmp_path / "check.xml").findall(".//testcase")
    told = [case[0].get("message") or case[0].text or "" for case in cases]
    assert [text.partition("of 3: ")[2] for text in told] == list(examples.values())
