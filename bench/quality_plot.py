"""Draws size against mean KL divergence for all GGUF files of a folder, which are one model in several types.

The base file holds the log-probabilities of the model that was not quantized, as `edgellama perplexity BASE TEXT
--kl-divergence-base FILE` writes it. Needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MIB = 1 << 20
LABEL_DISTANCES = (8, 20, 34, 50)  # points of the page between a mark and its label
LABEL_SIDES = ((1, 0.4), (-1, 0.4), (1, -0.7), (-1, -0.7), (0.4, 1), (-0.4, -1))


class Point(NamedTuple):
    """A file: its name without the ending, its size, its mean divergence from the base and that mean's error."""

    name: str
    size_bytes: int
    divergence: float
    error: float


def measure(path: Path, base_path: Path, n_chunks: int | None, options: dict[str, Any]) -> Point:
    """Compare one file with the base; `options` are those of edgellama.load()."""
    import edgellama
    from quant.kl_divergence import base_chunks, compare_with_file, statistics
    from quant.log_prob_file import LogProbFile
    from quant.perplexity import scored_rows

    with LogProbFile(base_path) as base, edgellama.load(path, context=base.context, **options) as model:
        chunks = base_chunks(base, model).first(n_chunks)
        with closing(scored_rows(model, chunks)) as rows:
            mean = statistics(compare_with_file(rows, base))["divergence"]["mean"]
    return Point(path.stem, path.stat().st_size, mean.value, mean.error)


class Mark(NamedTuple):
    """A place of the picture, and the names of the files there: types whose rows a model lacks fall back on others."""

    size_mib: float
    divergence: float
    error: float
    label: str
    color: str


def marks(points: list[Point]) -> list[Mark]:
    names: dict[tuple[float, float, float], list[str]] = {}
    for point in points:
        names.setdefault((point.size_bytes / MIB, point.divergence, point.error), []).append(point.name)
    places = sorted(names.items())
    return [Mark(*place, ", ".join(sorted(found)), f"C{index}") for index, (place, found) in enumerate(places)]


def draw(found: list[Mark], title: str, path: Path) -> None:
    """Write the picture, in the format that the path's ending names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 6), layout="constrained")
    axes = figure.add_subplot()
    for mark in found:
        axes.errorbar(mark.size_mib, mark.divergence, mark.error, fmt="o", markersize=5, capsize=3, color=mark.color)
    axes.set(yscale="log", xlabel="file size, MiB", ylabel="mean KL divergence, nats a token", title=title)
    axes.grid(which="major", alpha=0.3)
    axes.margins(x=0.12, y=0.1)
    _write_labels(axes, found)
    figure.savefig(path, dpi=150)


def _write_labels(axes: Axes, found: list[Mark]) -> None:
    """Each label as near to its mark as it can be without covering a mark or another label, and a line to the mark."""
    from matplotlib.transforms import Bbox

    axes.figure.draw_without_rendering()  # fixes where marks are on the page
    centers = [axes.transData.transform((mark.size_mib, mark.divergence)) for mark in found]
    taken = [Bbox.from_bounds(x - 5, y - 5, 10, 10) for x, y in centers]
    for mark in found:
        place, look = (mark.size_mib, mark.divergence), {"textcoords": "offset points", "color": mark.color}
        text = axes.annotate(mark.label, place, (0, 0), fontsize=9, **look)
        for distance, (right, up) in product(LABEL_DISTANCES, LABEL_SIDES):
            text.xyann = (distance * right, distance * up)
            text.set_horizontalalignment("left" if right > 0 else "right")
            box = text.get_window_extent()
            if not box.count_overlaps(taken):
                break
        taken.append(box)
        line = {"arrowstyle": "-", "linewidth": 0.7, "color": mark.color, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", place, text.xyann, arrowprops=line, zorder=5, **look)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, help="GGUF files of one model")
    parser.add_argument("--base", type=Path, required=True, help="the base model's log-probabilities")
    parser.add_argument("-o", "--output", type=Path, required=True, help="the picture: .png or .svg")
    parser.add_argument("--title", help="default: the folder's name")
    parser.add_argument("--chunks", type=int, help="compare so many chunks (default: all of the base file)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--kv-type", default="f16", choices=("f16", "q8_0", "f32"))
    parser.add_argument("--json", action="store_true", help="print the points as JSON")


def main(arguments: argparse.Namespace) -> int:
    paths = sorted(arguments.folder.glob("*.gguf"))
    if not paths:
        raise EdgellamaError(f"{arguments.folder}: holds no .gguf files")
    options = {"threads": arguments.threads, "kv_type": arguments.kv_type}
    points = [measure(path, arguments.base, arguments.chunks, options) for path in paths]
    points.sort(key=lambda point: point.size_bytes)
    if arguments.json:
        print(json.dumps([point._asdict() for point in points], indent=1))
    else:
        for point in points:
            print(f"{point.name:12} {point.size_bytes / MIB:10.2f} MiB  {point.divergence:.6f} ± {point.error:.6f}")
    shown = marks([point for point in points if point.divergence > 0])  # a logarithmic axis has no place for others
    if not shown:
        raise EdgellamaError(f"{arguments.folder}: no file differs from the base")
    draw(shown, arguments.title or arguments.folder.resolve().name, arguments.output)
    return 0
