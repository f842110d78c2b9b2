"""A record as people and programs read it: a Markdown table, CSV, JSON, or JSON in one line to append to a file.

Columns that llama-bench has are called as it calls them.
"""

from __future__ import annotations

import csv
import io
import json
from typing import Any

FORMATS = ("md", "csv", "json", "jsonl")
CSV_RESULT = (
    "n_prompt", "n_gen", "n_depth", "n_batch", "n_threads", "type_k", "type_v", "avg_ts", "stddev_ts", "median_ts",
    "limit", "limit_ts", "of_limit", "bytes_per_token", "reliable",
)  # fmt: skip
LIMIT_NAMES = {"stream": "memory", "cache": "cache", "int8": "int8 peak", "float": "float peak"}


def text_of(record: dict[str, Any], form: str) -> str:
    """The record in one of FORMATS."""
    return {"md": as_markdown, "csv": as_csv, "json": as_json, "jsonl": as_json_line}[form](record)


def as_json(record: dict[str, Any]) -> str:
    return json.dumps(record, indent=1)


def as_json_line(record: dict[str, Any]) -> str:
    return json.dumps(record, separators=(",", ":"))


def as_csv(record: dict[str, Any]) -> str:
    """A row a result; model and device are repeated in each."""
    model, cpu = record["model"], record["device"]["cpu"]
    fixed = {
        "cpu_info": cpu["model"], "backends": cpu["isa"], "model_filename": model["name"], "model_type": model["type"],
        "model_size": model["file_bytes"], "model_n_params": model["n_parameters"], "test_time": record["time"],
    }  # fmt: skip
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, [*fixed, "test", *CSV_RESULT, "warnings"], lineterminator="\n")
    writer.writeheader()
    for row in record["results"]:
        chosen = {name: row[name] for name in ("test", *CSV_RESULT)}
        writer.writerow(fixed | chosen | {"warnings": "; ".join(row["warnings"])})
    return buffer.getvalue().rstrip("\n")


def as_markdown(record: dict[str, Any]) -> str:
    """A line on the device, the table, and under it what was measured once and what casts doubt."""
    parts = [_device_line(record), "", *_table(record), "", *_notes(record)]
    return "\n".join(parts).rstrip("\n")


def _device_line(record: dict[str, Any]) -> str:
    cpu = record["device"]["cpu"]
    cores = f"{cpu['physical_cores']} cores" if cpu.get("physical_cores") else ""
    return ", ".join(filter(None, (cpu["model"], cores, f"{cpu['isa']} kernels", f"edgellama {_version(record)}")))


def _version(record: dict[str, Any]) -> str:
    return record["versions"].get("edgellama", "")


def _table(record: dict[str, Any]) -> list[str]:
    model, rows = record["model"], record["results"]
    with_kv = len({row["type_k"] for row in rows}) > 1
    head = ["model", "size", "params", "threads", *(["kv"] if with_kv else []), "test", "t/s", "of the limit"]
    cells = [
        [
            f"{model['name']} {model['type']}" if model["type"].lower() not in model["name"].lower() else model["name"],
            _scaled(model["file_bytes"], 2**30, "GiB", 2**20, "MiB"),
            _scaled(model["n_parameters"], 1e9, "B", 1e6, "M"),
            str(row["n_threads"]),
            *([row["type_k"]] if with_kv else []),
            row["test"] + ("" if row["reliable"] else " *"),
            f"{row['median_ts']:.2f} ± {row['stddev_ts']:.2f}",
            f"{row['of_limit']:.0%} of {LIMIT_NAMES[row['limit']]}",
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [head, *cells]) for column in range(len(head))]
    rule = "| " + " | ".join("-" * (width - 1) + ":" for width in widths) + " |"
    return [_line(head, widths), rule, *(_line(line, widths) for line in cells)]


def _scaled(value: float, large: float, large_unit: str, small: float, small_unit: str) -> str:
    """As llama-bench writes sizes: in the larger unit from one of it on."""
    return f"{value / large:.2f} {large_unit}" if value >= large else f"{value / small:.2f} {small_unit}"


def _line(cells: list[str], widths: list[int]) -> str:
    return "| " + " | ".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True)) + " |"


def _notes(record: dict[str, Any]) -> list[str]:
    return [*_start_lines(record), *_limit_lines(record), *_energy_lines(record), *_warning_lines(record)]


def _start_lines(record: dict[str, Any]) -> list[str]:
    start = record["start"]
    compiled = "kernels from the cache" if start["kernels_cached"] else "kernels compiled in {:.1f} s"
    parts = [
        f"loads in {start['load_seconds']:.2f} s",
        f"first token {start['first_token_seconds']:.2f} s after the start" if start["first_token_seconds"] else "",
        f"at most {start['peak_memory_bytes'] / 1e6:,.0f} MB of memory",
        compiled.format(start["kernel_compile_seconds"]),
    ]
    return ["Model: " + ", ".join(filter(None, parts)) + "."]


def _limit_lines(record: dict[str, Any]) -> list[str]:
    """One line for each number of threads."""
    found, lines = record["limits"], []
    for threads, stream in sorted(found["stream_bytes_per_second"].items(), key=lambda item: int(item[0])):
        cache = found["cache_bytes_per_second"].get(threads)
        parts = [
            f"memory {stream / 1e9:.1f} GB/s",
            f"cache {cache / 1e9:.1f} GB/s" if cache else "",
            f"int8 {found['int8_operations_per_second'][threads] / 1e9:.0f} GOP/s",
            f"float32 {found['float_operations_per_second'][threads] / 1e9:.0f} GFLOP/s",
        ]
        lines.append(f"Limits with {threads} threads: " + ", ".join(filter(None, parts)) + ".")
    return lines


def _energy_lines(record: dict[str, Any]) -> list[str]:
    lines = []
    for row in record["results"]:
        for source in (row["energy"] or {}).get("sources", [])[:1]:
            above = source["joules_per_token_above_idle"]
            idle = f", {above:.3g} above idle" if above is not None else ""
            lines.append(
                f"Energy of {row['test']}: {source['joules_per_token']:.3g} J a token{idle}, "
                f"{source['average_watts']:.1f} W ({source['measures']})."
            )
    reason = record["settings"].get("energy")
    return lines or ([f"Energy: {reason}."] if reason else [])


def _warning_lines(record: dict[str, Any]) -> list[str]:
    doubtful = [row for row in record["results"] if not row["reliable"]]
    lines = [f"* {row['test']}, {row['n_threads']} threads: {'; '.join(row['warnings'])}" for row in doubtful]
    return ["", "Not to be trusted:", *lines] if lines else []
