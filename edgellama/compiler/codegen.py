"""Numba as an ahead-of-time compiler for any target machine: @njit functions to one self-contained object.

Numba types and lowers every function that an entry reaches in a CPU context whose target machine is ours and
which has no execution engine; LLVM optimises the linked module; everything but the entries becomes internal.
The symbols the object still needs are read from its symbol table and checked against a list.
"""

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, codegen, config, cpu, types
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import cpu_target
from numba.core.runtime import rtsys

# What an object may ask of the process that loads it: libm and the memory functions LLVM may call.
ALLOWED_SYMBOLS = {"memset", "memcpy", "memmove", "cos", "sin", "sincos", "fmaf", "rintf", "_GLOBAL_OFFSET_TABLE_"}
# ... and what the loader offers besides on some systems, by a part of their triples.
SYSTEM_SYMBOLS = {"windows": {"__chkstk", "_fltused"}, "macos": {"__sincos_stret", "bzero"}}


class _Library(codegen.AOTCodeLibrary):
    """One function's code. Numba would link and optimise every callee again in each caller; here nothing is
    optimised before all functions of an object are linked, once, which halves the time to compile it."""

    def _optimize_functions(self, module):
        module.data_layout = self._codegen._data_layout

    def finalize(self):
        self._raise_if_finalized()
        self._finalized = True

    def modules(self, seen: set) -> list:
        """The LLVM modules of this function and of all it calls, each once."""
        if self in seen:
            return []
        seen.add(self)
        below = [module for library in self._linking_libraries for module in library.modules(seen)]
        return [*below, self._final_module]


class _Codegen(codegen.AOTCPUCodegen):
    """Numba's code generator on a target machine for (triple, cpu, features)."""

    _library_class = _Library

    def __init__(self, triple: str, cpu_name: str, features: str):
        self.triple, self._features = triple, features
        super().__init__("edgellama", cpu_name)

    def _init(self, llvm_module):
        self._tm_features = self._features
        self._tm = llvm.Target.from_triple(self.triple).create_target_machine(
            cpu=self._cpu_name, features=self._features, opt=3, reloc="pic", codemodel="default"
        )
        self._engine = None
        self._target_data = self._tm.target_data
        self._data_layout = str(self._target_data)
        self._loopvect, self._opt_level = False, 0  # functions are optimised once, when all are linked

    def _create_empty_module(self, name):
        module = ir.Module(cgutils.normalize_ir_text(name))
        module.triple = self.triple
        if self._data_layout:  # Numba makes one module before the target machine exists
            module.data_layout = self._data_layout
        return module

    def _get_host_cpu_name(self):
        return self._cpu_name


class _Context(cpu.CPUContext):
    """A CPU context that lowers for our target machine and wraps nothing for the Python of this process."""

    allow_dynamic_globals = False
    aot_mode = True

    def init(self):
        self.is32bit = False
        self._internal_codegen = _Codegen(*self.machine)

    def load_additional_registries(self):
        initialize, rtsys.initialize = rtsys.initialize, lambda context: None  # no reference counting in kernels
        try:
            super().load_additional_registries()
        finally:
            rtsys.initialize = initialize

    def post_lowering(self, module, library):
        pass

    def create_cpython_wrapper(self, *arguments, **options):
        pass

    def create_cfunc_wrapper(self, *arguments, **options):
        pass

    def add_dynamic_addr(self, builder, address, info):
        """An address of this process means nothing in an object: leave a symbol, which vanishes when unused."""
        name = "numba.dynamic." + "".join(c if c.isalnum() else "_" for c in str(info))
        known = builder.module.globals.get(name)
        slot = known or cgutils.add_global_variable(builder.module, self.get_value_type(types.voidptr), name)
        return builder.load(slot)

    def get_executable(self, library, description, environment):
        """The dispatcher insists on a unique builtin; this one raises ValueError if anything ever calls it."""
        return [f"{description.qualname} was compiled into an object file and cannot run here"].index


