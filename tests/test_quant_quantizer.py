"""Whole files: the same keys, the right bytes in the right place, bounded memory, nothing left behind by failures."""

import errno
import os
import signal
import threading

import gguf
import numpy as np
import pytest
from gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    FLOAT32,
    FLOAT64,
    INT8,
    INT64,
    STRING,
    UINT16,
    UINT32,
    key,
    llama_file,
    llama_keys,
    tensor,
)
from gguf_builder import gguf as gguf_bytes
from model_files import relative_rms

import edgellama
from edgellama import formats
from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from quant import quantizer, rows
from quant.importance import ImportanceMatrix
from quant.plan import plan_recipe, plan_types
from quant.quantizer import write_quantized
from quant.recipes import recipe_named
from quant.rows import pieces_of
from quant.type_choice import TypeOptions


def quantize(source, target, name, n_threads=2, importance=None, allow_requantize=False, **options):
    """The plan, after `target` was written."""
    measure = options.pop("measure_errors", False)
    with open_gguf(source) as file:
        plan = plan_recipe(file, recipe_named(name), TypeOptions(**options), importance, allow_requantize)
        write_quantized(file, target, plan.jobs, plan.keys, n_threads, measure)
    return plan


def matrix_file(path, values: np.ndarray, keys=(), name="blk.0.attn_q.weight"):
    """A GGUF file with one float32 matrix."""
    table = [tensor(name, values.shape[::-1], F32, 0)]
    path.write_bytes(gguf_bytes([*llama_keys(), *keys], table, values.astype("<f4").tobytes()))
    return path


def left_in(folder) -> set[str]:
    return {path.name for path in folder.iterdir()}


# --- what is written -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q6_K", "Q4_K_M"])
def test_files_are_those_of_llama_quantize(name, shared_data, tmp_path):
    """Same keys and, for rows of 64 and 172 columns, the same types and bytes."""
    quantize(shared_data / "trained" / "stories260K" / "f32.gguf", tmp_path / "out.gguf", name)
    expected = shared_data / "quantized" / "stories260K" / f"{name}.gguf"
    with open_gguf(expected) as peer, open_gguf(tmp_path / "out.gguf") as ours:
        assert set(ours.tensors) == set(peer.tensors) and set(ours.metadata) == set(peer.metadata)
        assert all(ours.metadata.agrees(peer.metadata, key) for key in ours.metadata)
        for tensor_name, theirs in peer.tensors.items():
            found = ours.tensors[tensor_name]
            assert (found.type_id, found.shape) == (theirs.type_id, theirs.shape)
            np.testing.assert_array_equal(found.data, theirs.data)


def test_quantized_model_runs_and_the_gguf_package_reads_it(synthetic_model, tmp_path):
    quantize(synthetic_model("F16"), tmp_path / "q.gguf", "Q8_0")
    ids = [1, 5, 9, 300, 17, 42]
    with edgellama.load(synthetic_model("F16")) as model, edgellama.load(tmp_path / "q.gguf") as small:
        assert relative_rms(small.logits(ids), model.logits(ids)) < 0.05
    fields, original = (gguf.GGUFReader(path).fields for path in (tmp_path / "q.gguf", synthetic_model("F16")))
    assert fields["general.file_type"].contents() == 7 and fields["general.quantization_version"].contents() == 2
    for name in set(original) - {"general.file_type", "GGUF.kv_count"}:
        assert fields[name].contents() == original[name].contents()


