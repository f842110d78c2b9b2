"""Saved benchmark records, read as what they should be: they come from other people and may hold anything.

A field of the wrong kind is None, and a result without its figures is left out; what is no record at all is refused.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgellama.errors import EdgellamaError

from .fields import SCHEMA, Result, SustainedPoint, read_row
from .untrusted import number, positive, text, value_at

MOST_BYTES = 64 << 20
OWN_RUNTIME = "edgellama"


@dataclass(frozen=True)
class SavedPeer:
    runtime: str
    version: str
    results: tuple[Result, ...]
    error: str = ""  # why it has no results, or not all


@dataclass(frozen=True)
class SavedRecord:
    """One run. `data` is the whole record, to be read with `text_at` and `number_at`."""

    data: dict[str, Any]
    results: tuple[Result, ...]
    peers: tuple[SavedPeer, ...]
    sustain: tuple[dict[str, Any], ...]

    def text_at(self, *keys: str) -> str:
        return text(value_at(self.data, keys))

    def number_at(self, *keys: str) -> float | None:
        return number(value_at(self.data, keys))

    def positive_at(self, *keys: str) -> float | None:
        return positive(value_at(self.data, keys))

    def at(self, *keys: str) -> Any:
        return value_at(self.data, keys)

    @property
    def prefill(self) -> Result | None:
        """The fastest."""
        return fastest(result for result in self.results if result.is_prefill)

    @property
    def decode(self) -> Result | None:
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


def fastest(results: Iterable[Result]) -> Result | None:
    return max(results, key=lambda result: result.median_ts, default=None)


def _result(data: Any) -> Result | None:
    row = read_row(Result, data)
    return row if row.test and row.median_ts is not None else None


def _results(rows: Any) -> tuple[Result, ...]:
    return tuple(filter(None, map(_result, rows))) if isinstance(rows, list) else ()


def _peers(entries: Any) -> tuple[SavedPeer, ...]:
    found = (entry for entry in entries if isinstance(entry, dict)) if isinstance(entries, list) else ()
    return tuple(
        SavedPeer(text(e.get("runtime")), text(e.get("version")), _results(e.get("results")), text(e.get("error")))
        for e in found
    )


def _sustain(points: Any) -> tuple[dict[str, Any], ...]:
    """Points that have a time and a rate, as `sustain.py` makes them."""
    read = [read_row(SustainedPoint, point) for point in points] if isinstance(points, list) else []
    return tuple(asdict(point) for point in read if point.tokens_per_second and point.seconds is not None)


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
