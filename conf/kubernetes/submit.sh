#!/usr/bin/env bash
# Reelhouse on Kubernetes by plain spark-submit, in cluster mode. Not tested. The image is that of
# conf/kubernetes/Dockerfile, and holds the wheel, its packages and the jars:
# KUBERNETES=https://host:6443 IMAGE=reelhouse:0.1.0 conf/kubernetes/submit.sh run --layers silver
# Settings of Reelhouse: SPARK_OPTIONS="--conf spark.kubernetes.driverEnv.REELHOUSE_STORAGE__ROOT=s3a://lake"
set -euo pipefail
here=$(cd "$(dirname "$0")/../.." && pwd)
export SPARK_CONF_DIR=${SPARK_CONF_DIR:-$here/conf}
# shellcheck disable=SC2086 # options are words
exec spark-submit --master "k8s://$KUBERNETES" --deploy-mode cluster --name reelhouse \
  --conf spark.kubernetes.namespace="${NAMESPACE:-reelhouse}" \
  --conf spark.kubernetes.authenticate.driver.serviceAccountName=spark \
  --conf spark.kubernetes.container.image="$IMAGE" ${SPARK_OPTIONS:-} \
  local:///opt/reelhouse/reelhouse.py "$@"
