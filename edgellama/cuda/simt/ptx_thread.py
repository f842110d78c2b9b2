"""The functions of thread.py as PTX: LLVM's NVPTX intrinsics where it has them, inline assembly elsewhere."""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from ...simd.vector import I32, I64, call
from .. import architecture
from .vectors import F32, I8, I16, f32, f32x4, i32, i32x2, i32x4, i64

VOID, GLOBAL, SHARED = ir.VoidType(), 1, 3
_ARCHITECTURE = architecture.current()


def _assembly(builder, result: ir.Type, text: str, constraints: str, arguments, side_effect: bool = False):
    kind = ir.FunctionType(result, [argument.type for argument in arguments])
    return builder.call(ir.InlineAsm(kind, text, constraints, side_effect=side_effect), arguments)


def _make(result, *accepted):
    """Decorate emit(builder, *arguments) -> value to an intrinsic with this signature."""

    def decorate(emit_value):
        def emit(context, builder, signature, arguments):
            value = emit_value(builder, *arguments)
            return context.get_dummy_value() if value is None else value

        signature = result(*accepted)
        parameters = {
            0: lambda tc: (signature, emit),
            1: lambda tc, a: (signature, emit),
            2: lambda tc, a, b: (signature, emit),
            3: lambda tc, a, b, c: (signature, emit),
        }
        return intrinsic(parameters[len(accepted)])

    return decorate


def _register(name: str):
    @_make(i64)
    def read(builder):
        return builder.zext(call(builder, f"llvm.nvvm.read.ptx.sreg.{name}", I32, []), I64)

    return read


thread_index, block_threads, n_blocks = _register("tid.x"), _register("ntid.x"), _register("nctaid.x")
block_index, block_index_y, block_index_z = _register("ctaid.x"), _register("ctaid.y"), _register("ctaid.z")


@_make(i64)
def shared_memory(builder):
    memory = builder.module.globals.get("edgellama_shared")
    if memory is None:
        memory = ir.GlobalVariable(builder.module, ir.ArrayType(I8, 0), "edgellama_shared", SHARED)
        memory.linkage, memory.align = "external", 128
    return builder.zext(builder.ptrtoint(memory, I32), I64)


@_make(types.void)
def block_barrier(builder):
    _assembly(builder, VOID, "bar.sync 0;", "~{memory}", [], side_effect=True)


@_make(types.void)
def warp_barrier(builder):
    _assembly(builder, VOID, "bar.warp.sync 0xffffffff;", "~{memory}", [], side_effect=True)


_SHUFFLE = "shfl.sync.bfly.b32 $0, $1, $2, 31, 0xffffffff;"


@_make(f32, f32, i64)
def shuffle_xor(builder, x, mask):
    return _assembly(builder, F32, _SHUFFLE, "=f,f,r", [x, builder.trunc(mask, I32)], side_effect=True)


@_make(i64, i64, i64)
def shuffle_xor_int(builder, x, mask):
    words = [builder.trunc(x, I32), builder.trunc(mask, I32)]
    return builder.sext(_assembly(builder, I32, _SHUFFLE, "=r,r,r", words, side_effect=True), I64)


@_make(i32, i32x4, i32x4, i32)
def dot16(builder, codes, x, total):
    for index in range(4):
        words = [builder.extract_element(vector, I32(index)) for vector in (codes, x)]
        total = _assembly(builder, I32, "dp4a.s32.s32 $0, $1, $2, $3;", "=r,r,r,r", [*words, total])
    return total


def _approximate(instruction: str):
    @_make(f32, f32)
    def function(builder, x):
        return _assembly(builder, F32, f"{instruction} $0, $1;", "=f,f", [x])

    return function


exp2, reciprocal_root = _approximate("ex2.approx.ftz.f32"), _approximate("rsqrt.approx.f32")
sine, cosine = _approximate("sin.approx.f32"), _approximate("cos.approx.f32")


def _vector_of(builder, kind: ir.VectorType, parts):
    value = ir.Constant(kind, ir.Undefined)
    for index in range(kind.count):
        value = builder.insert_element(value, builder.extract_value(parts, index), I32(index))
    return value


