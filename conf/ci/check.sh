#!/usr/bin/env bash
# The data-quality job of a CI system: checks the lake of the configuration, keeps pages and JUnit XML.
# Exit code 1 when a check of severity error is broken. Arguments: tables; none means all.
# REELHOUSE_CHECK_DIR is where the results go (default: reelhouse-check); REELHOUSE_STORAGE__ROOT names the lake.
set -euo pipefail
folder="${REELHOUSE_CHECK_DIR:-reelhouse-check}"
exec reelhouse check --docs "$folder/docs" --junit "$folder/check.xml" "$@"