def test_keys_are_copied_byte_for_byte(tmp_path):
    odd = [
        key("x.string", STRING, b"not UTF-8: \xff\xfe"),
        key("x.empty", STRING, ""),
        key("x.strings", ARRAY, (STRING, ["a", b"\xff", ""])),
        key("x.no_strings", ARRAY, (STRING, [])),
        key("x.no_numbers", ARRAY, (INT64, [])),
        key("x.bools", ARRAY, (BOOL, [1, 0, 1])),
        key("x.small", ARRAY, (INT8, [-128, 127])),
        key("x.double", FLOAT64, 0.1),
        key("x.nan", FLOAT32, float("nan")),
        key("x.short", UINT16, 65535),
    ]
    source = matrix_file(tmp_path / "in.gguf", np.ones((4, 64)), odd)
    quantize(source, tmp_path / "out.gguf", "Q8_0")
    with open_gguf(source) as before, open_gguf(tmp_path / "out.gguf") as after:
        assert list(after.metadata)[: len(before.metadata)] == list(before.metadata)
        assert all(before.metadata.agrees(after.metadata, name) for name in before.metadata)
        assert set(after.metadata) - set(before.metadata) == {"general.file_type", "general.quantization_version"}


def test_arrays_of_arrays_are_refused(tmp_path):
    nested = key("x.nested", ARRAY, (ARRAY, [(UINT32, [1]), (UINT32, [2, 3])]))
    source = matrix_file(tmp_path / "in.gguf", np.ones((4, 64)), [nested])
    with pytest.raises(EdgellamaError, match=r"in\.gguf: key 'x\.nested' holds arrays of arrays"):
        quantize(source, tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == {"in.gguf"}


@pytest.mark.parametrize("alignment", [32, 256])
def test_alignment_of_the_source_is_kept(tmp_path, alignment):
    values = np.random.default_rng(0).standard_normal((3, 32)).astype(np.float32)
    names = ["blk.0.attn_q.weight", "blk.0.attn_norm.weight", "output.weight"]
    offsets = [0, 512, 1024]
    table = [tensor(name, (32, 3), F32, offset) for name, offset in zip(names, offsets, strict=True)]
    data = b"".join(values.tobytes().ljust(512, b"\0") for _ in names)
    keys = [*llama_keys(), key("general.alignment", UINT32, alignment)]
    (tmp_path / "in.gguf").write_bytes(gguf_bytes(keys, table, data, alignment=alignment))
    quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q4_1")
    with open_gguf(tmp_path / "out.gguf") as file:
        assert [tensor.offset % alignment for tensor in file.tensors.values()] == [0, 0, 0]
        for found in file.tensors.values():
            decoded = formats.by_id(found.type_id).decode_rows(found.data, 32)
            assert relative_rms(decoded, values) < 0.1
    used = (tmp_path / "out.gguf").read_bytes()
    assert len(used) % alignment == 0 and used.endswith(b"\0")


def test_parts_of_a_model_become_one_file(tmp_path):
    values = np.random.default_rng(0).standard_normal((2, 8, 64)).astype(np.float32)
    for number, name in enumerate(["blk.0.attn_q.weight", "blk.1.attn_q.weight"]):
        keys = llama_keys() if number == 0 else []
        keys += [key("split.no", UINT16, number), key("split.count", UINT16, 2), key("split.tensors.count", UINT32, 2)]
        data = gguf_bytes(keys, [tensor(name, (64, 8), F32, 0)], values[number].tobytes())
        (tmp_path / f"m-0000{number + 1}-of-00002.gguf").write_bytes(data)
    quantize(tmp_path / "m-00001-of-00002.gguf", tmp_path / "out.gguf", "Q8_0")
    with open_gguf(tmp_path / "out.gguf") as file:
        assert not [name for name in file.metadata if name.startswith("split.")]
        for found, expected in zip(file.tensors.values(), values, strict=True):
            np.testing.assert_array_equal(found.data, formats.by_name("q8_0").encode(expected).reshape(-1))


@pytest.mark.parametrize("source_type", ["F32", "F16", "BF16", "Q8_0", "Q5_1", "Q6_K", "IQ4_XS", "TQ2_0"])
def test_every_kind_of_source(synthetic_model, tmp_path, source_type):
    """What is encoded is what the source decodes to."""
    source = synthetic_model(f"pure:{source_type}")
    plan = quantize(source, tmp_path / "out.gguf", "Q8_0", allow_requantize=True, pure=True)
    with open_gguf(source) as before, open_gguf(tmp_path / "out.gguf") as after:
        for job in plan.jobs:
            if len(job.tensor.shape) == 2 and job.tensor.type_name != "q8_0":
                tensor = before.tensors[job.tensor.name]
                decoded = formats.by_id(tensor.type_id).decode_rows(tensor.data, tensor.shape[-1])
                expected = formats.by_name("q8_0").encode(decoded).reshape(-1)
                np.testing.assert_array_equal(after.tensors[tensor.name].data, expected)


def test_threads_and_pieces_do_not_matter(synthetic_model, tmp_path, monkeypatch):
    quantize(synthetic_model("F16"), tmp_path / "one.gguf", "Q4_K_M", n_threads=1)
    monkeypatch.setattr(quantizer, "pieces_of", lambda tensor: pieces_of(tensor, 700))
    quantize(synthetic_model("F16"), tmp_path / "many.gguf", "Q4_K_M", n_threads=7)
    assert (tmp_path / "one.gguf").read_bytes() == (tmp_path / "many.gguf").read_bytes()


def test_experts_have_their_own_importance(tmp_path):
    """Two equal experts whose columns matter differently; a piece never spans both."""
    expert = np.random.default_rng(0).standard_normal((16, 256)).astype(np.float32)
    shape, name = (256, 16, 2), "blk.0.ffn_up_exps.weight"
    data = np.stack([expert, expert]).tobytes()
    (tmp_path / "in.gguf").write_bytes(gguf_bytes(llama_keys(), [tensor(name, shape, F32, 0)], data))
    columns = np.ones((2, 256), np.float32)
    columns[1, ::2] = 100
    importance = ImportanceMatrix(tmp_path / "i.gguf", {name: columns}, ("a text",), 5)
    plan = quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q4_K_S", importance=importance, measure_errors=True)
    with open_gguf(tmp_path / "out.gguf") as file:
        decoded = formats.by_name("q4_k").decode_rows(file.tensors[name].data, 256).reshape(2, 16, 256)
        errors = np.square(decoded - expert).sum(axis=1).reshape(2, 128, 2).sum(axis=1)
        assert errors[1, 0] < 0.8 * errors[0, 0] and errors[1, 1] > errors[0, 1]
        assert file.metadata["quantize.imatrix.file"] == "i.gguf"
        assert file.metadata["quantize.imatrix.dataset"] == "a text"
        assert (file.metadata["quantize.imatrix.entries_count"], file.metadata["quantize.imatrix.chunks_count"]) == (
            1,
            5,
        )
    sums = plan.jobs[0].sums
    assert sums.relative_rms == pytest.approx(relative_rms(decoded, np.stack([expert, expert])), rel=1e-5)
    assert sums.weighted_relative_rms < 0.95 * sums.relative_rms
    assert sums.largest == pytest.approx(np.abs(decoded - expert).max(), rel=1e-6)


def test_pieces_cover_a_tensor_once(synthetic_model):
    with open_gguf(synthetic_model("F16")) as file:
        for item in file.tensors.values():
            for most_values in (1, 700, 1 << 18):
                data = [piece.data for piece in pieces_of(item, most_values)]
                np.testing.assert_array_equal(np.concatenate(data), item.data)


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (np.nan, "holds NaN or infinity"),
        (-np.inf, "holds NaN or infinity"),
        (1e6, r"holds 1e\+06, and q4_0 ends at 65504; give it another type"),
    ],
)
def test_values_that_no_type_holds_are_named(tmp_path, value, sentence):
    values = np.ones((4, 64))
    values[3, 63] = value
    source = matrix_file(tmp_path / "in.gguf", values)
    with pytest.raises(EdgellamaError, match=rf"in\.gguf: tensor 'blk\.0\.attn_q\.weight' {sentence}"):
        quantize(source, tmp_path / "out.gguf", "Q4_0", pure=True)
    assert left_in(tmp_path) == {"in.gguf"}


