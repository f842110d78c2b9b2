"""Writes reports and single plots of saved records to files, for `edgellama bench report`, --report and --plot."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgellama import system
from edgellama.errors import EdgellamaError

from .png_chart import draw_png
from .record_charts import all_charts
from .report import report_page
from .saved import SavedRecord, read_records
from .svg_chart import draw_file

PLOTS = ("compare", "roofline", "depth", "threads", "sustain")
WHAT_IT_NEEDS = {
    "compare": "results of several records or of a peer",
    "roofline": "the limits of a run",
    "depth": "results at several depths (-d 0,4096)",
    "threads": "results with several thread counts (-t 1,2,4)",
    "sustain": "a sustained run (--sustain MINUTES)",
}


def read_all(paths: list[Path]) -> list[SavedRecord]:
    return [record for path in paths for record in read_records(path)]


def write_report(records: list[SavedRecord], path: Path) -> None:
    """One page of all records; a page that was there is replaced when the new one is complete."""
    with system.atomic_file(path) as file:
        file.write(report_page(records).encode("utf-8"))


def check_plot_name(path: Path) -> str:
    """The kind of plot that a file's name asks for, such as depth for rock5b-depth.svg. Raises EdgellamaError."""
    kind = next((name for name in PLOTS if path.stem.lower().endswith(name)), None)
    if kind is None or path.suffix.lower() not in (".svg", ".png"):
        raise EdgellamaError(f"{path}: a plot's file is named for what it shows: {', '.join(PLOTS)}, and .svg or .png")
    return kind


def write_plot(records: list[SavedRecord], path: Path) -> None:
    """The plot that the file's name asks for; of several records the first, except for the comparison."""
    kind = check_plot_name(path)
    charts = all_charts(records)[kind]
    if not charts:
        raise EdgellamaError(f"{path}: this plot needs {WHAT_IT_NEEDS[kind]}")
    if path.suffix.lower() == ".png":
        draw_png(charts, path)
    else:
        with system.atomic_file(path) as file:
            file.write(f"{draw_file(charts)}\n".encode())


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("records", type=Path, nargs="+", metavar="RESULT.json", help="records of edgellama bench")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write a page of all records")
    parser.add_argument(
        "--plot",
        type=Path,
        action="append",
        default=[],
        metavar="NAME.svg",
        help=f"write one plot, named for what it shows ({', '.join(PLOTS)}); .svg or .png",
    )


def main(arguments: argparse.Namespace) -> int:
    if not arguments.output and not arguments.plot:
        raise EdgellamaError("say what to write: -o report.html, or --plot roofline.svg")
    for path in arguments.plot:
        check_plot_name(path)
    records = read_all(arguments.records)
    for path in arguments.plot:
        write_plot(records, path)
    if arguments.output:
        write_report(records, arguments.output)
    return 0
