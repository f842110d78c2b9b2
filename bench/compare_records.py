"""`edgellama bench compare A.json B.json …`: saved records side by side, against the first.

A column is a record, or a peer inside one; a single record is compared with its peer. Rows are matched by test, number
of threads and type of the cache; with `--fastest` by test alone, with each column's fastest number of threads, as
devices differ in their cores.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgellama.errors import EdgellamaError

from .fields import Result
from .ratio import Ratio, ratio
from .saved import OWN_RUNTIME, SavedRecord, read_records

FORMATS = ("md", "csv", "json")
UNRELIABLE, OTHER_MODEL = "*", "†"
Key = tuple[str, int | None, str]  # test, threads (None: the fastest of each column), type of the cache


@dataclass(frozen=True)
class Column:
    runtime: str
    device: str
    version: str  # of the runtime
    model: str
    n_parameters: float | None
    results: dict[Key, Result]
    error: str = ""
    name: str = ""

    def is_other_model(self, first: Column) -> bool:
        return (self.model, self.n_parameters) != (first.model, first.n_parameters)


@dataclass(frozen=True)
class Comparison:
    columns: tuple[Column, ...]
    keys: tuple[Key, ...]

    def ratio_to_first(self, column: Column, key: Key) -> Ratio | None:
        """None where either has no such result; without an interval where a record lacks its repetitions."""
        result, base = column.results.get(key), self.columns[0].results.get(key)
        if result is None or base is None:
            return None
        if not (result.samples_ts and base.samples_ts):
            return Ratio(result.median_ts / base.median_ts)
        return ratio(result.samples_ts, base.samples_ts)

    def is_reliable(self, column: Column, key: Key) -> bool:
        """Of a figure and what it is compared with."""
        found = (column.results.get(key), self.columns[0].results.get(key))
        return all(result is None or result.reliable for result in found)


def compare(records: list[SavedRecord], fastest: bool = False) -> Comparison:
    """Against the first record, or of one record against its first peer.

    Raises EdgellamaError if there is nothing to compare.
    """
    columns = [column for record in records for column in _columns(record, fastest)]
    if len(columns) < 2:
        raise EdgellamaError("comparing needs two records, or one with a peer")
    keys = dict.fromkeys(key for column in columns for key in column.results)
    if not keys:
        raise EdgellamaError("these records hold no results")
    order = {test: index for index, test in enumerate(dict.fromkeys(key[0] for key in keys))}
    keys = sorted(keys, key=lambda key: (order[key[0]], key[1] or 0, key[2]))
    if len(records) == 1:
        columns = [replace(column, name=column.runtime) for column in (*columns[1:], columns[0])]
    else:
        columns = _named(columns)
    return Comparison(tuple(columns), tuple(keys))


def _columns(record: SavedRecord, fastest: bool) -> list[Column]:
    """The record's own column, and one for each peer."""
    device = record.device_name
    shared = (record.model_name, record.number_at("model", "n_parameters"))
    version = record.text_at("versions", "edgellama")
    own = Column(OWN_RUNTIME, device, version, *shared, _by_key(record.results, fastest))
    peers = [
        Column(peer.runtime or "a peer", device, peer.version, *shared, _by_key(peer.results, fastest), peer.error)
        for peer in record.peers
    ]
    return [own, *peers]


def _by_key(results: tuple[Result, ...], fastest: bool) -> dict[Key, Result]:
    found: dict[Key, Result] = {}
    for result in results:
        key = (result.test, None if fastest else result.n_threads, result.type_k)
        if key not in found or result.median_ts > found[key].median_ts:
            found[key] = result
    return found


def _named(columns: list[Column]) -> list[Column]:
    """With names for people: the runtime inside one record, else the device; equal names are numbered."""
    names = [c.device if c.runtime == OWN_RUNTIME else f"{c.runtime} on {c.device}" for c in columns]
    counts: dict[str, int] = {}
    found = []
    for column, name in zip(columns, names, strict=True):
        counts[name] = counts.get(name, 0) + 1
        number = f" ({counts[name]})" if names.count(name) > 1 else ""
        found.append(replace(column, name=f"{name}{number}"))
    return found


