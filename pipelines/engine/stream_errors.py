"""What a stream that failed means, in a sentence."""

from __future__ import annotations

import re

from pipelines.config import Config
from pipelines.engine.storage_errors import causes, storage_failure
from pipelines.errors import ReelhouseError
from pipelines.submitted import lacking_on_workers

# Spark 4.1's Kafka source, asked for its metrics after a batch that a killed run had begun, finds no offsets
# and fails the query, though the batch is committed by then.
_METRICS_FAULT = 'the return value of "scala.Option.get()" is null'
# What a batch holds is with the executors: with one of them a part is gone, which Spark cannot make again.
_HELD_ROWS_GONE = re.compile(r"Checkpoint block \S+ not found|CHECKPOINT_RDD_BLOCK_ID_NOT_FOUND")


def passing(error: Exception) -> str | None:
    """What to tell ("" for nothing) of what the next attempt may not meet; None: that would fail, too."""
    text = "\n".join(causes(error))
    if _METRICS_FAULT in text:
        return ""
    if _HELD_ROWS_GONE.search(text):
        return "an executor was lost with rows of the batch, which is taken again"
    return None


def explained(layer: str, error: Exception, root: str, config: Config) -> ReelhouseError:
    """The sentence for what ended a layer's stream into `root`."""
    text = "\n".join(causes(error))
    servers = config.kafka.bootstrap_servers
    known = storage_failure(root, text)
    if known is not None:
        return known
    if "OutOfMemory" in text:
        message = (
            f"the {layer} stream is out of Java's memory; raise spark.driver_memory (on a cluster the "
            "executors'), and start again: nothing is lost"
        )
        return ReelhouseError(message, code="out_of_memory")
    if "Permission denied" in text or "Mkdirs failed" in text:
        message = f"the storage root {root} cannot be written; allow it, or set storage.root"
        return ReelhouseError(message, code="storage_unwritable")
    if layer == "bronze" and ("data may have been lost" in text or "OFFSET_CHANGED" in text.upper()):
        message = (
            "records expired in Kafka before they were read, so the bronze stream stopped; restore them, "
            "or accept the gap, which is then recorded, with kafka.fail_on_data_loss=false"
        )
        return ReelhouseError(message, code="offsets_expired")
    if layer == "bronze" and "long overflow" in text:
        message = (
            "a record's own time is so far ahead that Spark cannot read it, so the bronze stream stopped; "
            "take it out (docs/operations.md), and set message.timestamp.after.max.ms on its topic"
        )
        return ReelhouseError(message, code="record_time_unreadable")
    if "UnknownTopicOrPartition" in text:
        message = f"a topic of the bronze stream does not exist on {servers}; create it again"
        return ReelhouseError(message, code="topic_missing")
    if layer == "bronze" and (denied := re.search(r"\w*(?:Authorization|Authentication)Exception.*", text)):
        told = denied[0][:200]
        message = f"Kafka at {servers} denies the bronze stream ({told}); allow it, or correct kafka.options"
        return ReelhouseError(message, code="kafka_denied")
    if layer == "bronze" and ("TimeoutException" in text or "org.apache.kafka" in text):
        message = f"no Kafka broker answers at {servers}; start it, or correct kafka.bootstrap_servers"
        return ReelhouseError(message, code="broker_unreachable")
    if (lacking := lacking_on_workers(text)) is not None:
        return lacking
    # The last cause is what went wrong; the others say where.
    last = causes(error)[-1]
    in_python = re.findall(r"^[\w.]+(?:Error|Exception): .*", last, re.M) if "Traceback" in last else []
    # What Python called Java for failed there: the line after its own tells.
    in_python = re.findall(r"^[\w.]+Py4JJavaError: .*\n: (.*)", last, re.M) or in_python
    found = re.search(r"terminated with exception: (.*)", last)
    sentence = found.group(1) if found else last.strip().partition("\n")[0]
    sentence = (in_python[-1] if in_python else sentence)[:300]
    return ReelhouseError(f"the {layer} stream failed: {sentence}", code="stream_failed")
