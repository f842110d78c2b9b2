"""Writing: the same bytes whatever the chunks and threads, a target that is whole or not there, and going on."""

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import (
    CONFIG,
    safetensors_bytes,
    stored_bytes,
    tensors_of,
    to_bfloat16,
    write_hugging_face,
)

from bench.convert_memory import measure, write_checkpoint
from bench.synthesize import SHAPES
from converters import conversion as conversion_module
from converters import partial_file, writer
from converters.conversion import Conversion, ConvertOptions, plan_conversion, write_conversion
from converters.errors import ConvertError
from converters.lazy_tensor import joined, of_array
from converters.stored_types import BF16, F8_E4M3, F8_E5M2
from edgellama.gguf import open_gguf

SIZES = CONFIG | {"hidden_size": 64, "intermediate_size": 96}  # whole blocks of 32


@pytest.fixture
def source(tmp_path) -> Path:
    return write_hugging_face(tmp_path / "c", SIZES, tensors_of(SIZES), "BF16")


def plan(source: Path, type_name: str = "q8_0") -> Conversion:
    return plan_conversion(source, ConvertOptions(type_name))


def write(source: Path, target: Path, type_name: str = "f16", **options) -> bytes:
    return write_conversion(plan(source, type_name), target, **options).read_bytes()


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != "c")


# Tensors read by parts


def test_joined_tensors_by_rows():
    values = np.arange(60, dtype=np.float32).reshape(12, 5)
    by_rows = joined([of_array(part) for part in np.split(values, 3)], axis=0)
    by_columns = joined([of_array(np.ascontiguousarray(part)) for part in np.split(values, 5, axis=1)], axis=1)
    for start in range(12):
        for stop in range(start + 1, 13):
            np.testing.assert_array_equal(by_rows.rows(start, stop), values[start:stop])
            np.testing.assert_array_equal(by_columns.rows(start, stop), values[start:stop])


def test_all_codes_of_float8():
    """E5M2 is the upper half of float16; E4M3 from the definition, value by value."""
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(F8_E5M2.widen(codes), (codes.astype("<u2") << 8).view("<f2").astype(np.float32))
    for code, value in enumerate(F8_E4M3.widen(codes)):
        sign, exponent, fraction = code >> 7, code >> 3 & 15, code & 7
        if exponent == 15 and fraction == 7:
            assert np.isnan(value)
        else:
            magnitude = 2.0 ** (exponent - 7) * (1 + fraction / 8) if exponent else 2.0**-6 * fraction / 8
            assert value == (-magnitude if sign else magnitude)
    assert F8_E4M3.widen(np.array([0x7E], np.uint8)) == 448


def test_bfloat16():
    bits = np.array([0x3F80, 0xC000, 0x7F80, 0x0001], "<u2")
    np.testing.assert_array_equal(BF16.widen(bits), np.array([1.0, -2.0, np.inf, 2.0**-133], np.float32))
    np.testing.assert_array_equal(to_bfloat16(BF16.widen(bits)), bits)


# The same bytes


@pytest.mark.parametrize("type_name", ["f32", "q8_0"])
def test_chunks_and_threads_do_not_matter(source, tmp_path, monkeypatch, type_name):
    expected = write(source, tmp_path / "one.gguf", type_name, threads=1)
    for n_values in (1, 64 * 7, 1000):
        monkeypatch.setattr(writer, "_CHUNK_VALUES", n_values)
        for threads in (1, 3):
            assert write(source, tmp_path / "other.gguf", type_name, threads=threads) == expected
    assert leftovers(tmp_path) == ["one.gguf", "other.gguf"]


@pytest.mark.parametrize("stored", ["F32", "F16", "BF16"])
def test_a_type_that_stays_passes_bit_for_bit(tmp_path, stored):
    """Also zeros with a sign and numbers too small for the usual form."""
    tensors = tensors_of(SIZES)
    if stored == "F16":
        tensors = {name: values.astype("<f2").astype("<f4") for name, values in tensors.items()}
    embedding = tensors["model.embed_tokens.weight"].copy()
    embedding[0, :3] = -0.0, 2.0**-24, -(2.0**-20)
    source = write_hugging_face(tmp_path / "c", SIZES, tensors | {"model.embed_tokens.weight": embedding}, stored)
    write(source, tmp_path / "out.gguf", stored.lower())
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.tensors["token_embd.weight"].data.tobytes() == stored_bytes(embedding, stored)


def test_a_tensor_of_rows_that_fill_no_block(tmp_path):
    """A hidden_size of 48 is one and a half blocks of Q4_0: matrices with such rows become float16."""
    config = SIZES | {"hidden_size": 48}
    source = write_hugging_face(tmp_path / "c", config, tensors_of(config))
    write(source, tmp_path / "out.gguf", "q4_0")
    with open_gguf(tmp_path / "out.gguf") as file:
        types = {name.split(".")[2]: t.type_name for name, t in file.tensors.items() if name.startswith("blk.0")}
        assert types["ffn_down"] == "q4_0" and types["ffn_up"] == "f16" and types["attn_norm"] == "f32"


