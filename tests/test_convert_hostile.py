"""Checkpoints that lie, are cut short, or carry code: one sentence each, and nothing written or run."""

import json
import os
import random
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest
from checkpoint_files import (
    CONFIG,
    Payload,
    integer,
    llama2c_bytes,
    llama2c_tokenizer,
    named,
    payload_pickle,
    raw_safetensors,
    safetensors_bytes,
    table_pickle,
    tensor_pickle,
    tensors_of,
    text,
    torch_archive,
    torch_bytes,
    write_hugging_face,
    write_json,
    write_meta,
)

from converters.conversion import plan_conversion, write_conversion
from converters.sources.pickle_reader import read_pickle
from converters.sources.safetensors import read_safetensors
from converters.sources.torch_zip import read_torch
from edgellama.errors import EdgellamaError

EMBEDDING = "model.embed_tokens.weight"


def assert_refused(source: Path, *words: str) -> None:
    """Planning fails with one sentence that begins with a path in the checkpoint and has the words; nothing appears."""
    before = sorted(source.parent.rglob("*"))
    with pytest.raises(EdgellamaError) as error:
        write_conversion(plan_conversion(source), source.parent / "out.gguf")
    message = str(error.value)
    assert message.startswith(str(source)) and "\n" not in message and len(message) < 600, message
    for word in words:
        assert word in message
    assert sorted(source.parent.rglob("*")) == before


@pytest.fixture
def folder(tmp_path) -> Path:
    """A checkpoint without weights."""
    source = write_hugging_face(tmp_path / "c", CONFIG, {})
    (source / "model.safetensors").unlink()
    return source


# safetensors


def entry(dtype="F32", shape=(2, 3), offsets=(0, 24)) -> dict:
    return {EMBEDDING: {"dtype": dtype, "shape": shape, "data_offsets": offsets}}


GOOD = safetensors_bytes({EMBEDDING: np.zeros((2, 3))})


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", ["is empty"]),
        (b"\x08\0\0", ["3 bytes"]),
        (GOOD[:20], ["claims a header"]),
        (GOOD[:-1], ["cut short"]),
        (struct.pack("<Q", 1 << 60) + b"{}", ["claims a header of 1152921504606846976 bytes"]),
        (struct.pack("<Q", 200_000_000) + bytes(64), ["claims a header"]),
        (struct.pack("<Q", 2) + b"[]", ["JSON object"]),
        (struct.pack("<Q", 3) + b"{a}", ["no valid JSON"]),
        (struct.pack("<Q", 200_000) + b"[" * 200_000, ["no valid JSON"]),
        (raw_safetensors({EMBEDDING: 3}, bytes(24)), ["no JSON object"]),
        (raw_safetensors(entry(dtype="F4"), bytes(24)), ["F4", "BF16"]),
        (raw_safetensors(entry(dtype=["F32"]), bytes(24)), ["type"]),
        (raw_safetensors(entry(dtype="BF16"), bytes(24)), ["cannot lie in bytes 0 to 24"]),
        (raw_safetensors(entry(shape=(2, -3)), bytes(24)), ["whole numbers"]),
        (raw_safetensors(entry(shape=(2, 1.5)), bytes(24)), ["whole numbers"]),
        (raw_safetensors(entry(shape=(2, True)), bytes(24)), ["whole numbers"]),
        (raw_safetensors(entry(shape=(1 << 40, 1 << 40)), bytes(24)), ["cannot lie"]),
        (raw_safetensors(entry(offsets=(24, 0)), bytes(24)), ["cannot lie"]),
        (raw_safetensors(entry(offsets=(0,)), bytes(24)), ["whole numbers"]),
        (raw_safetensors(entry(offsets=(-24, 0)), bytes(24)), ["whole numbers"]),
        (raw_safetensors(entry(offsets=(8, 32)), bytes(24)), ["cut short"]),
        (raw_safetensors(entry() | {"other": entry(offsets=(8, 32))[EMBEDDING]}, bytes(32)), ["overlap"]),
    ],
)
def test_safetensors(folder, data, words):
    (folder / "model.safetensors").write_bytes(data)
    assert_refused(folder, "model.safetensors", *words)


def test_git_lfs_pointer(folder):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n"
    (folder / "model.safetensors").write_bytes(pointer)
    assert_refused(folder, "Git LFS pointer", "git lfs pull")


def test_mutated_safetensors(tmp_path):
    """Whatever bytes change in the table, reading succeeds or says one sentence."""
    good = bytearray(safetensors_bytes({"a": np.zeros((2, 3)), "b": np.ones(5)}))
    dice, path = random.Random(5), tmp_path / "model.safetensors"
    for _ in range(400):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data) - 44)] = dice.randrange(256)
        path.write_bytes(data[: dice.randint(0, len(data))] if dice.random() < 0.3 else data)
        try:
            for tensor in read_safetensors(path).values():
                tensor.rows(0, tensor.n_rows)
        except EdgellamaError as error:
            assert "\n" not in str(error)


