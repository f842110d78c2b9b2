"""The CPU interpreter: binds a Program to packed weights, buffers and kernel addresses, and runs it on workers."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .. import device, ops, system
from ..cache_layout import padded
from ..device import WorkerPlan
from ..frame import Frame
from ..kv_cache import page_bytes
from ..ops import ACTIVATION, CACHE, CONSTANT, NONE, PRIVATE, WEIGHT
from ..placement import Placement
from ..program import FLOAT_TYPES, Program, View, Weight
from ..records import Unbinder
from . import barriers
from .packing import LAYOUTS, Packer, packed_bytes
from .sizes import ALIGNMENT, StepShape, cache_side_bytes, plan_buffers, worker_scratch_bytes
from .threads import StepClock, ThreadTrial, WorkerCount, Workers

LARGE_BYTES = 32 << 20  # weights that no cache holds: their best thread count is the device's
Progress = Callable[[int, int], None]


class CpuMachine:
    """A Program ready to run. `frame` is filled by the caller; run() leaves the logits in `logits`."""

    def __init__(
        self, kernels, program: Program, frame: Frame, n_pages: int, threads: int | None,
        progress: Progress | None = None,
    ):  # fmt: skip
        self.kernels, self.program, self.frame = kernels, program, frame
        self._keep: list[np.ndarray] = []  # memory that bound addresses point into
        plan = device.worker_plan(threads)
        self._allocate_weights(plan.prefill.threads, progress)
        self._allocate_cache(n_pages)
        self._allocate_buffers()
        self.workers = self._make_workers(plan.n_workers)
        self._choose_decode(plan)
        self.place(plan.prefill)
        self.bound = self._bind()
        self.logits = self._view_array(program.logits, frame.max_rows)  # (max_rows, vocab)
        self.hidden = self._view_array(program.hidden, frame.max_rows)  # (max_rows, d_model)

    def run(self) -> np.ndarray | None:
        """Run the frame; float32 (n_rows, vocab), valid until the next run, or None if cancel() was called."""
        is_decode = self.frame.n_tokens == 1
        n_active, cpus = self._decode_placement() if is_decode else self.prefill
        with StepClock() as clock:
            is_complete = self.workers.run(self.bound, self.frame.header.ctypes.data, n_active, cpus)
        if not is_complete:
            return None
        if is_decode:
            self._report(clock.seconds)
        return self.logits[: self.frame.n_rows]

    def cancel(self) -> None:
        """Make the present run, or else the next, end soon and without a result; from any thread."""
        self.workers.cancel()

    def run_hidden(self) -> np.ndarray | None:
        """Run the frame as far as the output matrix; float32 (n_rows, d_model), what it would be applied to."""
        return self.hidden[: self.frame.n_rows] if self.run_part(0, self.program.hidden_end) else None

    def run_part(self, first: int, end: int) -> bool:
        """Run the ops first..end of the frame; False if cancel() was called."""
        prefill = self.prefill
        return self.workers.run(self.bound[first:end], self.frame.header.ctypes.data, prefill.threads, prefill.cpus)

    def rows(self, view: View) -> np.ndarray:
        """What a view of floats holds for the frame's rows, float32 (n_rows, width), valid until the next run.

        Of a private buffer only if the ops that fill it cover more than FEW_ROWS rows.
        """
        n_rows = self.frame.n_tokens if view.buffer.extent == ops.TOKENS else self.frame.n_rows
        return self._view_array(view, n_rows)

    def cache_page(self, page: int) -> Iterator[np.ndarray]:
        """The bytes of one page as writable arrays: keys and values of each layer in turn."""
        sizes = page_bytes(self.program.attention)
        for index, address in enumerate(self.cache_addresses):
            size = sizes[index % len(sizes)]
            yield np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address + page * size))

    def place(self, prefill: Placement, decode: Placement | None = None) -> None:
        """Say where runs of many tokens compute and, if decode is given, where decode steps do.

        Neither may have more threads than there are workers.
        """
        usable = system.usable_cpus()
        self.prefill = prefill.within(usable)
        if decode:
            self.decode_cpus = decode.within(usable).cpus
            self.worker_count, self.trial = WorkerCount(decode.threads), None

    def _choose_decode(self, plan: WorkerPlan) -> None:
        """Start with what earlier loads measured on this device, or measure now.

        A small model is measured each time: its best number is its own.
        """
        candidates = plan.decode
        known = [choice for choice in candidates if self._is_large and choice.threads == plan.measured_threads]
        is_open = len(candidates) > 1 and not known
        self._decode_with(known[0] if known else candidates[-1], candidates[-1].threads)
        self.trial = ThreadTrial(list(candidates)) if is_open else None

    def _decode_with(self, choice: Placement, most: int) -> None:
        """Begin with a placement; more workers may join as far as there are CPUs in it."""
        self.decode_cpus = choice.cpus
        most = max(choice.threads, min(most, len(choice.cpus) or most))
        self.worker_count = WorkerCount(most, choice.threads)

    def _decode_placement(self) -> tuple[int, tuple[int, ...]]:
        return self.trial.current if self.trial else (self.worker_count.current, self.decode_cpus)

    @property
    def _is_large(self) -> bool:
        return self.weight_bytes >= LARGE_BYTES

    def _report(self, seconds: float) -> None:
        """Learn from the time of a decode step."""
        if self.trial is None:
            self.worker_count.report(seconds)
            return
        best = self.trial.report(seconds)
        if best:
            self.trial = None
            self._decode_with(best, self.worker_count.most)
            if self._is_large:
                device.save_settings(replace(device.load_settings(), decode_threads=best.threads))

    def close(self) -> None:
        """End the worker threads."""
        self.workers.stop()

    def _memory(self, n_bytes: int, huge: bool = True) -> np.ndarray:
        array = system.allocate(max(n_bytes, ALIGNMENT), huge=huge)
        self._keep.append(array)
        return array

    def _memory_of(self, sizes: list[int]) -> list[np.ndarray]:
        """Arrays of these sizes side by side: alone, each would leave the better part of a huge page unused."""
        ends = list(accumulate(padded(size, ALIGNMENT) for size in sizes))
        whole = self._memory(ends[-1] if ends else 0)
        return [whole[end - padded(size, ALIGNMENT) :][:size] for end, size in zip(ends, sizes, strict=True)]

    def _allocate_weights(self, n_threads: int, progress: Progress | None) -> None:
        """Addresses of all weights: of their packed form, or of the mapped file."""
        self.weight_address: dict[Weight, int] = {}
        self.weight_bytes = sum(tensor.n_bytes for weight in self.program.weights() for tensor in weight.tensors)
        packer = Packer(self.kernels, n_threads)
        packed = [weight for weight in self.program.weights() if weight.packed]
        for weight in self.program.weights():
            if not weight.packed:
                self.weight_address[weight] = weight.tensors[0].address
        sizes = [packed_bytes(weight) for weight in packed]
        done, total = 0, sum(sizes)
        for weight, target in zip(packed, self._memory_of(sizes), strict=True):
            if progress:
                progress(done, total)
            packer.pack(weight, target)
            self.weight_address[weight] = target.ctypes.data
            done += len(target)
        if progress:
            progress(done, total)

    def _allocate_cache(self, n_pages: int) -> None:
        sides = self._memory_of(cache_side_bytes(self.program, n_pages))
        self.cache_addresses = [side.ctypes.data for side in sides]

    def _allocate_buffers(self) -> None:
        shape = StepShape(self.frame.max_tokens, self.frame.max_rows, self.kernels.target.tile_tokens)
        plan = plan_buffers(self.program, shape)
        self.private, shared = self._memory(plan.private_bytes, huge=False), self._memory(plan.shared_bytes)
        self.private_bytes, self.buffer_offsets = plan.private_bytes, plan.offsets
        self.region_base = {PRIVATE: self.private.ctypes.data, ACTIVATION: shared.ctypes.data}

    def _make_workers(self, n_threads: int) -> Workers:
        size = worker_scratch_bytes(self.program, self.kernels.target.tile_tokens)
        workers = Workers(self.kernels, n_threads, size, self.private_bytes)
        workers.set_private(self.private.ctypes.data)
        return workers

    def _view_array(self, view: View, n_rows: int) -> np.ndarray:
        kind = ctypes.c_float * (n_rows * view.buffer.width)
        region = PRIVATE if view.buffer.private else ACTIVATION
        address = self.region_base[region] + self.buffer_offsets[view.buffer]
        flat = np.ctypeslib.as_array(kind.from_address(address))
        return flat.reshape(n_rows, view.buffer.width)[:, view.start : view.start + view.width]

    def _operand_tables(self) -> dict[int, list[int]]:
        """Addresses of what records name by number."""
        values = [constant.values for constant in self.program.constants()]
        self._keep += values
        return {
            WEIGHT: [self.weight_address[weight] for weight in self.program.weights()],
            CONSTANT: [array.ctypes.data for array in values],
            CACHE: self.cache_addresses,
            NONE: [0],
        }

    def _bind(self) -> np.ndarray:
        """BOUND (n_ops,): the program's records with kernels and addresses."""
        unbound = Unbinder(self.program, self.buffer_offsets).records()
        bound = self._memory(len(unbound) * ops.BOUND.itemsize, huge=False).view(ops.BOUND)
        for field in ("extent", "integers", "floats"):
            bound[field] = unbound[field]
        bound["barrier_few"] = barriers.before(self.program, few=True)
        bound["barrier_many"] = barriers.before(self.program, few=False)
        tables = self._operand_tables()
        for target, record in zip(bound, unbound, strict=True):
            places = zip(record["regions"].tolist(), record["offsets"].tolist(), strict=True)
            target["operands"] = [
                self.region_base[region] + offset if region in self.region_base else tables[region][offset]
                for region, offset in places
            ]
            for field, name in kernel_names(ops.OPS[record["op"]].name, str(record["variant"]))._asdict().items():
                target[field] = self.kernels.address(name) if name else 0
        return bound


