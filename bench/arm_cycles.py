"""`python -m bench.arm_cycles`: cycles of the inner loops on Arm cores, on paper, by llvm-mca. Nothing is run.

Kernels are compiled for a core's instruction set, the loop that multiplies is cut out of the assembly, loops inside it
are written out, and llvm-mca counts the cycles of LLVM's model of the core, with all loads from the first-level cache.
A block is 16 rows by 32 columns by one token: 512 products.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgellama.compiler.children import child_environment
from edgellama.simd.target import TARGETS

SAVED = Path(__file__).resolve().parent / "results" / "on_paper" / "arm.json"
BLOCK_PRODUCTS = 16 * 32
TURNS = 100
_PRODUCTS = {"sdot": 16, "usdot": 16, "smull": 8, "smull2": 8, "smlal": 8, "smlal2": 8}  # of one instruction


@dataclass(frozen=True)
class Core:
    """A core, LLVM's name of its model, and the instruction set it gets."""

    name: str
    model: str
    isa: str


@dataclass(frozen=True)
class Device:
    """What the figures are to be compared with: its cores that compute, their clock, its memory's peak."""

    name: str
    core: str
    n_cores: int
    ghz: float
    memory: str
    memory_gbs: float


@dataclass(frozen=True)
class Kernel:
    """A kernel by a part of its functions' names; `block_bytes` of weights for 16 x 32, `columns` between scales."""

    name: str
    group: str
    pattern: str
    block_bytes: int
    columns: int = 32


CORES = (
    Core("Cortex-A72", "cortex-a72", "neon"),
    Core("Cortex-A76", "neoverse-n1", "dotprod"),  # the same core; LLVM gives the name cortex-a76 the model of the A57
    Core("Cortex-A55", "cortex-a55", "dotprod"),
    Core("Apple M1", "apple-m1", "dotprod"),
)
DEVICES = (
    Device("Raspberry Pi 4", "Cortex-A72", 4, 1.8, "LPDDR4-3200, 32 bits", 12.8),
    Device("Raspberry Pi 5", "Cortex-A76", 4, 2.4, "LPDDR4X-4267, 32 bits", 17.1),
    Device("Boards with RK3588", "Cortex-A76", 4, 2.4, "LPDDR4X-4224, 64 bits", 33.8),
    Device("Apple M1", "Apple M1", 4, 3.2, "LPDDR4X-4266, 128 bits", 68.3),
)
KERNELS = (
    Kernel("Q4_0, one row", "matvec", "q4_0", 288),
    Kernel("Q4_1, one row", "matvec", "q4_1", 320),
    Kernel("Q8_0, one row", "matvec", "q8_0", 544),
    Kernel("Q4_K, one row", "matvec", "q4_k", 288),
    Kernel("Q5_K, one row", "matvec", "q5_k", 352),
    Kernel("Q6_K, one row", "matvec", "q6_k", 420, 16),
    Kernel("Q4_0, many rows", "gemm", "gemm_zero_8$", 0),
    Kernel("Q8_0, many rows", "gemm", "gemm_zero_128$", 0),
    Kernel("Q4_K and Q5_K, many rows", "gemm", "gemm_minimum$", 0),
    Kernel("Q6_K, many rows", "gemm", "gemm_zero_32_by_16$", 0, 16),
)


def functions(assembly: str) -> dict[str, str]:
    """The text of each function by its name."""
    found = re.findall(r"^(\w+):[^\n]*\n(.*?)^\.Lfunc_end", assembly, re.MULTILINE | re.DOTALL)
    return {name: text for name, text in found if not name.startswith(".")}


def loops(text: str) -> list[tuple[int, int]]:
    """Where each loop of a function begins and ends: from a label to the last jump back to it."""
    found = []
    for label in re.finditer(r"^(\.LBB\d+_\d+):", text, re.MULTILINE):
        jump = re.compile(rf"\t(?:b|b\.\w+|cbn?z|tbn?z)\t[^\n]*{re.escape(label[1])}\b")
        ends = [match.end() for match in jump.finditer(text, label.end())]
        if ends:
            found.append((label.start(), ends[-1]))
    return found


def products(text: str) -> int:
    """Integer products of one pass over a text."""
    return sum(_PRODUCTS.get(word, 0) for word in re.findall(r"^\t(\w+)", text, re.MULTILINE))