def install(triple: str, cpu_name: str, features: str) -> None:
    """Make this process compile for a machine. Once, before any @njit function is compiled."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    if "_toplevel_target_context" in cpu_target.__dict__:
        raise RuntimeError("this process already has a compile target")
    _Context.machine = (triple, cpu_name, features)
    if triple.startswith(("aarch64", "arm64")):  # a vector of 64 bytes is four instructions there, not a large loop
        llvm.set_option("edgellama", "-unroll-threshold=4000")
    config.DISABLE_JIT = 0
    cpu_target.__dict__["_toplevel_target_context"] = _Context(cpu_target.typing_context, "cpu")


@global_compiler_lock
def link(entries: dict[str, tuple], inline_all: bool = False):
    """{C name: (dispatcher, signature)} -> one optimised LLVM module in which only the entries are visible.

    `inline_all`: leave no calls between functions of the module, as GPUs want it.
    """
    context = cpu_target.target_context
    library = context.codegen().create_library("entries")
    wrappers = context.create_module("c_wrappers")
    for name, (dispatcher, signature) in entries.items():
        dispatcher.compile(signature)
        compiled = dispatcher.overloads[tuple(signature.args)]
        library.add_linking_library(compiled.library)
        _wrap(context, wrappers, name, compiled.fndesc)
    _count_no_references(wrappers)
    library.add_ir_module(wrappers)
    first, *rest = library.modules(set())
    module = first
    for other in rest:
        module.link_in(other)
    _hide_all_but(module, entries)
    if inline_all:
        _inline_all_but(module, entries)
    _optimise(module)
    return module


def _wrap(context, module, name: str, description) -> None:
    """A C function that calls a Numba function; kernels cannot raise, so a status other than success traps."""
    numba_type = context.call_conv.get_function_type(description.restype, description.argtypes)
    callee = ir.Function(module, numba_type, description.llvm_func_name)
    argument_types = [context.get_value_type(t) for t in description.argtypes]
    wrapper = ir.Function(module, ir.FunctionType(ir.VoidType(), argument_types), name)
    builder = ir.IRBuilder(wrapper.append_basic_block("entry"))
    status, _ = context.call_conv.call_function(
        builder, callee, description.restype, description.argtypes, wrapper.args
    )
    with builder.if_then(status.is_error, likely=False):
        builder.call(cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), []), "llvm.trap"), [])
        builder.unreachable()
    builder.ret_void()


def _count_no_references(module) -> None:
    """Numba counts references to arrays; the only arrays in kernels are constants of the object, which need none."""
    for name in ("NRT_incref", "NRT_decref"):
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [ir.PointerType()]), name)
        ir.IRBuilder(function.append_basic_block("entry")).ret_void()


def _hide_all_but(module, entries) -> None:
    for function in module.functions:
        if not function.is_declaration and function.name not in entries:
            function.linkage = "internal"
    for variable in module.global_variables:
        if not variable.is_declaration and not variable.name.startswith("llvm."):
            variable.linkage = "internal"


def _inline_all_but(module, entries) -> None:
    for function in module.functions:
        if not function.is_declaration and function.name not in entries:
            function.add_function_attribute("alwaysinline")


def _pass_builder():
    options = llvm.create_pipeline_tuning_options(speed_level=3)
    options.loop_vectorization = options.slp_vectorization = True
    return llvm.create_pass_builder(cpu_target.target_context.codegen()._tm, options)


def _optimise(module) -> None:
    builder = _pass_builder()
    builder.getModulePassManager().run(module, builder)
    _drop_unreached(module, builder)
    module.verify()


def _drop_unreached(module, builder) -> None:
    cleanup = llvm.create_new_module_pass_manager()
    cleanup.add_global_dead_code_eliminate_pass()
    cleanup.run(module, builder)


def allowed_symbols(triple: str) -> set[str]:
    """What an object for this target may ask of its process."""
    return ALLOWED_SYMBOLS.union(*(names for system, names in SYSTEM_SYMBOLS.items() if system in triple))


def emit_object(module) -> bytes:
    """The object file of a linked module."""
    return cpu_target.target_context.codegen()._tm.emit_object(module)


def emit_assembly(module) -> str:
    """The assembly text of a linked module, for codegen tests and for reading."""
    return cpu_target.target_context.codegen()._tm.emit_assembly(module)


def only(text: str, names: list[str]):
    """The module of a text without what these functions do not reach."""
    module = parse(text)
    _hide_all_but(module, names)
    _drop_unreached(module, _pass_builder())
    return module


def parse(text: str):
    """A module of LLVM's assembly language, checked."""
    module = llvm.parse_assembly(text)
    module.verify()
    return module
