"""What threads and the program walker need: atomics, waiting, calls through addresses."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from .target import current
from .vector import I32, I64, call, emit_pin, pointer


def _typed(builder, address):
    """llvmlite's atomic stores still want to know what they point to."""
    return builder.inttoptr(address, I64.as_pointer())


@intrinsic
def atomic_add(typing_context, address, value):
    """Add to the int64 at `address`; the old value."""

    def emit(context, builder, signature, arguments):
        return builder.atomic_rmw("add", pointer(builder, arguments[0]), arguments[1], "seq_cst")

    return types.int64(types.intp, types.int64), emit


@intrinsic
def atomic_load(typing_context, address):
    def emit(context, builder, signature, arguments):
        return builder.load_atomic(pointer(builder, arguments[0]), "acquire", 8, typ=I64)

    return types.int64(types.intp), emit


@intrinsic
def atomic_store(typing_context, address, value):
    def emit(context, builder, signature, arguments):
        builder.store_atomic(arguments[1], _typed(builder, arguments[0]), "release", 8)
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), emit


@intrinsic
def compare_and_swap(typing_context, address, expected, desired):
    """Store `desired` if the int64 at `address` is `expected`; the value that was there."""

    def emit(context, builder, signature, arguments):
        source = _typed(builder, arguments[0])
        pair = builder.cmpxchg(source, arguments[1], arguments[2], "acq_rel", "acquire")
        return builder.extract_value(pair, 0)

    return types.int64(types.intp, types.int64, types.int64), emit


@intrinsic
def pause(typing_context):
    """Tell the core that this is a spin loop."""

    def emit(context, builder, signature, arguments):
        architecture = current().architecture
        if architecture == "x86-64":
            call(builder, "llvm.x86.sse2.pause", ir.VoidType(), [])
        elif architecture == "aarch64":  # `yield` does nothing on most cores, this takes as long as x86's pause
            call(builder, "llvm.aarch64.isb", ir.VoidType(), [I32(15)])
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def pin_loads(typing_context):
    """Loads before and after this point keep their order; it costs nothing by itself."""

    def emit(context, builder, signature, arguments):
        emit_pin(builder)
        return context.get_dummy_value()

    return types.void(), emit


@intrinsic
def cycle_counter(typing_context):
    def emit(context, builder, signature, arguments):
        return call(builder, "llvm.readcyclecounter", I64, [])

    return types.int64(), emit


@intrinsic
def futex_call(typing_context, function, number, address, operation, value):
    """syscall(number, address, operation, value, NULL): `function` is the address of libc's syscall."""

    def emit(context, builder, signature, arguments):
        function, number, address, operation, value = arguments
        none = I64(0)
        kind = ir.FunctionType(I64, [I64], var_arg=True)
        target = builder.inttoptr(function, kind.as_pointer())
        builder.call(target, [number, address, operation, value, none])
        return context.get_dummy_value()

    return types.void(types.intp, types.int64, types.intp, types.int64, types.int64), emit


def _make_call(n_arguments: int):
    """An intrinsic that calls the C function at an address with int64 arguments and no result."""
    kind = ir.FunctionType(ir.VoidType(), [I64] * n_arguments)

    def emit(context, builder, signature, arguments):
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return emit


@intrinsic
def call_sleep(typing_context, function, duration):
    """usleep(microseconds) or Sleep(milliseconds), by address."""

    def emit(context, builder, signature, arguments):
        kind = ir.FunctionType(ir.VoidType(), [I32])
        builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), [builder.trunc(arguments[1], I32)])
        return context.get_dummy_value()

    return types.void(types.intp, types.int64), emit


@intrinsic
def call_kernel(typing_context, function, op, frame, worker):
    return types.void(*[types.intp] * 4), _make_call(3)


@intrinsic
def call_store(typing_context, function, source, target, width, position, scratch):
    return types.void(*[types.intp] * 6), _make_call(5)


@intrinsic
def call_tile(typing_context, function, rows, page, out, n_rows, width, n_steps):
    return types.void(*[types.intp] * 7), _make_call(6)


@intrinsic
def call_unpack(typing_context, function, source, n_columns, integers, scales, minimums):
    return types.void(*[types.intp] * 6), _make_call(5)


@intrinsic
def call_float_row(typing_context, function, source, n_columns, out):
    return types.void(*[types.intp] * 4), _make_call(3)
