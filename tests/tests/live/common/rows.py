"""Runs the programs on standard input, a JSON list, and writes the rows that each answers with."""

import datetime
import decimal
import json
import math
import sys
import traceback

import duckdb
import pandas
import polars


def plain(value):
    if value is None or value is pandas.NA or value is pandas.NaT:
        return None
    if isinstance(value, (datetime.datetime, pandas.Timestamp)):
        return value.timestamp()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, (int, float, decimal.Decimal)) and not isinstance(value, bool):
        return None if math.isnan(value) else float(value)
    return value


def rows(program):
    if program["language"] == "sql":
        answer = duckdb.sql(program["code"]).to_arrow_table()
        return [list(row.values()) for row in answer.to_pylist()]
    names = {}
    exec(program["code"], names)
    answer = names["answer"]
    if isinstance(answer, polars.DataFrame):
        return answer.rows()
    return answer.itertuples(index=False, name=None)


def answer(program):
    try:
        return {"rows": [[plain(value) for value in row] for row in rows(program)]}
    except Exception:
        return {"error": traceback.format_exc()}


json.dump([answer(program) for program in json.load(sys.stdin)], sys.stdout)
