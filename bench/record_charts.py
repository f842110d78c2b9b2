"""The plots of saved records: roofline, depth, threads, sustained run, comparison. Each is None without its data."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any

from .chart import Bar, BarChart, Chart, Series
from .fields import Result
from .saved import OWN_RUNTIME, SavedRecord, fastest

GIGA = 1e9
IS_PREFILL, IS_DECODE = attrgetter("is_prefill"), attrgetter("is_decode")
LABEL_HEIGHT = 0.08  # of the plot
LABEL_WIDTH = math.log(30)  # of operations for each byte
ROOFLINE_MARGIN = 3  # the plot is so much higher than its points, at least
MOST_COMPARED = 12  # more bars are no picture


def roofline(record: SavedRecord) -> Chart | None:
    """Operations per second against operations per byte of memory read, under the two roofs of the machine."""
    threads = most_threads(record)
    stream = record.positive_at("limits", "stream_bytes_per_second", str(threads))
    peak = record.positive_at("limits", f"{_peak_of(record)}_operations_per_second", str(threads))
    points = [point for row in record.results if row.n_threads == threads and (point := _roofline_point(record, row))]
    if not stream or not peak or not points:
        return None
    ridge = peak / stream
    first = min(ridge / 4, *(x / 1.5 for x, _, _ in points))
    last = max(ridge * 4, *(x * 1.5 for x, _, _ in points))
    roof = ((first, first * stream / GIGA), (ridge, peak / GIGA), (last, peak / GIGA))
    measured = Series("measured", tuple((x, y) for x, y, _ in points), "dots", 0, _readable_labels(points))
    return Chart(
        f"Roofline, {threads} thread{'s' * (threads > 1)}", "operations for each byte read", "10⁹ operations/s",
        (Series("what the hardware allows", roof, "limit", 1), measured), logarithmic=True,
    )  # fmt: skip


def _peak_of(record: SavedRecord) -> str:
    """What bounds the prefill: weights that are floats are not multiplied by the int8 units."""
    return "float" if any(row.limit == "float" for row in record.results) else "int8"


def _readable_labels(points: list[tuple[float, float, str]]) -> tuple[str, ...]:
    """The names of points; none where an earlier point with a name is so near that texts would cover each other."""
    height = LABEL_HEIGHT * math.log(max(y for _, y, _ in points) / min(y for _, y, _ in points) * ROOFLINE_MARGIN)
    labels: list[str] = []
    for index, (x, y, name) in enumerate(points):
        named = [point for point, label in zip(points[:index], labels, strict=True) if label]
        near = any(abs(math.log(y / v)) < height and abs(math.log(x / u)) < LABEL_WIDTH for u, v, _ in named)
        labels.append("" if near else name)
    return tuple(labels)


def most_threads(record: SavedRecord) -> int:
    return max((row.n_threads for row in record.results), default=0)


def _roofline_point(record: SavedRecord, row: Result) -> tuple[float, float, str] | None:
    """(operations per byte, 10⁹ operations per second, name) of a result; a parameter is multiplied and added."""
    operations, n_bytes = _operations_per_token(record, row), row.bytes_per_token
    if not operations or not n_bytes:
        return None
    return operations / n_bytes, row.median_ts * operations / GIGA, row.test


def _operations_per_token(record: SavedRecord, row: Result) -> float | None:
    """From the limit of a prefill, which counts exactly what is multiplied; else two for each parameter."""
    for same in (row, *(other for other in record.results if other.n_threads == row.n_threads)):
        peak = record.positive_at("limits", f"{same.limit}_operations_per_second", str(same.n_threads))
        if peak and same.limit_ts:
            return peak / same.limit_ts
    parameters = record.positive_at("model", "n_parameters")
    return 2 * parameters if parameters else None


def depth_curves(record: SavedRecord) -> list[Chart]:
    """Decode and prefill speed against how much of the cache is filled."""
    charts = (_depth_chart(record, name, is_kind) for name, is_kind in (("Decode", IS_DECODE), ("Prefill", IS_PREFILL)))
    return [chart for chart in charts if chart]


def _depth_chart(record: SavedRecord, name: str, is_kind: Callable[[Result], bool]) -> Chart | None:
    curves = _curves(filter(is_kind, record.results), lambda row: (row.n_threads, row.type_k, size(row)), "n_depth")
    names = {key: f"{key[2]} tokens, {key[0]} threads, {key[1]} cache" for key in curves}
    series = [
        item
        for index, (key, rows) in enumerate(curves.items())
        for item in _with_limit(names[key], rows, "n_depth", index)
    ]
    return Chart(f"{name} at depth", "positions in the cache", "tokens/s", tuple(series)) if series else None


def size(row: Result) -> int:
    return row.n_gen or row.n_prompt


def thread_scaling(record: SavedRecord) -> list[Chart]:
    """Speed against the number of threads, one chart for each test that was run with several."""
    curves = _curves(record.results, lambda row: (row.test, row.type_k, row.n_batch), "n_threads")
    charts = []
    for (test, *_), rows in curves.items():
        counts = tuple(float(row.n_threads) for row in rows)
        series = tuple(_with_limit("measured", rows, "n_threads", 0))
        charts.append(Chart(f"{test} by threads", "threads", "tokens/s", series, x_ticks=counts))
    return charts


def _curves(rows: Iterable[Result], key: Callable[[Result], tuple], x: str) -> dict[tuple, list[Result]]:
    """Rows that differ in x alone, in its order; single ones are no curve."""
    groups: dict[tuple, dict[int, Result]] = {}
    for row in rows:
        groups.setdefault(key(row), {})[getattr(row, x)] = row
    return {name: [found[place] for place in sorted(found)] for name, found in groups.items() if len(found) > 1}


def _with_limit(name: str, rows: list[Result], x: str, color: int) -> list[Series]:
    points = tuple((float(getattr(row, x)), row.median_ts) for row in rows)
    limits = tuple((float(getattr(row, x)), row.limit_ts) for row in rows if row.limit_ts)
    series = [Series(name, points, "line", color)]
    return [*series, Series("limit" if color == 0 else "", limits, "limit", color)] if len(limits) > 1 else series


def sustain_curves(record: SavedRecord) -> list[Chart]:
    """Speed, temperature and clock over minutes, to be put above each other."""
    wanted = (
        ("Sustained decoding", "tokens/s", "tokens_per_second", 1.0),
        ("Temperature", "°C", "temperature_celsius", 1.0),
        ("Clock", "MHz", "frequency_hz", 1e-6),
    )
    charts = []
    for index, (title, unit, name, factor) in enumerate(wanted):
        points = tuple(_over_minutes(record.sustain, name, factor))
        if len(points) > 1:
            charts.append(Chart(title, "minutes", unit, (Series(title, points, "line", index),), flat=True))
    return charts


def _over_minutes(points: Iterable[dict[str, Any]], name: str, factor: float) -> Iterable[tuple[float, float]]:
    for point in points:
        if point[name] is not None:
            yield point["seconds"] / 60, point[name] * factor


def comparison(records: list[SavedRecord]) -> list[BarChart]:
    """Prefill and decode of several devices or runtimes, a bar each; a chart for each kind, as they differ by far."""
    sides = [side for record in records for side in _sides(record, records)][:MOST_COMPARED]
    if len(sides) < 2:
        return []
    charts = []
    for name, is_kind in (("Prefill", IS_PREFILL), ("Decode", IS_DECODE)):
        groups = _bar_groups(sides, is_kind)
        if groups:
            charts.append(BarChart(f"{name} compared", "tokens/s", groups))
    return charts


def _sides(record: SavedRecord, records: list[SavedRecord]) -> Iterable[tuple[str, tuple[Result, ...]]]:
    """Names begin with what differs most, as long ones are cut."""
    of_record = f", {side_name(record, records)}" if len(records) > 1 else ""
    yield OWN_RUNTIME + of_record if record.peers else side_name(record, records), record.results
    for peer in record.peers:
        yield peer.runtime + of_record, peer.results


def side_name(record: SavedRecord, records: list[SavedRecord]) -> str:
    """What tells this record from the others: the device, the model, or both; numbered when nothing does."""
    devices, models = {r.device_name for r in records}, {r.model_name for r in records}
    parts = ([record.device_name] if len(devices) > 1 else []) + ([record.model_name] if len(models) > 1 else [])
    name = ", ".join(parts) or record.device_name
    same = [r for r in records if (r.device_name, r.model_name) == (record.device_name, record.model_name)]
    place = next(index for index, other in enumerate(same) if other is record)
    return f"{name} ({place + 1})" if len(same) > 1 else name


def _bar_groups(
    sides: list[tuple[str, tuple[Result, ...]]], is_kind: Callable[[Result], bool]
) -> tuple[tuple[str, tuple[Bar, ...]], ...]:
    """Tests that at least two sides have; of several results of a side the fastest."""
    tests = dict.fromkeys(row.test for _, rows in sides for row in rows if is_kind(row))
    groups = []
    for test in tests:
        found = [
            (index, name, fastest(row for row in rows if row.test == test)) for index, (name, rows) in enumerate(sides)
        ]
        bars = tuple(Bar(name, row.median_ts, row.limit_ts, index) for index, name, row in found if row)
        if len(bars) > 1:
            groups.append((test, bars))
    return tuple(groups)


def all_charts(records: list[SavedRecord]) -> dict[str, list[Chart | BarChart]]:
    """Every plot by its kind, as --plot names them."""
    first = records[0]
    line = roofline(first)
    return {
        "compare": list(comparison(records)),
        "roofline": [line] if line else [],
        "depth": depth_curves(first),
        "threads": thread_scaling(first),
        "sustain": sustain_curves(first),
    }
