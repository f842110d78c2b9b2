"""The GGUF reader on well-formed files: every value type, tensors, alignment, versions, split models."""

import math
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from gguf_builder import (
    ARRAY,
    BOOL,
    F16,
    F32,
    FLOAT32,
    FLOAT64,
    INT8,
    INT16,
    INT32,
    INT64,
    Q4_0,
    Q4_K,
    STRING,
    UINT8,
    UINT16,
    UINT32,
    UINT64,
    gguf,
    key,
    llama_file,
    tensor,
)

from edgellama.errors import GGUFError, ModelError
from edgellama.gguf import open_gguf


@pytest.fixture
def write(tmp_path):
    def write_file(data: bytes, name: str = "m.gguf"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write_file


SCALARS = [
    (UINT8, 255, "uint8"),
    (INT8, -128, "int8"),
    (UINT16, 65535, "uint16"),
    (INT16, -32768, "int16"),
    (UINT32, 2**32 - 1, "uint32"),
    (INT32, -(2**31), "int32"),
    (FLOAT32, 1.5, "float32"),
    (BOOL, True, "bool"),
    (STRING, "grüße", "string"),
    (UINT64, 2**64 - 1, "uint64"),
    (INT64, -(2**63), "int64"),
    (FLOAT64, 1e300, "float64"),
]


@pytest.mark.parametrize(("type_id", "value", "name"), SCALARS, ids=[name for _, _, name in SCALARS])
def test_scalar_values(write, type_id, value, name):
    with open_gguf(write(gguf([key("k", type_id, value)]))) as file:
        assert file.metadata["k"] == value
        assert type(file.metadata["k"]) is type(value)
        assert file.metadata.type_of("k") == name


@pytest.mark.parametrize(("type_id", "value", "name"), SCALARS, ids=[name for _, _, name in SCALARS])
def test_arrays_of_every_type(write, type_id, value, name):
    with open_gguf(write(gguf([key("before", UINT8, 1), key("k", ARRAY, (type_id, [value, value]))]))) as file:
        found = file.metadata["k"]
        assert list(found) == [value, value]
        assert file.metadata.type_of("k") == f"array of {name}"
        assert file.metadata.array_length("k") == 2
        assert file.metadata["k"] is found
        if type_id != STRING:
            assert found.dtype.name == name
            assert not found.flags.writeable


def test_empty_arrays_and_strings(write):
    keys = [key("n", ARRAY, (INT32, [])), key("s", ARRAY, (STRING, [])), key("t", STRING, "")]
    with open_gguf(write(gguf(keys))) as file:
        assert file.metadata["n"].shape == (0,)
        assert file.metadata["s"] == []
        assert file.metadata["t"] == ""


def test_nested_arrays(write):
    nested = (ARRAY, [(INT32, [1, 2]), (STRING, ["a", "b"]), (ARRAY, [(UINT8, [3])])])
    with open_gguf(write(gguf([key("k", ARRAY, nested), key("after", UINT8, 9)]))) as file:
        numbers, strings, deeper = file.metadata["k"]
        assert numbers.tolist() == [1, 2]
        assert strings == ["a", "b"]
        assert deeper[0].tolist() == [3]
        assert file.metadata["after"] == 9


def test_raw_strings_keep_bytes_that_are_not_utf8(write):
    with open_gguf(write(gguf([key("k", ARRAY, (STRING, [b"\xff\x00a", b"", "é"])), key("n", UINT8, 1)]))) as file:
        assert file.raw_strings("k") == [b"\xff\x00a", b"", "é".encode()]
        assert file.metadata["k"] == ["\ufffd\x00a", "", "é"]
        with pytest.raises(ModelError, match=r"m\.gguf: key 'n' must be an array of strings, and is uint8"):
            file.raw_strings("n")
        with pytest.raises(ModelError, match="key 'absent' must be an array of strings, and is missing"):
            file.raw_strings("absent")


def test_metadata_is_a_mapping(write):
    with open_gguf(write(gguf([key("a", UINT8, 1), key("b", UINT8, 2)]))) as file:
        assert dict(file.metadata) == {"a": 1, "b": 2}
        assert "a" in file.metadata and "c" not in file.metadata
        assert len(file.metadata) == 2
        with pytest.raises(KeyError):
            file.metadata["c"]


def test_typed_access(write):
    keys = [key("i", INT32, -3), key("f", FLOAT32, 0.5), key("s", STRING, "x"), key("b", BOOL, 1)]
    keys += [key("l", ARRAY, (STRING, ["x"])), key("n", ARRAY, (INT32, [1])), key("nan", FLOAT32, math.nan)]
    with open_gguf(write(gguf(keys))) as file:
        assert (file.get("i", int), file.get("f", float), file.get("s", str)) == (-3, 0.5, "x")
        assert file.get("b", bool) is True
        assert file.get("l", list) == ["x"]
        assert file.get("n", np.ndarray).tolist() == [1]
        assert file.get("absent", int, 7) == 7
        assert type(file.get("i", float)) is float


WRONG_USES = [
    (("absent", int), "key 'absent' is missing, and must be an integer"),
    (("i", int, 0, 0, 9), "key 'i' must be an integer from 0 to 9, and is int32 -3"),
    (("i", int, 0, 0), "key 'i' must be an integer and at least 0, and is int32 -3"),
    (("i", str), "key 'i' must be a string, and is int32 -3"),
    (("s", int), "key 's' must be an integer, and is the string 'x'"),
    (("s", float), "key 's' must be a finite number, and is the string 'x'"),
    (("b", int), "key 'b' must be an integer, and is bool True"),
    (("b", float), "key 'b' must be a finite number, and is bool True"),
    (("i", bool), "key 'i' must be a boolean, and is int32 -3"),
    (("nan", float), "key 'nan' must be a finite number, and is float32 nan"),
    (("inf", float), "key 'inf' must be a finite number, and is float32 inf"),
    (("n", list), "key 'n' must be an array of strings, and is an array of int32"),
    (("s", np.ndarray), "key 's' must be an array of numbers, and is the string 'x'"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG_USES, ids=[message[:40] for _, message in WRONG_USES])
def test_typed_access_refuses(write, arguments, message):
    keys = [key("i", INT32, -3), key("s", STRING, "x"), key("b", BOOL, 1), key("n", ARRAY, (INT32, [1]))]
    keys += [key("nan", FLOAT32, math.nan), key("inf", FLOAT32, math.inf)]
    path = write(gguf(keys))
    with open_gguf(path) as file, pytest.raises(ModelError) as caught:
        file.get(*arguments)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize("version", [2, 3])
def test_tensors(write, version):
    values = struct.pack("<6f", *range(6))
    rows = [tensor("b", (3, 2), F32, 0), tensor("a", (64, 2, 3), Q4_0, 32), tensor("c", (256,), Q4_K, 256)]
    path = write(gguf([], rows, values.ljust(32, b"\0") + bytes(range(216)) + bytes(8) + b"K" * 144, version=version))
    with open_gguf(path) as file:
        assert list(file.tensors) == ["b", "a", "c"]
        first, second, third = file.tensors.values()
        assert (first.type_id, first.type_name, first.shape, first.n_bytes) == (F32, "f32", (2, 3), 24)
        assert (second.type_name, second.shape, second.n_bytes) == ("q4_0", (3, 2, 64), 216)
        assert (third.type_name, third.n_bytes, third.file_index) == ("q4_k", 144, 0)
        assert first.data.view("<f4").tolist() == [0, 1, 2, 3, 4, 5]
        assert second.data.tolist() == list(range(216))
        assert bytes(third.data) == b"K" * 144
        assert path.read_bytes()[second.offset :][:216] == bytes(range(216))
        assert not first.data.flags.writeable and first.data.base is not None
        assert second.address - first.address == second.offset - first.offset


@pytest.mark.parametrize("alignment", [8, 32, 64, 4096])
def test_alignment_key(write, alignment):
    rows = [tensor("a", (2,), F16, 0), tensor("b", (2,), F16, alignment)]
    data = b"abcd".ljust(alignment, b"\0") + b"efgh"
    path = write(gguf([key("general.alignment", UINT32, alignment)], rows, data, alignment=alignment))
    with open_gguf(path) as file:
        assert [bytes(found.data) for found in file.tensors.values()] == [b"abcd", b"efgh"]
        assert all(found.offset % alignment == 0 for found in file.tensors.values())


def test_tensor_bytes_may_lie_in_any_order(write):
    rows = [tensor("late", (2,), F32, 32), tensor("early", (2,), F32, 0)]
    with open_gguf(write(gguf([], rows, b"E" * 8 + bytes(24) + b"L" * 8))) as file:
        assert list(file.tensors) == ["late", "early"]
        assert bytes(file.tensors["late"].data) == b"L" * 8


def test_data_outlives_close(write):
    file = open_gguf(write(llama_file()))
    norm = file.tensors["output_norm.weight"]
    data = norm.data
    copy = bytes(data)
    file.close()
    assert bytes(data) == copy


def test_data_after_close_is_an_error(write):
    with open_gguf(write(llama_file())) as file:
        norm = file.tensors["output_norm.weight"]
    with pytest.raises(GGUFError, match="was closed"):
        _ = norm.data


def test_everything_after_close_is_an_error_even_while_an_array_lives(write):
    file = open_gguf(write(llama_file()))
    norm = file.tensors["output_norm.weight"]
    living = norm.data
    file.close()
    for use in (lambda: norm.data, lambda: file.metadata["general.name"], lambda: file.release(norm)):
        with pytest.raises(GGUFError, match="was closed"):
            use()
    assert living.size == norm.n_bytes


def test_released_tensor_reads_the_same(write):
    with open_gguf(write(llama_file())) as file:
        for found in file.tensors.values():
            before = bytes(found.data)
            file.release(found)
            assert bytes(found.data) == before


def split_part(number: int, count: int, tensors: int, keys=(), name: str | None = None) -> bytes:
    own = [
        key("split.no", UINT16, number),
        key("split.count", UINT16, count),
        key("split.tensors.count", INT32, tensors),
    ]
    rows = [tensor(name or f"t{number}", (2,), F32, 0)]
    return gguf([*keys, *own], rows, struct.pack("<2f", number, number))


def write_split(write, count: int = 3) -> list:
    keys = [key("general.architecture", STRING, "llama")]
    return [
        write(split_part(index, count, count, keys if index == 0 else ()), f"m-{index + 1:05d}-of-{count:05d}.gguf")
        for index in range(count)
    ]


def test_split_model(write):
    paths = write_split(write)
    with open_gguf(paths[0]) as file:
        assert file.path == paths[0]
        assert file.metadata["general.architecture"] == "llama"
        assert list(file.tensors) == ["t0", "t1", "t2"]
        for index, found in enumerate(file.tensors.values()):
            assert found.file_index == index
            assert found.data.view("<f4").tolist() == [index, index]


def test_single_file_with_split_keys(write):
    with open_gguf(write(split_part(0, 1, 1))) as file:
        assert list(file.tensors) == ["t0"]


def refused_split(path) -> str:
    with pytest.raises(GGUFError) as caught:
        open_gguf(path)
    return str(caught.value)


def test_split_part_missing(write):
    paths = write_split(write)
    paths[2].unlink()
    assert refused_split(paths[0]) == f"{paths[0]}: part m-00003-of-00003.gguf is missing beside it"


def test_split_opened_at_a_later_part(write):
    paths = write_split(write)
    assert refused_split(paths[1]) == f"{paths[1]}: is part 2 of 3; open the first part, m-00001-of-00003.gguf"


def test_split_part_of_another_model(write):
    paths = write_split(write)
    paths[1].write_bytes(split_part(1, 3, 3, [key("general.architecture", STRING, "gemma")]))
    message = refused_split(paths[0])
    assert message.startswith(f"{paths[1]}: is part of another model: key 'general.architecture' differs")


def test_split_part_repeats_a_tensor(write):
    paths = write_split(write)
    paths[1].write_bytes(split_part(1, 3, 3, name="t0"))
    message = refused_split(paths[0])
    assert message.startswith(f"{paths[1]}: tensor 't0' is already in m-00001-of-00003.gguf (byte ")


@pytest.mark.parametrize("claimed", [2, 4, 65535])
def test_split_count_lies(write, claimed):
    paths = write_split(write)
    paths[0].write_bytes(split_part(0, claimed, 3))
    assert f"so its name must end in -00001-of-{claimed:05d}.gguf" in refused_split(paths[0])


def test_split_count_differs_between_parts(write):
    paths = write_split(write)
    paths[1].write_bytes(split_part(1, 4, 3))
    assert refused_split(paths[0]) == f"{paths[1]}: key 'split.count' must be 3 in this part, and is 4"


def test_split_parts_in_another_order(write):
    paths = write_split(write)
    second, third = paths[1].read_bytes(), paths[2].read_bytes()
    paths[1].write_bytes(third)
    paths[2].write_bytes(second)
    assert refused_split(paths[0]) == f"{paths[1]}: key 'split.no' must be 1 in this part, and is 2"


def test_split_number_past_the_count(write):
    path = write(split_part(5, 3, 3), "m-00001-of-00003.gguf")
    assert refused_split(path) == f"{path}: key 'split.no' says 5, and key 'split.count' says 3 (numbers start at 0)"


@pytest.mark.parametrize("tensors", [2, 4])
def test_split_tensor_count_lies(write, tensors):
    paths = write_split(write)
    for index, path in enumerate(paths):
        path.write_bytes(split_part(index, 3, tensors))
    message = f"key 'split.tensors.count' says {tensors} tensors, and its 3 parts hold 3"
    assert refused_split(paths[0]) == f"{paths[0]}: {message}"


def test_split_key_of_a_wrong_type(write):
    path = write(gguf([key("split.count", STRING, "3")]))
    message = f"{path}: key 'split.count' must be an integer of at least 0, and is string (byte 55)"
    assert refused_split(path) == message


def test_split_part_that_is_no_gguf_file(write):
    paths = write_split(write)
    paths[1].write_bytes(b"nonsense")
    assert refused_split(paths[0]).startswith(f"{paths[1]}: is no GGUF file")


def test_import_brings_no_numba():
    code = "import sys, edgellama.gguf, edgellama.config; sys.exit('numba' in sys.modules or 'gguf' in sys.modules)"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    assert subprocess.run([sys.executable, "-c", code], cwd=root, timeout=60).returncode == 0
