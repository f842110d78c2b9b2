"""Saved benchmark records, read as what they should be: they come from other people and may hold anything.

A field of the wrong kind is None, and a result without its figures is left out; what is no record at all is refused.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgellama.errors import EdgellamaError

SCHEMA = 1
MOST_BYTES = 64 << 20
MOST_SAMPLES = 1000  # of one result
MOST_CHARACTERS = 200  # of a text that is shown
LARGEST = 1e18  # no device has, does or takes more of anything
OWN_RUNTIME = "edgellama"


@dataclass(frozen=True)
class SavedResult:
    """One row of a record; rates are tokens per second, `of_limit` a share."""

    test: str
    n_prompt: int
    n_gen: int
    n_depth: int
    n_batch: int
    n_threads: int
    type_k: str
    samples_ts: tuple[float, ...]  # of each repetition; empty in a record that lacks them
    median_ts: float
    stddev_ts: float | None
    limit: str
    limit_ts: float | None
    of_limit: float | None
    bytes_per_token: float | None
    reliable: bool
    warnings: tuple[str, ...]
    energy: dict[str, Any]  # of its first source; empty where none was measured

    @property
    def is_prefill(self) -> bool:
        return self.n_prompt > 0 and self.n_gen == 0

    @property
    def is_decode(self) -> bool:
        return self.n_gen > 0 and self.n_prompt == 0


@dataclass(frozen=True)
class SavedPeer:
    runtime: str
    version: str
    results: tuple[SavedResult, ...]
    error: str = ""  # why it has no results, or not all


@dataclass(frozen=True)
class SavedRecord:
    """One run. `data` is the whole record, to be read with `text_at` and `number_at`."""

    data: dict[str, Any]
    results: tuple[SavedResult, ...]
    peers: tuple[SavedPeer, ...]
    sustain: tuple[dict[str, Any], ...]

    def text_at(self, *keys: str) -> str:
        return text(_at(self.data, keys))

    def number_at(self, *keys: str) -> float | None:
        return number(_at(self.data, keys))

    def positive_at(self, *keys: str) -> float | None:
        return _positive(_at(self.data, keys))

    def at(self, *keys: str) -> Any:
        return _at(self.data, keys)

    @property
    def prefill(self) -> SavedResult | None:
        """The fastest."""
        return fastest(result for result in self.results if result.is_prefill)

    @property
    def decode(self) -> SavedResult | None:
        return fastest(result for result in self.results if result.is_decode)

    @property
    def device_name(self) -> str:
        """The CPU's model; of an Arm board its name, as many different ones have the same cores."""
        cpu, board = self.text_at("device", "cpu", "model"), self.text_at("device", "board")
        is_arm = self.text_at("device", "cpu", "machine").lower().startswith(("arm", "aarch64"))
        return (board if is_arm else "") or cpu or board or "unknown device"

    @property
    def model_name(self) -> str:
        """The name, and the type where the name does not end with it."""
        name, kind = self.text_at("model", "name") or "unnamed model", self.text_at("model", "type")
        return f"{name} {kind}" if kind and kind.lower() not in name.lower() else name


def fastest(results: Iterable[SavedResult]) -> SavedResult | None:
    return max(results, key=lambda result: result.median_ts, default=None)


def number(value: Any) -> float | None:
    """A number of a size that makes sense; True is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < LARGEST and not math.isnan(value) else None


def text(value: Any) -> str:
    """One line of a bounded length; numbers are written, everything else is empty."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    line = " ".join(str(value).split())
    return line if len(line) <= MOST_CHARACTERS else f"{line[: MOST_CHARACTERS - 1]}…"


def texts(value: Any) -> tuple[str, ...]:
    return tuple(filter(None, map(text, value))) if isinstance(value, list) else ()


def _at(value: Any, keys: Iterable[str]) -> Any:
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _whole(value: Any) -> int:
    return int(number(value) or 0)


