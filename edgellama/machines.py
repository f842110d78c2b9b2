"""What a Program can run on: this CPU, a GPU, or both. A kind writes the program for its machine and makes that."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .cache_layout import KV_TYPES
from .config import ModelConfig
from .errors import EdgellamaError
from .formats import REGISTRY
from .fp8 import TYPES as FP8_TYPES
from .frame import MAX_TOKENS
from .memory_needs import MemoryNeeds
from .memory_offers import check_fit
from .program import Program

DEVICES = ("cpu", "cuda", "auto")


@dataclass(frozen=True)
class Request:
    """What load() wants of a machine. `gpu_layers`: how many layers a GPU computes; None for all that fit."""

    device: str = "cpu"
    threads: int | None = None
    repack: bool = True
    gpu_layers: int | None = None


WriteProgram = Callable[[frozenset[str], int], Program]  # formats with a layout of their own; attention's memory


@dataclass(frozen=True)
class Kind:
    """One kind of machine. `max_tokens`: of one step; `kv_types`: what its cache may hold.

    `check_fit(file, family, config, options)` raises MemoryShortageError for a model that does not fit into this
    machine's memory; what it takes there, or None where that is not foretold.

    `make(request, write, kernels, frame, n_pages, config, context, progress)` gives the machine; `write` writes the
    model's program for it.
    """

    loading: str  # what the progress of making it says
    max_tokens: int
    kv_types: tuple[str, ...]
    check_fit: Callable[..., MemoryNeeds | None]
    make: Callable[..., Any]


def find(device: str) -> Kind:
    """The kind for "cpu", "cuda" (or "cuda:1", the second GPU), or "auto": a GPU where there is one.

    Raises EdgellamaError for another name.
    """
    name, _, index = str(device).partition(":")
    if name == "auto":
        name = "cuda" if _has_gpu() else "cpu"
    if name not in DEVICES or (index and (name != "cuda" or not index.isdecimal())):
        raise EdgellamaError(f"there is no device {device!r}: choose cpu, cuda, cuda:1 (the second GPU) or auto")
    return _cuda(int(index or 0)) if name == "cuda" else _cpu()


def _has_gpu() -> bool:
    from .cuda.device import device_count

    return device_count() > 0


def _cpu() -> Kind:
    from .cpu.machine import CpuMachine

    def make(request, write, kernels, frame, n_pages, config, context, progress):
        if request.gpu_layers:
            raise EdgellamaError("layers on a GPU need --device cuda")
        return CpuMachine(kernels, _for_cpu(request, write, config, context), frame, n_pages, request.threads, progress)

    return Kind("packing weights", MAX_TOKENS, KV_TYPES, check_fit, make)


def _for_cpu(request: Request, write: WriteProgram, config: ModelConfig, context: int) -> Program:
    from .cpu.packing import ALWAYS_PACKED, LAYOUTS
    from .cpu.sizes import partial_bytes

    return write(frozenset(LAYOUTS) if request.repack else ALWAYS_PACKED, partial_bytes(config, context))


def _cuda(index: int) -> Kind:
    from .cuda.machine import MAX_TOKENS as MOST

    def make(request, write, kernels, frame, n_pages, config, context, progress):
        from .cuda.hybrid import HybridMachine, layers_that_fit
        from .cuda.machine import CudaMachine

        every = frozenset(item.name for item in REGISTRY.values()) | frozenset(FP8_TYPES)
        program = write(every, 0)
        n_layers = _gpu_layers(request, program, lambda: layers_that_fit(program, n_pages, MOST, index))
        if n_layers == program.n_layers:
            return CudaMachine(kernels, program, frame, n_pages, index, progress)
        on_cpu = _for_cpu(request, write, config, context)
        if n_layers == 0:
            from .cpu.machine import CpuMachine

            return CpuMachine(kernels, on_cpu, frame, n_pages, request.threads, progress)
        return HybridMachine(kernels, on_cpu, program, n_layers, frame, n_pages, request.threads, index, progress)

    return Kind("loading onto the GPU", MOST, ("f16",), lambda *facts: None, make)


def _gpu_layers(request: Request, program: Program, fitting: Callable[[], int]) -> int:
    """How many of a program's layers are to be on the GPU."""
    if request.gpu_layers is None:
        return fitting()
    return min(request.gpu_layers, program.n_layers)
