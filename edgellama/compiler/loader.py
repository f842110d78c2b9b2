"""Kernels in this process: shipped or cached objects through llvmlite's MCJIT, others compiled by child processes.

Numba is never imported here; with a warm cache a start costs a few milliseconds.
"""

import ctypes
import sys
import threading
from collections.abc import Callable

from .. import system
from ..errors import EdgellamaError
from ..simd.detect import chosen_isa, executable_isas
from ..simd.target import TARGETS, Target
from . import cache, shipped
from .groups import Group, groups_of

Progress = Callable[[int, int], None]

# C functions that objects may call (codegen.ALLOWED_SYMBOLS), and where platforms keep them.
C_FUNCTIONS = ("cos", "sin", "sincos", "fmaf", "rintf", "memset", "memcpy", "memmove")
# Besides (codegen.SYSTEM_SYMBOLS) objects for Windows name the probe of large stack frames, which the system has, and
# a mark for linkers that floating point is used, which nobody reads; those for macOS its sincos and memset.
SYSTEM_FUNCTIONS, WINDOWS_MARK = {"win32": ("__chkstk",), "darwin": ("__sincos_stret", "bzero")}, "_fltused"
_C_LIBRARIES = {
    "win32": ("ucrtbase", "vcruntime140", "msvcrt", "ntdll"),
    "darwin": ("/usr/lib/libSystem.B.dylib",),
}.get(sys.platform, ("libm.so.6", "libm.so"))
_mark = ctypes.c_int(0)


class Kernels:
    """The compiled kernels of one instruction set; they stay in memory as long as this object lives."""

    def __init__(self, isa: str, objects: list[cache.KernelObject]):
        import llvmlite.binding as llvm

        self.isa = isa
        self.target: Target = TARGETS[isa]
        self.names = _unique_names(objects)
        _offer_c_functions(llvm)
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        machine = llvm.Target.from_triple(llvm.get_process_triple()).create_target_machine()
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
        for item in objects:
            self._engine.add_object_file(llvm.ObjectFileRef.from_data(item.data))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Where the kernel `name` is in memory."""
        if name not in self.names:
            raise RuntimeError(f"no kernel is called {name}; there are {', '.join(sorted(self.names))}")
        return self._engine.get_function_address(name)

    def function(self, name: str, n_arguments: int) -> Callable[..., None]:
        """The kernel `name` as a Python function of integers, which runs without the interpreter lock."""
        kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * n_arguments)
        return kind(self.address(name))


def _unique_names(objects: list[cache.KernelObject]) -> frozenset[str]:
    names = [name for item in objects for name in item.exports]
    twice = {name for name in names if names.count(name) > 1}
    if twice:  # LLVM would silently take the first
        raise RuntimeError(f"kernels exported by two groups: {', '.join(sorted(twice))}")
    return frozenset(names)


def _offer_c_functions(llvm) -> None:
    """Tell LLVM where libm is: it looks through the process only, which need not have loaded libm for everyone."""
    libraries = []
    for name in (*_C_LIBRARIES, None):
        try:
            libraries.append(ctypes.CDLL(name))
        except (OSError, TypeError):  # another C library, or Windows, which has no handle of the whole process
            continue
    if sys.platform == "win32":
        llvm.add_symbol(WINDOWS_MARK, ctypes.addressof(_mark))
    for name in (*C_FUNCTIONS, *SYSTEM_FUNCTIONS.get(sys.platform, ())):
        for library in libraries:
            if hasattr(library, name):
                llvm.add_symbol(name, ctypes.cast(getattr(library, name), ctypes.c_void_p).value)
                break


_lock = threading.Lock()
_loaded: dict[tuple[str, str], Kernels] = {}


def load_kernels(progress: Progress | None = None, isa: str | None = None, package: str = "edgellama") -> Kernels:
    """The kernels of `package` for `isa` (default: the best that this host executes), compiled if need be.

    `progress(done, total)` is called while groups are compiled, not at all when the cache has everything; without
    it a terminal shows a line. Raises EdgellamaError if the host cannot run `isa` or a compilation fails.
    """
    isa = chosen_isa() if isa is None else isa
    if isa not in executable_isas():
        raise EdgellamaError(f"this CPU cannot run {isa} kernels; choose one of {', '.join(executable_isas())}")
    with _lock:
        if (isa, package) not in _loaded:
            objects = _collect(groups_of(package), isa, progress or _terminal_progress(isa))
            _loaded[isa, package] = Kernels(isa, objects)
        return _loaded[isa, package]


def _collect(groups: list[Group], isa: str, progress: Progress) -> list[cache.KernelObject]:
    objects = {group.name: shipped.load(group, isa) for group in groups}
    keys = {group.name: cache.key_of(group, isa) for group in groups if objects[group.name] is None}
    objects |= {group.name: cache.load(group, isa, keys[group.name]) for group in groups if group.name in keys}
    missing = [group for group in groups if objects[group.name] is None]
    if missing:
        from .children import compile_groups

        objects.update(compile_groups(missing, isa, keys, progress))
    return list(objects.values())


def _terminal_progress(isa: str) -> Progress:
    """A line on a terminal's stderr that counts the groups; nothing elsewhere."""

    def show(done: int, total: int) -> None:
        if system.is_terminal(sys.stderr):
            end = "\n" if done == total else ""
            line = f"\rcompiling kernels for {isa} (once per device) {done}/{total}{end}"
            print(line, end="", file=sys.stderr, flush=True)

    return show
