#!/usr/bin/env bash
# Reelhouse on YARN; tested is what docs/cluster.md says. After `make wheel`, with HADOOP_CONF_DIR set and
# environment.tar.gz as it says: DEPLOY_MODE=cluster conf/yarn/submit.sh --conf cluster.toml run --layers silver
# In client mode SIGTERM to this process finishes the batch; `yarn application -kill` does not wait for it, and
# loses nothing.
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
packages=$(PYTHONPATH="$here/dist/reelhouse.whl" python3 -m pipelines.jars packages)
python=./environment/bin/python
mode=${DEPLOY_MODE:-client}
# Workers run what the driver's PYSPARK_PYTHON names, which spark-submit takes from spark.pyspark.python. In client
# mode the driver itself is on this machine, where the archive is not unpacked.
driver="--conf spark.pyspark.driver.python=python3"
[ "$mode" = client ] || driver=
export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$here/conf}
# shellcheck disable=SC2086 # options are words
exec spark-submit --master yarn --deploy-mode "$mode" --packages "$packages" \
  --archives "$here/dist/environment.tar.gz#environment" --files "$here/conf/cluster.toml" \
  --conf spark.pyspark.python=$python $driver --conf spark.yarn.appMasterEnv.PYSPARK_PYTHON=$python \
  ${SPARK_OPTIONS:-} --py-files "$here/dist/reelhouse.whl" "$here/dist/reelhouse.py" "$@"