def test_nan_in_a_copied_tensor_is_named(tmp_path):
    source = matrix_file(tmp_path / "in.gguf", np.full((1, 64), np.nan), name="output_norm.weight")
    with pytest.raises(EdgellamaError, match=r"'output_norm\.weight' holds NaN"):
        quantize(source, tmp_path / "out.gguf", "Q8_0")


def test_requantizing_needs_a_flag(synthetic_model, tmp_path):
    source = synthetic_model("pure:Q8_0")
    with pytest.raises(EdgellamaError, match=r"is q8_0 already, .*--allow-requantize"):
        quantize(source, tmp_path / "out.gguf", "Q4_0")
    assert left_in(tmp_path) == set()
    quantize(source, tmp_path / "out.gguf", "Q4_0", allow_requantize=True)


def test_tiny_types_need_importance(synthetic_model, tmp_path):
    with pytest.raises(EdgellamaError, match=r"iq2_xs needs an importance matrix for 'blk\.0\.attn_.*--imatrix"):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", "IQ2_XS")
    with open_gguf(synthetic_model("F16")) as file:
        sizes = {name: item.shape[-1] for name, item in file.tensors.items() if len(item.shape) == 2}
    importance = ImportanceMatrix(tmp_path / "i.dat", {name: np.ones(size) for name, size in sizes.items()})
    for name in ("IQ2_XS", "IQ1_M", "IQ3_XXS"):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", name, importance=importance)
        with edgellama.load(tmp_path / "out.gguf") as model:
            assert np.isfinite(model.logits([1, 2, 3])).all()


