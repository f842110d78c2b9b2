"""What CUDA kernels are compiled for: the generations of GPUs, and the emulator that runs them on this CPU."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Architecture:
    """One compile target. A GPU runs the PTX of its own generation or of an earlier one."""

    name: str
    triple: str
    llvm_cpu: str
    llvm_features: str
    compute_capability: tuple[int, int]

    @property
    def is_emulated(self) -> bool:
        return self.compute_capability == (0, 0)

    @property
    def has_async_copy(self) -> bool:
        """Copies from global to shared memory that run beside the threads, and products of 16x8x16 halves."""
        return self.compute_capability >= (8, 0)

    @property
    def has_dependent_launch(self) -> bool:
        """A kernel may start before the one before it has ended, and wait for its results."""
        return self.compute_capability >= (9, 0)


_PTX = "nvptx64-nvidia-cuda"
# Newest first. The PTX versions are the oldest that know the instructions: any driver from 11.4 on reads the first.
ARCHITECTURES = {
    item.name: item
    for item in (
        Architecture("sm_90", _PTX, "sm_90", "+ptx78", (9, 0)),
        Architecture("sm_80", _PTX, "sm_80", "+ptx74", (8, 0)),
        Architecture("sm_75", _PTX, "sm_75", "+ptx74", (7, 5)),
    )
}
EMULATED = "emulated"

_current: Architecture | None = None


def architecture_for(compute_capability: tuple[int, int]) -> str | None:
    """The newest architecture whose code a GPU runs; None for one that is too old."""
    names = (name for name, item in ARCHITECTURES.items() if item.compute_capability <= compute_capability)
    return next(names, None)


def select(architecture: Architecture) -> None:
    """Make this the target of every kernel typed from now on; a process compiles for one target only."""
    global _current
    if _current is not None and _current != architecture:
        raise RuntimeError(f"this process already compiles for {_current.name}, not {architecture.name}")
    _current = architecture


def current() -> Architecture:
    """The target of this process; the compiler selects it before it imports a kernel module."""
    if _current is None:
        raise RuntimeError("no architecture selected: CUDA kernels are compiled by edgellama.cuda.build only")
    return _current
