"""A Program as a position-independent table: what an interpreter binds, and what an export would carry.

Every operand is (region, offset): an index of a weight, a constant or a side of a layer's cache, or a byte offset into
the activations that all workers share or that each has for itself.
"""

import numpy as np

from .ops import ACTIVATION, CACHE, CODES, CONSTANT, EMBED, MATMUL, NONE, PRIVATE, RECORD, WEIGHT
from .program import Buffer, CacheSide, Constant, Op, Operand, Program, View, Weight


def variant(op: Op, kv_type: str) -> str:
    """Which kernels an op needs: the format of its weight (".rows" where it lies as in the file), or of the cache."""
    if op.spec in (MATMUL, EMBED):
        weight = next(operand for operand in op.operands.values() if isinstance(operand, Weight))
        return weight.type_name if weight.packed else f"{weight.type_name}.rows"
    return kv_type if any(isinstance(operand, CacheSide) for operand in op.operands.values()) else ""


class Unbinder:
    """Numbers the weights and constants of a program and writes its ops as records."""

    def __init__(self, program: Program, offsets: dict[Buffer, int]):
        self.program, self.offsets = program, offsets
        self.weights = {weight: index for index, weight in enumerate(program.weights())}
        self.constants = {constant: index for index, constant in enumerate(program.constants())}

    def place(self, operand: Operand) -> tuple[int, int]:
        """(region, offset) of an operand."""
        if isinstance(operand, View):
            region = PRIVATE if operand.buffer.private else ACTIVATION
            return region, self.offsets[operand.buffer] + 4 * operand.start
        if isinstance(operand, Weight):
            return WEIGHT, self.weights[operand]
        if isinstance(operand, Constant):
            return CONSTANT, self.constants[operand]
        return (CACHE, 2 * operand.layer + operand.side) if isinstance(operand, CacheSide) else (NONE, 0)

    def records(self) -> np.ndarray:
        """RECORD (n_ops,)."""
        table = np.zeros(len(self.program.ops), RECORD)
        for record, op in zip(table, self.program.ops, strict=True):
            record["op"], record["extent"] = CODES[op.spec.name], op.extent
            record["variant"] = variant(op, self.program.attention.kv_type)
            for index, name in enumerate(op.spec.operands):
                record["regions"][index], record["offsets"][index] = self.place(op.operands[name])
            record["integers"][: len(op.integers)] = [op.integers[name] for name in op.spec.integers]
            record["floats"][: len(op.floats)] = [op.floats[name] for name in op.spec.floats]
        return table
