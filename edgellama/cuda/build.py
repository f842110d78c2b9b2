"""`python -m edgellama.cuda.build`: the process that compiles the CUDA kernels, to PTX or for the emulator.

PTX comes from LLVM's own NVPTX backend: no CUDA package takes part. The driver of a GPU makes machine code of it.
"""

import argparse
import importlib
import json
import os
import re
import sys

from ..compiler import cache
from ..errors import EdgellamaError
from . import architecture
from .architecture import ARCHITECTURES, EMULATED, Architecture

_MODULES = "matvec gemm prepare norms activations attention_decode attention_prefill rows pack choose"
KERNELS = tuple(f"edgellama.cuda.kernels.{name}" for name in _MODULES.split())
EMULATOR = "edgellama.cuda.simt.emulated_schedule"
EMULATOR_SYMBOLS = {"getcontext", "makecontext", "swapcontext", "pow", "exp2", "exp2f", "sqrt"}
COMMON = "common"


def load_kernels(target: Architecture, modules: tuple[str, ...]) -> dict[str, tuple]:
    """Import kernel modules for a target: {name of a kernel: what codegen.link takes}."""
    architecture.select(target)
    from ..compiler import codegen  # Numba

    codegen.install(target.triple, target.llvm_cpu, target.llvm_features)
    from ..compiler.entry import ENTRIES

    for name in modules:
        importlib.import_module(name)
    return {name: item for name, item in ENTRIES.items() if item[0].py_func.__module__ in modules}


def part_of(kernel: str, kinds: list[str]) -> str:
    """Kernels of one weight format are a part of their own, so that a model's GPU compiles only what it needs."""
    return next((kind for kind in kinds if kernel.endswith(f"_{kind}") and not kernel.startswith("pack")), COMMON)


def ptx(target: Architecture) -> tuple[bytes, list[str]]:
    """JSON {part: PTX text} of all kernels, and their names."""
    entries = load_kernels(target, KERNELS)
    from ..compiler import codegen
    from .kernels.blocks import KINDS

    parts: dict[str, list[str]] = {}
    for name in entries:
        parts.setdefault(part_of(name, sorted(KINDS, key=len, reverse=True)), []).append(name)
    text = _as_kernels(str(codegen.link(entries, inline_all=True)), list(entries))
    texts = {part: codegen.emit_assembly(codegen.only(text, names)) for part, names in sorted(parts.items())}
    return json.dumps(texts).encode(), sorted(entries)


def _as_kernels(text: str, names: list[str]) -> str:
    """A module's text with these functions as kernels of blocks of known size."""
    from .kernels.launch import BLOCK_THREADS

    for name in names:
        count = BLOCK_THREADS[name]
        # With a block's size known, all loads of an iteration are issued before their first use.
        bounds = f'"nvvm.maxntid"="{count},1,1" "nvvm.minctasm"="{max(1, 512 // count)}"'
        pattern = rf"^define void (@{re.escape(name)}\([^\n]*) {{$"
        text = re.sub(pattern, rf"define ptx_kernel void \1 {bounds} {{", text, flags=re.MULTILINE)
    return text


def emulated() -> tuple[bytes, list[str]]:
    """An object for this CPU with every kernel as a function of a fiber's words, and the scheduler."""
    import llvmlite.binding as llvm

    from ..compiler import build, codegen
    from ..simd import target as simd_target
    from ..simd.detect import chosen_isa

    isa = simd_target.select(chosen_isa())
    target = Architecture(EMULATED, llvm.get_process_triple(), isa.llvm_cpu, isa.llvm_features, (0, 0))
    entries = load_kernels(target, (*KERNELS, EMULATOR))
    from .simt.emulated_entry import add_fiber_entries

    names = sorted(entries)
    module = codegen.link(entries, inline_all=True)
    module = add_fiber_entries(module, [name for name in names if name != "run_fibers"])
    data = codegen.emit_object(module)
    build.check_symbols(module, data, codegen.ALLOWED_SYMBOLS | EMULATOR_SYMBOLS)
    return data, names


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m edgellama.cuda.build", description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", required=True, choices=[*ARCHITECTURES, EMULATED])
    parser.add_argument("--key", default="", help="cache key to seal into the result")
    options = parser.parse_args()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints goes to stderr: the standard output carries the result
    if options.architecture == EMULATED:
        data, names = emulated()
    else:
        data, names = ptx(ARCHITECTURES[options.architecture])
    with stream:
        stream.write(cache.seal(cache.KernelObject(options.key, names, data)))


if __name__ == "__main__":
    try:
        main()
    except EdgellamaError as error:
        sys.exit(f"error: {error}")