def test_tensors_are_read_in_parts(source, monkeypatch):
    """None is ever asked for more than a chunk."""
    largest, encoded = 0, writer.encoded

    def counted(tensor, start, stop, type_name):
        nonlocal largest
        largest = max(largest, (stop - start) * tensor.row_values if len(tensor.shape) > 1 else 0)
        return encoded(tensor, start, stop, type_name)

    monkeypatch.setattr(writer, "encoded", counted)
    monkeypatch.setattr(writer, "_CHUNK_VALUES", 1000)
    write(source, source.parent / "out.gguf")
    assert 900 < largest <= 1000


# The file appears when it is whole


def test_target_is_replaced_only_at_the_end(source, tmp_path):
    target = tmp_path / "out.gguf"
    target.write_text("old")
    seen = []
    write_conversion(plan(source), target, progress=lambda done, total: seen.append((done, target.read_text())))
    assert {text for _, text in seen} == {"old"}
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1][0] == plan(source).data_bytes
    with open_gguf(target) as file:
        assert len(file.tensors) == 21


def test_an_error_leaves_nothing(source, tmp_path):
    tensors = tensors_of(SIZES)
    tensors["model.layers.1.mlp.down_proj.weight"][-1, -1] = np.nan
    (source / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    (tmp_path / "out.gguf").write_text("old")
    with pytest.raises(ConvertError, match=r"tensor 'blk\.1\.ffn_down\.weight' holds NaN"):
        write(source, tmp_path / "out.gguf")
    assert leftovers(tmp_path) == ["out.gguf"]
    assert (tmp_path / "out.gguf").read_text() == "old"


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("c", "is a folder"),
        ("absent/out.gguf", "folder does not exist"),
        ("c/model.safetensors", "is the checkpoint itself"),
        ("c/config.json", "is the checkpoint itself"),
    ],
)
def test_target_that_cannot_be(source, tmp_path, target, words):
    before = {path: path.read_bytes() for path in source.iterdir()}
    with pytest.raises(ConvertError, match=words):
        write(source, tmp_path / target)
    assert {path: path.read_bytes() for path in source.iterdir()} == before


def test_disk_that_is_too_small(source, tmp_path, monkeypatch):
    monkeypatch.setattr(conversion_module.system, "free_disk_bytes", lambda folder: 1000)
    with pytest.raises(ConvertError, match=r"needs \d+,\d+ bytes, and the disk has 1,000 left"):
        write(source, tmp_path / "out.gguf")
    assert leftovers(tmp_path) == []


# Going on after an interruption


class Interruption:
    """A progress function that raises after so many bytes."""

    def __init__(self, after: int, error: type[BaseException]):
        self.after, self.error, self.seen = after, error, []

    def __call__(self, done: int, total: int) -> None:
        self.seen.append(done)
        if done >= self.after:
            raise self.error


@pytest.fixture
def often(monkeypatch):
    """Small chunks and a journal entry every 20,000 bytes."""
    monkeypatch.setattr(writer, "_CHUNK_VALUES", 2000)
    monkeypatch.setattr(partial_file, "_SYNC_BYTES", 20_000)


def interrupt(source: Path, target: Path, after: int = 50_000, error: type[BaseException] = KeyboardInterrupt) -> None:
    with pytest.raises(error):
        write_conversion(plan(source), target, progress=Interruption(after, error))


def test_resume(source, tmp_path, often):
    expected = write(source, tmp_path / "whole.gguf", "q8_0")
    target = tmp_path / "out.gguf"
    interrupt(source, target)
    assert leftovers(tmp_path) == ["out.gguf.partial", "out.gguf.partial.json", "whole.gguf"]
    synced = json.loads((tmp_path / "out.gguf.partial.json").read_text())["bytes"]
    assert 20_000 <= synced <= 54_000
    seen = []
    write_conversion(plan(source), target, resume=True, progress=lambda done, total: seen.append(done))
    assert synced < seen[0] <= synced + 2200  # the first chunk after what was synced
    assert target.read_bytes() == expected
    assert leftovers(tmp_path) == ["out.gguf", "whole.gguf"]


@pytest.mark.parametrize("n_values", [100, 3000, 1 << 20])
def test_resume_with_other_chunks(source, tmp_path, often, monkeypatch, n_values):
    expected = write(source, tmp_path / "whole.gguf", "q8_0")
    interrupt(source, tmp_path / "out.gguf")
    monkeypatch.setattr(writer, "_CHUNK_VALUES", n_values)
    assert write(source, tmp_path / "out.gguf", "q8_0", resume=True) == expected