def _positive(value: Any) -> float | None:
    found = number(value)
    return found if found is not None and found > 0 else None


def _samples(values: Any) -> tuple[float, ...]:
    """All or none: a part of the repetitions would look surer than they were."""
    found = [_positive(value) for value in values] if isinstance(values, list) and len(values) <= MOST_SAMPLES else []
    return tuple(value for value in found if value) if all(found) else ()


def _result(row: Any) -> SavedResult | None:
    if not isinstance(row, dict) or not text(row.get("test")) or _positive(row.get("median_ts")) is None:
        return None
    sources = _at(row, ("energy", "sources"))
    first = sources[0] if isinstance(sources, list) and sources and isinstance(sources[0], dict) else {}
    return SavedResult(
        test=text(row["test"]),
        **{name: _whole(row.get(name)) for name in ("n_prompt", "n_gen", "n_depth", "n_batch", "n_threads")},
        type_k=text(row.get("type_k")),
        samples_ts=_samples(row.get("samples_ts")),
        median_ts=float(row["median_ts"]),
        stddev_ts=number(row.get("stddev_ts")),
        limit=text(row.get("limit")),
        **{name: _positive(row.get(name)) for name in ("limit_ts", "of_limit", "bytes_per_token")},
        reliable=row.get("reliable") is not False,
        warnings=texts(row.get("warnings")),
        energy=first,
    )


def _results(rows: Any) -> tuple[SavedResult, ...]:
    return tuple(filter(None, map(_result, rows))) if isinstance(rows, list) else ()


def _peers(entries: Any) -> tuple[SavedPeer, ...]:
    found = (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()
    return tuple(
        SavedPeer(text(e.get("runtime")), text(e.get("version")), _results(e.get("results")), text(e.get("error")))
        for e in found
    )


def _sustain(points: Any) -> tuple[dict[str, Any], ...]:
    """Points that have a time and a rate, as `sustain.py` makes them."""
    if not isinstance(points, list):
        return ()
    return tuple(
        {
            "seconds": number(point["seconds"]),
            "tokens_per_second": _positive(point["tokens_per_second"]),
            "temperature_celsius": number(point.get("temperature_celsius")),
            "frequency_hz": _positive(point.get("frequency_hz")),
            "throttling": list(texts(point.get("throttling"))),
        }
        for point in points
        if _positive(_at(point, ["tokens_per_second"])) and number(_at(point, ["seconds"])) is not None
    )


def record_of(data: Any, where: str) -> SavedRecord:
    """Raises EdgellamaError, which names `where`, for what is no benchmark record of this schema."""
    if not isinstance(data, dict) or "results" not in data:
        raise EdgellamaError(f"{where}: this is no benchmark record; write one with `edgellama bench MODEL -o json`")
    if data.get("schema") != SCHEMA:
        raise EdgellamaError(
            f"{where}: records of schema {text(data.get('schema')) or '?'} are not known, only {SCHEMA}"
        )
    return SavedRecord(data, _results(data["results"]), _peers(data.get("peers")), _sustain(data.get("sustain")))


def read_records(path: Path) -> list[SavedRecord]:
    """All records of a file: one object, a list of them, or one in each line."""
    content = path.read_bytes()
    if len(content) > MOST_BYTES:
        raise EdgellamaError(f"{path}: larger than any benchmark record")
    try:
        data = _parse(content.decode())
    except (ValueError, RecursionError):
        raise EdgellamaError(f"{path}: this is not JSON, as `edgellama bench -o json` writes it") from None
    entries = data if isinstance(data, list) else [data]
    if not entries:
        raise EdgellamaError(f"{path}: holds no benchmark record")
    return [record_of(entry, str(path)) for entry in entries]


def _parse(content: str) -> Any:
    lines = content.strip().splitlines()
    if len(lines) > 1 and all(line.startswith("{") and line.endswith("}") for line in lines):
        return [json.loads(line) for line in lines]
    return json.loads(content)
