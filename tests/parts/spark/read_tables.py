"""Runs in Spark's own environment: `python read_tables.py JARS QUESTIONS` reads Delta tables and prints JSON.

QUESTIONS is a file of `{"tables": {name: path}, "queries": {name: SQL}}`. Every table is printed with its types and
rows, every query with its rows; Spark's settings are its defaults but for size and for staying on this machine.
"""

import json
import os
import sys
from pathlib import Path

jars, questions = Path(sys.argv[1]), json.loads(Path(sys.argv[2]).read_text())
os.environ["PYSPARK_SUBMIT_ARGS"] = " ".join(
    [
        "--driver-class-path",
        ":".join(str(each) for each in sorted(jars.glob("*.jar"))),
        # Half a minute is too short for the second stage of the compiler to pay.
        "--driver-java-options '-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xss4m -Duser.timezone=UTC'",
        "--driver-memory 1g",
        "pyspark-shell",
    ]
)

# The arguments above are read at its start; it stands in an environment of its own.
from pyspark.sql import SparkSession  # type: ignore[import-not-found]  # noqa: E402
from pyspark.sql import functions as f  # noqa: E402

spark = (
    SparkSession.builder.master("local[1]")
    .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
    .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
    .config("spark.driver.host", "127.0.0.1")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.log.level", "ERROR")
    .config("spark.ui.enabled", "false")
    .config("spark.ui.showConsoleProgress", "false")
    .config("spark.sql.shuffle.partitions", "1")
    .config("spark.sql.adaptive.enabled", "false")
    .config("spark.databricks.delta.snapshotPartitions", "1")
    .config("spark.sql.session.timeZone", "UTC")
    .config("spark.sql.warehouse.dir", str(Path(sys.argv[2]).parent / "warehouse"))
    .getOrCreate()
)
# Times leave as microseconds and bytes as hexadecimal digits, so that nothing is lost on the way.
PLAIN = {"timestamp": f.unix_micros, "binary": f.hex, "date": lambda column: column.cast("string")}


def as_is(column):
    return column


answers: dict[str, dict[str, object]] = {"tables": {}, "queries": {}}
for name, path in questions["tables"].items():
    frame = spark.read.format("delta").load(path)
    types = dict(frame.dtypes)
    columns = [PLAIN.get(kind, as_is)(f.col(f"`{each}`")).alias(each) for each, kind in types.items()]
    answers["tables"][name] = {"types": types, "rows": [list(row) for row in frame.select(columns).collect()]}
    frame.createOrReplaceTempView(name)
for name, query in questions["queries"].items():
    answers["queries"][name] = [list(row) for row in spark.sql(query).collect()]
spark.stop()
json.dump(answers, sys.stdout)