def as_markdown(comparison: Comparison) -> str:
    columns, keys = comparison.columns, comparison.keys
    first = columns[0]
    with_kv = len({key[2] for key in keys}) > 1
    head = ["test", "threads", *(["kv"] if with_kv else []), f"{_title(first, first)}, t/s"]
    for column in columns[1:]:
        head += [f"{_title(column, first)}, t/s", "ratio (95 %)"]
    lines = [_row(head), _row(["---", *["---:"] * (len(head) - 1)])]
    for key in keys:
        kv = [key[2]] if with_kv else []
        cells = [key[0], "fastest" if key[1] is None else str(key[1]), *kv, _rate_cell(first, key)]
        for column in columns[1:]:
            cells += [_rate_cell(column, key), _ratio_cell(comparison, column, key)]
        lines.append(_row(cells))
    return "\n".join([*lines, "", *_notes(comparison)])


def _title(column: Column, first: Column) -> str:
    return column.name + (f" {OTHER_MODEL}" if column.is_other_model(first) else "")


def _row(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |"


def _rate_cell(column: Column, key: Key) -> str:
    result = column.results.get(key)
    if result is None:
        return "failed" if column.error else ""
    threads = f", {result.n_threads} threads" if key[1] is None else ""
    return f"{result.median_ts:.2f}{threads}{'' if result.reliable else f' {UNRELIABLE}'}"


def _ratio_cell(comparison: Comparison, column: Column, key: Key) -> str:
    found = comparison.ratio_to_first(column, key)
    if found is None:
        return ""
    interval = "" if found.low is None else f" ({found.low:.2f} to {found.high:.2f})"
    return f"{found.estimate:.2f}{interval}{'' if comparison.is_reliable(column, key) else f' {UNRELIABLE}'}"


def _notes(comparison: Comparison) -> list[str]:
    """What the columns are, and what the marks mean."""
    first = comparison.columns[0]
    notes = [
        f"{column.name}: {column.runtime} {column.version}, {column.model}, {column.device}"
        for column in comparison.columns
    ]
    if any(column.is_other_model(first) for column in comparison.columns):
        notes.append(f"{OTHER_MODEL} another model than the first column's: the ratio compares models too")
    pairs = [(column, key) for column in comparison.columns for key in comparison.keys]
    if not all(comparison.is_reliable(*pair) for pair in pairs):
        notes.append(f"{UNRELIABLE} a figure that its record calls unreliable, or a ratio with one")
    notes += [f"{column.name} failed: {column.error}" for column in comparison.columns if column.error]
    return [f"- {note}" for note in notes]


def as_rows(comparison: Comparison) -> list[dict[str, Any]]:
    """One for each column of each test, for programs."""
    return [
        _plain_row(comparison, column, key, result)
        for key in comparison.keys
        for column in comparison.columns
        if (result := column.results.get(key))
    ]


def _plain_row(comparison: Comparison, column: Column, key: Key, result: Result) -> dict[str, Any]:
    found = comparison.ratio_to_first(column, key)
    return {
        "test": result.test,
        "n_threads": result.n_threads,
        "type_k": result.type_k,
        "column": column.name,
        "device": column.device,
        "runtime": column.runtime,
        "version": column.version,
        "model": column.model,
        "same_model": not column.is_other_model(comparison.columns[0]),
        "median_ts": result.median_ts,
        "ratio": found and found.estimate,
        "ratio_low": found and found.low,
        "ratio_high": found and found.high,
        "reliable": comparison.is_reliable(column, key),
    }


def as_json(comparison: Comparison) -> str:
    failed = [{"column": column.name, "error": column.error} for column in comparison.columns if column.error]
    return json.dumps({"rows": as_rows(comparison), "failed": failed}, indent=1)


def as_csv(comparison: Comparison) -> str:
    rows, buffer = as_rows(comparison), io.StringIO()
    writer = csv.DictWriter(buffer, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue().rstrip("\n")


WRITERS: dict[str, Callable[[Comparison], str]] = {"md": as_markdown, "csv": as_csv, "json": as_json}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", nargs="+", type=Path, metavar="FILE.json", help="records; the first is the base")
    parser.add_argument("--fastest", action="store_true", help="take each record's fastest number of threads")
    parser.add_argument("-o", "--output", choices=FORMATS, default="md", help="form of the result (default: md)")


def main(arguments: argparse.Namespace) -> int:
    """Print the comparison; 0. Raises EdgellamaError for what is no record, or holds nothing to compare."""
    records = [record for path in arguments.records for record in read_records(path)]
    print(WRITERS[arguments.output](compare(records, arguments.fastest)))
    return 0