@_make(i32x4, i64)
def load_weights(builder, address):
    words = ir.LiteralStructType([I32] * 4)
    text = "ld.global.nc.L1::no_allocate.v4.u32 {$0, $1, $2, $3}, [$4];"
    return _vector_of(builder, i32x4.llvm, _assembly(builder, words, text, "=r,=r,=r,=r,l", [address]))


@_make(i32x2, i64)
def load_weights8(builder, address):
    words = ir.LiteralStructType([I32] * 2)
    text = "ld.global.nc.L1::no_allocate.v2.u32 {$0, $1}, [$2];"
    return _vector_of(builder, i32x2.llvm, _assembly(builder, words, text, "=r,=r,l", [address]))


def _pointer(builder, address, space: int):
    narrow = builder.trunc(address, I32) if space == SHARED else address
    return builder.inttoptr(narrow, ir.PointerType(None, space))


def _loader(result, memory: ir.Type, align: int, space: int, convert=None, constant: bool = False):
    @_make(result, i64)
    def load(builder, address):
        value = builder.load(_pointer(builder, address, space), align=align, typ=memory)
        if constant:
            value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return convert(builder, value) if convert else value

    return load


def _storer(accepted, align: int, space: int, convert=None):
    @_make(types.void, i64, accepted)
    def store(builder, address, value):
        narrowed = convert(builder, value) if convert else value
        builder.store(narrowed, _pointer(builder, address, space), align=align)

    return store


def _zext(builder, value):
    return builder.zext(value, I64)


def _sext(builder, value):
    return builder.sext(value, I64)


def _trunc(kind: ir.Type):
    return lambda builder, value: builder.trunc(value, kind)


load_f32, load_i32 = _loader(f32, F32, 4, GLOBAL), _loader(i64, I32, 4, GLOBAL, _sext)
load_u8, load_u16 = _loader(i64, I8, 1, GLOBAL, _zext), _loader(i64, I16, 2, GLOBAL, _zext)
load_f64 = _loader(types.float64, ir.DoubleType(), 8, GLOBAL)
load_words, load_floats = _loader(i32x4, i32x4.llvm, 16, GLOBAL), _loader(f32x4, f32x4.llvm, 16, GLOBAL)
constant_f32, constant_u16 = _loader(f32, F32, 4, GLOBAL, None, True), _loader(i64, I16, 2, GLOBAL, _zext, True)
constant_i8 = _loader(i64, I8, 1, GLOBAL, _sext, True)
constant_words = _loader(i32x4, i32x4.llvm, 16, GLOBAL, None, True)
store_f32, store_i32 = _storer(f32, 4, GLOBAL), _storer(i64, 4, GLOBAL, _trunc(I32))
store_u8, store_u16 = _storer(i64, 1, GLOBAL, _trunc(I8)), _storer(i64, 2, GLOBAL, _trunc(I16))
store_words, store_words8 = _storer(i32x4, 16, GLOBAL), _storer(i32x2, 8, GLOBAL)
shared_load_f32, shared_load_u16 = _loader(f32, F32, 4, SHARED), _loader(i64, I16, 2, SHARED, _zext)
shared_load_i32 = _loader(i64, I32, 4, SHARED, _sext)
shared_load_words, shared_load_floats = _loader(i32x4, i32x4.llvm, 16, SHARED), _loader(f32x4, f32x4.llvm, 16, SHARED)
shared_store_f32, shared_store_u16 = _storer(f32, 4, SHARED), _storer(i64, 2, SHARED, _trunc(I16))
shared_store_u8, shared_store_i32 = _storer(i64, 1, SHARED, _trunc(I8)), _storer(i64, 4, SHARED, _trunc(I32))
shared_store_words, shared_store_floats = _storer(i32x4, 16, SHARED), _storer(f32x4, 16, SHARED)


@_make(types.void, i64, i64)
def copy_async(builder, target, source):
    if not _ARCHITECTURE.has_async_copy:
        value = builder.load(_pointer(builder, source, GLOBAL), align=16, typ=i32x4.llvm)
        builder.store(value, _pointer(builder, target, SHARED), align=16)
        return
    text = "cp.async.cg.shared.global [$0], [$1], 16;"
    _assembly(builder, VOID, text, "r,l,~{memory}", [builder.trunc(target, I32), source], side_effect=True)


