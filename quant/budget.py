"""Types for a size: each matrix gets the type that buys the most accuracy for its bytes.

Every candidate type is tried on a sample of each matrix's rows. What counts is the squared error relative to the
matrix's own values, weighted by importance where there is one, times the number of its values: an error counts alike
in every matrix, whatever the scale of its weights, but more in the output matrix, whose errors nothing evens out. From
the smallest type on, the step to a larger type that lowers the sum most per byte is taken, again and again, until the
size is reached: the Lagrangian solution, on the lower convex hull of a matrix's (bytes, error) points (Everett 1963).
"""

import heapq
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.fp8 import join_scales

from .encoders import column_weights, kernels
from .error_measures import ErrorSums, measure
from .recipes import RECIPES
from .rows import Piece, Worker, pieces_of
from .tensor_roles import is_quantized

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile, TensorInfo

    from .importance import ImportanceMatrix
    from .quantizer import Report

# Types that the runtime computes fast, from two bits on, and what serves rows that are no multiple of 256.
CANDIDATES = ("q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "q8_0", "f16")
NARROW_CANDIDATES = ("q4_0", "q4_1", "q5_0", "q5_1", "q8_0", "f16")
OUTPUT_WEIGHT = 4.0  # 1 to 8 serve about as well; the best of them on a small trained model
SAMPLE_VALUES = 1 << 17  # of each matrix
SAMPLE_PIECES = 8


@dataclass(frozen=True)
class Choice:
    """One type for one matrix; `error` is what counts, as the module's docstring says."""

    type_name: str
    n_bytes: int
    error: float


def choose_for_size(
    source: "GGUFFile",
    n_bytes: int,
    importance: "ImportanceMatrix | None" = None,
    n_threads: int = 1,
    report: "Report | None" = None,
) -> dict[str, str]:
    """Name -> type of every tensor, all together at most n_bytes. Raises EdgellamaError where that is too little."""
    join_scales(source)
    tensors = list(source.tensors.values())
    matrices = [tensor for tensor in tensors if is_quantized(tensor.name, tensor.shape)]
    fixed = sum(tensor.n_bytes for tensor in tensors) - sum(tensor.n_bytes for tensor in matrices)
    weights = {"output.weight" if "output.weight" in source.tensors else "token_embd.weight": OUTPUT_WEIGHT}
    hulls = _measure_all(matrices, weights, importance, n_threads, report)
    least = fixed + sum(hull[0].n_bytes for hull in hulls.values())
    if least > n_bytes:
        raise EdgellamaError(
            f"{source.path}: its tensors do not fit in {n_bytes:,} bytes; the least that can be reached is {least:,}"
        )
    chosen = spend(hulls, n_bytes - fixed)
    return {tensor.name: chosen.get(tensor.name, tensor.type_name) for tensor in tensors}


def file_type_of(types: Mapping[str, str], source: "GGUFFile") -> int:
    """The number of the recipe whose matrices are of the type that holds most of the values."""
    counts: dict[str, int] = {}
    for name, type_name in types.items():
        tensor = source.tensors[name]
        counts[type_name] = counts.get(type_name, 0) + prod(tensor.shape)
    common = max(counts, key=counts.__getitem__)
    return next((recipe.file_type for recipe in RECIPES.values() if recipe.type_name == common), 0)


def spend(hulls: Mapping[str, list[Choice]], n_bytes: int) -> dict[str, str]:
    """Name -> type: the steps along the hulls with the largest gain per byte, as long as they fit."""
    level = dict.fromkeys(hulls, 0)
    left = n_bytes - sum(hull[0].n_bytes for hull in hulls.values())
    steps = [_step(name, hull, 0) for name, hull in hulls.items() if len(hull) > 1]
    heapq.heapify(steps)
    while steps:
        _, name, cost = heapq.heappop(steps)
        if cost <= left:
            left -= cost
            level[name] += 1
            if level[name] + 1 < len(hulls[name]):
                heapq.heappush(steps, _step(name, hulls[name], level[name]))
    return {name: hull[level[name]].type_name for name, hull in hulls.items()}


def _step(name: str, hull: list[Choice], level: int) -> tuple[float, str, int]:
    """(negative gain per byte, name, bytes) of the step from this level to the next."""
    here, there = hull[level], hull[level + 1]
    cost = there.n_bytes - here.n_bytes
    return (there.error - here.error) / cost, name, cost


def lower_hull(choices: Iterable[Choice]) -> list[Choice]:
    """The choices that are best for some price of a byte, by size: each step to the next buys less than the last."""
    hull: list[Choice] = []
    for choice in sorted(choices, key=lambda choice: (choice.n_bytes, choice.error)):
        if hull and choice.error >= hull[-1].error:
            continue
        while len(hull) > 1 and not _is_convex(hull[-2], hull[-1], choice):
            hull.pop()
        hull.append(choice)
    return hull


def _is_convex(a: Choice, b: Choice, c: Choice) -> bool:
    """Whether the step from a to b gains more per byte than that from b to c."""
    return (a.error - b.error) * (c.n_bytes - b.n_bytes) > (b.error - c.error) * (b.n_bytes - a.n_bytes)


def _measure_all(
    matrices: list["TensorInfo"],
    weights: Mapping[str, float],
    importance: "ImportanceMatrix | None",
    n_threads: int,
    report: "Report | None",
) -> dict[str, list[Choice]]:
    """Name -> hull of the choices for that matrix, whose errors count as `weights` say, others 1."""
    kernels()
    found = {}
    with ThreadPoolExecutor(n_threads) as pool:
        hulls = pool.map(lambda tensor: measure_types(tensor, importance, weights.get(tensor.name, 1.0)), matrices)
        for number, (tensor, hull) in enumerate(zip(matrices, hulls, strict=True), start=1):
            found[tensor.name] = hull
            if report:
                report(f"measuring types on {tensor.name}", number, len(matrices))
    return found


def measure_types(
    tensor: "TensorInfo", importance: "ImportanceMatrix | None" = None, weight: float = 1.0
) -> list[Choice]:
    """The hull of the candidate types, tried on a sample of the tensor's rows."""
    columns = importance.of(tensor) if importance else None
    sample = [(piece, rows, _weights(columns, piece)) for piece, rows in sample_rows(tensor)]
    n_rows, n_columns, worker, choices = prod(tensor.shape[:-1]), tensor.shape[-1], Worker(), []
    for type_name in candidates_for(n_columns):
        sums = ErrorSums()
        for piece, rows, weights in sample:
            encoded = worker.encode(piece, rows, type_name, weights)
            sums.add(measure(type_name, encoded, rows, weights))
        error = weight * n_rows * n_columns * sums.weighted_relative_rms**2
        choices.append(Choice(type_name, n_rows * formats.by_name(type_name).row_bytes(n_columns), error))
    return lower_hull(choices)


def _weights(importance: NDArray | None, piece: Piece) -> NDArray[np.float32] | None:
    return None if importance is None else column_weights(importance[piece.expert])


def candidates_for(n_columns: int) -> tuple[str, ...]:
    wide = n_columns % formats.by_name("q4_k").block_values == 0
    names = CANDIDATES if wide else NARROW_CANDIDATES
    return tuple(name for name in names if n_columns % formats.by_name(name).block_values == 0)


def sample_rows(tensor: "TensorInfo") -> list[tuple[Piece, NDArray[np.float32]]]:
    """About SAMPLE_VALUES of a tensor as a few pieces, evenly spread."""
    pieces = list(pieces_of(tensor, SAMPLE_VALUES // SAMPLE_PIECES))
    step = max(1, len(pieces) // SAMPLE_PIECES)
    worker = Worker()
    return [(piece, worker.read(piece).copy()) for piece in pieces[step // 2 :: step][:SAMPLE_PIECES]]