# Shards and their index


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({}, ["weight_map"]),
        ({"weight_map": []}, ["weight_map"]),
        ({"weight_map": {EMBEDDING: "gone.safetensors"}}, ["1 files that are not there", "gone.safetensors"]),
        ({"weight_map": {EMBEDDING: "../secret.safetensors"}}, ["'../secret.safetensors'", "no plain name"]),
        ({"weight_map": {EMBEDDING: "/etc/passwd"}}, ["'/etc/passwd'", "no plain name"]),
        ({"weight_map": {EMBEDDING: "..\\secret"}}, ["no plain name"]),
        ({"weight_map": {EMBEDDING: "C:secret"}}, ["no plain name"]),
        ({"weight_map": {EMBEDDING: ".."}}, ["no plain name"]),
        ({"weight_map": {EMBEDDING: 3}}, ["'3'", "no plain name"]),
        ({"weight_map": {EMBEDDING: ["a"]}}, ["no plain name"]),
        ({"weight_map": {"absent.weight": "part.safetensors"}}, ["'absent.weight'", "part.safetensors"]),
    ],
)
def test_index(folder, index, words):
    (folder / "part.safetensors").write_bytes(GOOD)
    (folder.parent / "secret.safetensors").write_bytes(GOOD)
    write_json(folder / "model.safetensors.index.json", index)
    assert_refused(folder, "index.json", *words)


def test_shards_without_an_index(folder):
    (folder / "model-00001-of-00002.safetensors").write_bytes(GOOD)
    assert_refused(folder, "model-00001-of-00002.safetensors", "index.json")


def test_folder_without_weights(folder):
    assert_refused(folder, "no weights", "pytorch_model.bin")


@pytest.mark.parametrize("kind", ["empty folder", "text file", "nothing"])
def test_no_checkpoint_at_all(tmp_path, kind):
    source = tmp_path / "source"
    if kind == "empty folder":
        source.mkdir()
    elif kind == "text file":
        source.write_text("hello")
    assert_refused(source, "no such file" if kind == "nothing" else "llama2.c")


# Pickles: what they ask for is never run


def run_by_pickle(path) -> None:
    Path(path).write_text("ran")


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("call", [os.system, eval, run_by_pickle, exec, print], ids=lambda call: call.__name__)
def test_payload_is_refused_and_never_run(folder, call, protocol):
    trace = folder.parent / "trace"
    argument = f"open({str(trace)!r}, 'w')" if call in (eval, exec) else f"touch {trace}"
    argument = str(trace) if call is run_by_pickle else argument
    pickled = payload_pickle(call, argument, protocol=protocol)
    (folder / "pytorch_model.bin").write_bytes(torch_archive(pickled))
    assert_refused(folder, "pytorch_model.bin", "asks for", call.__name__, "nothing of it was run")
    assert not trace.exists()


def call_of(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (call_of("builtins", "getattr", text("a"), text("b")), ["'builtins.getattr'"]),
        (call_of("torch.serialization", "load", text("a")), ["'torch.serialization.load'"]),
        (call_of("torch.storage", "_load_from_bytes", text("a")), ["'torch.storage._load_from_bytes'"]),
        (call_of("numpy.core.multiarray", "_reconstruct"), ["_reconstruct"]),
        (call_of("torch._utils", "_rebuild_tensor_v2.__globals__"), ["__globals__"]),
        (b"(ios\nsystem\nU\x04true.", ["INST"]),
        (named("collections", "OrderedDict") + b")\x81", ["NEWOBJ"]),
        (b"\x82\x01", ["EXT1"]),
        (text("os") + b"Pid\n", ["PERSID"]),
        (text("a") + b")R", ["cannot be called"]),
        (named("torch", "FloatStorage") + b")R", ["cannot be called"]),
        (named("torch._utils", "_rebuild_tensor_v2") + b")R", ["damaged"]),
        (call_of("torch._utils", "_rebuild_tensor_v2", text("a"), text("b"), text("c"), text("d")), ["damaged"]),
        (text("a") + b"Q", ["damaged"]),
        (text("storage") + text("x") + text("0") + b"\x87Q", ["names no storage"]),
        (b"R", ["damaged"]),
        (b"h\x05", ["damaged"]),
        (b"t", ["damaged"]),
        (text("a") + b"}b", ["dict was expected"]),
        (b"X\xff\xff\xff\x7fabc", ["damaged"]),
    ],
)
def test_pickle(folder, value, words):
    (folder / "pytorch_model.bin").write_bytes(torch_archive(table_pickle({EMBEDDING: value})))
    assert_refused(folder, "pytorch_model.bin", *words)


