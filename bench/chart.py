"""What a plot shows, apart from how it is drawn: `svg_chart.py` draws it for pages, `png_chart.py` as pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Style = Literal["line", "dots", "limit"]
MOST_TICKS = 6


@dataclass(frozen=True)
class Series:
    """Points (x, y) under one name; `labels` beside the points; `color` numbers the palette; limits are dashed."""

    name: str
    points: tuple[tuple[float, float], ...]
    style: Style = "line"
    color: int = 0
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Chart:
    """`x_ticks`: the places to mark, where the data has its own, such as thread counts."""

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    logarithmic: bool = False  # both axes
    x_ticks: tuple[float, ...] = ()
    flat: bool = False  # half as high, to be put above another with the same x axis


@dataclass(frozen=True)
class Bar:
    """`limit`: where the bar could end at most, in the same unit."""

    name: str
    value: float
    limit: float | None = None
    color: int = 0


@dataclass(frozen=True)
class BarChart:
    """Groups of bars (name, bars), one below the other, all of one unit."""

    title: str
    unit: str
    groups: tuple[tuple[str, tuple[Bar, ...]], ...]


def extent(chart: Chart, axis: int) -> tuple[float, float]:
    """The first and last value of an axis (0: x, 1: y); a linear y starts at zero, so heights can be compared."""
    values = [point[axis] for series in chart.series for point in series.points]
    low, high = min(values), max(values)
    if chart.logarithmic:
        return low / 1.6, high * 1.6
    if axis == 1:
        return 0.0, 1.08 * high
    return (low, high) if high > low else (low - 1, high + 1)


def ticks(low: float, high: float, logarithmic: bool = False) -> list[float]:
    """Round numbers inside a range."""
    return _decade_ticks(low, high) if logarithmic else _linear_ticks(low, high)


def _linear_ticks(low: float, high: float) -> list[float]:
    step = _round_step((high - low) / (MOST_TICKS - 1))
    first = math.ceil(low / step - 1e-9)
    return [index * step for index in range(first, math.floor(high / step + 1e-9) + 1)]


def _round_step(least: float) -> float:
    """The smallest of 1, 2, 5, 10, … times a power of ten that is no less."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= least * (1 - 1e-9))


def _decade_ticks(low: float, high: float) -> list[float]:
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1,) if math.log10(high / low) > 3 else (1, 3) if math.log10(high / low) > 1.2 else (1, 2, 5)
    values = (factor * 10.0**exponent for exponent in exponents for factor in factors)
    return [value for value in values if low <= value <= high]


def number_text(value: float, digits: int = 3) -> str:
    """So many digits that count, where the point is among them: 0.0123, 4.56, 78.9, 1,234."""
    places = 0 if value == 0 else digits - 1 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(0, places)}f}"


def tick_text(value: float) -> str:
    return f"{value:,.10g}"