def _copy_order(text: str):
    @_make(types.void)
    def order(builder):
        if _ARCHITECTURE.has_async_copy:
            _assembly(builder, VOID, text, "~{memory}", [], side_effect=True)

    return order


commit_copies, wait_copies = _copy_order("cp.async.commit_group;"), _copy_order("cp.async.wait_group 0;")


def _matrix_loader(option: str):
    @_make(i32x4, i64)
    def load(builder, address):
        words = ir.LiteralStructType([I32] * 4)
        text = f"ldmatrix.sync.aligned.m8n8.x4{option}.shared.b16 {{$0, $1, $2, $3}}, [$4];"
        parts = _assembly(builder, words, text, "=r,=r,=r,=r,r,~{memory}", [builder.trunc(address, I32)], True)
        return _vector_of(builder, i32x4.llvm, parts)

    return load


load_matrices, load_matrices_transposed = _matrix_loader(""), _matrix_loader(".trans")
_ROW_COLUMN = "row.col.f32.f16.f16.f32"
_PRODUCT_16 = (
    f"mma.sync.aligned.m16n8k16.{_ROW_COLUMN} {{$0,$1,$2,$3}}, {{$4,$5,$6,$7}}, {{$8,$9}}, {{$10,$11,$12,$13}};"
)
_PRODUCT_8 = f"mma.sync.aligned.m16n8k8.{_ROW_COLUMN} {{$0,$1,$2,$3}}, {{$4,$5}}, {{$6}}, {{$7,$8,$9,$10}};"


def _product(builder, a, b, c):
    """a: words of the left matrix, b: of the right one, c: four floats."""
    floats = ir.LiteralStructType([F32] * 4)
    text = _PRODUCT_16 if len(a) == 4 else _PRODUCT_8
    constraints = ",".join(["=f"] * 4 + ["r"] * (len(a) + len(b)) + ["f"] * 4)
    parts = _assembly(builder, floats, text, constraints, [*a, *b, *c])
    return [builder.extract_value(parts, index) for index in range(4)]


def _multiply(first: int):
    @_make(f32x4, i32x4, i32x4, f32x4)
    def multiply(builder, a, b, c):
        left = [builder.extract_element(a, I32(index)) for index in range(4)]
        right = [builder.extract_element(b, I32(first + index)) for index in range(2)]
        total = [builder.extract_element(c, I32(index)) for index in range(4)]
        if _ARCHITECTURE.has_async_copy:
            total = _product(builder, left, right, total)
        else:
            total = _product(builder, left[:2], right[:1], total)
            total = _product(builder, left[2:], right[1:], total)
        value = ir.Constant(f32x4.llvm, ir.Undefined)
        for index, element in enumerate(total):
            value = builder.insert_element(value, element, I32(index))
        return value

    return multiply


multiply_low, multiply_high = _multiply(0), _multiply(2)


def _dependence(text: str):
    @_make(types.void)
    def order(builder):
        if _ARCHITECTURE.has_dependent_launch:
            _assembly(builder, VOID, text, "~{memory}", [], side_effect=True)

    return order


wait_for_previous = _dependence("griddepcontrol.wait;")
start_next = _dependence("griddepcontrol.launch_dependents;")


@_make(types.void, i64)
def prefetch(builder, address):
    _assembly(builder, VOID, "prefetch.global.L2 [$0];", "l", [address], side_effect=True)


@_make(i64, i64, i64)
def atomic_add(builder, address, n):
    text = "atom.add.acq_rel.gpu.global.u32 $0, [$1], $2;"
    found = _assembly(builder, I32, text, "=r,l,r,~{memory}", [address, builder.trunc(n, I32)], side_effect=True)
    return builder.zext(found, I64)


@_make(types.void)
def fence(builder):
    _assembly(builder, VOID, "fence.acq_rel.gpu;", "~{memory}", [], side_effect=True)