def test_unknown_types_are_refused(synthetic_model, tmp_path):
    with open_gguf(synthetic_model("F16")) as file:
        types = {name: "nvfp4" if len(item.shape) == 2 else item.type_name for name, item in file.tensors.items()}
        with pytest.raises(EdgellamaError, match="would become nvfp4, which cannot be written; choose among f32, f16"):
            plan_types(file, types, 0)


def test_integers_are_no_weights(tmp_path):
    """FP8 weights lie in I8 tensors, beside their scales; other integers are tables, which are copied."""
    for name, is_table in (("blk.0.attn_q.weight", False), ("blk.0.ffn_gate_tid2eid.weight", True)):
        table = [tensor(name, (64, 4), 24, 0)]  # I8
        (tmp_path / "in.gguf").write_bytes(gguf_bytes(llama_keys(), table, bytes(range(256))))
        if not is_table:
            with pytest.raises(
                EdgellamaError, match=r"'blk\.0\.attn_q\.weight' is i8, which is no type of plain weights"
            ):
                quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q4_0", allow_requantize=True)
            continue
        quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q4_0")
        with open_gguf(tmp_path / "out.gguf") as file:
            assert bytes(file.tensors[name].data) == bytes(range(256))


def test_the_source_is_never_overwritten(tmp_path):
    source = matrix_file(tmp_path / "in.gguf", np.ones((4, 64)))
    before = source.read_bytes()
    (tmp_path / "link.gguf").symlink_to(source)
    for target in ("in.gguf", "link.gguf", "../" + tmp_path.name + "/in.gguf"):
        with pytest.raises(EdgellamaError, match="is the model to read; choose another name"):
            quantize(source, tmp_path / target, "Q8_0")
    assert source.read_bytes() == before
    with pytest.raises(EdgellamaError, match="is a directory"):
        quantize(source, tmp_path, "Q8_0")
    with pytest.raises(EdgellamaError, match=r"cannot write .*missing/out\.gguf: its folder does not exist"):
        quantize(source, tmp_path / "missing" / "out.gguf", "Q8_0")


