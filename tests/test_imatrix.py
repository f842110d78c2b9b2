"""Importance matrices: what is summed, against the reference interpreter; the file, against the gguf package."""

import struct
from collections.abc import Callable

import numpy as np
import pytest
from test_reference import machine_for

import edgellama
from edgellama import cli, reference
from edgellama.errors import EdgellamaError
from quant.activations import ActivationReader, matmul_inputs
from quant.imatrix import collect
from quant.imatrix_file import ActivationSums, TensorSums, read, write
from quant.text_chunks import TextChunks

CONTEXT, N_CHUNKS = 48, 2


@pytest.fixture(scope="module")
def stories(shared_data):
    return shared_data / "trained" / "stories260K" / "f32.gguf"


@pytest.fixture
def reference_sums(monkeypatch) -> Callable:
    """Evaluates chunks with the reference interpreter; float64 (n_columns,) by the name of each matrix."""

    def sums_of(path, chunks: TextChunks) -> dict[str, np.ndarray]:
        found: dict[str, np.ndarray] = {}
        matmul = reference.OPERATIONS["matmul"]

        def watched(machine, op):
            for tensor in op.operands["weight"].tensors:
                squares = np.square(machine.operand(op, "x"), dtype=np.float64).sum(axis=0)
                found[tensor.name] = found.get(tensor.name, 0) + squares
            matmul(machine, op)

        monkeypatch.setitem(reference.OPERATIONS, "matmul", watched)
        machine = machine_for(path, kv_type="f32", quantize_activations=False)
        for index in range(len(chunks)):
            ids = chunks.evaluated(index)
            machine.frame.fill(ids, np.arange(len(ids)), np.zeros(len(ids), int), np.arange(len(ids)))
            machine.run()
        return found

    return sums_of


def random_chunks(vocabulary: int, context: int = CONTEXT, n_chunks: int = N_CHUNKS) -> TextChunks:
    ids = np.random.default_rng(5).integers(3, vocabulary, (n_chunks, context))
    return TextChunks(ids.astype(np.int32), bos_id=1)


def collected(path, chunks: TextChunks, output: bool = False, **options) -> ActivationSums:
    found = ActivationSums(chunks.context)
    with edgellama.load(path, context=chunks.context, kv_type="f32", **options) as model:
        collect(model, chunks, found, output=output)
    return found


def largest_error(found: ActivationSums, expected: dict[str, np.ndarray]) -> float:
    assert found.tensors.keys() == expected.keys()
    return max(np.abs(own.sums[0] - expected[name]).max() / expected[name].max() for name, own in found.tensors.items())


# What is summed


@pytest.mark.parametrize("name", ["trained/stories260K/f32", "quantized/llama2-gqa/BF16"])
@pytest.mark.parametrize("output", [False, True])
def test_sums_are_those_of_the_reference(shared_data, reference_sums, name, output):
    path = shared_data / f"{name}.gguf"
    chunks = random_chunks(vocabulary=500)
    found, expected = collected(path, chunks, output), reference_sums(path, chunks)
    if not output:
        expected = {name: sums for name, sums in expected.items() if name.startswith("blk.")}
    assert largest_error(found, expected) < 1e-4
    assert {int(own.counts[0]) for own in found.tensors.values()} == {N_CHUNKS * CONTEXT}
    assert found.n_chunks == N_CHUNKS


@pytest.mark.parametrize("repack", [True, False])
def test_activations_are_seen_before_they_are_rounded(shared_data, reference_sums, repack):
    """The first layer's inputs come straight from the embedding, so here they are exact, though products are not."""
    path = shared_data / "quantized" / "stories260K" / "Q4_0.gguf"
    chunks = random_chunks(vocabulary=500)
    found, expected = collected(path, chunks, repack=repack), reference_sums(path, chunks)
    first = {name: expected[name] for name in (f"blk.0.attn_{part}.weight" for part in "qkv")}
    assert largest_error(ActivationSums(CONTEXT, {name: found.tensors[name] for name in first}), first) < 1e-5
    rest = {name: sums for name, sums in expected.items() if name.startswith("blk.")}
    assert 1e-4 < largest_error(found, rest) < 0.1


def test_matrices_that_are_read_together_keep_their_names(synthetic_model):
    """q, k and v lie in one weight, gate and up are woven into each other."""
    with edgellama.load(synthetic_model("q4_0"), context=64) as model:
        program = model.machine.program
        places = matmul_inputs(program)
        assert len({len(weight.tensors) for weight in program.weights()}) > 1
    names = [name for place in places for name in place.tensors]
    parts = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
    assert sorted(names) == sorted(f"blk.{layer}.{part}.weight" for layer in range(2) for part in parts)
    assert [place.op for place in places] == sorted(place.op for place in places)


