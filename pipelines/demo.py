"""`make demo`: broker, real and simulated events, streams, and what came out of them."""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipelines import broker
from pipelines.adapters import media_player
from pipelines.config import Config, Limits, load_config
from pipelines.errors import exit_code_of
from pipelines.produce import produce
from pipelines.simulate.clients import parse_time
from pipelines.simulate.model import DEFAULT_DAYS, DEFAULT_SEED, DEFAULT_USERS
from pipelines.simulate.records import from_milliseconds
from pipelines.simulate.reference import ContentUpload, UserAction, compute
from pipelines.simulate.write import write_simulation
from pipelines.topics import by_event_type, end_offsets, event_types, identities

if TYPE_CHECKING:
    from pipelines.engine.lake import Lake

Held = TypeVar("Held")
SIMULATION, REAL = Path(".work/simulation"), Path(".work/media_player_events.ndjson")
SOURCE = Path("data/media_player_events/events.csv")
_DONE = Path(".work/demo-published.json")
_NEXT = """
what to try next:
  .venv/bin/reelhouse sql "SELECT event_date, media_id, plays FROM gold.media_daily ORDER BY 3 DESC LIMIT 5"
  .venv/bin/reelhouse tables gold.playbacks
  .venv/bin/reelhouse sql "SELECT reasons[0].code, count(*) FROM silver.quarantine GROUP BY 1 ORDER BY 2 DESC"
  .venv/bin/reelhouse run &    # then: .venv/bin/reelhouse simulate --users 50 --days 1 --seed 2 --rate 500
  make clean                       # stops the broker and removes .work"""


def main() -> int:
    """Run the demo; 1 when it fails or a count differs from the truth."""
    return exit_code_of(lambda: _demo(load_config()))


def _demo(config: Config) -> int:
    began = time.monotonic()
    # A process of its own: Spark starts on one core while the other simulates.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        simulated = pool.submit(_simulate, by_event_type(config))
        _say("starting the broker and Spark, and simulating viewers")
        broker.start(config)
        config = broker.with_embedded_broker(config)
        lake = _lake(config)
        simulated.result()
    _publish(config)
    wrong = _run(config, lake)
    print(f"\ndone in {time.monotonic() - began:.0f} s; the tables are under {config.storage.root}{_NEXT}")
    return 1 if wrong else 0


def _simulate(topics: dict[str, str]) -> None:
    media_player.write(SOURCE, REAL, topics)
    write_simulation(SIMULATION, DEFAULT_USERS, DEFAULT_DAYS, DEFAULT_SEED, topics=topics)


def _lake(config: Config) -> Lake:
    """Spark, and the tables, which take the longest to make the first time."""
    from pipelines.engine.guard import make_tables
    from pipelines.engine.lake import Lake
    from pipelines.session import open_session
    from pipelines.tables import LAYERS

    lake = Lake.of(open_session(config, "demo"), config)
    make_tables(lake, LAYERS)
    return lake


def _run(config: Config, lake: Lake) -> bool:
    from pipelines.engine.stream import Streams
    from pipelines.tables import LAYERS

    _say("running bronze, silver and gold")
    Streams(lake.spark, config, LAYERS, _say).run(available_now=True)
    # By other limits the broken events are others.
    expected = _expected(config) if _are_alone(config) and config.limits == Limits() else {}
    wrong = _compare(lake, expected)
    if not expected:
        why = "the topics hold other records as well, or [limits] are others than the simulation's"
        _say(f"{why}: the rows are not compared; `make clean` begins anew")
    return wrong


def _publish(config: Config) -> None:
    """Publish the events, unless an earlier demo did into these very topics: a record held once is enough."""
    topics = _inputs(config, identities(config))
    if _noted().get("topics") == topics:
        _say("the events are published already")
        return
    _say("publishing")
    done = produce(config, [REAL, SIMULATION / "events.ndjson"])
    _DONE.write_text(json.dumps({"topics": topics, "records": done.count}))
    _say(f"published {done.count:,} events")


def _noted() -> dict[str, Any]:
    """What an earlier demo has published, and where to; empty when it did not come to its end."""
    try:
        return dict(json.loads(_DONE.read_text()))
    except (OSError, ValueError):
        return {}


def _are_alone(config: Config) -> bool:
    """Whether the topics hold the demo's events once and nothing else.

    They do not after a `simulate` or `produce`, nor after a demo that was interrupted while it published.
    """
    held = sum(sum(ends.values()) for ends in end_offsets(config, event_types(config)).values())
    return bool(held == _noted().get("records"))


def _inputs(config: Config, by_topic: dict[str, Held]) -> dict[str, Held]:
    return {topic: by_topic[topic] for topic in event_types(config)}


def _expected(config: Config) -> dict[str, int]:
    """Rows by table name as the truth has them: of the simulated events, and of the real ones."""
    counts = json.loads((SIMULATION / "truth" / "counts.json").read_text())
    actions, uploads = _real_events(config.kafka.topics.user_actions)
    expected = {
        "silver.user_actions": counts["valid"]["user-action"] + len(actions),
        "silver.content_uploads": counts["valid"]["content-upload"] + len(uploads),
        "silver.system_events": counts["valid"]["system-event"],
        "silver.quarantine": counts["broken_total"],
    }
    # Real and simulated events share neither users nor media nor days, so their rows add up.
    for name, held in compute(actions, uploads).items():
        expected[f"gold.{name}"] = counts["rows"][name] + len(held)
    return expected


def _compare(lake: Lake, expected: dict[str, int]) -> bool:
    """Print each table's rows beside the expected ones; whether any differ."""
    from pyspark.sql import functions as F

    from pipelines.silver import ledger
    from pipelines.tables import GOLD, SILVER

    print(f"\n{'table':<24}{'rows':>10}{'expected' if expected else '':>10}")
    wrong = False
    for table in (*SILVER, *GOLD):
        rows, wanted = lake.read(table).count(), expected.get(table.full_name)
        wrong = wrong or (wanted is not None and wanted != rows)
        print(f"{table.full_name:<24}{rows:>10,}{'' if wanted is None else f'{wanted:>10,}'}")
    found = lake.read(ledger.TABLE).agg(F.sum("duplicates")).first()
    assert found is not None  # an aggregate has a row
    print(f"{found[0]:,} records were copies of events that are there, which silver drops")
    return wrong


def _real_events(user_actions: str) -> tuple[list[UserAction], list[ContentUpload]]:
    """The adapter's events as the reference takes them."""
    actions: list[UserAction] = []
    uploads: list[ContentUpload] = []
    for line in REAL.read_text(encoding="utf-8").splitlines():
        envelope = json.loads(line)
        event = json.loads(envelope["value"])
        at = parse_time(event["timestamp"])
        if envelope["topic"] == user_actions:
            fields = (event["eventId"], event["userId"], event["action"], at, event["mediaId"])
            actions.append(UserAction(*fields, from_milliseconds(envelope["timestamp_ms"])))
        else:
            about = (event["eventId"], event["mediaId"], event["creatorId"], event["title"], event["status"])
            uploads.append(ContentUpload(*about, at))
    return actions, uploads


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
