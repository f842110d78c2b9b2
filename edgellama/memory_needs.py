"""How much memory running a model takes, foretold from its header, and whether this machine has it.

The one estimate of the project: what a load checks before it packs, and what `inspect` and `pull` print. It walks the
model's Program without its numbers and asks the same functions that allocate. What the system may drop and read again,
weights that stay in the mapped file, is counted apart: it makes a model slow, not impossible.
"""

import os
from dataclasses import dataclass
from math import prod
from types import ModuleType

import numpy as np

from . import device, system
from .config import ModelConfig
from .cpu import sizes
from .cpu.packing import ALWAYS_PACKED, LAYOUTS, packed_bytes
from .errors import EdgellamaError
from .frame import MAX_ROWS, MAX_TOKENS, PAGE_POSITIONS
from .gguf import GGUFFile
from .program import Builder, Constant, Program
from .simd import detect
from .simd.target import TARGETS

# Measured with 1.1B and 1B models: Python with its libraries and the kernels, and the tokenizer's tables per token.
RUNTIME_BYTES, TOKEN_BYTES = 104_000_000, 370
STACK_BYTES, ARENA_BYTES, LIBRARY_BYTES = 8 << 20, 64 << 20, 170 << 20  # of address space: a thread's, a thread's, LLVM


@dataclass(frozen=True)
class LoadOptions:
    """What a load was asked for, as far as memory depends on it; `sequences` are all places of the cache."""

    context: int
    kv_type: str = "f16"
    repack: bool = True
    sequences: int = 1
    threads: int | None = None

    @property
    def packed_types(self) -> frozenset[str]:
        return frozenset(LAYOUTS) if self.repack else ALWAYS_PACKED

    @property
    def n_pages(self) -> int:
        """Of one sequence."""
        return -(-self.context // PAGE_POSITIONS)


@dataclass(frozen=True)
class MemoryNeeds:
    """Bytes at the most, when all sequences of the cache are full. `file_bytes` are no part of the total."""

    weight_bytes: int  # packed copies
    cache_bytes: int
    activation_bytes: int  # buffers and scratch of all workers
    runtime_bytes: int  # Python, libraries, kernels, tokenizer
    file_bytes: int  # weights that are read from the mapped file
    n_workers: int

    @property
    def total_bytes(self) -> int:
        return self.weight_bytes + self.cache_bytes + self.activation_bytes + self.runtime_bytes


class _Outline(Builder):
    """Writes the same Program with ones in place of the file's vectors, whose data may not be here yet."""

    def vector(self, name: str) -> Constant:
        return Constant(name, np.ones(prod(self.tensors[name].shape), np.float32))


def needs_of(file: GGUFFile, family: ModuleType, config: ModelConfig, options: LoadOptions) -> MemoryNeeds:
    """What loading a recognised model with these options takes. Needs the header only."""
    partial_bytes = sizes.partial_bytes(config, options.context)
    builder = _Outline(file.tensors, partial_bytes, options.packed_types, options.kv_type)
    program = family.build(builder, config, options.context)
    n_workers = device.worker_plan(options.threads).n_workers
    mapped = {tensor.name: tensor for weight in program.weights() if not weight.packed for tensor in weight.tensors}
    return MemoryNeeds(
        weight_bytes=sum(packed_bytes(weight) for weight in program.weights() if weight.packed),
        cache_bytes=sum(sizes.cache_side_bytes(program, options.n_pages * options.sequences)),
        activation_bytes=_activation_bytes(program, n_workers),
        runtime_bytes=RUNTIME_BYTES + TOKEN_BYTES * config.vocab_size,
        file_bytes=sum(tensor.n_bytes for tensor in mapped.values()),
        n_workers=n_workers,
    )


def _activation_bytes(program: Program, n_workers: int) -> int:
    tile_tokens = TARGETS[detect.chosen_isa()].tile_tokens
    plan = sizes.plan_buffers(program, sizes.StepShape(MAX_TOKENS, MAX_ROWS, tile_tokens))
    own = plan.private_bytes + sizes.worker_scratch_bytes(program, tile_tokens)
    return plan.shared_bytes + plan.private_bytes + n_workers * own


@dataclass(frozen=True)
class Room:
    """Memory that is left by one of the limits that hold here; what a model takes of that kind beyond its total."""

    name: str  # as in "1.2 GB of memory are available"
    n_bytes: int
    extra_bytes: int = 0
    holds_files: bool = False  # pages of the mapped file too, while there is room

    def fits(self, needs: MemoryNeeds) -> bool:
        return needs.total_bytes + self.extra_bytes <= self.n_bytes


def available_bytes() -> int:
    """What the machine and its control group have left, or what EDGELLAMA_MEMORY says to count on."""
    return _counted_on() or system.available_memory_bytes()


def rooms(n_workers: int) -> list[Room]:
    """What the machine has left, and what this process's own limits leave."""
    found = [Room("of memory are available", available_bytes(), holds_files=True)]
    n_threads = 2 * n_workers  # those that pack, and the workers
    extras = {
        "RLIMIT_DATA": n_threads * STACK_BYTES,
        "RLIMIT_AS": LIBRARY_BYTES + n_threads * (STACK_BYTES + ARENA_BYTES),
    }
    for name, n_bytes in system.limited_room_bytes().items():
        found.append(Room(f"are left below this process's {name}", n_bytes, extras[name]))
    return found


def _counted_on() -> int | None:
    """The variable's bytes, with K, M or G for powers of 1024."""
    text = os.environ.get("EDGELLAMA_MEMORY")
    if not text:
        return None
    unit = text[-1].upper() if text[-1].isalpha() else ""
    digits = text.removesuffix(text[-1]) if unit else text
    if not (digits.isascii() and digits.isdecimal() and int(digits)) or unit not in ("", "K", "M", "G"):
        raise EdgellamaError(f"EDGELLAMA_MEMORY={text} is no amount of memory like 1500M or 2G")
    return int(digits) << {"": 0, "K": 10, "M": 20, "G": 30}[unit]


def tightest(needs: MemoryNeeds) -> Room:
    """The limit that leaves least beyond these needs."""
    return min(rooms(needs.n_workers), key=lambda room: room.n_bytes - room.extra_bytes)
