"""Submitted instead of the entry: tells where the code comes from, in the driver and in the workers."""

import json
import time
from typing import Any

import pipelines
from pipelines.config import load_config
from pipelines.session import open_session


def where(_: Any) -> list[list[Any]]:
    """The package's file, the zone of the clock, the contracts: as a worker's Python sees them."""
    from pipelines.contracts.load import all_contracts

    return [[pipelines.__file__, time.tzname[0], len(all_contracts())]]


spark = open_session(load_config(), "probe")
context: Any = spark.sparkContext
found = {
    "driver": pipelines.__file__,
    "workers": context.parallelize(range(8), 8).mapPartitions(where).collect(),
    "settings": dict(context.getConf().getAll()),
    "zone": context._jvm.java.util.TimeZone.getDefault().getID(),
}
print("FOUND " + json.dumps(found))
