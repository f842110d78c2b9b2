"""`python -m edgellama.compiler.build`: the process that compiles one kernel group for one instruction set.

The only code that runs Numba. It writes a sealed object (see cache.py), and assembly for people and for tests.
"""

import argparse
import importlib
import os
import sys
from pathlib import Path

from .. import system
from ..errors import EdgellamaError
from ..simd import target
from . import cache
from .object_symbols import undefined_symbols


def check_symbols(module, data: bytes, allowed: set[str]) -> None:
    """Refuse an object that needs more than `allowed`. An unknown kind is judged by what the module declares."""
    needed = undefined_symbols(data)
    if needed is None:
        declared = (function.name for function in module.functions if function.is_declaration)
        needed = {name for name in declared if not name.startswith("llvm.")}
    foreign = needed - allowed - {""}
    if foreign:
        raise EdgellamaError(f"the kernels need symbols that no process has: {', '.join(sorted(foreign))}")


def link_modules(modules: list[str], isa: str, triple: str, cpu: str = ""):
    """Type, lower and optimise the entries of these modules: (LLVM module, names of the entries).

    Entries of other modules that these import belong to another group.
    """
    architecture = target.architecture_of(triple)
    if target.TARGETS[isa].architecture not in ("any", architecture):
        raise EdgellamaError(f"{isa} is an instruction set of {target.TARGETS[isa].architecture}, not of {triple}")
    chosen = target.select(isa)
    from . import codegen  # Numba

    codegen.install(triple, cpu or chosen.llvm_cpu, "" if cpu else chosen.llvm_features)
    from .entry import ENTRIES

    for name in modules:
        importlib.import_module(name)
    entries = {name: entry for name, entry in ENTRIES.items() if entry[0].py_func.__module__ in modules}
    if not entries:
        raise EdgellamaError(f"there are no kernel entries in {', '.join(modules)}")
    return codegen.link(entries), sorted(entries)


def build(modules: list[str], isa: str, triple: str, key: str = "", cpu: str = "") -> tuple[bytes, str]:
    """The sealed object of these modules and its assembly text."""
    module, names = link_modules(modules, isa, triple, cpu)
    from . import codegen

    data = codegen.emit_object(module)  # first: emitting assembly changes the module
    check_symbols(module, data, codegen.allowed_symbols(triple))
    return cache.seal(cache.KernelObject(key, names, data)), codegen.emit_assembly(module)


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    import llvmlite.binding as llvm

    parser = argparse.ArgumentParser(prog="python -m edgellama.compiler.build", description=__doc__.splitlines()[0])
    parser.add_argument("--group", default="", help="a kernel group of the runtime (compiler/groups.py)")
    parser.add_argument("--modules", default="", help="or modules with kernels, separated by commas")
    parser.add_argument("--isa", required=True, choices=target.TARGETS)
    parser.add_argument("--triple", default=llvm.get_process_triple(), help="LLVM target triple (default: this host's)")
    parser.add_argument("--cpu", default="", help="LLVM's name of a CPU, for all its features (default: a level)")
    parser.add_argument("--output", default="-", help="file for the sealed object, or - for the standard output")
    parser.add_argument("--assembly", default="", help="also write the assembly text to this file")
    parser.add_argument("--key", default="", help="cache key to seal into the object")
    return parser.parse_args(arguments)


def main() -> None:
    options = parse_arguments()
    # Whatever a library prints goes to stderr: the standard output carries the object.
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    modules = options.modules.split(",") if options.modules else modules_of(options.group)
    sealed, assembly = build(modules, options.isa, options.triple, options.key, options.cpu)
    if options.assembly:
        Path(options.assembly).write_text(assembly)
    if options.output == "-":
        with stream:
            stream.write(sealed)
    else:
        system.write_atomically(options.output, sealed)


def modules_of(name: str) -> list[str]:
    from .groups import GROUPS

    if name not in GROUPS:
        raise EdgellamaError(f"{name or '(nothing)'} is no kernel group; choose one of {', '.join(GROUPS)}")
    return list(GROUPS[name])


if __name__ == "__main__":
    try:
        main()
    except EdgellamaError as error:
        sys.exit(f"error: {error}")
