"""Reports and plots: what is on the page, that nothing in a record can become markup, and what is refused."""

import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import bench_records
import pytest

from bench import record_charts
from bench.chart import Bar, BarChart, Chart, Series, extent, number_text, ticks
from bench.markup import Markup, element, join
from bench.report import report_page
from bench.report_files import PLOTS, check_plot_name, read_all, write_plot, write_report
from bench.saved import read_records, record_of
from bench.svg_chart import draw, draw_file
from edgellama.errors import EdgellamaError

SVG = "{http://www.w3.org/2000/svg}"


def saved(data):
    return record_of(data, "record")


def page_of(*records):
    return report_page([saved(record) for record in records])


class Page(HTMLParser):
    """The elements, attributes and text of a page; `open` is empty at the end of a well-formed one."""

    VOID = ("meta", "br", "hr")

    def __init__(self, text):
        super().__init__()
        self.elements, self.attributes, self.texts, self.open = [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append(tag)
        self.attributes += attributes
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self):
        return " ".join(self.texts)


def test_page_shows_the_record():
    page = Page(page_of(bench_records.record()))
    assert page.open == []
    for words in (
        "TinyLlama 1.1B Q4_0", "Radxa ROCK 5B", "tg128 @ d8192", "88.0", "19.2", "86%", "0.310", "J/token",
        "4 x Cortex-A76 at 2.4 GHz, 4 x Cortex-A55 at 1.8 GHz", "L2 4 x 512 KiB", "performance", "numba 0.68.1",
        "tg128: a frequency fell from 2400 to 1800 MHz", "edgellama bench tinyllama-1.1b-q4_0.gguf -p 512",
        "Roofline, 8 threads", "pp512 by threads", "tg128 by threads", "Decode at depth", "Sustained decoding",
        "Temperature", "Clock", "After 8.0 minutes 14.1 tokens/s, 73% of the 19.2 at the beginning; at most 84 °C",
    ):  # fmt: skip
        assert words in page.text, words


def test_page_needs_nothing_but_itself():
    text = page_of(bench_records.record(), bench_records.with_peer())
    page = Page(text)
    assert not {"script", "link", "img", "iframe", "object", "base", "form", "a"} & set(page.elements)
    assert not [name for name, _ in page.attributes if name.startswith("on") or name in ("src", "href", "srcset")]
    assert "url(" not in text and "@import" not in text
    addresses = set(re.findall(r"https?://[^\"' ]+", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "the namespace of SVG, which nobody fetches"


def test_page_may_load_and_run_nothing():
    attributes = Page(page_of(bench_records.small())).attributes
    assert ("content", "default-src 'none'; style-src 'unsafe-inline'") in attributes


def test_program_writes_a_page_and_plots(tmp_path, run_python):
    (tmp_path / "a.json").write_text(json.dumps(bench_records.record()))
    names = ("report.html", "depth.svg", "threads.svg")
    written = [str(tmp_path / name) for name in names]
    record = str(tmp_path / "a.json")
    result = run_python("-m", "bench", "report", record, "-o", written[0], "--plot", written[1], "--plot", written[2])
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert all((tmp_path / name).stat().st_size > 1000 for name in names)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["no-such-file.json", "-o", "r.html"], "no-such-file.json"),
        ([__file__, "-o", "r.html"], "this is not JSON"),
        ([__file__], "say what to write"),
        ([__file__, "--plot", "plot.svg"], "a plot's file is named for what it shows"),
    ],
)
def test_program_explains_what_is_wrong(tmp_path, run_python, arguments, problem):
    result = run_python("-m", "bench", "report", *arguments, cwd=tmp_path)
    assert result.returncode == 2 and problem in result.stderr and result.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_page_fits_phones_and_both_color_schemes():
    text = page_of(bench_records.record())
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text and "max-width: 760px" in text
    assert text.count('<div class="scroll" tabindex="0"><table>') == 2


def test_every_plot_has_a_title_for_those_who_cannot_see_it():
    text = page_of(bench_records.record(), bench_records.with_peer())
    drawn = re.findall(r"<svg[^>]*>.*?</svg>", text)
    assert len(drawn) >= 10
    for svg in drawn:
        root = ElementTree.fromstring(svg)
        assert root[0].tag == f"{SVG}title" and root[0].text == root.get("aria-label") and root.get("role") == "img"


HOSTILE = "</style></title><script>alert(1)</script><img src=x onerror=alert(1)>\"' onload='x"


def spoiled(value):
    """The same record with all its texts and keys hostile."""
    if isinstance(value, dict):
        return {key if key in KEPT else f"{key}{HOSTILE}": spoiled(item) for key, item in value.items()}
    if isinstance(value, list):
        return [spoiled(item) for item in value]
    return value + HOSTILE if isinstance(value, str) else value


