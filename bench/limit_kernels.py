"""Kernels that do nothing but reach a limit of the machine: read memory, multiply int8, multiply float32.

They are written with the runtime's SIMD layer, so what they reach is what its kernels could reach. Every kernel
stores its sums at `out`: without a result LLVM would delete the work.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from edgellama.compiler.entry import device, entry, intp
from edgellama.simd.arithmetic import as_ints, zero_int
from edgellama.simd.dot import emit_dot4
from edgellama.simd.memory import load_bytes, load_signed_bytes, prefetch, store_i64, store_ints
from edgellama.simd.target import current
from edgellama.simd.vector import call, constant, f32x16, i32x16, pointer, u8x64

VECTOR_BYTES = 64
STEP_BYTES = 4 * VECTOR_BYTES  # a stream kernel reads this much per turn; sizes must be multiples of it
AHEAD = 2304  # bytes, as in the runtime's matrix-vector kernels
FAR_AHEAD = 8192

# 32 wide registers hold 3 x 4 accumulators and their operands; 16 half-wide ones hold 1 x 5 (two registers each).
WEIGHTS, ACTIVATIONS = (3, 4) if current().tile_tokens * current().tile_halves >= 12 else (1, 5)
ACCUMULATORS = WEIGHTS * ACTIVATIONS
UNROLL = 4  # steps between two loop conditions


@device
def stream(address, n_bytes, out, ahead):
    """Sum 4 vectors a turn; `ahead` > 0 also asks for the lines so far in front."""
    a, b, c, d = zero_int(), zero_int(), zero_int(), zero_int()
    for at in range(address, address + n_bytes, STEP_BYTES):
        if ahead > 0:
            for line in range(0, STEP_BYTES, VECTOR_BYTES):
                prefetch(at + ahead + line)
        a = a + as_ints(load_bytes(at))
        b = b + as_ints(load_bytes(at + VECTOR_BYTES))
        c = c + as_ints(load_bytes(at + 2 * VECTOR_BYTES))
        d = d + as_ints(load_bytes(at + 3 * VECTOR_BYTES))
    store_ints(out, a + b + c + d)


@entry(types.void(intp, intp, intp))
def limit_stream(address, n_bytes, out):
    stream(address, n_bytes, out, 0)


@entry(types.void(intp, intp, intp))
def limit_stream_prefetch(address, n_bytes, out):
    stream(address, n_bytes, out, AHEAD)


@entry(types.void(intp, intp, intp))
def limit_stream_prefetch_far(address, n_bytes, out):
    stream(address, n_bytes, out, FAR_AHEAD)


@entry(types.void(intp, intp, intp))
def limit_stream_narrow(address, n_bytes, out):
    """16-byte loads: more of them in flight, which some cores turn into a little more bandwidth."""
    total = zero_int()
    for at in range(address, address + n_bytes, STEP_BYTES):
        for part in range(0, STEP_BYTES, 16):
            total = total + load_signed_bytes(at + part)
    store_ints(out, total)


def _load_vectors(builder, address, vector, count: int):
    values = []
    for index in range(count):
        at = builder.add(address, ir.Constant(address.type, VECTOR_BYTES * index))
        values.append(builder.load(pointer(builder, at), align=VECTOR_BYTES, typ=vector))
    return values


def _pin_loads(builder) -> None:
    """Keep loads in their step: sums over operands that never change could be moved out of the loop."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


def _add_product(builder, acc, w, x):
    return call(builder, "llvm.fma.v16f32", f32x16.llvm, [w, x, acc])


def _add_dot(builder, acc, w, x):
    return emit_dot4(builder, acc, w, x, True)


def _make_peak(vector, operand, add_product):
    """start(), load(address), step(sums, weights, activations) and store(sums, out) for a tile of independent sums."""
    tile, held = types.UniTuple(vector, ACCUMULATORS), types.UniTuple(operand, WEIGHTS)

    @intrinsic
    def start(typing_context):
        """Different first values, or LLVM would see that some sums are equal."""

        def emit(context, builder, signature, arguments):
            total = ir.Constant(context.get_value_type(tile), ir.Undefined)
            for index in range(ACCUMULATORS):
                total = builder.insert_value(total, constant(vector.llvm, index), index)
            return total

        return tile(), emit

    @intrinsic
    def load(typing_context, address):
        """The weights, which stay in registers."""

        def emit(context, builder, signature, arguments):
            total = ir.Constant(context.get_value_type(held), ir.Undefined)
            for index, value in enumerate(_load_vectors(builder, arguments[0], operand.llvm, WEIGHTS)):
                total = builder.insert_value(total, value, index)
            return total

        return held(types.intp), emit

    @intrinsic
    def step(typing_context, total, weights, activations):
        def emit(context, builder, signature, arguments):
            total, weights, address = arguments
            loaded = _load_vectors(builder, address, operand.llvm, ACTIVATIONS)
            _pin_loads(builder)
            for index in range(ACCUMULATORS):
                w, x = builder.extract_value(weights, index % WEIGHTS), loaded[index // WEIGHTS]
                acc = add_product(builder, builder.extract_value(total, index), w, x)
                total = builder.insert_value(total, acc, index)
            return total

        return tile(tile, held, types.intp), emit

    @intrinsic
    def store(typing_context, total, out):
        def emit(context, builder, signature, arguments):
            for index in range(ACCUMULATORS):
                at = builder.add(arguments[1], ir.Constant(arguments[1].type, VECTOR_BYTES * index))
                builder.store(builder.extract_value(arguments[0], index), pointer(builder, at), align=VECTOR_BYTES)
            return context.get_dummy_value()

        return types.void(tile, types.intp), emit

    return start, load, step, store


start_dots, load_dots, step_dots, store_dots = _make_peak(i32x16, u8x64, _add_dot)
start_products, load_products, step_products, store_products = _make_peak(f32x16, f32x16, _add_product)


@entry(types.void(intp, types.int64, intp))
def limit_dots(operands, n_turns, out):
    """UNROLL * ACCUMULATORS dot4 a turn; operand bytes must be at most 64."""
    total, weights = start_dots(), load_dots(operands)
    activations = operands + WEIGHTS * VECTOR_BYTES
    for _ in range(n_turns):
        total = step_dots(step_dots(total, weights, activations), weights, activations)
        total = step_dots(step_dots(total, weights, activations), weights, activations)
    store_dots(total, out)


@entry(types.void(intp, types.int64, intp))
def limit_products(operands, n_turns, out):
    """UNROLL * ACCUMULATORS vector multiply-adds a turn."""
    total, weights = start_products(), load_products(operands)
    activations = operands + WEIGHTS * VECTOR_BYTES
    for _ in range(n_turns):
        total = step_products(step_products(total, weights, activations), weights, activations)
        total = step_products(step_products(total, weights, activations), weights, activations)
    store_products(total, out)


@entry(types.void(intp))
def limit_vectors_per_turn(out):
    """How many vectors one turn of a peak kernel multiplies: it depends on the target."""
    store_i64(out, UNROLL * ACCUMULATORS)
