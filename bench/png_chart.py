"""Charts as pixels, drawn by matplotlib: for places that show no SVG. Needs the extra `bench`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgellama.errors import EdgellamaError

from .chart import BarChart, Chart, Series, extent, number_text, tick_text, ticks

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PALETTE = ("#1f6feb", "#d9480f", "#12805c", "#8a3ffc", "#b0266f", "#7a6a00")
WIDTH_INCHES, HEIGHT_INCHES, DOTS_PER_INCH = 6.4, 4.0, 160
LOOK = {"line": {"marker": "o"}, "dots": {"marker": "o", "linestyle": "none"}, "limit": {"linestyle": "--"}}


def draw_png(charts: Sequence[Chart | BarChart], path: Path) -> None:
    """Write all charts, one below the other, as one picture. Raises EdgellamaError where matplotlib is missing."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EdgellamaError(
            f"{path}: writing PNG needs matplotlib (pip install 'edgellama[bench]'); SVG needs nothing"
        ) from None
    figure = Figure(figsize=(WIDTH_INCHES, HEIGHT_INCHES * len(charts)), layout="constrained")
    for axes, chart in zip(figure.subplots(len(charts), squeeze=False)[:, 0], charts, strict=True):
        axes.set_title(chart.title, loc="left", fontweight="bold")
        axes.spines[["top", "right"]].set_visible(False)
        (_draw_bars if isinstance(chart, BarChart) else _draw_lines)(axes, chart)
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _draw_lines(axes: Axes, chart: Chart) -> None:
    for series in chart.series:
        _draw_series(axes, series)
    scale = "log" if chart.logarithmic else "linear"
    axes.set(xlabel=chart.x_label, ylabel=chart.y_label, xscale=scale, yscale=scale, ylim=extent(chart, 1))
    places = (chart.x_ticks or ticks(*extent(chart, 0), chart.logarithmic), ticks(*extent(chart, 1), chart.logarithmic))
    for axis, values in zip((axes.xaxis, axes.yaxis), places, strict=True):
        axis.set_ticks(values, [tick_text(value) for value in values])
        axis.set_ticks([], minor=True)
    axes.grid(axis="y", alpha=0.3)
    if len(chart.series) > 1:
        axes.legend(frameon=False)


def _draw_series(axes: Axes, series: Series) -> None:
    x, y = zip(*series.points, strict=True)
    look = LOOK[series.style] if len(x) <= 24 else {}
    axes.plot(x, y, label=series.name or None, color=PALETTE[series.color % len(PALETTE)], **look)
    for point, label in zip(series.points, series.labels, strict=False):
        axes.annotate(label, point, (6, 4), textcoords="offset points")


def _draw_bars(axes: Axes, chart: BarChart) -> None:
    rows = [(f"{bar.name}, {name}", bar) for name, bars in chart.groups for bar in bars]
    places = range(len(rows))
    axes.barh(places, [bar.limit or 0 for _, bar in rows], color="#dfe4ea")
    drawn = axes.barh(places, [b.value for _, b in rows], color=[PALETTE[b.color % len(PALETTE)] for _, b in rows])
    axes.bar_label(drawn, [number_text(bar.value) for _, bar in rows], padding=4)
    axes.set_yticks(places, [name for name, _ in rows])
    axes.set(xlabel=chart.unit)
    axes.invert_yaxis()
