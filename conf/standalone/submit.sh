#!/usr/bin/env bash
# Reelhouse on a Spark standalone cluster, in client mode: this machine runs the driver.
# tests/cluster submits the same way, with --jars. After `make wheel`: SPARK_MASTER=spark://host:7077 conf/standalone/submit.sh run --layers silver
# Spark's own options: SPARK_OPTIONS="--conf spark.cores.max=16". Stop it with SIGTERM: it finishes its batch.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
packages=$(PYTHONPATH="$here/dist/reelhouse.whl" "${PYSPARK_PYTHON:-python3}" -m pipelines.jars packages)
export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$here/conf}
# shellcheck disable=SC2086 # options are words
exec spark-submit --master "$SPARK_MASTER" --packages "$packages" ${SPARK_OPTIONS:-} \
  --py-files "$here/dist/reelhouse.whl" "$here/dist/reelhouse.py" "$@"
