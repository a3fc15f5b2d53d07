"""Runs the queries on standard input in Spark, and writes the rows that each answers with to the file of the first argument."""

import decimal
import json
import sys

from pyspark.sql import SparkSession

spark = (
    SparkSession.builder.master("local[2]")
    .config("spark.ui.enabled", "false")
    .config("spark.sql.shuffle.partitions", "2")
    .config("spark.driver.bindAddress", "127.0.0.1")
    .config("spark.driver.host", "127.0.0.1")
    .getOrCreate()
)
asked = json.load(sys.stdin)
exec(asked["setup"], {"spark": spark})
for statement in asked["views"]:
    spark.sql(statement)


def plain(value):
    is_number = isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool)
    return float(value) if is_number else value


answers = [[[plain(value) for value in row] for row in spark.sql(query).collect()] for query in asked["queries"]]
with open(sys.argv[1], "w") as out:
    json.dump(answers, out)
