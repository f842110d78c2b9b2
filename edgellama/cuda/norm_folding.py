"""Which norms need no launch of their own, because the products that read them can do them."""

from .. import ops
from ..program import Op, Program, View


def folded_norms(program: Program) -> set[Op]:
    """The RMS norms that only products read, and whose x stays as it is until the last of them has ended."""
    found = set()
    for index, op in enumerate(program.ops):
        if op.spec is ops.RMSNORM:
            readers = _readers(program, index)
            last = max((end for start in readers for end in _readers(program, start)), default=index)
            is_for_products = all(program.ops[place].spec in (ops.QUANTIZE, ops.PANEL) for place in readers)
            if is_for_products and not _is_written(op.operands["x"], program.ops[index + 1 : last + 1]):
                found.add(op)
    return found


def _readers(program: Program, index: int) -> list[int]:
    """Numbers of the ops that read an op's result before another op writes its place."""
    out, found = program.ops[index].operands["out"], []
    for place, op in enumerate(program.ops[index + 1 :], index + 1):
        if any(view.overlaps(out) for view in op.touched("r")):
            found.append(place)
        if _is_written(out, [op]):
            break
    return found


def _is_written(view: View, program_ops: list[Op]) -> bool:
    return any(written.overlaps(view) for op in program_ops for written in op.touched("w"))