def test_resume_drops_what_was_not_synced(source, tmp_path, often):
    """A machine that lost its power may have any bytes after the last sync."""
    expected = write(source, tmp_path / "whole.gguf", "q8_0")
    target = tmp_path / "out.gguf"
    interrupt(source, target)
    partial = tmp_path / "out.gguf.partial"
    synced = json.loads((tmp_path / "out.gguf.partial.json").read_text())["bytes"]
    start = len(expected) - plan(source).data_bytes + synced
    partial.write_bytes(partial.read_bytes()[:start] + b"garbage" * 1000)
    assert write(source, target, "q8_0", resume=True) == expected


@pytest.mark.parametrize("change", ["nothing", "source", "type", "version", "journal", "file", "no journal"])
def test_resume_begins_anew_when_anything_changed(source, tmp_path, often, monkeypatch, change):
    target, partial = tmp_path / "out.gguf", tmp_path / "out.gguf.partial"
    interrupt(source, target)
    journal = tmp_path / "out.gguf.partial.json"
    type_name = "q5_0" if change == "type" else "q8_0"
    if change == "source":
        tensors = tensors_of(SIZES, seed=8)
        (source / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    elif change == "version":
        monkeypatch.setattr(partial_file.edgellama, "__version__", "other")
    elif change == "journal":
        journal.write_text(json.dumps(json.loads(journal.read_text()) | {"bytes": 1 << 40}))
    elif change == "file":
        partial.write_bytes(b"x" * partial.stat().st_size)
    elif change == "no journal":
        journal.unlink()
    seen = []
    write_conversion(plan(source, type_name), target, resume=True, progress=lambda done, total: seen.append(done))
    assert (seen[0] > 20_000) == (change == "nothing")
    assert target.read_bytes() == write(source, tmp_path / "whole.gguf", type_name)


def test_without_resume_all_begins_anew(source, tmp_path, often):
    target = tmp_path / "out.gguf"
    interrupt(source, target)
    seen = []
    write_conversion(plan(source), target, progress=lambda done, total: seen.append(done))
    assert seen[0] < 5000
    assert leftovers(tmp_path) == ["out.gguf"]


def test_an_error_and_an_early_interruption_leave_nothing_to_resume(source, tmp_path, often):
    interrupt(source, tmp_path / "out.gguf", error=RuntimeError)
    assert leftovers(tmp_path) == []
    interrupt(source, tmp_path / "out.gguf", after=1)
    assert leftovers(tmp_path) == []


# Digests of the source


def test_digests_are_noted(source, tmp_path):
    write(source, tmp_path / "out.gguf")
    names = ["config.json", "model.safetensors"]
    with open_gguf(tmp_path / "out.gguf") as file:
        assert file.get("edgellama.source.files", list) == names
        digests = [hashlib.sha256((source / name).read_bytes()).hexdigest() for name in names]
        assert file.get("edgellama.source.sha256", list) == digests


@pytest.mark.parametrize("place", ["top", "metadata"])
@pytest.mark.parametrize("right", [True, False])
def test_digests_of_an_index_are_compared(tmp_path, place, right):
    source = write_hugging_face(tmp_path / "c", SIZES, tensors_of(SIZES), layout="2 model.safetensors")
    index = json.loads((source / "model.safetensors.index.json").read_text())
    names = sorted(set(index["weight_map"].values()))
    digests = {name: hashlib.sha256((source / name).read_bytes()).hexdigest().upper() for name in names}
    digests |= {} if right else {names[1]: "ab" * 32}
    index |= {"sha256": digests} if place == "top" else {"metadata": {"sha256": digests}}
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    if right:
        write(source, tmp_path / "out.gguf")
        return
    with pytest.raises(ConvertError, match=rf"{names[1]}: has another SHA-256"):
        write(source, tmp_path / "out.gguf")
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("right", [True, False])
def test_names_in_hugging_faces_cache_are_digests(source, tmp_path, right):
    weights = source / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest() if right else "ab" * 32
    (source / "blobs").mkdir()
    weights.rename(source / "blobs" / digest)
    weights.symlink_to(Path("blobs") / digest)
    if right:
        write(source, tmp_path / "out.gguf")
        return
    with pytest.raises(ConvertError, match="another SHA-256"):
        write(source, tmp_path / "out.gguf")


# Memory


@pytest.mark.slow
def test_memory_does_not_grow_with_the_model(tmp_path):
    """The same peak for one layer and for six, each of 436 MB."""
    peaks = []
    for n_layers in (1, 6):
        shape = replace(SHAPES["llama-3-8b"], n_layers=n_layers, n_vocabulary=4096)
        write_checkpoint(tmp_path / "c", shape)
        row = measure(tmp_path / "c", tmp_path / "out.gguf", "q8_0", 2)
        peaks.append(row["peak_rss_bytes"])
        shutil.rmtree(tmp_path / "c")
    assert peaks[1] < peaks[0] + 50_000_000 and peaks[1] < row["bound_bytes"]
