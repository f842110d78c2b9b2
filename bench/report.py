"""`edgellama bench report`: one HTML page of one or several records, without scripts and without a network.

All texts of a record go through `markup.element`, which escapes them.
"""

from __future__ import annotations

from .chart import BarChart, Chart, number_text
from .fields import Result
from .markup import Markup, element, join
from .record_charts import all_charts, comparison, side_name
from .report_style import STYLE
from .report_tables import device_facts, limits_table, results_table, run_facts
from .saved import SavedRecord
from .sustain import sentence
from .svg_chart import STYLE as CHART_STYLE
from .svg_chart import draw
from .untrusted import number

NOTHING_BUT_STYLE = "default-src 'none'; style-src 'unsafe-inline'"  # what a browser may load and run: a second lock


def report_page(records: list[SavedRecord]) -> str:
    """The page as text; the first record stands first, comparisons of all of them before it."""
    title = f"{records[0].model_name} on {records[0].device_name}" if len(records) == 1 else "Benchmarks compared"
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("meta", http_equiv="Content-Security-Policy", content=NOTHING_BUT_STYLE),
        element("title", f"{title} · edgellama bench"),
        element("style", Markup(STYLE + CHART_STYLE)),
    )
    sections = [_record_section(record, records) for record in records]
    together = _comparison(records) if len(records) > 1 else None
    page = element("main", _header(records), together, sections, _footer())
    return "<!DOCTYPE html>\n" + element("html", head, element("body", page), lang="en") + "\n"


def _header(records: list[SavedRecord]) -> Markup:
    if len(records) > 1:
        names = ", ".join(side_name(record, records) for record in records)
        return element("header", _over("edgellama bench"), element("h1", "Benchmarks compared"), _lead(names))
    record = records[0]
    return element("header", _over("edgellama bench"), element("h1", record.model_name), _lead(_where_and_when(record)))


def _over(text: str) -> Markup:
    return element("p", text, class_="over")


def _lead(text: str) -> Markup:
    return element("p", text, class_="lead")


def _where_and_when(record: SavedRecord) -> str:
    """Device, board, CPU, system and day, none of them twice."""
    fields = (("board",), ("cpu", "model"), ("system", "name"))
    known = [record.device_name, *(record.text_at("device", *keys) for keys in fields), record.text_at("time")[:10]]
    return " · ".join(filter(None, dict.fromkeys(known)))


def _comparison(records: list[SavedRecord]) -> Markup | None:
    charts = comparison(records)
    return join(element("h2", "Side by side"), _chart_cards([[chart] for chart in charts])) if charts else None


def _record_section(record: SavedRecord, records: list[SavedRecord]) -> Markup:
    several = len(records) > 1
    heading = element("h2", side_name(record, records)) if several else None
    lead = _lead(f"{record.model_name} · {_where_and_when(record)}") if several else None
    charts = {kind: found for kind, found in all_charts([record]).items() if kind != "compare"}
    groups = [[chart] for kind in ("roofline", "threads", "depth") for chart in charts[kind]]
    groups += [charts["sustain"]] if charts["sustain"] else []
    sustained = _lead(sentence(list(record.sustain))) if record.sustain else None
    return element(
        "section", heading, lead, _tiles(record), _doubts(record), None if several else _comparison(records),
        element("h2", "Results"), _card(None, results_table(record)),
        [element("h2", "Plots"), _chart_cards(groups), sustained] if groups else None,
        element("h2", "Device and run"),
        element(
            "div", _card("Device", device_facts(record)), _card("Run", run_facts(record)),
            _card("Measured limits", limits_table(record)), _command(record), class_="cards",
        ),
    )  # fmt: skip


def _card(title: str | None, content: Markup | None, **attributes: str) -> Markup | None:
    heading = element("h3", title) if title else None
    return element("div", heading, content, **{"class_": "card"} | attributes) if content else None


def _chart_cards(groups: list[list[Chart | BarChart]]) -> Markup:
    """A card for each group of charts that belong together."""
    cards = [
        element("div", [_titled(chart) for chart in group], class_="card" if len(group) == 1 else "card together")
        for group in groups
    ]
    return element("div", cards, class_="cards")


def _titled(chart: Chart | BarChart) -> Markup:
    return element("div", element("h3", chart.title), draw(chart))


def _tiles(record: SavedRecord) -> Markup:
    """The figures that are asked for first: the fastest prefill and decode, the start, the energy of a token."""
    decode = record.decode
    tiles = [_rate_tile("Prefill", record.prefill), _rate_tile("Decode", decode)]
    first_token = record.number_at("start", "first_token_seconds")
    if first_token is not None:
        tiles.append(
            _tile("First token after", number_text(first_token, digits=2), "s", "from the start of the process")
        )
    memory = record.number_at("start", "peak_memory_bytes")
    if memory:
        tiles.append(_tile("Peak memory", number_text(memory / 1e9), "GB", "of the process"))
    joules = number(decode.energy_source.get("joules_per_token_above_idle")) if decode else None
    if joules is not None:
        tiles.append(_tile("Energy", number_text(joules), "J/token", "while decoding, above idle"))
    return element("div", tiles, class_="tiles")


def _rate_tile(label: str, row: Result | None) -> Markup | None:
    if row is None:
        return None
    share = f"{row.of_limit:.0%} of the {row.limit} limit" if row.of_limit and row.limit else ""
    return _tile(f"{label} ({row.test})", number_text(row.median_ts), "tokens/s", share)


def _tile(label: str, value: str, unit: str, note: str) -> Markup:
    figure = element("div", value, " ", element("small", unit), class_="value")
    return element(
        "div", element("div", label, class_="label"), figure, element("div", note, class_="note"), class_="card tile"
    )


def _doubts(record: SavedRecord) -> Markup | None:
    """Why figures may be wrong, each reason once with the tests it concerns."""
    tests: dict[str, list[str]] = {}
    for row in record.results:
        for warning in row.warnings or (() if row.reliable else ("not reliable",)):
            tests.setdefault(warning, []).append(row.test)
    items = [element("li", f"{', '.join(dict.fromkeys(found))}: {warning}") for warning, found in tests.items()]
    content = element("ul", items) if items else None
    return _card("Figures to be doubted", content, class_="card doubts")


def _command(record: SavedRecord) -> Markup | None:
    words = record.at("command")
    line = " ".join(word for word in words if isinstance(word, str)) if isinstance(words, list) else ""
    return _card("Command", element("pre", line)) if line else None


def _footer() -> Markup:
    return element(
        "footer",
        "Rates are medians in tokens per second. The limit of decode is the memory bandwidth measured beside it "
        "divided by the bytes a token reads; that of prefill is the measured peak of int8 products.",
    )
