"""Which instruction sets this host can execute. Nothing else may choose one: a wrong choice kills the process."""

import os
from functools import cache

from ..errors import EdgellamaError
from .target import TARGETS


@cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features that this CPU and its operating system offer."""
    import llvmlite.binding as llvm

    try:
        return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
    except RuntimeError:  # LLVM knows no way to ask on this platform
        return frozenset()


def executable_isas() -> list[str]:
    """Names of the targets this host can run, the best first; "generic" is always among them."""
    return [name for name, target in TARGETS.items() if target.required <= host_features()]


def chosen_isa() -> str:
    """The target to use: the host's best, or `EDGELLAMA_ISA` if this host can run it.

    Raises EdgellamaError for a name that does not exist or that would be an illegal instruction here.
    """
    possible = executable_isas()
    wanted = os.environ.get("EDGELLAMA_ISA")
    if not wanted:
        return possible[0]
    if wanted not in possible:
        known = "cannot run on this CPU" if wanted in TARGETS else "is no instruction set"
        raise EdgellamaError(f"EDGELLAMA_ISA={wanted} {known}; choose one of {', '.join(possible)}")
    return wanted


def prefetch_ahead_bytes() -> int:
    """How far ahead of their use weights should be prefetched in a stream; 0 where software prefetch costs speed.

    Zen cores stream at 95 % of their bandwidth without it and at 80 % with it at any distance; on Intel's server
    cores it is the other way round (16.5 GB/s without, 20.5 with, at 2 to 3 KiB).
    """
    import llvmlite.binding as llvm

    return 0 if llvm.get_host_cpu_name().startswith("znver") else 2304
