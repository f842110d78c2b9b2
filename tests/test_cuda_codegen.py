"""What LLVM makes of the CUDA kernels for each generation of GPUs, read from its PTX; ptxas assembles it, if there."""

import re
import shutil
import subprocess
from functools import cache

import pytest

from edgellama.cuda import images
from edgellama.cuda.architecture import ARCHITECTURES, architecture_for
from edgellama.cuda.weights import FORMATS

SLOW = pytest.mark.slow  # compiling takes half a minute where the cache does not have the kernels
every_architecture = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "sm_90" else SLOW) for name in ARCHITECTURES]
)
GPUS = (75, 80, 86, 89, 90, 120)
INTEGER_KINDS = [kind for kind, form in FORMATS.items() if form.is_integer]
VECTOR_KERNELS = [f"{name}_{kind}" for name in ("matvec", "gated") for kind in FORMATS]
HOT = [*VECTOR_KERNELS, *(f"gemm_{kind}" for kind in FORMATS), "attention_prefill", "attention_decode"]
HOTTEST = [kernel for kernel in HOT if kernel.endswith((*INTEGER_KINDS, "prefill", "decode"))]
# Bytes of registers that go to memory and back: none in the hottest kernels but these, few in others.
SPILLED = {
    75: {"gemm_q4_0": 40, "gemm_q4_k": 20, "gemm_q6_k": 24, "gemm_q8_0": 36},
    90: {"attention_prefill": 24},
    120: {"attention_decode": 56, "attention_prefill": 120, "gemm_q8_0": 12},
}
MOST_SPILLED = 128


@cache
def parts(name: str) -> dict[str, bytes]:
    return images.load_ptx(name)


def ptx(name: str) -> str:
    """All parts behind each other."""
    return "".join(text.rstrip(b"\0").decode() for text in parts(name).values())


@cache
def bodies(name: str) -> dict[str, str]:
    """The text of each kernel, head and instructions."""
    entries = re.split(r"^\.visible \.entry ", ptx(name), flags=re.MULTILINE)[1:]
    return {re.match(r"[\w$]+", entry).group(): entry[: entry.index("\n}")] for entry in entries}


def count(pattern: str, text: str) -> int:
    return len(re.findall(pattern, text))


@every_architecture
def test_the_driver_can_read_it(name):
    architecture = ARCHITECTURES[name]
    assert set(parts(name)) == {"common", *FORMATS}
    for image in parts(name).values():
        text = image.decode()
        assert text.endswith("\0")
        assert re.search(rf"^\.target {name}$", text, re.MULTILINE)
        assert re.search(r"^\.address_size 64$", text, re.MULTILINE)
        version = re.search(r"^\.version (\d)\.(\d)$", text, re.MULTILINE)
        assert "".join(version.groups()) == re.search(r"ptx(\d+)", architecture.llvm_features)[1]


@every_architecture
def test_every_kernel_says_how_many_threads_it_has(name):
    limits = {kernel: re.search(r"\.maxntid (\d+)", body) for kernel, body in bodies(name).items()}
    assert set(HOT) <= set(limits)
    assert not [kernel for kernel, limit in limits.items() if limit is None]


@every_architecture
def test_nothing_calls_and_nothing_lives_in_local_memory(name):
    assert not re.findall(r"\bcall\b|\.local|depot|\.func\b", ptx(name))


@every_architecture
@pytest.mark.parametrize("kind", INTEGER_KINDS)
def test_products_of_one_row_are_products_of_four_bytes(name, kind):
    for kernel in (f"matvec_{kind}", f"gated_{kind}"):
        body = bodies(name)[kernel]
        assert count(r"dp4a\.s32\.s32", body) >= 8 and count(r"dp4a", body) % 8 == 0


@every_architecture
@pytest.mark.parametrize("kernel", VECTOR_KERNELS)
def test_weights_are_read_sixteen_bytes_at_a_time_and_leave_the_cache_to_others(name, kernel):
    assert count(r"ld\.global\.nc\.L1::no_allocate\.v4\.u32", bodies(name)[kernel]) >= 1
    assert not re.findall(r"ld\.(global\.)?u8", bodies(name)[kernel])


@every_architecture
@pytest.mark.parametrize("kernel", [*(f"gemm_{kind}" for kind in FORMATS), "attention_prefill"])
def test_products_of_many_rows_are_made_by_tensor_cores(name, kernel):
    body, is_first = bodies(name)[kernel], name == "sm_75"
    shape = "m16n8k8" if is_first else "m16n8k16"
    found = re.findall(r"mma\.sync\.aligned\.(\w+)\.row\.col\.f32\.f16\.f16\.f32", body)
    assert found and set(found) == {shape}
    assert count(r"ldmatrix\.sync\.aligned\.m8n8\.x4", body) >= 6
    assert (count(r"cp\.async\.cg\.shared\.global", body) > 0) is not is_first
    assert (count(r"cp\.async\.wait_group 0", body) > 0) is not is_first


@every_architecture
def test_kernels_overlap_where_the_gpu_lets_them(name):
    """Every kernel that others follow says when the next may start, and waits before it reads their results."""
    can_overlap = ARCHITECTURES[name].has_dependent_launch
    for kernel, body in bodies(name).items():
        expected = int(can_overlap and not kernel.startswith("pack_"))
        assert count(r"griddepcontrol\.wait", body) == expected, kernel
        assert count(r"griddepcontrol\.launch_dependents", body) == expected, kernel
    assert can_overlap == (name == "sm_90")


@every_architecture
def test_no_float64_but_for_angles(name):
    for kernel, body in bodies(name).items():
        assert ("f64" in body) == (kernel == "rope_table"), kernel


def assembled(gpu: int, folder) -> dict[str, int]:
    """Bytes of registers that each kernel stores to local memory, as ptxas says."""
    pattern = r"Compiling entry function '(\w+)'.*?bytes stack frame, (\d+) bytes spill stores"
    spilled = {}
    for part, image in parts(architecture_for(divmod(gpu, 10))).items():
        source = folder / f"{part}.ptx"
        source.write_bytes(image.rstrip(b"\0"))
        command = ["ptxas", f"-arch=sm_{gpu}", "-v", str(source), "-o", str(folder / "kernels.cubin")]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        spilled |= {kernel: int(n_bytes) for kernel, n_bytes in re.findall(pattern, done.stderr, re.DOTALL)}
    return spilled


@pytest.mark.slow
@pytest.mark.parametrize("gpu", GPUS)
def test_ptxas_assembles_it(gpu, tmp_path):
    if not shutil.which("ptxas"):
        pytest.skip("ptxas of the CUDA toolkit is not there")
    spilled = assembled(gpu, tmp_path)
    assert set(HOT) <= set(spilled)
    assert max(spilled.values()) <= MOST_SPILLED
    limits = SPILLED.get(gpu, {})
    assert {kernel: spilled[kernel] for kernel in HOTTEST if spilled[kernel] > limits.get(kernel, 0)} == {}