def test_long_chunks_take_several_steps(synthetic_model):
    """Steps of up to 512 tokens, and with the output matrix of 64, see the same."""
    path, chunks = synthetic_model("q8_0"), random_chunks(512, context=600, n_chunks=1)
    long, short = collected(path, chunks), collected(path, chunks, output=True)
    assert short.tensors.keys() - long.tensors.keys() == {"output.weight"}
    for name, own in long.tensors.items():
        assert own.counts.tolist() == [600]
        assert own.sums == pytest.approx(short.tensors[name].sums, rel=1e-12)


def test_a_step_of_few_tokens_is_refused(stories):
    """Each worker would keep its inputs to itself."""
    with (
        edgellama.load(stories, context=16) as model,
        model.new_session() as session,
        pytest.raises(EdgellamaError, match="give more than 4"),
    ):
        list(ActivationReader(model).read(session, [1, 2, 3, 4]))


def test_activations_that_are_no_numbers_are_refused(stories, monkeypatch):
    read_activations = ActivationReader.read

    def damaged(self, session, ids):
        for place, values in read_activations(self, session, ids):
            yield place, values * np.float32("inf")

    monkeypatch.setattr(ActivationReader, "read", damaged)
    with (
        pytest.raises(EdgellamaError, match=r"inputs of blk\.0\.attn_q\.weight are no finite numbers"),
        np.errstate(all="ignore"),
    ):
        collected(stories, random_chunks(500))


def test_sums_of_another_model_are_refused_before_the_work(stories, monkeypatch):
    monkeypatch.setattr(ActivationReader, "read", lambda *arguments: pytest.fail("the work began"))
    found = ActivationSums(CONTEXT, {"blk.0.attn_q.weight": TensorSums(np.ones((1, 32)), np.ones(1, np.int64))})
    with edgellama.load(stories, context=CONTEXT) as model, pytest.raises(EdgellamaError, match="different models"):
        collect(model, random_chunks(500), found)


# The file


@pytest.fixture
def sums() -> ActivationSums:
    """One plain matrix, and a stack of three experts of which one saw nothing."""
    plain = TensorSums(np.array([[8.0, 4.0, 0.5]]), np.array([1024]))
    experts = TensorSums(np.array([[6.0, 2.0], [0.0, 0.0], [9.0, 3.0]]), np.array([2, 0, 3]))
    return ActivationSums(512, {"b.weight": plain, "a_exps.weight": experts}, ["one.txt", "größer.txt"])


def test_the_gguf_package_reads_the_file(sums, tmp_path):
    gguf = pytest.importorskip("gguf")
    write(tmp_path / "sums.gguf", sums)
    reader = gguf.GGUFReader(tmp_path / "sums.gguf")
    metadata = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert metadata == {
        "general.type": "imatrix",
        "imatrix.datasets": ["one.txt", "größer.txt"],
        "imatrix.chunk_count": 2,
        "imatrix.chunk_size": 512,
    }
    kinds = {name: reader.fields[name].types[0].name for name in ("imatrix.chunk_count", "imatrix.chunk_size")}
    assert set(kinds.values()) == {"UINT32"}
    found = {tensor.name: tensor for tensor in reader.tensors}
    assert list(found) == ["a_exps.weight.in_sum2", "a_exps.weight.counts", "b.weight.in_sum2", "b.weight.counts"]
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {"F32"}
    shapes = {name: tensor.shape.tolist() for name, tensor in found.items()}  # the contiguous dimension first
    assert list(shapes.values()) == [[2, 3], [1, 3], [3], [1]]
    assert found["a_exps.weight.in_sum2"].data.tolist() == [[6, 2], [0, 0], [9, 3]]
    assert found["a_exps.weight.counts"].data.tolist() == [[2], [0], [3]]
    assert found["b.weight.in_sum2"].data.tolist() == [8, 4, 0.5] and found["b.weight.counts"].data.tolist() == [1024]


def test_first_bytes_of_the_file(tmp_path):
    write(tmp_path / "sums.gguf", ActivationSums(8, {"w": TensorSums(np.array([[2.0]]), np.array([16]))}, ["t"]))
    data = (tmp_path / "sums.gguf").read_bytes()
    expected = b"GGUF" + struct.pack("<IQQ", 3, 2, 4)
    for key, value in (
        (b"general.type", struct.pack("<IQ", 8, 7) + b"imatrix"),
        (b"imatrix.datasets", struct.pack("<IIQQ", 9, 8, 1, 1) + b"t"),
        (b"imatrix.chunk_count", struct.pack("<II", 4, 2)),
        (b"imatrix.chunk_size", struct.pack("<II", 4, 8)),
    ):
        expected += struct.pack("<Q", len(key)) + key + value
    expected += struct.pack("<Q", 9) + b"w.in_sum2" + struct.pack("<IQIQ", 1, 1, 0, 0)
    expected += struct.pack("<Q", 8) + b"w.counts" + struct.pack("<IQIQ", 1, 1, 0, 32)
    expected += bytes(-len(expected) % 32) + struct.pack("<f28x", 2) + struct.pack("<f28x", 16)
    assert data == expected


