"""Charts as SVG of one size that a page scales; colors come from the style sheet, light or dark."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from .chart import Bar, BarChart, Chart, Series, extent, number_text, tick_text, ticks
from .markup import Markup, element, join

WIDTH, HEIGHT, FLAT_HEIGHT = 420, 290, 200
LEFT, RIGHT, TOP, BOTTOM = 48, 12, 32, 42
MARGIN, TITLE_HEIGHT, LEGEND_ROW_HEIGHT = 14, 36, 19
CHARACTER_WIDTH = 7.1  # on average, of the 13 px text
N_COLORS = 6
BAR_HEIGHT, BAR_SPACE, GROUP_HEIGHT, GROUP_GAP = 10, 36, 24, 14

COLORS = """
.chart { --ink: #1c2430; --muted: #5b6675; --grid: #dfe4ea; --paper: #ffffff;
  --c0: #1f6feb; --c1: #d9480f; --c2: #12805c; --c3: #8a3ffc; --c4: #b0266f; --c5: #7a6a00; }
@media (prefers-color-scheme: dark) { .chart { --ink: #e6eaf0; --muted: #9aa6b5; --grid: #2c3644; --paper: #161c24;
  --c0: #6cb0ff; --c1: #ff9a5c; --c2: #4fd1a1; --c3: #be95ff; --c4: #ff85b8; --c5: #dcc94a; } }
"""
SHAPES = """
.chart text { font: 13px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; fill: var(--muted); }
.chart .name { font-weight: 600; font-size: 14.5px; fill: var(--ink); }
.chart .mark { fill: var(--ink); }
.chart .grid { stroke: var(--grid); stroke-width: 1; }
.chart .axis { stroke: var(--muted); stroke-width: 1; }
.chart .paper { fill: var(--paper); }
.chart .line { fill: none; stroke-width: 2.25; stroke-linejoin: round; stroke-linecap: round; }
.chart .limit { stroke-width: 1.5; stroke-dasharray: 5 4; }
.chart .track { fill: var(--grid); }
"""
STYLE = (
    COLORS
    + SHAPES
    + "".join(
        f".chart .s{n} {{ stroke: var(--c{n}); }}\n.chart .f{n} {{ fill: var(--c{n}); }}\n" for n in range(N_COLORS)
    )
)


class Frame(NamedTuple):
    """Where the data lies on the page, and how values become places."""

    top: float
    bottom: float
    x: Callable[[float], float]
    y: Callable[[float], float]


def draw(chart: Chart | BarChart) -> Markup:
    """For a page, which has STYLE and writes the title itself."""
    body, height = _draw_body(chart)
    return element("svg", element("title", chart.title), body, **_attributes(chart.title, height))


def draw_file(charts: Sequence[Chart | BarChart]) -> Markup:
    """A file of its own: titles written out, one chart below the other, with the style and a background."""
    parts, y = [], 0.0
    for chart in charts:
        body, height = _draw_body(chart)
        title = element("text", chart.title, x=MARGIN, y=y + 22, class_="name")
        parts += [title, element("g", body, transform=f"translate({MARGIN} {y + TITLE_HEIGHT:.0f})")]
        y += TITLE_HEIGHT + height + MARGIN
    name = ", ".join(chart.title for chart in charts)
    paper = element("rect", width="100%", height="100%", class_="paper")
    head = (element("title", name), element("style", Markup(STYLE)), paper)
    width = WIDTH + 2 * MARGIN
    return element("svg", *head, *parts, **_attributes(name, y, width), width=width, height=math.ceil(y))


def _attributes(title: str, height: float, width: int = WIDTH) -> dict[str, str]:
    return {
        "xmlns": "http://www.w3.org/2000/svg",
        "viewBox": f"0 0 {width} {math.ceil(height)}",
        "class_": "chart",
        "role": "img",
        "aria_label": title,
    }


def _draw_body(chart: Chart | BarChart) -> tuple[Markup, float]:
    return _draw_bars(chart) if isinstance(chart, BarChart) else _draw_lines(chart)


def _draw_lines(chart: Chart) -> tuple[Markup, float]:
    legend, legend_height = _legend([series for series in chart.series if series.name])
    height = legend_height + (FLAT_HEIGHT if chart.flat else HEIGHT)
    frame = _frame(chart, TOP + legend_height, height - BOTTOM)
    ordered = sorted(chart.series, key=lambda series: series.style != "limit")  # limits lie below what is measured
    return join(legend, _axes(chart, frame), *(_series(series, frame) for series in ordered)), height


def _frame(chart: Chart, top: float, bottom: float) -> Frame:
    def scale(axis: int, start: float, end: float) -> Callable[[float], float]:
        place = math.log if chart.logarithmic else float
        low, high = map(place, extent(chart, axis))
        return lambda value: start + (place(value) - low) / (high - low) * (end - start)

    return Frame(top, bottom, scale(0, LEFT, WIDTH - RIGHT), scale(1, bottom, top))


def _axes(chart: Chart, frame: Frame) -> Markup:
    x_ticks = chart.x_ticks or ticks(*extent(chart, 0), chart.logarithmic)
    parts = []
    for value in ticks(*extent(chart, 1), chart.logarithmic):
        y = frame.y(value)
        parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", tick_text(value), x=LEFT - 7, y=y + 4, text_anchor="end"))
    for value in _readable(x_ticks, frame):
        parts.append(element("text", tick_text(value), x=frame.x(value), y=frame.bottom + 17, text_anchor="middle"))
    parts.append(element("line", x1=LEFT, x2=WIDTH - RIGHT, y1=frame.bottom, y2=frame.bottom, class_="axis"))
    parts.append(element("text", chart.x_label, x=WIDTH - RIGHT, y=frame.bottom + 36, text_anchor="end"))
    return join(*parts, element("text", chart.y_label, x=0, y=frame.top - 16))


def _readable(values: tuple[float, ...] | list[float], frame: Frame) -> list[float]:
    """Leave out ticks whose texts would touch their neighbour's."""
    chosen: list[float] = []
    for value in values:
        needed = (len(tick_text(value)) + 1.5) * CHARACTER_WIDTH
        if not chosen or frame.x(value) - frame.x(chosen[-1]) >= needed:
            chosen.append(value)
    return chosen


def _series(series: Series, frame: Frame) -> Markup:
    places = [(frame.x(x), frame.y(y)) for x, y in series.points]
    color = series.color % N_COLORS
    parts = []
    if series.style != "dots":
        dashed = " limit" if series.style == "limit" else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(element("polyline", points=path, class_=f"line s{color}{dashed}"))
    if series.style == "dots" or (series.style == "line" and len(places) <= 24):
        for (x, y), point in zip(places, series.points, strict=True):
            told = element("title", f"{series.name}: {number_text(point[0])}, {number_text(point[1])}")
            parts.append(element("circle", told, cx=x, cy=y, r=4.0, class_=f"f{color}"))
    for (x, y), label in zip(places, series.labels, strict=False):
        end = x > WIDTH - RIGHT - len(label) * CHARACTER_WIDTH - 10
        parts.append(_label(label, x - 8 if end else x + 8, y + 4, "end" if end else "start"))
    return join(*parts)


def _label(text: str, x: float, y: float, anchor: str) -> Markup:
    return element("text", text, x=x, y=y, text_anchor=anchor, class_="mark")


def _legend(series: list[Series]) -> tuple[Markup, float]:
    """Names in as many rows as they need, and the height of the rows; one name alone needs no legend."""
    if len(series) < 2:
        return Markup(), 0.0
    parts, x, row = [], 0.0, 0
    for item in series:
        width = 26 + len(item.name) * CHARACTER_WIDTH + 10
        if x and x + width > WIDTH:
            x, row = 0.0, row + 1
        y = 12.0 + row * LEGEND_ROW_HEIGHT
        parts.append(_legend_mark(item, x, y - 4))
        parts.append(element("text", item.name, x=x + 22, y=y))
        x += width
    return join(*parts), (row + 1) * LEGEND_ROW_HEIGHT + 4.0


def _legend_mark(series: Series, x: float, y: float) -> Markup:
    color = series.color % N_COLORS
    if series.style == "dots":
        return element("circle", cx=x + 8, cy=y, r=4.0, class_=f"f{color}")
    dashed = " limit" if series.style == "limit" else ""
    return element("line", x1=x, x2=x + 16, y1=y, y2=y, class_=f"line s{color}{dashed}")


def _draw_bars(chart: BarChart) -> tuple[Markup, float]:
    """Each group under its name; a bar's name and value above it; a pale bar up to the limit."""
    longest = max(max(bar.value, bar.limit or 0.0) for _, bars in chart.groups for bar in bars)
    parts, y = [element("text", chart.unit, x=WIDTH, y=15, text_anchor="end")], 0.0
    for name, bars in chart.groups:
        parts.append(element("text", name, x=0, y=y + 15, class_="name"))
        y += GROUP_HEIGHT
        for bar in bars:
            parts.append(_bar(bar, y, WIDTH / longest))
            y += BAR_SPACE
        y += GROUP_GAP
    return join(*parts), y - GROUP_GAP


def _bar(bar: Bar, y: float, unit: float) -> Markup:
    value = number_text(bar.value)
    most_letters = int(WIDTH / CHARACTER_WIDTH) - len(value) - 2
    shown = bar.name if len(bar.name) <= most_letters else f"{bar.name[: most_letters - 1]}…"
    place = {"x": 0, "y": y + 18, "height": BAR_HEIGHT, "rx": 3}
    return join(
        element("text", element("title", bar.name), shown, x=0, y=y + 12),
        element("text", value, x=WIDTH, y=y + 12, text_anchor="end", class_="mark"),
        element("rect", **place, width=bar.limit * unit, class_="track") if bar.limit else None,
        element("rect", **place, width=max(1.0, bar.value * unit), class_=f"f{bar.color % N_COLORS}"),
    )