def nested(value: bytes, depth: int) -> bytes:
    """A tuple of two of the same, `depth` deep: printed or hashed, it would be 2^depth long."""
    return value + b"".join(b"q\x01h\x01\x86" for _ in range(depth))


@pytest.mark.parametrize("place", ["key", "shape", "storage", "name"])
def test_pickle_that_doubles(folder, place):
    bomb = nested(b")", 200)
    rebuild = named("torch._utils", "_rebuild_tensor_v2")
    values = {
        "key": b"\x80\x02}(" + bomb + b"Nu.",
        "shape": table_pickle({EMBEDDING: rebuild + b"(" + storage() + integer(0) + bomb + bomb + b"tR"}),
        "storage": table_pickle({EMBEDDING: b"(" + text("storage") + named("torch", "FloatStorage") + bomb + b"tQ"}),
        "name": table_pickle({EMBEDDING: bomb + bomb + b"\x93"}),
    }
    (folder / "pytorch_model.bin").write_bytes(torch_archive(values[place], {"data/0": bytes(24)}))
    assert_refused(folder, "pytorch_model.bin")


def storage(key: str = "0", kind: str = "FloatStorage") -> bytes:
    return b"(" + text("storage") + named("torch", kind) + text(key) + text("cpu") + integer(6) + b"tQ"


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (tensor_pickle("0", "FloatStorage", (2, 4), (4, 1), 6), ["reaches past the 24 bytes"]),
        (tensor_pickle("0", "FloatStorage", (2, 3), (3, 1), 6, offset=1), ["reaches past"]),
        (tensor_pickle("0", "FloatStorage", (2, 3), (1000000, 1), 6), ["reaches past"]),
        (tensor_pickle("0", "FloatStorage", (2, 3), (-3, 1), 6), ["shape or strides"]),
        (tensor_pickle("0", "FloatStorage", (2, 3), (3,), 6), ["shape or strides"]),
        (tensor_pickle("0", "FloatStorage", (-2, 3), (3, 1), 6), ["shape or strides"]),
        (tensor_pickle("0", "FloatStorage", (2, 3), (3, 1), 6, offset=-1), ["shape or strides"]),
        (tensor_pickle("9", "FloatStorage", (2, 3), (3, 1), 6), ["storage '9'", "lacks"]),
        (tensor_pickle("../data.pkl", "FloatStorage", (2, 3), (3, 1), 6), ["lacks"]),
        (tensor_pickle("0", "DoubleStorage", (2, 3), (3, 1), 6), ["reaches past"]),
        (tensor_pickle("0", "QInt8Storage", (2, 3), (3, 1), 6), ["'torch.QInt8Storage'"]),
        (integer(3), ["holds no tensors"]),
    ],
)
def test_torch_tensor(folder, value, words):
    data = torch_archive(table_pickle({EMBEDDING: value}), {"data/0": bytes(24)})
    (folder / "pytorch_model.bin").write_bytes(data)
    assert_refused(folder, "pytorch_model.bin", *words)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.", ["PyTorch 1.6", "save it again"]),
        (torch_bytes({EMBEDDING: np.zeros((2, 3))})[:-30], ["damaged ZIP"]),
        (torch_archive(table_pickle({}), compression=zipfile.ZIP_DEFLATED), ["compressed"]),
        (torch_archive(b"\x80\x02]."), ["holds a list"]),
        (torch_archive(b"\x80\x02}"), ["damaged"]),
        (torch_archive(b""), ["damaged"]),
    ],
)
def test_torch_file(folder, data, words):
    (folder / "pytorch_model.bin").write_bytes(data)
    assert_refused(folder, "pytorch_model.bin", *words)


def test_zip_that_is_no_checkpoint(folder):
    with zipfile.ZipFile(folder / "pytorch_model.bin", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert_refused(folder, "no data.pkl")


def test_big_endian_file(folder):
    data = torch_bytes({EMBEDDING: np.zeros((2, 3))})
    assert data.count(b"little") == 1
    path = folder / "pytorch_model.bin"
    path.write_bytes(data)
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, b"big" if name.endswith("byteorder") else content)
    assert_refused(folder, "big-endian")


def test_mutated_torch_file(tmp_path):
    """Whatever bytes change, reading succeeds or says one sentence."""
    good = torch_bytes({"a": np.zeros((2, 3)), "b": np.ones(5)}, transposed=True)
    dice, path = random.Random(7), tmp_path / "pytorch_model.bin"
    for _ in range(600):
        data = bytearray(good)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(4, len(data))] = dice.randrange(256)
        path.write_bytes(data[: dice.randint(0, len(data))] if dice.random() < 0.2 else data)
        try:
            for tensor in read_torch(path).values():
                tensor.rows(0, tensor.n_rows)
        except EdgellamaError as error:
            assert "\n" not in str(error)