def test_a_file_is_read_as_it_was_written(sums, tmp_path):
    write(tmp_path / "sums.gguf", sums)
    found = read(tmp_path / "sums.gguf")
    assert (found.chunk_size, found.n_chunks, found.datasets) == (512, 2, ["one.txt", "größer.txt"])
    assert found.tensors.keys() == sums.tensors.keys()
    for name, own in found.tensors.items():
        assert np.array_equal(own.sums, sums.tensors[name].sums)
        assert np.array_equal(own.counts, sums.tensors[name].counts)
    assert found.tensors["a_exps.weight"].mean_squares().tolist() == [[3, 1], [1, 1], [3, 1]]


def test_runs_are_joined_by_adding(sums):
    other = ActivationSums(256, {"b.weight": TensorSums(np.array([[1.0, 1.0, 1.0]]), np.array([512]))}, ["two.txt"])
    other.merge(sums)
    assert other.tensors["b.weight"].sums.tolist() == [[9, 5, 1.5]]
    assert other.tensors["b.weight"].counts.tolist() == [1536] and other.n_chunks == 1536 // 256
    assert other.tensors["a_exps.weight"].counts.tolist() == [2, 0, 3]
    assert other.datasets == ["two.txt", "one.txt", "größer.txt"]
    assert sums.tensors["b.weight"].sums.tolist() == [[8, 4, 0.5]]  # not touched


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda data: data.replace(b"\x07\0\0\0\0\0\0\0imatrix", b"\x07\0\0\0\0\0\0\0adapter"), "of type 'adapter'"),
        (lambda data: data.replace(b"b.weight.counts", b"c.weight.counts"), "'b.weight.counts' is missing"),
        (lambda data: data.replace(b".in_sum2", b".out_sum"), "holds no sums"),
        (lambda data: data.replace(b"imatrix.chunk_size", b"imatrix.chunk_sire"), "imatrix.chunk_size"),
        (lambda data: data.replace(struct.pack("<f", 0.5), struct.pack("<f", -0.5)), "negative numbers"),
        (lambda data: data.replace(struct.pack("<f", 0.5), struct.pack("<f", np.nan)), "NaN"),
        (lambda data: data[:-40], "needs bytes"),
        (lambda data: b"no GGUF at all", "magic|GGUF"),
    ],
)
def test_damaged_files_are_refused(sums, tmp_path, change, sentence):
    path = tmp_path / "sums.gguf"
    write(path, sums)
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(EdgellamaError, match=sentence) as refused:
        read(path)
    assert "\n" not in str(refused.value)


# The command


def run(*arguments) -> int:
    try:
        return cli.main(["imatrix", *map(str, arguments)])
    except SystemExit as stop:
        return stop.code


def test_two_runs_joined_are_one_long_run(stories, shared_data, tmp_path, capsys):
    text = (shared_data / "text" / "frankenstein.txt").read_text()
    with edgellama.load(stories) as model:
        ids = model.tokenize(text[:1000])[:128]
    paths = {name: tmp_path / f"{name}.gguf" for name in ("two", "one", "joined", "added")}
    source = shared_data / "text" / "frankenstein.txt"
    options = ["--context", 64, "--kv-type", "f32"]
    assert run(stories, source, "-o", paths["two"], "--chunks", 2, *options) == 0
    assert run(stories, source, "-o", paths["one"], "--chunks", 1, *options) == 0
    assert run("-o", paths["joined"], "--in-file", paths["two"], "--in-file", paths["one"]) == 0
    assert run(stories, source, "-o", paths["added"], "--chunks", 1, "--in-file", paths["two"], *options) == 0
    assert "35 tensors, 3 chunks of 64 tokens" in capsys.readouterr().out
    expected = collected(stories, TextChunks(np.array(ids, np.int32).reshape(2, 64), 1))
    found = {name: read(path) for name, path in paths.items()}
    for name, own in expected.tensors.items():
        assert found["two"].tensors[name].sums == pytest.approx(own.sums, rel=1e-6)
        total = found["two"].tensors[name].sums + found["one"].tensors[name].sums
        for whole in ("joined", "added"):
            assert found[whole].tensors[name].sums == pytest.approx(total, rel=1e-6)
            assert found[whole].tensors[name].counts.tolist() == [192]
    assert found["added"].datasets == [str(source)] * 2


def test_wrong_input_is_one_sentence(stories, shared_data, tmp_path, capsys):
    text = shared_data / "text" / "frankenstein.txt"
    cases = {
        "files to join": ["-o", tmp_path / "out.gguf"],
        "TEXT-FILE is needed": [stories, "-o", tmp_path / "out.gguf"],
        "no-such.txt": [stories, tmp_path / "no-such.txt", "-o", tmp_path / "out.gguf"],
        "its folder does not exist": [stories, text, "-o", tmp_path / "none" / "out.gguf"],
        "one of type 'imatrix' is needed": ["--in-file", stories, "-o", tmp_path / "out.gguf"],
    }
    for sentence, arguments in cases.items():
        assert run(*arguments) == 2
        output = capsys.readouterr()
        assert sentence in output.err and output.err.count("\n") == 1 and output.out == ""
    assert list(tmp_path.iterdir()) == []
