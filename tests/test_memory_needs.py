"""What a load says of memory, against what child processes really take; small machines by limits of a process."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from edgellama import system
from edgellama.memory_needs import rooms

linux_only = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's limits and /proc")
TOLERANCE_BYTES = 40_000_000  # that an estimate may be above what is used: buffers for more rows than a run has
CONTEXT = 1024


def run_child(program: str, *arguments: object, **limits: int) -> subprocess.CompletedProcess:
    """A Python program in a process with some resource limits, by their names."""
    text = "import resource, sys\n"
    text += "".join(
        f"resource.setrlimit(resource.{name}, ({value}, resource.getrlimit(resource.{name})[1]))\n"
        for name, value in limits.items()
    )
    command = [sys.executable, "-c", text + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


FILL = """
import json, edgellama
from edgellama import system
path, options = sys.argv[1], json.loads(sys.argv[2])
with edgellama.load(path, **options) as model:
    with model.slots.borrow([]) as session:
        session.prefill([1] * (model.context - 1))
        session.decode(1)
    list(model.generate("Once upon a time", max_tokens=1))
    streamed = model.memory.file_bytes - model.file.tensors["token_embd.weight"].n_bytes
    print(json.dumps({"peak": system.peak_rss_bytes(), "total": model.memory.total_bytes, "streamed": streamed}))
"""


def fill(path: Path, **options: object) -> dict[str, int]:
    """Load and fill the whole cache in a child: its peak memory, and what it was told before."""
    done = run_child(FILL, path, json.dumps({"context": CONTEXT, "sequences": 0, "threads": 2, **options}))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, int]) -> None:
    """Weights that are not packed are resident as pages of the file: the system may drop them, no total counts them."""
    taken = found["peak"] - found["streamed"]
    assert found["total"] - TOLERANCE_BYTES <= taken <= found["total"]


@linux_only
@pytest.mark.parametrize("options", [{}, {"repack": False}, {"kv_type": "q8_0"}], ids=str)
def test_a_tiny_model_takes_what_it_says(synthetic_model, options):
    check(fill(synthetic_model("q4_0"), **options))


@pytest.fixture(scope="module")
def real_size(tmp_path_factory):
    """A 1.1B model with random weights, 0.6 GB; it is deleted when the tests of this file are over."""
    pytest.importorskip("gguf", reason="the gguf package writes the model")
    from bench.synthesize import SHAPES, synthesize

    path = synthesize(SHAPES["tinyllama-1.1b"], "q4_0", tmp_path_factory.mktemp("real") / "tinyllama.gguf")
    yield path
    path.unlink()


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"kv_type": "q8_0"}, {"repack": False}], ids=str)
def test_a_real_model_takes_what_it_says(real_size, options):
    check(fill(real_size, **options))


# Small machines. RLIMIT_DATA counts what a system without swap must hold and cannot drop; a mapped file is not in it.

LOAD = """
import edgellama
from edgellama.memory_offers import MemoryShortageError
options = eval(sys.argv[2])
try:
    edgellama.load(sys.argv[1], sequences=0, **options)
    print("loaded")
except MemoryShortageError as error:
    print(error)
    print([offer.arguments() for offer in error.offers])
