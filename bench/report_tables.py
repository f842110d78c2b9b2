"""The tables of a report: results, limits, and the facts of the device and the run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .chart import number_text
from .fields import Result
from .markup import Markup, element, join
from .saved import OWN_RUNTIME, SavedRecord
from .untrusted import number, text, texts

UNITS = ((1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


def bytes_text(n_bytes: float | None) -> str:
    if n_bytes is None:
        return ""
    unit, name = next((pair for pair in UNITS if n_bytes >= pair[0]), (1, "bytes"))
    return f"{n_bytes / unit:,.4g} {name}"


def results_table(record: SavedRecord) -> Markup:
    """All results of this runtime and its peers; a column that would be empty is left out."""
    rows = [(OWN_RUNTIME, row) for row in record.results]
    rows += [(peer.runtime, row) for peer in record.peers for row in peer.results]
    if not rows:
        return element("p", "This record holds no results.")
    columns = [
        ("Runtime", "name", [runtime for runtime, _ in rows] if record.peers else []),
        ("Test", "name", [row.test for _, row in rows]),
        ("Threads", "n", [str(row.n_threads) for _, row in rows]),
        ("Tokens/s", "n", [_rate(row) for _, row in rows]),
        ("±", "n", [number_text(row.stddev_ts, digits=2) if row.stddev_ts else "" for _, row in rows]),
        ("Of the limit", "n", [_share(row) for _, row in rows]),
        ("Limit, tokens/s", "n", [number_text(row.limit_ts) if row.limit_ts else "" for _, row in rows]),
        ("Limited by", "name", [row.limit for _, row in rows]),
        ("Cache", "name", [row.type_k for _, row in rows]),
        ("Batch", "n", _distinct_only([str(row.n_batch or "") for _, row in rows])),
        ("J/token", "n", [_energy(row) for _, row in rows]),
    ]
    return _table([column for column in columns if any(column[2])])


def _distinct_only(cells: list[str]) -> list[str]:
    return cells if len(set(cells)) > 1 else []


def _rate(row: Result) -> Markup:
    doubt = (
        None if row.reliable else element("span", " ?", class_="doubt", title="; ".join(row.warnings) or "not reliable")
    )
    return join(number_text(row.median_ts), doubt)


def _share(row: Result) -> Markup | str:
    if not row.of_limit:
        return ""
    bar = element("i", style=f"width:{min(100, round(100 * row.of_limit))}%")
    return join(f"{row.of_limit:.0%}", element("span", bar, class_="meter", aria_hidden="true"))


def _energy(row: Result) -> str:
    """Above idle where idle was measured; a figure over too short a time is marked."""
    for name in ("joules_per_token_above_idle", "joules_per_token"):
        joules = number(row.energy_source.get(name))
        if joules is not None:
            return number_text(joules) + ("" if row.energy_source.get("reliable") is not False else " ?")
    return ""


def _table(columns: list[tuple[str, str, list[Any]]]) -> Markup:
    head = element("tr", [element("th", title, class_=kind, scope="col") for title, kind, _ in columns])
    rows = zip(*(cells for *_, cells in columns), strict=True)
    kinds = [kind for _, kind, _ in columns]
    body = [element("tr", [element("td", cell, class_=k) for cell, k in zip(row, kinds, strict=True)]) for row in rows]
    return _scrolling(element("table", element("thead", head), element("tbody", body)))


def _scrolling(table: Markup) -> Markup:
    return element("div", table, class_="scroll", tabindex="0")


def limits_table(record: SavedRecord) -> Markup | None:
    """A row for each thread count that was measured, and the caches."""
    kinds = (
        ("Memory, GB/s", "stream_bytes_per_second"),
        ("Cache, GB/s", "cache_bytes_per_second"),
        ("int8, GOP/s", "int8_operations_per_second"),
        ("float32, GFLOP/s", "float_operations_per_second"),
    )
    limits = record.at("limits")
    found = [(title, limits.get(name)) for title, name in kinds] if isinstance(limits, dict) else []
    found = [(title, values) for title, values in found if isinstance(values, dict)]
    counts = sorted({key for _, values in found for key in values if key.isdigit() and len(key) < 6}, key=int)
    if not counts:
        return None
    columns = [("Threads", "n", counts)]
    columns += [(title, "n", [_giga(values.get(count)) for count in counts]) for title, values in found]
    return _table([column for column in columns if any(column[2])])


def _giga(value: Any) -> str:
    found = number(value)
    return "" if found is None else number_text(found / 1e9)


def _facts(pairs: Iterable[tuple[str, str]]) -> Markup | None:
    rows = [element("tr", element("th", name, scope="row"), element("td", value)) for name, value in pairs if value]
    return element("table", element("tbody", rows), class_="facts") if rows else None


def device_facts(record: SavedRecord) -> Markup | None:
    def at(*keys: str) -> str:
        return record.text_at("device", *keys)

    celsius = record.number_at("device", "state", "temperature_celsius")
    virtual = [at("virtualization", "machine"), at("virtualization", "container")]
    return _facts(
        (
            ("CPU", at("cpu", "model")),
            ("Board", at("board")),
            ("Cores", _cores(record)),
            ("Instruction set", at("cpu", "isa")),
            ("Caches", _caches(record.at("device", "caches"))),
            ("Memory", bytes_text(record.number_at("device", "memory", "total_bytes"))),
            ("Governor", ", ".join(texts(record.at("device", "state", "governors")))),
            ("Temperature before", "" if celsius is None else f"{celsius:.0f} °C"),
            ("Throttling", "; ".join(texts(record.at("device", "state", "throttling")))),
            ("GPU", ", ".join(texts(record.at("device", "gpus"))) or "none"),
            ("Virtual", ", ".join(filter(None, virtual))),
            ("System", ", kernel ".join(filter(None, [at("system", "name"), at("system", "kernel")]))),
        )
    )


def _cores(record: SavedRecord) -> str:
    """4 x Cortex-A76 at 2.4 GHz, 4 x Cortex-A55 at 1.8 GHz; how many logical CPUs, where that is another number."""
    kinds = record.at("device", "cpu", "core_kinds")
    named = [_core_kind(kind) for kind in kinds if isinstance(kind, dict)] if isinstance(kinds, list) else []
    cores, logical = (record.number_at("device", "cpu", name) for name in ("physical_cores", "logical_cpus"))
    threads = f" ({logical:.0f} logical CPUs)" if cores and logical and logical != cores else ""
    return ", ".join(filter(None, named)) + threads


def _core_kind(kind: dict[str, Any]) -> str:
    count, hertz = number(kind.get("cores")), number(kind.get("max_frequency_hz"))
    if not count:
        return ""
    name = f" x {text(kind.get('name'))}" if text(kind.get("name")) else ""
    return f"{count:.0f}{name}" + (f" at {hertz / 1e9:.3g} GHz" if hertz else "")


def _caches(entries: Any) -> str:
    parts = []
    for entry in entries if isinstance(entries, list) else ():
        size, count = (number(entry.get(key)) for key in ("size_bytes", "count")) if isinstance(entry, dict) else (0, 0)
        if size and count:
            times = f"{count:.0f} x " if count > 1 else ""
            parts.append(f"L{text(entry.get('level'))} {times}{bytes_text(size)}")
    return ", ".join(parts)


def run_facts(record: SavedRecord) -> Markup | None:
    start, model = ("start",), ("model",)
    versions = record.at("versions")
    compiled = record.number_at(*start, "kernel_compile_seconds")
    parameters = record.number_at(*model, "n_parameters")
    return _facts(
        (
            ("Model", record.text_at(*model, "name")),
            ("Type", record.text_at(*model, "type")),
            ("Parameters", f"{number_text(parameters / 1e9)} billion" if parameters else ""),
            ("File", bytes_text(record.number_at(*model, "file_bytes"))),
            ("Read for a token", bytes_text(record.number_at(*model, "weight_bytes"))),
            ("Load", _seconds(record.number_at(*start, "load_seconds"))),
            ("First token", _seconds(record.number_at(*start, "first_token_seconds"))),
            ("Compiling kernels", _seconds(compiled) if compiled else ""),
            ("Peak memory", bytes_text(record.number_at(*start, "peak_memory_bytes"))),
            ("Versions", ", ".join(f"{text(k)} {text(v)}" for k, v in _items(versions) if text(v))),
            ("Peers", ", ".join(f"{peer.runtime} {peer.version}" for peer in record.peers)),
            ("Time", record.text_at("time")),
        )
    )


def _items(value: Any) -> Iterable[tuple[Any, Any]]:
    return value.items() if isinstance(value, dict) else ()


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{number_text(value, digits=2)} s"
