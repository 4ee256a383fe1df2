"""JUnit XML of checks, as CI systems show it: a suite for each table, a case for each check."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pipelines.cli.output import printable

if TYPE_CHECKING:
    from pipelines.quality.suites import Found


def write_junit(file: Path, found: Sequence[Found]) -> None:
    """Write the file: a broken check of severity error is a failure; of a warning the output tells."""
    root = ElementTree.Element("testsuites", name="reelhouse check")
    for table in dict.fromkeys(one.table for one in found):
        mine = [one for one in found if one.table == table]
        counts = {"tests": str(len(mine)), "failures": str(sum(one.is_failure for one in mine))}
        suite = ElementTree.SubElement(root, "testsuite", {"name": table, **counts})
        for one in mine:
            case = ElementTree.SubElement(suite, "testcase", {"classname": table, "name": one.rule})
            if not one.violations:
                continue
            broken = f"Broken by {one.violations:,} of {one.checked:,}: {one.example}"
            sentence = printable(f"{one.comment} {broken}")
            if one.is_failure:
                ElementTree.SubElement(case, "failure", message=sentence)
            else:
                ElementTree.SubElement(case, "system-out").text = f"warning: {sentence}"
    file.parent.mkdir(parents=True, exist_ok=True)
    ElementTree.indent(root)
    ElementTree.ElementTree(root).write(file, encoding="utf-8", xml_declaration=True)