"""


def sparse_model(path: Path) -> Path:
    """The header of a Llama 3.2 3B in Q4_0, and holes for its weights: they must not be read, and take no disk."""
    from gguf import GGUFWriter

    from bench import synthesize

    shape = replace(synthesize.SHAPES["llama-3.2-3b"], n_context=8192, rope_factor=1.0)
    plans = list(synthesize.plan_tensors(shape, synthesize.mix_named("q4_0")))
    writer = GGUFWriter(path, "llama")
    synthesize._add_metadata(writer, shape, "q4_0", 0)
    synthesize._add_vocabulary(writer, shape, 0)
    for plan in plans:
        synthesize._add_plan(writer, plan)
    writer.write_header_to_file(path)
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    sizes = [max(plan.n_rows, 1) * synthesize.row_bytes(plan.type_name, plan.n_columns) for plan in plans]
    os.truncate(path, sum(-(-size // 32) * 32 for size in [path.stat().st_size, *sizes]))
    return path


@pytest.fixture(scope="module")
def three_billion(tmp_path_factory):
    pytest.importorskip("gguf", reason="the gguf package writes the header of the model")
    return sparse_model(tmp_path_factory.mktemp("sparse") / "3b.gguf")


def offers_of(done: subprocess.CompletedProcess) -> list[dict]:
    assert done.returncode == 0, done.stderr
    return eval(done.stdout.splitlines()[-1])


@linux_only
def test_a_machine_of_2_gb_is_offered_the_mapped_file(three_billion):
    """1.9 GB of packed weights fit in no way; a context of 8,192 tokens in the f16 cache takes 0.9 GB."""
    done = run_child(LOAD, three_billion, {"context": 8192}, RLIMIT_DATA=2 << 30)
    assert "needs 3." in done.stdout and "RLIMIT_DATA" in done.stdout and "slower" in done.stdout
    assert offers_of(done) == [{"repack": False}]


@linux_only
def test_a_machine_of_4_gb_runs_it_and_is_offered_less_context(three_billion):
    done = run_child(LOAD, three_billion, {"context": 8192, "kv_type": "f32"}, RLIMIT_DATA=3 << 30)
    kinds = [next(iter(offer)) for offer in offers_of(done)]
    assert kinds == ["context", "kv_type", "repack"]


@linux_only
@pytest.mark.parametrize("gigabytes", [2, 4])
def test_address_space_is_counted_with_the_mapped_file(three_billion, gigabytes):
    """1.9 GB of it are the file itself. With 2 GB not even the mapped file is of use."""
    done = run_child(LOAD, three_billion, {"context": 4096}, RLIMIT_AS=gigabytes << 30)
    assert "RLIMIT_AS" in done.stdout
    assert [set(offer) for offer in offers_of(done)] == ([] if gigabytes == 2 else [{"repack"}])


RUN = """
import edgellama
with edgellama.load(sys.argv[1], sequences=0, threads=2, **eval(sys.argv[2])) as model:
    print("done", len(list(model.generate("Once upon a time", max_tokens=2, temperature=0))))
"""


@linux_only
def test_what_is_offered_really_fits(synthetic_model):
    """Each offer is taken under the very limit. RLIMIT_DATA counts memory when it is mapped, touched or not."""
    path, asked = synthetic_model("q4_0", "smollm-135m"), {"context": 4096, "kv_type": "f32"}
    limits = {"RLIMIT_DATA": 480 << 20}
    offers = offers_of(run_child(LOAD, path, asked, **limits))
    assert [next(iter(offer)) for offer in offers] == ["context", "kv_type", "repack"]
    for offer in offers:
        done = run_child(RUN, path, asked | offer, **limits)
        assert done.stdout.startswith("done"), done.stderr


@linux_only
@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit", "sizes"), [("RLIMIT_DATA", range(200, 1100, 100)), ("RLIMIT_AS", range(1200, 2600, 200))], ids=str
)
def test_a_real_model_below_its_limit_is_refused_or_runs_and_never_fails_half_way(real_size, limit, sizes):
    outcomes = set()
    for megabytes in sizes:
        done = run_child(RUN, real_size, {"context": 512}, **{limit: megabytes << 20})
        is_refused = "MemoryShortageError" in done.stderr
        assert done.returncode == (1 if is_refused else 0) and is_refused != done.stdout.startswith("done"), done.stderr
        outcomes.add(is_refused)
    assert outcomes == {True, False}


# The command line


def run_command(*arguments: object, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "edgellama", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


def test_the_command_ends_with_2_and_names_its_own_options(three_billion):
    done = run_command("generate", three_billion, "-p", "a", "-c", 8192, EDGELLAMA_MEMORY="2500M")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"edgellama: error: {three_billion}: needs 3.")
    assert "--context " in done.stderr and "--kv-type q8_0" in done.stderr and "--no-repack" in done.stderr
    assert "Traceback" not in done.stderr and "repack=" not in done.stderr


@linux_only
def test_limits_of_the_process_leave_room():
    program = "from edgellama import system\nprint(system.limited_room_bytes())"
    assert eval(run_child(program).stdout) == {}
    found = eval(run_child(program, RLIMIT_AS=8 << 30, RLIMIT_DATA=1 << 30).stdout)
    assert 6 << 30 < found["RLIMIT_AS"] < 8 << 30 and 900 << 20 < found["RLIMIT_DATA"] < 1 << 30


def test_what_the_system_says_counts_unless_a_number_is_given(monkeypatch):
    monkeypatch.setattr(system, "available_memory_bytes", lambda: 123_456_789)
    assert rooms(1)[0].n_bytes == 123_456_789
    monkeypatch.setenv("EDGELLAMA_MEMORY", "64M")
    assert rooms(1)[0].n_bytes == 64 << 20


def test_fewer_compilations_at_once_where_memory_is_short(monkeypatch):
    from edgellama.compiler import children

    monkeypatch.setattr(system, "usable_cpus", lambda: list(range(8)))
    for megabytes, expected in ((100, 1), (500, 2), (64_000, 8)):
        monkeypatch.setattr(system, "available_memory_bytes", lambda megabytes=megabytes: megabytes << 20)
        assert children._n_at_once() == expected
