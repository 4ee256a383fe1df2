"""The viewer model: it repeats itself, adds up, and holds every trouble that the streams must stand."""

from __future__ import annotations

import base64
import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft7Validator

from pipelines.errors import ReelhouseError
from pipelines.simulate.clients import ClientStyle, format_time, parse_time
from pipelines.simulate.faults import FAULTS
from pipelines.simulate.model import DEFAULT_DAYS, DEFAULT_SEED, DEFAULT_START, DEFAULT_USERS, simulate
from pipelines.simulate.records import CONTENT_UPLOAD, SYSTEM_EVENT, USER_ACTION, Delivery, from_milliseconds
from pipelines.simulate.truth import Counts
from pipelines.simulate.write import TOPICS, write_simulation

USERS, DAYS, SEED = 60, 3, 11
END = DEFAULT_START + timedelta(days=DAYS)
SCHEMAS = Path(__file__).parents[2] / "schemas"
EARLIEST = datetime(2000, 1, 1, tzinfo=timezone.utc)
LARGEST_RECORD = 262_144


@pytest.fixture(scope="module")
def deliveries() -> list[Delivery]:
    return list(simulate(USERS, DAYS, SEED))


@pytest.fixture(scope="module")
def full() -> list[Delivery]:
    """The simulation of the default size, for what is rare."""
    return list(simulate(DEFAULT_USERS, DEFAULT_DAYS, DEFAULT_SEED))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Counts]:
    folder = tmp_path_factory.mktemp("simulation")
    return folder, write_simulation(folder, USERS, DAYS, SEED)