def test_a_truncated_source_is_one_sentence(tmp_path):
    whole = llama_file()
    for length in (10, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / "in.gguf").write_bytes(whole[:length])
        with pytest.raises(EdgellamaError, match=r"in\.gguf"):
            quantize(tmp_path / "in.gguf", tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == {"in.gguf"}


def test_a_source_that_shrinks_meanwhile_is_one_sentence(tmp_path):
    source = matrix_file(tmp_path / "in.gguf", np.ones((64, 64)))
    with open_gguf(source) as file:
        plan = plan_recipe(file, recipe_named("Q8_0"))
        os.truncate(source, 4096)
        with pytest.raises(EdgellamaError, match="was cut to 4096 bytes while open"):
            write_quantized(file, tmp_path / "out.gguf", plan.jobs, plan.keys, 2)
    assert left_in(tmp_path) == {"in.gguf"}


# --- what goes wrong on the way --------------------------------------------------------------------------------------


def test_a_full_disk_is_one_sentence(synthetic_model, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(quantizer.PositionedFile, "write_at", full)
    with pytest.raises(EdgellamaError, match=r"cannot write .*out\.gguf: No space left on device"):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == set()


def test_a_disk_without_room_is_noticed_before_writing(synthetic_model, tmp_path, monkeypatch):
    monkeypatch.setattr(quantizer.system, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(EdgellamaError, match=r"MB are needed and 0\.0 MB are free; make room"):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == set()


def test_an_old_output_survives_a_failure(synthetic_model, tmp_path, monkeypatch):
    (tmp_path / "out.gguf").write_bytes(b"the old one")
    monkeypatch.setattr(rows.Worker, "encode", lambda *arguments: (_ for _ in ()).throw(MemoryError("no memory")))
    with pytest.raises(MemoryError):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == {"out.gguf"} and (tmp_path / "out.gguf").read_bytes() == b"the old one"


@pytest.mark.skipif(os.name == "nt", reason="sends SIGINT to this process")
def test_ctrl_c_leaves_nothing_behind(synthetic_model, tmp_path, monkeypatch):
    started, encode = threading.Event(), rows.Worker.encode

    def slow(*arguments):
        started.set()
        threading.Event().wait(0.05)
        return encode(*arguments)

    monkeypatch.setattr(rows.Worker, "encode", slow)
    monkeypatch.setattr(quantizer, "pieces_of", lambda tensor: pieces_of(tensor, 1))
    threading.Thread(target=lambda: (started.wait(), os.kill(os.getpid(), signal.SIGINT))).start()
    with pytest.raises(KeyboardInterrupt):
        quantize(synthetic_model("F16"), tmp_path / "out.gguf", "Q8_0")
    assert left_in(tmp_path) == set()


def test_progress_ends_at_the_whole(synthetic_model, tmp_path):
    seen = []
    with open_gguf(synthetic_model("F16")) as file:
        plan = plan_recipe(file, recipe_named("Q4_0"))
        total = sum(item.n_bytes for item in file.tensors.values())
        write_quantized(
            file, tmp_path / "o.gguf", plan.jobs, plan.keys, 2, report=lambda what, *place: seen.append((what, place))
        )
    assert seen[-1][1] == (total, total) and "MB/s" in seen[-1][0]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(synthetic_model, tmp_path, run_python):
    """A file of 270 MB, whose embedding alone has 113 MB as float32, in less than 200 MB with the interpreter."""
    code = """
import sys
from edgellama import system
from edgellama.gguf import open_gguf
from quant.plan import plan_recipe
from quant.quantizer import write_quantized
from quant.recipes import recipe_named
with open_gguf(sys.argv[1]) as file:
    plan = plan_recipe(file, recipe_named("Q4_0"))
    write_quantized(file, sys.argv[2], plan.jobs, plan.keys, 2)
print(system.peak_rss_bytes())
"""
    source = synthetic_model("F16", "smollm-135m")
    assert source.stat().st_size > 250e6
    result = run_python("-c", code, str(source), str(tmp_path / "out.gguf"))
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) < 200e6