def all_keys(value):
    if isinstance(value, dict):
        return set(value).union(*map(all_keys, value.values()))
    return set().union(*map(all_keys, value)) if isinstance(value, list) else set()


KEPT = all_keys(bench_records.record()) - set(bench_records.record()["versions"])


@pytest.mark.parametrize("n_records", [1, 2])
def test_hostile_texts_stay_texts(n_records):
    data = spoiled(bench_records.with_peer() | {"sustain": bench_records.sustained(1)})
    text = page_of(*[data] * n_records)
    plain = Page(page_of(*[bench_records.with_peer() | {"sustain": bench_records.sustained(1)}] * n_records))
    page = Page(text)
    assert page.open == [] and "<script" not in text and "<img" not in text
    assert set(page.elements) == set(plain.elements)
    assert {name for name, _ in page.attributes} == {name for name, _ in plain.attributes}
    assert "alert(1)" in page.text, "it is shown as what it is"


@pytest.mark.parametrize("name", PLOTS)
def test_hostile_texts_in_svg_files_stay_texts(tmp_path, name):
    data = spoiled(bench_records.record(peers=bench_records.with_peer()["peers"]))
    for row in (*data["results"], *data["peers"][0]["results"]):
        row["limit"] = row["limit"].removesuffix(HOSTILE)
    write_plot([saved(data)], tmp_path / f"{name}.svg")
    root = ElementTree.parse(tmp_path / f"{name}.svg").getroot()
    assert {node.tag.removeprefix(SVG) for node in root.iter()} <= {
        "svg", "title", "style", "rect", "text", "g", "line", "polyline", "circle",
    }  # fmt: skip
    assert not [key for node in root.iter() for key in node.attrib if key.startswith("on")]


WRONG_VALUES = [None, -1, 1e17, 1e-17, float("nan"), "text", [], {"a": 1}, [{}]]


@pytest.mark.parametrize("value", WRONG_VALUES, ids=repr)
def test_any_field_may_be_wrong(tmp_path, value):
    """Each field at a time, as a record from elsewhere may have it: the page is made without it."""
    base = bench_records.record(peers=bench_records.with_peer()["peers"], sustain=bench_records.sustained(1))
    base["results"] = base["results"][:1] + base["results"][4:6] + base["results"][-2:]
    base["sustain"] = base["sustain"][:3]
    for path in paths_of(base):
        if path in (("schema",), ("results",)) and not (path == ("results",) and isinstance(value, list)):
            continue
        data = changed(base, path, value)
        assert Page(page_of(data)).open == [], path


def paths_of(value, path=()):
    """Ways to everything in a record, of lists to the first element only."""
    items = value.items() if isinstance(value, dict) else enumerate(value[:1]) if isinstance(value, list) else ()
    for key, item in items:
        yield (*path, key)
        yield from paths_of(item, (*path, key))