def test_the_standard_library_would_have_run_it(tmp_path):
    """The payloads of these tests work: otherwise refusing them would prove nothing."""
    import pickle

    pickle.loads(payload_pickle(run_by_pickle, str(tmp_path / "trace")))
    assert (tmp_path / "trace").read_text() == "ran"
    with pytest.raises(EdgellamaError):
        read_pickle(pickle.dumps(Payload(run_by_pickle, str(tmp_path / "other"))), tmp_path / "model.bin")
    assert not (tmp_path / "other").exists()


# Values, and the other sources


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"])
def test_tensor_that_is_not_finite(folder, name, value):
    tensors = tensors_of(CONFIG)
    tensors[name] = tensors[name].copy()
    tensors[name].flat[-1] = value
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    output = {"model.norm.weight": "output_norm.weight"}.get(name, "blk.1.ffn_up.weight")
    assert_refused(folder, f"tensor '{output}'", "NaN or infinity")


def test_values_beyond_float16(folder):
    tensors = tensors_of(CONFIG)
    tensors["lm_head.weight"] = tensors["lm_head.weight"] * np.float32(1e6)
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors))
    assert_refused(folder, "tensor 'output.weight'", "too large for f16", "--type bf16")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda data: data[:100], ["has 100 bytes"]),
        (lambda data: data + b"\0", ["fetch it again"]),
        (lambda data: data[:6], ["header makes no sense"]),
        (lambda data: struct.pack("<7i", -5, 1, 1, 1, 1, 1, 1) + data[28:], ["header makes no sense"]),
        (lambda data: struct.pack("<7i", 48, 80, 1 << 23, 4, 2, 300, 64) + data[28:], ["header makes that"]),
        (lambda data: struct.pack("<7i", 48, 80, 2, 5, 2, 300, 64) + data[28:], ["header makes no sense"]),
        (lambda data: b"24ka" + struct.pack("<i", 9) + data, ["version 9"]),
        (lambda data: torch_bytes({"a": np.zeros(3)}), ["name the folder"]),
    ],
)
def test_llama2c(tmp_path, damage, words):
    source = tmp_path / "c" / "model.bin"
    source.parent.mkdir()
    data, _ = llama2c_bytes(CONFIG, tensors_of(CONFIG), 0)
    source.write_bytes(damage(data))
    (source.parent / "tokenizer.bin").write_bytes(llama2c_tokenizer(300))
    assert_refused(source, *words)


def test_meta_parts_that_do_not_fit(tmp_path):
    source = write_meta(tmp_path / "c", CONFIG, tensors_of(CONFIG), 2, 1)
    (source / "consolidated.01.pth").write_bytes(torch_bytes({"norm.weight": np.zeros(48)}))
    assert_refused(source, "missing in some of the 2 files")
    source = write_meta(tmp_path / "c", CONFIG, tensors_of(CONFIG), 2, 1)
    (source / "consolidated.00.pth").unlink()
    assert_refused(source, "no consolidated.00.pth")
    (source / "consolidated.01.pth").unlink()
    assert_refused(source, "no consolidated.00.pth")


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', '{"hidden_size": 1e400}', '{"model_type": [1]}', "[" * 99999])
def test_config(folder, text):
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors_of(CONFIG)))
    (folder / "config.json").write_text(text)
    assert_refused(folder, "config.json")


def test_mutated_config(folder):
    """Random values in place of the config's: a plan or one sentence, never another error."""
    (folder / "model.safetensors").write_bytes(safetensors_bytes(tensors_of(CONFIG)))
    dice = random.Random(11)
    odd = [None, True, -1, 0, 3, 1 << 31, 1 << 70, 1.5, 1e300, "x", [], [1], {}]
    odd += [{"type": "yarn"}, {"rope_type": "longrope"}, {"rope_type": "llama3", "factor": 0}, {"rope_type": ["x"]}]
    odd += [{"rope_type": "dynamic", "factor": "x"}, {"rope_type": "linear", "factor": 0}]
    names = [*CONFIG, "head_dim", "rope_scaling", "rope_parameters", "sliding_window", "partial_rotary_factor"]
    for _ in range(400):
        change = {dice.choice(names): dice.choice(odd) for _ in range(dice.randint(1, 3))}
        (folder / "config.json").write_text(json.dumps(CONFIG | change))
        try:
            plan_conversion(folder)
        except EdgellamaError as error:
            assert "\n" not in str(error), change
        except Exception as error:
            raise AssertionError(change) from error
