"""Rows of a benchmark record: their fields, for those who write records, and how each is read of somebody's file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from .untrusted import number, positive, samples, text, texts, whole

SCHEMA = 1  # of the whole record; another number means other fields
Row = TypeVar("Row")


def read_by(reader: Callable[[Any], Any]) -> Any:
    """A field that `reader` makes of whatever stands in somebody's file."""
    return field(metadata={"reader": reader})


def read_row(kind: type[Row], data: Any) -> Row:
    """A row of this kind from an object of a record; fields that are missing or wrong are None or empty."""
    data = data if isinstance(data, dict) else {}
    return kind(**{item.name: item.metadata["reader"](data.get(item.name)) for item in fields(kind)})


@dataclass(frozen=True)
class Result:
    """What was measured of one variant: rates are tokens per second of all sequences together, `of_limit` a share.

    Names that llama-bench has mean what they mean there.
    """

    test: str = read_by(text)
    n_prompt: int = read_by(whole)
    n_gen: int = read_by(whole)
    n_depth: int = read_by(whole)
    n_batch: int = read_by(whole)
    n_threads: int = read_by(whole)
    type_k: str = read_by(text)
    type_v: str = read_by(text)
    samples_ts: tuple[float, ...] = read_by(samples)  # of each repetition; empty in a record that lacks them
    median_ts: float | None = read_by(positive)
    avg_ts: float | None = read_by(positive)
    stddev_ts: float | None = read_by(number)
    limit: str = read_by(text)
    limit_ts: float | None = read_by(positive)
    of_limit: float | None = read_by(positive)
    bytes_per_token: float | None = read_by(positive)
    reliable: bool = read_by(lambda value: value is not False)
    warnings: tuple[str, ...] = read_by(texts)
    energy: Mapping[str, Any] | None = read_by(lambda value: value if isinstance(value, dict) else None)

    @property
    def is_prefill(self) -> bool:
        return self.n_prompt > 0 and self.n_gen == 0

    @property
    def is_decode(self) -> bool:
        return self.n_gen > 0 and self.n_prompt == 0

    @property
    def energy_source(self) -> Mapping[str, Any]:
        """What the first source of energy says; empty where none was measured."""
        sources = (self.energy or {}).get("sources")
        return sources[0] if isinstance(sources, list) and sources and isinstance(sources[0], dict) else {}


@dataclass(frozen=True)
class SustainedPoint:
    """A few seconds of a long run; `seconds` from its beginning to the end of the point."""

    seconds: float | None = read_by(number)
    tokens_per_second: float | None = read_by(positive)
    temperature_celsius: float | None = read_by(number)
    frequency_hz: float | None = read_by(positive)  # mean of the groups of CPUs that change together
    throttling: tuple[str, ...] = read_by(texts)