def changed(value, path, new):
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = changed(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "holds no benchmark record"),
        (b"3", "no benchmark record"),
        (b'{"a": 1}', "no benchmark record"),
        (b'[{"schema": 1, "results": []}, 7]', "no benchmark record"),
        (b'{"results": [], "schema": 2}', "schema 2 are not known"),
    ],
)
def test_files_that_are_no_records(tmp_path, content, problem):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(EdgellamaError, match=problem) as caught:
        read_records(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("form", ["object", "list", "lines"])
def test_records_in_all_forms_of_a_file(tmp_path, form):
    one, two = bench_records.small(), bench_records.record()
    texts = {
        "object": json.dumps(one, indent=1),
        "list": json.dumps([one, two], indent=1),
        "lines": f"{json.dumps(one)}\n{json.dumps(two)}\n",
    }
    (tmp_path / "r").write_text(texts[form])
    found = read_all([tmp_path / "r"])
    assert [record.device_name for record in found] == ["AMD EPYC", "Radxa ROCK 5B"][: 1 if form == "object" else 2]


def test_page_of_the_least_record():
    page = Page(page_of({"schema": 1, "results": []}))
    assert "unnamed model" in page.text and "holds no results" in page.text and "svg" not in page.elements


def test_comparison_stands_first_and_names_sides():
    page = page_of(bench_records.record(), bench_records.small())
    assert page.index("Side by side") < page.index("Results")
    (prefill, decode) = record_charts.comparison([saved(bench_records.record()), saved(bench_records.small())])
    assert prefill.groups == (("pp512", (Bar("Radxa ROCK 5B", 88.0, 140.0, 0), Bar("AMD EPYC", 310.0, 477.0, 1))),), (
        "the fastest thread count of each"
    )
    assert [name for name, _ in decode.groups] == ["tg128"], "depths that only one side has are no comparison"


def test_peer_is_compared_with_one_record():
    (prefill, _) = record_charts.comparison([saved(bench_records.with_peer())])
    assert [bar.name for bar in prefill.groups[0][1]] == ["edgellama", "llama.cpp"]


def test_equal_records_are_numbered():
    records = [saved(bench_records.small()), saved(bench_records.small())]
    assert [record_charts.side_name(record, records) for record in records] == ["AMD EPYC (1)", "AMD EPYC (2)"]


def test_roofline_puts_results_at_their_share_of_the_roof():
    """pp512 with 8 threads is at 88 of 140 tokens/s: 182.3 of 290 10⁹ operations/s; 512 tokens share the weights."""
    chart = record_charts.roofline(saved(bench_records.record()))
    roof, measured = chart.series
    operations = 290e9 / 140.0
    assert roof.points[1] == (pytest.approx(290e9 / 14.3e9), pytest.approx(290.0))
    assert roof.points[0][1] == pytest.approx(roof.points[0][0] * 14.3), "memory gives 14.3 GB/s"
    points = dict(zip(measured.labels, measured.points, strict=True))
    assert points["pp512"] == (pytest.approx(operations / (6.4e8 / 512)), pytest.approx(88.0 * operations / 1e9))
    assert points["pp512"][1] / 290 == pytest.approx(88 / 140)
    assert points["tg128"] == (pytest.approx(operations / 6.4e8), pytest.approx(18.4 * operations / 1e9))


def test_the_roof_of_float_weights_is_the_float_peak():
    data = bench_records.small()
    data["limits"] = bench_records.record()["limits"]
    data["results"][0] |= {"limit": "float", "limit_ts": 120.0, "median_ts": 106.0}
    roof, measured = record_charts.roofline(saved(data)).series
    assert roof.points[-1][1] == pytest.approx(76.0)
    assert measured.points[0][1] / 76 == pytest.approx(106 / 120)


def test_every_side_of_several_records_with_peers_is_named_by_its_runtime():
    records = [bench_records.with_peer() | {"model": {"name": name}} for name in ("one", "two")]
    prefill, _ = record_charts.comparison([saved(data) for data in records])
    names = [bar.name for bar in prefill.groups[0][1]]
    assert names == ["edgellama, one", "llama.cpp, one", "edgellama, two", "llama.cpp, two"]


def test_labels_that_would_cover_each_other_are_left_out():
    data = bench_records.small()
    data["limits"] = bench_records.record()["limits"]
    data["results"] += [
        bench_records.result("pp128", 2, 300.0, "int8", 477.0),
        bench_records.result("tg128 @ d1024", 2, 90.0, "stream", 105.0),
        bench_records.result("tg128 @ d32768", 2, 20.0, "stream", 30.0),
    ]
    _, measured = record_charts.roofline(saved(data)).series
    assert measured.labels == ("pp512", "tg128", "", "", "tg128 @ d32768") and len(measured.points) == 5


def test_curves_follow_the_results():
    record = saved(bench_records.record())
    prefill, decode = record_charts.thread_scaling(record)
    assert decode.series[0].points == ((1, 8.1), (2, 14.8), (4, 19.2), (8, 18.4)) and decode.x_ticks == (1, 2, 4, 8)
    assert prefill.series[1].points[-1] == (8, 140.0) and prefill.series[1].style == "limit"
    (depth,) = record_charts.depth_curves(record)
    assert [x for x, _ in depth.series[0].points] == [0, 1024, 2048, 4096, 8192]
    speed, _, clock = record_charts.sustain_curves(record)
    assert len(speed.series[0].points) == 240 and clock.series[0].points[0][1] == pytest.approx(2400)


def test_depths_with_two_caches_are_two_curves():
    data = bench_records.record()
    data["results"] += [row | {"type_k": "q8_0", "median_ts": row["median_ts"] * 1.1} for row in data["results"]]
    (depth,) = record_charts.depth_curves(saved(data))
    names = [series.name for series in depth.series if series.style == "line"]
    assert names == ["128 tokens, 4 threads, f16 cache", "128 tokens, 4 threads, q8_0 cache"]


@pytest.mark.parametrize("name", PLOTS)
@pytest.mark.parametrize("ending", [".svg", ".png"])
def test_plots_are_written(tmp_path, name, ending):
    if ending == ".png":
        pytest.importorskip("matplotlib", reason="the extra `bench` draws PNG")
    path = tmp_path / f"rock5b-{name}{ending}"
    write_plot([saved(bench_records.record()), saved(bench_records.small())], path)
    content = path.read_bytes()
    assert content.startswith(b"<svg " if ending == ".svg" else b"\x89PNG")


@pytest.mark.parametrize("name", PLOTS)
def test_plots_without_their_data_say_what_they_need(tmp_path, name):
    with pytest.raises(EdgellamaError, match="this plot needs"):
        write_plot([saved(bench_records.small())], tmp_path / f"{name}.svg")


@pytest.mark.parametrize("name", ["plot.svg", "roofline.pdf", "depth", "depths.svg"])
def test_plot_names_that_say_nothing(name, tmp_path):
    with pytest.raises(EdgellamaError, match="named for what it shows"):
        check_plot_name(tmp_path / name)


def test_png_without_matplotlib_is_explained(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(EdgellamaError, match="needs matplotlib"):
        write_plot([saved(bench_records.record())], tmp_path / "depth.png")


def test_report_replaces_a_page(tmp_path):
    path = tmp_path / "report.html"
    path.write_text("old")
    write_report([saved(bench_records.small())], path)
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>\n<html")


def test_elements_escape_everything_that_is_not_markup():
    assert element("p", "a<b", element("i", 'say "x"'), None, False, [1, "&"], title='"><script>') == (
        '<p title="&quot;&gt;&lt;script&gt;">a&lt;b<i>say &quot;x&quot;</i>1&amp;</p>'
    )
    assert isinstance(join("<"), Markup) and join("<") == "&lt;"
    assert element("rect", x=1.0, y=2.25001, stroke_width=None) == '<rect x="1" y="2.25"></rect>'


def test_lines_are_where_their_values_are():
    chart = Chart("t", "x", "y", (Series("", ((0, 0), (5, 50), (10, 100)), "dots"),))
    circles = list(ElementTree.fromstring(draw(chart)).iter(f"{SVG}circle"))
    (x0, y0), (x1, y1), (x2, y2) = ((float(c.get("cx")), float(c.get("cy"))) for c in circles)
    assert x1 - x0 == pytest.approx(x2 - x1, abs=0.02) and x2 > x0
    assert y0 - y1 == pytest.approx(y1 - y2, abs=0.02) and y2 < y0, "up is more"


def test_logarithmic_axes_space_decades_evenly():
    chart = Chart("t", "x", "y", (Series("", ((1, 1), (10, 10), (100, 100)), "dots"),), logarithmic=True)
    circles = list(ElementTree.fromstring(draw(chart)).iter(f"{SVG}circle"))
    x = [float(circle.get("cx")) for circle in circles]
    assert x[1] - x[0] == pytest.approx(x[2] - x[1], abs=0.02)


def test_bars_are_as_long_as_their_values():
    bars = BarChart("b", "tokens/s", (("pp512", (Bar("a", 50.0, 100.0, 0), Bar("b", 25.0, None, 1))),))
    widths = [float(rect.get("width")) for rect in ElementTree.fromstring(draw(bars)).iter(f"{SVG}rect")]
    assert widths == [pytest.approx(420), pytest.approx(210), pytest.approx(105)], "limit, bar, bar"


def test_file_of_several_charts_is_as_high_as_all_of_them():
    charts = record_charts.thread_scaling(saved(bench_records.record()))
    root = ElementTree.fromstring(draw_file(charts))
    shifts = [float(re.search(r" ([\d.]+)\)", g.get("transform")).group(1)) for g in root.iter(f"{SVG}g")]
    assert len(shifts) == 2 and shifts[0] < shifts[1] < float(root.get("height"))


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "expected"),
    [
        (0, 10, False, [0, 2, 4, 6, 8, 10]),
        (0, 24.2, False, [0, 5, 10, 15, 20]),
        (0.5, 2.1, False, [0.5, 1, 1.5, 2]),
        (0, 0.004, False, [0, 0.001, 0.002, 0.003, 0.004]),
        (2, 3000, True, [10, 100, 1000]),
        (20, 400, True, [30, 100, 300]),
        (4, 40, True, [5, 10, 20]),
    ],
)
def test_ticks_are_round(low, high, logarithmic, expected):
    assert ticks(low, high, logarithmic) == pytest.approx(expected)


def test_axes_start_at_zero():
    chart = Chart("t", "x", "y", (Series("", ((1, 80), (2, 100))),))
    assert extent(chart, 1) == (0.0, pytest.approx(108)) and extent(chart, 0) == (1, 2)


@pytest.mark.parametrize(
    ("value", "text"), [(1234.5, "1,234"), (78.93, "78.9"), (4.557, "4.56"), (0.0123, "0.0123"), (0, "0"), (100, "100")]
)
def test_numbers_have_three_digits(value, text):
    assert number_text(value) == text
