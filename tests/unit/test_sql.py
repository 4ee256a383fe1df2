"""`reelhouse sql` only reads, and shows what the tables hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from pipelines.cli.main import main
from pipelines.engine.lake import Lake
from pipelines.engine.statements import require_reading
from pipelines.errors import UsageError
from pipelines.gold import media_daily

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

QUERIES = """\
SELECT a, count(*) FROM x JOIN y USING (a) WHERE a > 1 GROUP BY a HAVING true ORDER BY 1 LIMIT 3 OFFSET 2
WITH a AS (SELECT 1) SELECT DISTINCT * FROM a, LATERAL explode(array(1)) AS t(b) LIMIT ALL
SELECT 1 UNION ALL SELECT 2 EXCEPT SELECT 3 INTERSECT SELECT 4
SELECT /*+ BROADCAST(x) */ sum(a) OVER w FROM x TABLESAMPLE (1 PERCENT) WINDOW w AS (PARTITION BY b)
SELECT * FROM x VERSION AS OF 3 LATERAL VIEW explode(a) t AS b
SELECT * FROM x PIVOT (sum(b) FOR c IN (1, 2)) DISTRIBUTE BY a SORT BY b
SELECT * FROM x UNPIVOT (v FOR n IN (b, c)) WHERE a IN (SELECT b FROM y)
SELECT * FROM IDENTIFIER('x') AS t(a) JOIN range(3) AS r(b)
FROM x |> WHERE a > 1 |> AGGREGATE count(*) GROUP BY a |> AS t
VALUES (1), (2)
VALUES (rand())
TABLE x
SELECT TRANSFORM(a) USING 'cat' AS (b) FROM x
SHOW TABLES IN gold
SHOW DATABASES
SHOW CREATE TABLE x
DESCRIBE x
DESCRIBE HISTORY x
DESCRIBE DETAIL x
DESCRIBE QUERY SELECT 1
EXPLAIN FORMATTED SELECT 1
SET spark.sql.ansi.enabled
SET TIME ZONE 'UTC'
RESET
USE gold
CREATE OR REPLACE TEMPORARY VIEW v AS SELECT 1
CREATE TEMPORARY VIEW v USING parquet OPTIONS (path '/x')
CACHE TABLE x
CACHE LAZY TABLE c AS SELECT 1
UNCACHE TABLE x
CLEAR CACHE
REFRESH TABLE x
DECLARE VARIABLE a INT DEFAULT 1
SET VAR a = (SELECT 2)
"""
WRITES = """\
DELETE FROM x
WITH q AS (SELECT 1) DELETE FROM x WHERE a IN (SELECT * FROM q)
DELETE FROM IDENTIFIER('x')
UPDATE x SET a = 1
MERGE INTO x USING y ON x.a = y.a WHEN MATCHED THEN DELETE
INSERT INTO x SELECT 1
INSERT INTO IDENTIFIER('x') SELECT 1
INSERT INTO x REPLACE WHERE a = 1 SELECT 1
WITH q AS (SELECT 1) INSERT INTO x TABLE q
WITH q AS (SELECT 1) INSERT INTO IDENTIFIER('x') TABLE q
INSERT OVERWRITE DIRECTORY '/tmp/x' USING parquet SELECT 1
FROM x INSERT INTO y SELECT * INSERT INTO z SELECT *
FROM x INSERT INTO IDENTIFIER('y') SELECT * INSERT INTO IDENTIFIER('z') SELECT *
CREATE TABLE x (a INT) USING delta
CREATE TABLE IDENTIFIER('x') (a INT) USING delta
CREATE OR REPLACE TABLE x USING delta AS SELECT 1
CREATE TABLE x SHALLOW CLONE y
CREATE VIEW v AS SELECT 1
CREATE DATABASE z
ALTER TABLE x ADD COLUMNS (b INT)
DROP TABLE x
DROP DATABASE gold CASCADE
TRUNCATE TABLE x
VACUUM x RETAIN 0 HOURS
OPTIMIZE x
RESTORE TABLE x TO VERSION AS OF 1
CONVERT TO DELTA parquet.`/x`
REORG TABLE x APPLY (PURGE)
GENERATE symlink_format_manifest FOR TABLE x
ANALYZE TABLE x COMPUTE STATISTICS
MSCK REPAIR TABLE x
LOAD DATA INPATH '/x' INTO TABLE y
EXECUTE IMMEDIATE 'DELETE FROM x'
BEGIN DELETE FROM x; END
"""


@pytest.mark.parametrize("statement", QUERIES.splitlines())
def test_what_reads_is_run(spark: SparkSession, statement: str) -> None:
    require_reading(spark, statement)


@pytest.mark.parametrize("statement", WRITES.splitlines())
def test_what_may_write_is_refused(spark: SparkSession, statement: str) -> None:
    with pytest.raises(UsageError, match=r"`reelhouse sql` only reads, .*`rebuild` computes") as told:
        require_reading(spark, statement)
    assert told.value.code == "read_only"


@pytest.fixture
def lake(spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Lake]:
    """An empty media_daily, named for SQL."""
    monkeypatch.setenv("REELHOUSE_STORAGE__ROOT", str(tmp_path))
    made = Lake(spark, str(tmp_path))
    made.create([media_daily.TABLE])
    yield made
    spark.sql("DROP DATABASE gold CASCADE")


def test_the_verb_leaves_a_table_as_it_is(lake: Lake, capsys: pytest.CaptureFixture[str]) -> None:
    for statement in (
        "DELETE FROM gold.media_daily;",
        "VACUUM gold.media_daily",
        "DROP TABLE gold.media_daily",
    ):
        assert main(["sql", statement]) == 2
        assert capsys.readouterr().err.startswith(
            "reelhouse: `reelhouse sql` only reads, and this statement is "
        )
    for statement in ("EXPLAIN DELETE FROM gold.media_daily", "CREATE TEMPORARY VIEW v AS SELECT 1"):
        assert main(["sql", statement]) == 0
    assert lake.version(media_daily.TABLE) == 0


TIMES = """\
SELECT timestamp'2026-01-05 06:07:08.25Z' AS a, timestamp_micros(9223372036854775807) AS a,
    timestamp_ntz'-0001-01-01' AS b, date'+12000-01-01' AS c, date'2026-01-05' AS d,
    date(NULL) AS e, timestamp'0001-01-01' AS f
"""


@pytest.mark.usefixtures("lake")
def test_times_beyond_the_years_of_python_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "--format", "csv", TIMES]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a,a,b,c,d,e,f",
        "2026-01-05T06:07:08.250000Z,+294247-01-10 04:00:54.775807,-0001-01-01 00:00:00,+12000-01-01,"
        "2026-01-05,,0001-01-01 00:00:00",
    ]


@pytest.mark.usefixtures("lake")
def test_a_time_inside_an_array_that_python_does_not_have_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sql", "SELECT array(timestamp_micros(9223372036854775807))"]) == 1
    assert capsys.readouterr().err.startswith("reelhouse: the query failed: year 294247 is out of range; ")
