"""What the user should know of weights that were integers in groups: what stayed, and what it cost."""

from collections import Counter
from collections.abc import Sequence
from math import sqrt

from ..outputs import OutputTensor
from .integer_groups import GroupedType


def notes_on_groups(outputs: Sequence[OutputTensor]) -> list[str]:
    """Sentences on what becomes of the quantized weights of a checkpoint; none where it has none."""
    grouped = [output for output in outputs if isinstance(output.tensor.stored, GroupedType)]
    kept = [output for output in grouped if output.type_name in output.tensor.stored.blocks]
    changed = [output for output in grouped if output not in kept and not output.type_name.startswith(("f", "bf"))]
    notes = [f"{_counted(kept)} with the checkpoint's own integers; {_cost(kept)}"] if kept else []
    for obstacle in dict.fromkeys(output.tensor.stored.obstacle for output in changed):
        same = [output for output in changed if output.tensor.stored.obstacle == obstacle]
        why = f": {obstacle}" if obstacle else ""
        notes.append(f"{_counted(same)} by quantizing the checkpoint's values again, which adds to their error{why}")
    return notes


def _counted(outputs: Sequence[OutputTensor]) -> str:
    types = Counter(output.type_name for output in outputs)
    return " and ".join(f"{n} weights become {name}" for name, n in types.items())


def _cost(kept: Sequence[OutputTensor]) -> str:
    """`rounding` counts each code of each group once, so tensors count by their groups."""
    roundings = [
        (output.tensor.stored.rounding[output.type_name], output.tensor.n_rows * output.tensor.row_values)
        for output in kept
    ]
    largest = max(rounding.largest for rounding, _ in roundings)
    if not largest:
        return "no value changes"
    mean_square = sum(r.mean_square * n for r, n in roundings) / sum(n for _, n in roundings)
    return (
        f"scales and minima in float16 change values by at most {100 * largest:.2g} % of a quantization step, "
        f"{100 * sqrt(mean_square):.2g} % on average (rms)"
    )