class KernelNames(NamedTuple):
    """The kernels of an op for one row, for few and for many, and the functions they call by address."""

    kernel_one: str
    kernel_few: str
    kernel_many: str
    helper: str = ""
    second_helper: str = ""


def kernel_names(op: str, variant: str) -> KernelNames:
    """Which kernels run an op on the formats that its variant names."""
    kind = variant.removesuffix(".rows")
    if op == "matmul":
        return _matmul_kernels(kind, packed=kind == variant)
    if op == "embed":
        op = "embed_floats" if kind in FLOAT_TYPES else "embed_codes"
        return KernelNames(op, op, op, f"row_{kind}")
    helpers = {"rope_store": ("store_key", "store_value"), "attention": ("scores", "weighted")}.get(op, ())
    return KernelNames(op, op, op, *(f"{helper}_{kind}" for helper in helpers))


def _matmul_kernels(kind: str, packed: bool) -> KernelNames:
    if packed:
        product = LAYOUTS[kind].product
        few = f"gemm_{product}" if kind in FLOAT_TYPES else f"few_{kind}"
        return KernelNames(f"matvec_{kind}", few, f"gemm_{product}", f"unpack_{kind}")
    rows = "float_rows" if kind in FLOAT_TYPES else "rows"
    return KernelNames(f"matvec_{rows}", f"gemm_{rows}", f"gemm_{rows}", f"row_{kind}")