def rows(path: Path) -> list[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


class TestRepeats:
    def test_one_seed_writes_the_same_bytes(self, written: tuple[Path, Counts], tmp_path: Path) -> None:
        write_simulation(tmp_path, USERS, DAYS, SEED)
        assert contents(tmp_path) == contents(written[0])

    def test_another_seed_writes_others(self, tmp_path: Path) -> None:
        write_simulation(tmp_path / "a", 5, 1, 1)
        write_simulation(tmp_path / "b", 5, 1, 2)
        a, b = contents(tmp_path / "a"), contents(tmp_path / "b")
        assert a.keys() == b.keys()
        assert all(a[name] != b[name] for name in a)


class TestAddsUp:
    def test_records_are_events_duplicates_and_broken(self, written: tuple[Path, Counts]) -> None:
        counts = written[1]
        for event_type in TOPICS:
            parts = (counts.valid, counts.duplicates, counts.broken)
            assert counts.records[event_type] == sum(part[event_type] for part in parts) > 0
        assert counts.broken.total() == counts.faults.total()

    def test_the_file_holds_the_records_that_are_counted(self, written: tuple[Path, Counts]) -> None:
        folder, counts = written
        by_topic = Counter(line["topic"] for line in rows(folder / "events.ndjson"))
        assert by_topic == {TOPICS[event_type]: n for event_type, n in counts.records.items()}

    def test_counts_json_says_the_same(self, written: tuple[Path, Counts]) -> None:
        folder, counts = written
        said = json.loads((folder / "truth" / "counts.json").read_text())
        assert (said["users"], said["days"], said["seed"]) == (USERS, DAYS, SEED)
        assert said["records_total"] == counts.records.total()
        assert said["valid"] == dict(counts.valid)
        for table, count in said["rows"].items():
            assert len(rows(folder / "truth" / f"{table}.ndjson")) == count

    def test_every_play_and_resume_is_a_playback(
        self, written: tuple[Path, Counts], deliveries: list[Delivery]
    ) -> None:
        openers = {
            d.event.identity
            for d in deliveries
            if d.event and d.event_type == USER_ACTION and d.event.fields["action"] in ("play", "resume")
        }
        plays = rows(written[0] / "truth" / "playbacks.ndjson")
        assert {play["playback_id"] for play in plays} == openers
        assert len(plays) == len(openers) > 500

    def test_the_days_sum_up_the_playbacks(self, written: tuple[Path, Counts]) -> None:
        truth = written[0] / "truth"
        plays = rows(truth / "playbacks.ndjson")
        for table in ("media_daily", "audience_daily"):
            daily = rows(truth / f"{table}.ndjson")
            assert sum(row["plays"] for row in daily) == len(plays)
            assert sum(row["counted_plays"] for row in daily) == sum(p["is_counted"] for p in plays)

    def test_progress_is_told(self, tmp_path: Path) -> None:
        told: list[tuple[int, float]] = []
        write_simulation(tmp_path, 10, 1, 1, on_progress=lambda records, share: told.append((records, share)))
        assert told == sorted(told)
        assert told[0][0] > 0
        assert 0 <= told[-1][1] <= 1


class TestDelivery:
    def test_is_ordered_by_record_time_and_ends_in_time(self, deliveries: list[Delivery]) -> None:
        times = [d.timestamp_ms for d in deliveries]
        assert times == sorted(times)
        assert from_milliseconds(times[-1]) < END

    def test_some_events_are_late_and_many_out_of_order(self, written: tuple[Path, Counts]) -> None:
        counts = written[1]
        assert 0.01 < counts.late / counts.valid.total() < 0.04

    def test_copies_are_exact_or_rewritten_and_keep_key_and_headers(self, deliveries: list[Delivery]) -> None:
        first: dict[tuple[str, str], Delivery] = {}
        kinds: Counter[bool] = Counter()
        distances = []
        for d in deliveries:
            if d.event is None:
                continue
            original = first.setdefault((d.event_type, d.event.identity), d)
            if original is not d:
                kinds[original.value == d.value] += 1
                distances.append(d.timestamp_ms - original.timestamp_ms)
                assert (original.key, original.headers) == (d.key, d.headers)
        assert kinds[True] > kinds[False] > 0
        assert min(distances) < 60_000
        assert max(distances) > 86_400_000

    def test_no_event_is_far_ahead_of_its_record(self, deliveries: list[Delivery]) -> None:
        ahead = [
            d.event.occurred_at - from_milliseconds(d.timestamp_ms) for d in deliveries if d.event is not None
        ]
        assert timedelta(hours=1) < max(ahead) < timedelta(hours=24)


class TestVariety:
    def test_both_versions_told_in_every_way(self, full: list[Delivery]) -> None:
        ways = {
            (d.event.fields.get("schemaVersion"), d.headers.get("schema-version"))
            for d in full
            if d.event and d.event_type == USER_ACTION
        }
        assert {(None, None), (2, None), (None, "2"), (1, None)} <= ways

    def test_identities_of_every_kind(self, full: list[Delivery]) -> None:
        ways = {
            ("eventId" in d.event.fields, "ce_id" in d.headers)
            for d in full
            if d.event and d.event_type == USER_ACTION
        }
        assert ways == {(True, True), (True, False), (False, True), (False, False)}

    def test_version_1_has_four_fields(self, full: list[Delivery]) -> None:
        plain = [d.event for d in full if d.event and version_of(d) == 1 and d.event_type == USER_ACTION]
        assert plain
        names = {tuple(sorted(e.fields.keys() - {"schemaVersion"})) for e in plain}
        assert names == {("action", "mediaId", "timestamp", "userId")}

    def test_every_end_reason_happens(self, written: tuple[Path, Counts]) -> None:
        reasons = {play["end_reason"] for play in rows(written[0] / "truth" / "playbacks.ndjson")}
        expected = {"paused", "skipped", "completed", "restarted", "switched", "abandoned", "open"}
        assert reasons == expected

    def test_servers_fail(self, full: list[Delivery]) -> None:
        states = {d.event.fields.get("status") for d in full if d.event and d.event_type == SYSTEM_EVENT}
        assert states == {"up", "degraded", "down", None}

    def test_media_come_and_go_and_some_tell_no_duration(self, full: list[Delivery]) -> None:
        uploads = [d.event.fields for d in full if d.event and d.event_type == CONTENT_UPLOAD]
        assert {u["status"] for u in uploads} == {"uploaded", "processed", "published", "removed"}
        published = [u for u in uploads if u["status"] == "published"]
        assert any("durationSeconds" not in u for u in published)
        assert any("durationSeconds" in u for u in published)


class TestContracts:
    def test_every_valid_record_fulfils_its_contract(self, deliveries: list[Delivery]) -> None:
        validators = {}
        for d in deliveries:
            if d.event is not None:
                place = (d.event_type, version_of(d))
                if place not in validators:
                    validators[place] = contract(*place)
                assert rejection(d, validators[place]) is None

    def test_every_broken_record_breaks_it(self, deliveries: list[Delivery]) -> None:
        broken = [d for d in deliveries if d.fault is not None]
        assert len(broken) > 50
        for d in broken:
            newest = 2 if d.event_type == USER_ACTION else 1
            assert rejection(d, contract(d.event_type, newest)), d.fault

    def test_every_fault_happens_at_the_default_size(self, full: list[Delivery]) -> None:
        assert 90_000 < len(full) < 120_000
        faults = Counter(d.fault for d in full if d.fault)
        assert faults.keys() == FAULTS.keys()
        assert 0.005 < faults.total() / len(full) < 0.02


def contract(event_type: str, version: int) -> Draft7Validator:
    text = (SCHEMAS / event_type / str(version) / "schema.json").read_text()
    return Draft7Validator(json.loads(text), format_checker=Draft7Validator.FORMAT_CHECKER)


def version_of(delivery: Delivery) -> int:
    assert delivery.event is not None
    told = delivery.headers.get("schema-version", delivery.event.fields.get("schemaVersion", 1))
    return int(told)


def rejection(delivery: Delivery, validator: Draft7Validator) -> str | None:
    """Why a reader must refuse the record, worked out anew from its bytes; None: it is valid."""
    if delivery.value is None or len(delivery.value) > LARGEST_RECORD:
        return "no value, or too large a one"
    try:
        event = json.loads(delivery.value.decode(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        return str(error)
    for error in validator.iter_errors(event):
        return error.message
    if event.get("schemaVersion", 1) not in (1, 2):
        return "unknown version"
    if any(isinstance(value, float) and value == float("inf") for value in event.values()):
        return "number too large"
    try:
        moment = parse_time(event["timestamp"])
    except (ValueError, OverflowError) as error:
        return str(error)
    ahead = moment - from_milliseconds(delivery.timestamp_ms)
    return "time out of range" if moment < EARLIEST or ahead > timedelta(hours=24) else None


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no JSON")


class TestEnvelopes:
    def test_bytes_that_are_no_utf8_are_base64(self, written: tuple[Path, Counts]) -> None:
        lines = rows(written[0] / "events.ndjson")
        values = [base64.b64decode(line["value_base64"]) for line in lines if "value_base64" in line]
        assert len(values) == written[1].faults["invalid_utf8"] > 0
        for value in values:
            with pytest.raises(UnicodeDecodeError):
                value.decode()

    def test_others_are_text_or_null(self, written: tuple[Path, Counts]) -> None:
        lines = rows(written[0] / "events.ndjson")
        tombstones = [line for line in lines if line.get("value", "") is None]
        assert len(tombstones) == written[1].faults["null_value"] > 0

    def test_topics_are_named_as_configured(self, tmp_path: Path) -> None:
        topics = {USER_ACTION: "a", CONTENT_UPLOAD: "b", SYSTEM_EVENT: "c"}
        write_simulation(tmp_path, 5, 1, 1, topics=topics)
        assert {line["topic"] for line in rows(tmp_path / "events.ndjson")} == {"a", "b", "c"}

    def test_a_folder_that_cannot_be_written_is_a_clear_error(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ReelhouseError, match=r"cannot be written .*; choose another"):
            write_simulation(tmp_path / "file", 1, 1, 1)


@pytest.mark.parametrize(
    ("offset", "digits", "text"),
    [
        (0, 0, "2026-01-05T22:30:15Z"),
        (0, 3, "2026-01-05T22:30:15.123Z"),
        (120, 6, "2026-01-06T00:30:15.123456+02:00"),
        (330, 9, "2026-01-06T04:00:15.123456000+05:30"),
        (-300, 3, "2026-01-05T17:30:15.123-05:00"),
    ],
)
def test_times_are_written_in_any_offset_and_precision(offset: int, digits: int, text: str) -> None:
    moment = datetime(2026, 1, 5, 22, 30, 15, 123456, tzinfo=timezone.utc)
    assert format_time(moment, ClientStyle(2, "field", True, False, offset, digits)) == text
    kept = {0: 0, 3: 123_000}.get(digits, 123_456)
    assert parse_time(text) == moment.replace(microsecond=kept)
