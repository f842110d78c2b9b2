"""Which instruction sets this host can execute. Nothing else may choose one: a wrong choice kills the process."""

import os
from functools import cache

from ..errors import EdgellamaError
from . import detect_arm
from .target import TARGETS, Target, architecture_of


@cache
def host_architecture() -> str:
    """What this process was built for ("x86-64", "aarch64", or "any" for all others), not what the kernel says.

    A 32-bit Python on a 64-bit kernel, or an emulated one, would be wrong about the machine.
    """
    import llvmlite.binding as llvm

    return architecture_of(llvm.get_process_triple())


@cache
def host_features() -> frozenset[str]:
    """LLVM's names of the features that this CPU and its operating system offer."""
    if host_architecture() == "aarch64":
        return detect_arm.features()
    import llvmlite.binding as llvm

    try:
        return frozenset(name for name, present in llvm.get_host_cpu_features().items() if present)
    except RuntimeError:  # LLVM knows no way to ask on this platform
        return frozenset()


def host_targets() -> dict[str, Target]:
    """The targets of this host's architecture, whether or not its CPU can run them, the best first."""
    architectures = ("any", host_architecture())
    return {name: target for name, target in TARGETS.items() if target.architecture in architectures}


def executable_isas() -> list[str]:
    """Names of the targets this host can run, the best first; "generic" is always among them."""
    return [name for name, target in host_targets().items() if target.required <= host_features()]


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
    cores it is the other way round (16.5 GB/s without, 20.5 with, at 2 to 3 KiB). Arm cores were not measured: those
    that have NEON follow a single stream by themselves.
    """
    import llvmlite.binding as llvm

    is_arm = host_architecture() == "aarch64"
    return 0 if is_arm or llvm.get_host_cpu_name().startswith("znver") else 2304
