"""Where workers must wait for each other, from what ops read and write."""

from ..program import BYTES, Op, Program, View


def _conflicts(views: list[View], others: list[View]) -> bool:
    return any(a.overlaps(b) for a in views for b in others)


def _cache_sides(op: Op, direction: str) -> set:
    from ..program import CacheSide

    names = (name for name, way in op.spec.operands.items() if direction in way)
    return {op.operands[name] for name in names if isinstance(op.operands[name], CacheSide)}


def before(program: Program, few: bool) -> list[bool]:
    """For each op whether all workers must have finished what came before it.

    With few rows, what an op writes to a private buffer concerns no other worker; everything else that two ops of a
    section share, and at least one of them writes, needs a barrier between them.
    """
    flags = []
    read: list[View] = []
    written: list[View] = []
    cache_written: set = set()
    for op in program.ops:
        reads, writes = (
            [view for view in op.touched(way) if not (few and view.buffer.private) and view.buffer.kind != BYTES]
            for way in ("r", "w")
        )
        clash = _conflicts(reads, written) or _conflicts(writes, written) or _conflicts(writes, read)
        clash = clash or bool(_cache_sides(op, "r") & cache_written)
        flags.append(clash)
        if clash:
            read, written, cache_written = [], [], set()
        read += reads
        written += writes
        cache_written |= _cache_sides(op, "w")
    return flags
