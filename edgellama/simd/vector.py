"""The vector types and what moves them between registers and memory. Addresses are plain integers (intp)."""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, lower_builtin, models, register_model, type_callable

I32 = ir.IntType(32)
I64 = ir.IntType(64)

_LLVM_ELEMENT = {
    types.int8: ir.IntType(8),
    types.uint8: ir.IntType(8),
    types.int16: ir.IntType(16),
    types.uint16: ir.IntType(16),
    types.int32: I32,
    types.int64: I64,
    types.float32: ir.FloatType(),
}


class Vector(types.Type):
    """`lanes` elements of one Numba scalar type, held in registers: never in arrays or signatures of entries."""

    def __init__(self, element: types.Type, lanes: int):
        self.element, self.lanes = element, lanes
        super().__init__(name=f"{element}x{lanes}")

    @property
    def llvm(self) -> ir.VectorType:
        return ir.VectorType(_LLVM_ELEMENT[self.element], self.lanes)


@register_model(Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager, vector):
        super().__init__(manager, vector, vector.llvm)


f32x16 = Vector(types.float32, 16)
i32x16 = Vector(types.int32, 16)
u8x64 = Vector(types.uint8, 64)
u8x16 = Vector(types.uint8, 16)


def pointer(builder, address):
    return builder.inttoptr(address, ir.PointerType())


def call(builder, name: str, result: ir.Type, arguments) -> ir.Value:
    """Call an LLVM intrinsic or an external C function by name."""
    function_type = ir.FunctionType(result, [a.type for a in arguments])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), arguments)


def emit_pin(builder) -> None:
    """Keep loads on their side of this point: an empty piece of assembly that may touch memory."""
    builder.asm(ir.FunctionType(ir.VoidType(), []), "", "~{memory}", [], side_effect=True)


def splat(builder, value, vector_type: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector_type, ir.Undefined)
    first = builder.insert_element(undefined, value, I32(0))
    lanes = ir.Constant(ir.VectorType(I32, vector_type.count), None)
    return builder.shuffle_vector(first, undefined, lanes)


def constant(vector_type: ir.VectorType, value) -> ir.Constant:
    return ir.Constant(vector_type, [value] * vector_type.count)


def make_load(result, memory: ir.Type, align: int, convert=None):
    """An intrinsic `load(address) -> result` reading `memory`, then `convert(builder, value)`."""

    @intrinsic
    def load(typing_context, address):
        def emit(context, builder, signature, arguments):
            value = builder.load(pointer(builder, arguments[0]), align=align, typ=memory)
            return convert(builder, value) if convert else value

        return result(types.intp), emit

    return load


def make_store(accepted, align: int, convert=None):
    """An intrinsic `store(address, value)`; `convert(builder, value)` narrows the value first."""

    @intrinsic
    def store(typing_context, address, value):
        def emit(context, builder, signature, arguments):
            narrowed = convert(builder, arguments[1]) if convert else arguments[1]
            builder.store(narrowed, pointer(builder, arguments[0]), align=align)
            return context.get_dummy_value()

        return types.void(types.intp, accepted), emit

    return store


def make_unary(result, accepted, emit_value):
    """An intrinsic `f(x) -> result`; `emit_value(builder, x)` writes its IR."""

    @intrinsic
    def unary(typing_context, x):
        return result(accepted), lambda context, builder, signature, arguments: emit_value(builder, arguments[0])

    return unary


def make_binary(result, first, second, emit_value):
    """An intrinsic `f(a, b) -> result`; `emit_value(builder, a, b)` writes its IR."""

    @intrinsic
    def binary(typing_context, a, b):
        return result(first, second), lambda context, builder, signature, arguments: emit_value(builder, *arguments)

    return binary


_OPERATORS = {
    operator.add: ("fadd", "add"),
    operator.sub: ("fsub", "sub"),
    operator.mul: ("fmul", "mul"),
    operator.truediv: ("fdiv", None),
    operator.and_: (None, "and_"),
    operator.or_: (None, "or_"),
    operator.xor: (None, "xor"),
}


def _register_operator(function, float_name: str | None, integer_name: str | None) -> None:
    @type_callable(function)
    def type_operator(context):
        def typer(a, b):
            if isinstance(a, Vector) and a == b:
                return a

        return typer

    @lower_builtin(function, Vector, Vector)
    def lower_operator(context, builder, signature, arguments):
        name = float_name if signature.return_type.element is types.float32 else integer_name
        return getattr(builder, name)(*arguments)


for _function, _names in _OPERATORS.items():
    _register_operator(_function, *_names)
