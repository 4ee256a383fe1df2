"""How a held record is shown: the fault beside its field."""

from __future__ import annotations

import json

from pipelines.cli.pointed import pointed


def test_a_fault_is_pointed_at_beside_its_field() -> None:
    value = json.dumps({"userId": 7, "device": {"platform": ["web"]}, "action": "play"}).encode()
    reasons = [
        ("wrong_type", "userId", "7 is not of type 'string'"),
        ("wrong_type", "device.platform", "['web'] is not of type 'string', 'null'"),
        ("missing_field", "mediaId", "'mediaId' is a required property"),
    ]
    assert list(pointed(value, json.loads(value), reasons)) == [
        "◄ missing_field mediaId: 'mediaId' is a required property",
        "userId: 7   ◄ wrong_type: 7 is not of type 'string'",
        "device:",
        "  platform: [\"web\"]   ◄ wrong_type: ['web'] is not of type 'string', 'null'",
        'action: "play"',
    ]


def test_bytes_that_are_not_text_are_shown_around_the_fault() -> None:
    lines = list(pointed(b"ab\xffcd", None, [("invalid_utf8", "", "byte 2 is not UTF-8")]))
    assert lines == ["◄ invalid_utf8: byte 2 is not UTF-8", "bytes 0 to 18: 61 62 ff 63 64", "ab\ufffdcd"]


def test_text_that_is_not_json_and_no_value_at_all() -> None:
    assert list(pointed(b"play u", None, [("invalid_json", "", "Expecting value")])) == [
        "◄ invalid_json: Expecting value",
        "play u",
    ]
    assert list(pointed(None, None, [("null_value", "", "the record has no value")]))[-1] == "(no value)"


def test_a_record_gives_the_terminal_no_commands() -> None:
    value = b"\x1b]0;title\x07\x1b[31mred \xc2\x9b2J"
    assert list(pointed(value, None, [("invalid_json", "", "not JSON: \x1b[2J")])) == [
        r"◄ invalid_json: not JSON: \x1b[2J",
        r"\x1b]0;title\x07\x1b[31mred \x9b2J",
    ]
    name = "\x1b[2J"
    assert list(pointed(b"", {name: "\x9b\ud800"}, [("unknown_field", name + "x", "?")])) == [
        r"◄ unknown_field \x1b[2Jx: ?",
        r'\x1b[2J: "\x9b\ud800"',
    ]


def test_much_is_shortened() -> None:
    value = json.dumps({f"f{n}": "x" * 500 for n in range(100)}).encode()
    lines = list(pointed(value, json.loads(value), []))
    assert len(lines) == 61
    assert lines[-1] == "… 40 more lines"
    assert max(map(len, lines)) == 100