def straight_line(text: str, run_products: int) -> str:
    """The loop of a function that multiplies most, with the loops in it written out; all of it if there is none.

    A loop that has fewer products than lie between two scales is a part of the loop around it.
    """
    spans = loops(text)
    innermost = [span for span in spans if not any(_inside(other, span) for other in spans)]
    start, end = max(innermost, key=lambda span: products(text[slice(*span)]), default=(0, 0))
    done = products(text[start:end])
    if done == 0:
        return text
    if done >= run_products:
        return text[start:end]
    outer = min((span for span in spans if _inside((start, end), span)), key=lambda span: span[1] - span[0])
    written, at = "", outer[0]
    for span in sorted(span for span in innermost if _inside(span, outer) and products(text[slice(*span)])):
        written += text[at : span[0]] + f"{text[slice(*span)]}\n" * (run_products // done)
        at = span[1]
    return written + text[at : outer[1]]


def _inside(inner: tuple[int, int], outer: tuple[int, int]) -> bool:
    return inner != outer and outer[0] <= inner[0] and inner[1] <= outer[1]


def instructions(text: str) -> list[str]:
    """Without labels, directives and prefetches, which are left out on Arm."""
    lines = re.findall(r"^\t([a-z][^\n]*)", text, re.MULTILINE)
    return [line for line in lines if not line.startswith("prfm")]


def cycles(lines: list[str], model: str, tool: str) -> float:
    """Cycles of one turn, of many in a row."""
    command = [tool, "-mtriple=aarch64", f"-mcpu={model}", f"-iterations={TURNS}"]
    done = subprocess.run(command, input="\n".join(lines), capture_output=True, text=True, check=True)
    return int(re.search(r"^Total Cycles:\s+(\d+)", done.stdout, re.MULTILINE)[1]) / TURNS


def assembly_of(group: str, isa: str, cpu: str = "") -> str:
    """The assembly of a kernel group; with all features of a CPU if one is named."""
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder) / "assembly.s"
        command = [sys.executable, "-P", "-m", "edgellama.compiler.build", "--group", group, "--isa", isa, "--cpu", cpu]
        command += ["--triple", "aarch64-unknown-linux-gnu", "--output", f"{folder}/object", "--assembly", str(text)]
        subprocess.run(command, env=child_environment(), check=True)
        return text.read_text()


def inner_line(kernel: Kernel, isa: str, assembly: str) -> list[str]:
    """The instructions of a kernel's inner loop."""
    tokens = TARGETS[isa].tile_tokens if kernel.group == "gemm" else 1
    run = 16 * kernel.columns * tokens
    texts = [text for name, text in functions(assembly).items() if re.search(kernel.pattern, name)]
    return instructions(max((straight_line(text, run) for text in texts), key=products))


def measure(kernel: Kernel, core: Core, assembly: str, tool: str) -> dict:
    """Cycles per block, and instructions and accesses to the stack per block."""
    lines = inner_line(kernel, core.isa, assembly)
    blocks = products("".join(f"\t{line}\n" for line in lines)) / BLOCK_PRODUCTS
    found = cycles(lines, core.model, tool) / blocks
    n_stack = len([text for text in lines if re.search(r"\[sp\b|\[x29\b", text)])
    return {
        "kernel": kernel.name,
        "core": core.name,
        "isa": core.isa,
        "block_bytes": kernel.block_bytes,
        "cycles": round(found, 1),
        "instructions": round(len(lines) / blocks, 1),
        "stack_accesses": round(n_stack / blocks, 1),
    }


def cycles_table(saved: dict) -> str:
    """Markdown: a row for each kernel, cycles of a block on each core."""
    names = [core["name"] for core in saved["cores"]]
    rows = {}
    for entry in saved["kernels"]:
        rows.setdefault(entry["kernel"], {})[entry["core"]] = f"{entry['cycles']:.0f}"
    return _markdown(
        ("Cycles of a block, on paper", *names), [(name, *(row[core] for core in names)) for name, row in rows.items()]
    )


def devices_table(saved: dict) -> str:
    """Markdown: weights that all cores of a device could take, beside the peak of its memory."""
    taken = {(entry["kernel"], entry["core"]): entry["block_bytes"] / entry["cycles"] for entry in saved["kernels"]}
    kernels = [kernel.name for kernel in KERNELS if kernel.block_bytes]
    rows = []
    for device in DEVICES:
        rates = [f"{taken[kernel, device.core] * device.ghz * device.n_cores:.0f}" for kernel in kernels]
        cores = f"{device.n_cores} x {device.core}, {device.ghz} GHz"
        rows.append((device.name, cores, f"{device.memory_gbs:.0f} ({device.memory})", *rates))
    return _markdown(("GB/s, on paper", "Cores", "Memory, at most", *(name.split(",")[0] for name in kernels)), rows)


def _markdown(header: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_saved() -> dict:
    return json.loads(SAVED.read_text(encoding="utf-8"))


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.arm_cycles", description=__doc__.splitlines()[0])
    parser.add_argument("--tool", default=shutil.which("llvm-mca-22") or "", help="llvm-mca of LLVM 22")
    parser.add_argument("--save", action="store_true", help="keep the figures for docs/performance.md")
    options = parser.parse_args(argv)
    if not shutil.which(options.tool):
        parser.error("llvm-mca is not there: install LLVM 22's tools, or name it with --tool")
    texts, entries = {}, []
    for kernel in KERNELS:
        for core in CORES:
            key = kernel.group, core.isa
            texts[key] = texts.get(key) or assembly_of(*key)
            entries.append(measure(kernel, core, texts[key], options.tool))
            print(json.dumps(entries[-1]), flush=True)
    saved = {"cores": [vars(core) for core in CORES], "kernels": entries}
    if options.save:
        SAVED.parent.mkdir(exist_ok=True)
        SAVED.write_text(json.dumps(saved, indent=1) + "\n", encoding="utf-8")
    print(cycles_table(saved), devices_table(saved), sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
