"""What the matrices of a model are multiplied with, seen while the model runs.

A Program is a list of ops, so it can be run in parts: up to where the input of a matmul is complete, look at it in the
machine's buffer, and on. The input is seen in float32, before it is rounded to int8 blocks.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError
from edgellama.frame import FEW_ROWS
from edgellama.ops import MATMUL, PANEL, QUANTIZE, TOKENS
from edgellama.program import Program, View

if TYPE_CHECKING:
    from edgellama import Model, Session


@dataclass(frozen=True)
class MatmulInput:
    """Before op number `op` of the program, `view` holds what the named tensors are about to be multiplied with."""

    op: int
    view: View  # (n_rows, n_columns)
    tensors: tuple[str, ...]


def matmul_inputs(program: Program, output: bool = False) -> list[MatmulInput]:
    """The inputs of all matmuls of a program in its order; those after the layers only with `output`."""
    prepared: dict[View, int] = {}  # a view that matmuls read -> the op that last wrote it
    readers: dict[int, list[str]] = {}
    for index, op in enumerate(program.ops):
        if op.spec in (QUANTIZE, PANEL):
            prepared[op.operands["out"]] = index
        elif op.spec is MATMUL and (output or op.extent == TOKENS):
            names = [tensor.name for tensor in op.operands["weight"].tensors]
            readers.setdefault(prepared[op.operands["x"]], []).extend(names)
    return [MatmulInput(index, program.ops[index].operands["x"], tuple(names)) for index, names in readers.items()]


class ActivationReader:
    """Evaluates tokens of a model's session and shows the inputs of its matmuls.

    With `output`, those of the output matrix too, which takes smaller steps.
    """

    def __init__(self, model: "Model", output: bool = False) -> None:
        self.model, self.output = model, output
        self.inputs = matmul_inputs(model.machine.program, output)

    def read(self, session: "Session", ids: Sequence[int]) -> Iterator[tuple[MatmulInput, NDArray[np.float32]]]:
        """Append tokens; for every step of them each input in turn, with float32 (n_rows, n_columns).

        The values are valid until the next one is asked for. Raises EdgellamaError for fewer tokens than a step needs
        to leave its inputs in common buffers.
        """
        frame = self.model.frame
        largest = frame.max_rows if self.output else frame.max_tokens
        steps = np.array_split(np.asarray(ids), -(-len(ids) // largest))
        if len(steps[-1]) <= FEW_ROWS:
            raise EdgellamaError(f"{len(ids)} tokens are too few to read activations: give more than {FEW_ROWS}")
        for step in steps:
            with self.model.lock:
                yield from self._step(session, step)

    def _step(self, session: "Session", ids: NDArray) -> Iterator[tuple[MatmulInput, NDArray[np.float32]]]:
        """Run a step as far as the last input; what comes after that leaves nothing in the cache."""
        session.check_room(len(ids))
        model, n = self.model, session.n_tokens
        model.pages.reserve(session.slot, n + len(ids))
        rows = np.arange(len(ids) if self.output else 0)
        model.frame.fill(ids, np.arange(n, n + len(ids)), np.full(len(ids), session.slot), rows)
        done = 0
        for place in self.inputs:
            model.machine.run_part(done, place.op)
            done = place.op
            yield place, model.machine.rows(place.view)
        session.ids.extend(ids.tolist())
