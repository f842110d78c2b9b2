"""The inner loops of real kernels on Arm, read from their assembly, and the figures on paper. No such CPU is needed."""

import re
from functools import cache

import pytest

from bench import arm_cycles
from bench.arm_cycles import BLOCK_PRODUCTS, CORES, KERNELS

NESTED = """walk:
	mov	x0, x1
.LBB0_1:
	ldr	q0, [x0]
.LBB0_2:
	ldr	q1, [x1], #16
	sdot	v0.4s, v1.16b, v2.4b[0]
	prfm	pldl1keep, [x1]
	b.ne	.LBB0_2
	str	q0, [x2]
	cbnz	x3, .LBB0_1
	ret
.Lfunc_end0:
flat:
	smull2	v0.8h, v1.16b, v2.16b
	ret
.Lfunc_end1:
"""


def test_functions_and_their_loops_are_found():
    found = arm_cycles.functions(NESTED)
    assert list(found) == ["walk", "flat"]
    assert len(arm_cycles.loops(found["walk"])) == 2 and arm_cycles.loops(found["flat"]) == []
    assert arm_cycles.products(found["flat"]) == 8


def test_a_part_of_a_run_is_written_out_as_often_as_it_is_done():
    text = arm_cycles.functions(NESTED)["walk"]
    assert arm_cycles.products(arm_cycles.straight_line(text, 16)) == 16
    words = [line.split()[0] for line in arm_cycles.instructions(arm_cycles.straight_line(text, 48))]
    assert words == ["ldr", *["ldr", "sdot", "b.ne"] * 3, "str", "cbnz"]
    flat = arm_cycles.functions(NESTED)["flat"]
    assert arm_cycles.instructions(arm_cycles.straight_line(flat, 512))[0].startswith("smull2")


def test_saved_figures_are_complete_and_reach_their_bars():
    saved = arm_cycles.read_saved()
    cycles = {(entry["kernel"], entry["core"]): entry["cycles"] for entry in saved["kernels"]}
    assert set(cycles) == {(kernel.name, core.name) for kernel in KERNELS for core in CORES}
    assert cycles["Q4_0, one row", "Cortex-A76"] <= 50
    assert cycles["Q4_0, one row", "Cortex-A72"] <= 100
    for _, core, memory, *rates in (line.split("|")[1:-1] for line in arm_cycles.devices_table(saved).splitlines()[2:]):
        assert "GHz" in core and "bits" in memory and all(float(rate) > 1 for rate in rates)


@cache
def assembly(group: str, isa: str, cpu: str) -> str:
    return arm_cycles.assembly_of(group, isa, cpu)


# (group, instruction set): the instruction of its products and how many a block takes.
WANTED = {
    ("matvec", "dotprod"): (r"sdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]", 32),
    ("matvec", "neon"): (r"sm[ul]l?l?a?l?2?\tv\d+\.8h", 64),
    ("gemm", "dotprod"): (r"sdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]", 32),
    ("gemm", "neon"): (r"sm[ul]l?l?a?l?2?\tv\d+\.8h", 64),
    ("gemm", "i8mm"): (r"usdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]", 32),
    ("matvec", "i8mm"): (r"usdot\tv\d+\.4s, v\d+\.16b, v\d+\.4b\[\d\]", 32),
}


def check_line(kernel: arm_cycles.Kernel, isa: str, cpu: str = "") -> list[str]:
    """Every product is the target's instruction, and nothing is called."""
    lines = arm_cycles.inner_line(kernel, isa, assembly(kernel.group, isa, cpu))
    pattern, per_block = WANTED[kernel.group, isa]
    blocks = arm_cycles.products("".join(f"\t{line}\n" for line in lines)) / BLOCK_PRODUCTS
    assert len([line for line in lines if re.match(pattern, line)]) == per_block * blocks > 0
    assert not [line for line in lines if re.match(r"blr?\b", line)]
    return lines


@pytest.mark.parametrize("name", ["Q4_0, one row", "Q4_1, one row", "Q8_0, one row"])
def test_a_stream_stays_in_registers(name):
    (kernel,) = (kernel for kernel in KERNELS if kernel.name == name)
    lines = check_line(kernel, "dotprod")
    assert not [line for line in lines if "[sp" in line]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ["i8mm", "dotprod", "neon"])
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_products_of_every_kernel(kernel, isa):
    """The tile of a prefill is not spilled between products; scales may be."""
    lines = check_line(kernel, isa)
    n_stack = len([line for line in lines if "[sp" in line])
    assert n_stack <= len(lines) / 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("isa", "cpu"),
    [("neon", "cortex-a72"), ("dotprod", "cortex-a76"), ("dotprod", "apple-m1"), ("i8mm", "neoverse-v1")],
)
@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_products_of_every_kernel_with_all_that_a_cpu_has(kernel, isa, cpu):
    check_line(kernel, isa, cpu)
