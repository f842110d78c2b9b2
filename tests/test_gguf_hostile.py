"""Malformed GGUF files: each ends in one sentence naming the file, the key or tensor and the byte, soon and cheaply."""

import os
import socket
import struct
import time
import tracemalloc

import pytest
from gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    FLOAT32,
    INT8,
    Q4_0,
    STRING,
    UINT8,
    UINT32,
    gguf,
    key,
    llama_file,
    raw_key,
    string,
    tensor,
    u32,
    u64,
)

from edgellama.errors import GGUFError
from edgellama.gguf import open_gguf

MOST_SECONDS = 2.0
MOST_BYTES = 64 << 20
HUGE = 2**63

ONE_KEY = gguf([key("k", UINT8, 1)])


def nested_arrays(depth: int) -> bytes:
    return (u32(ARRAY) + u64(1)) * depth + u32(UINT8) + u64(1) + b"\1"


def one_key(type_id: int, value_bytes: bytes) -> bytes:
    return gguf([raw_key("k", type_id, value_bytes)])


def aligned_to(type_id: int, value) -> bytes:
    return gguf([key("general.alignment", type_id, value)], [tensor("t", (8,), F32, 0)], bytes(32))


def one_tensor(name="t", dimensions=(8,), type_id=F32, offset=0, data=bytes(32), n_dimensions=None) -> bytes:
    return gguf([], [tensor(name, dimensions, type_id, offset, n_dimensions)], data)


HEADER = {
    "wrong magic": (
        b"PK\3\4" + bytes(60),
        "is no GGUF file: it begins with b'PK\\x03\\x04' instead of b'GGUF' (byte 0)",
    ),
    "byte-swapped magic": (gguf(magic=b"FUGG"), "is a big-endian GGUF file, and only little-endian ones are read"),
    "byte-swapped version": (gguf(version=3 << 24), "is a big-endian GGUF file, and only little-endian ones are read"),
    "version 0": (gguf(version=0), "has GGUF version 0, and versions 2 and 3 are read"),
    "version 1": (gguf(version=1), "has GGUF version 1, and versions 2 and 3 are read"),
    "version 4": (gguf(version=4), "has GGUF version 4, and versions 2 and 3 are read"),
    "version 2^32-1": (gguf(version=2**32 - 1), "has GGUF version 4294967295, and versions 2 and 3 are read"),
    "0 bytes": (b"", "is empty"),
    "3 bytes": (ONE_KEY[:3], "is no GGUF file: it begins with b'GGU'"),
    "4 bytes": (ONE_KEY[:4], "the file ends inside the version (byte 4)"),
    "8 bytes": (ONE_KEY[:8], "the file ends inside the tensor count (byte 8)"),
    "23 bytes": (ONE_KEY[:23], "the file ends inside the key count (byte 16)"),
    "2^63 tensors": (
        gguf(n_tensors=HUGE),
        f"the tensor count claims {HUGE} of at least 33 bytes each, and 8 bytes remain",
    ),
    "2^61 tensors": (gguf(n_tensors=2**61), f"the tensor count claims {2**61} of at least 33 bytes each"),
    "2^63 keys": (
        gguf(n_keys=HUGE),
        f"the key count claims {HUGE} of at least 14 bytes each, and 8 bytes remain (byte 24)",
    ),
    "2^61 keys": (gguf(n_keys=2**61), f"the key count claims {2**61} of at least 14 bytes each"),
    "tensors past the end": (
        gguf(n_tensors=30, data=bytes(900)),
        "the tensor count claims 30 of at least 33 bytes each",
    ),
    "keys past the end": (gguf(n_keys=70, data=bytes(900)), "the key count claims 70 of at least 14 bytes each"),
    "one key too many": (
        gguf([key("k", STRING, "v" * 99)], n_keys=2)[:144],
        "the file ends inside the length of the name of key 2 of 2 (byte 144)",
    ),
}

KEYS = {
    "name past the end": (
        gguf([u64(1000) + b"k" * 20]),
        "the name of key 1 of 1 claims 1000 bytes, and 32 remain (byte 24)",
    ),
    "name of 2^64-1": (gguf([u64(2**64 - 1) + b"k" * 20]), f"the name of key 1 of 1 claims {2**64 - 1} bytes"),
    "empty name": (
        gguf([key("", UINT32, 1)]),
        "the name of key 1 of 1 has 0 bytes, and 1 to 65535 are allowed (byte 24)",
    ),
    "name too long": (gguf([key("k" * 65536, UINT8, 1)]), "the name of key 1 of 1 has 65536 bytes"),
    "name not UTF-8": (gguf([key(b"\xff\xfe", UINT32, 1)]), "the name of key 1 of 1 is not UTF-8 (byte 32)"),
    "duplicate": (gguf([key("k", UINT8, 1), key("k", UINT8, 2)]), "key 'k' appears twice (byte 38)"),
    "type 13": (one_key(13, bytes(8)), "key 'k' has the unknown value type 13 (byte 33)"),
    "type 2^31": (one_key(2**31, bytes(8)), f"key 'k' has the unknown value type {2**31} (byte 33)"),
    "array of type 13": (one_key(ARRAY, u32(13) + u64(1) + b"x"), "key 'k' is an array of the unknown value type 13"),
    "nested 10,000 deep": (one_key(ARRAY, nested_arrays(10_000)), "key 'k' nests arrays more than 4 deep (byte 85)"),
    "array size wraps": (
        one_key(ARRAY, u32(UINT32) + u64(2**62 + 1) + bytes(16)),
        f"key 'k' claims {2**62 + 1} of at least 4 bytes each, and 47 bytes remain (byte 49)",
    ),
    "string array count": (
        one_key(ARRAY, u32(STRING) + u64(2**61)),
        f"key 'k' claims {2**61} of at least 8 bytes each",
    ),
    "nested array count": (
        one_key(ARRAY, u32(ARRAY) + u64(2**61)),
        f"key 'k' claims {2**61} of at least 12 bytes each",
    ),
    "strings past the end": (
        one_key(ARRAY, u32(STRING) + u64(2) + string("abc") + u64(100) + b"x" * 20),
        "string 2 of 2 in key 'k' claims 100 bytes, and 28 remain (byte 60)",
    ),
    "string of 2^64-1 in array": (
        one_key(ARRAY, u32(STRING) + u64(2) + u64(2**64 - 1) + bytes(20)),
        f"string 1 of 2 in key 'k' claims {2**64 - 1} bytes",
    ),
    "strings end early": (
        one_key(ARRAY, u32(STRING) + u64(2) + string("abcdefghijklm") + b"xx")[:72],
        "the file ends inside the length of string 2 of 2 in key 'k' (byte 70)",
    ),
    "boolean 7": (gguf([key("k", BOOL, 7)]), "key 'k' holds the boolean 7, and only 0 and 1 are allowed (byte 37)"),
    "boolean 7 in array": (gguf([key("k", ARRAY, (BOOL, [0, 1, 7]))]), "key 'k' holds the boolean 7"),
    "1 GiB string": (
        one_key(STRING, u64(1 << 30) + bytes(115)),
        "the string of key 'k' claims 1073741824 bytes, and 115 remain",
    ),
    "value cut off": (
        gguf([key("k", UINT8, 1), raw_key("v", 10, b"12")])[:56],
        "the file ends inside the value of key 'v'",
    ),
}

ALIGNMENT = {
    "string": (aligned_to(STRING, "32"), "is the string '32' (byte 61)"),
    "array": (aligned_to(ARRAY, (UINT32, [32])), "is an array of uint32 (byte 65)"),
    "boolean": (aligned_to(BOOL, 1), "is bool True (byte 53)"),
    "float": (aligned_to(FLOAT32, 32.0), "is float32 32.0 (byte 53)"),
    "0": (aligned_to(UINT32, 0), "is uint32 0 (byte 53)"),
    "3": (aligned_to(UINT32, 3), "is uint32 3 (byte 53)"),
    "4": (aligned_to(UINT32, 4), "is uint32 4 (byte 53)"),
    "-8": (aligned_to(INT8, -8), "is int8 -8 (byte 53)"),
    "2^31": (aligned_to(UINT32, 2**31), f"is uint32 {2**31} (byte 53)"),
}

TENSORS = {
    "name past the end": (
        gguf([], [u64(1000) + bytes(40)]),
        "the name of tensor 1 of 1 claims 1000 bytes, and 64 remain (byte 24)",
    ),
    "empty name": (one_tensor(name=""), "the name of tensor 1 of 1 has 0 bytes, and 1 to 255 are allowed (byte 24)"),
    "name not UTF-8": (one_tensor(name=b"\xff"), "the name of tensor 1 of 1 is not UTF-8 (byte 32)"),
    "name of 10,000": (one_tensor(name="n" * 10_000), "the name of tensor 1 of 1 has 10000 bytes"),
    "duplicate": (
        gguf([], [tensor("t", (8,), F32, 0), tensor("t", (8,), F32, 32)], bytes(64)),
        "tensor 't' appears twice (byte 57)",
    ),
    "0 dimensions": (one_tensor(n_dimensions=0), "tensor 't' has 0 dimensions, and 1 to 4 are allowed (byte 33)"),
    "5 dimensions": (one_tensor(dimensions=(8, 1, 1, 1, 1)), "tensor 't' has 5 dimensions, and 1 to 4 are allowed"),
    "2^32-1 dimensions": (one_tensor(n_dimensions=2**32 - 1), "tensor 't' has 4294967295 dimensions"),
    "dimension 0": (one_tensor(dimensions=(8, 0)), "tensor 't' has a dimension of 0 (byte 33)"),
    "dimension 2^63": (one_tensor(dimensions=(HUGE,)), f"tensor 't' claims {HUGE} values, more than any file can hold"),
    "product wraps to 0": (one_tensor(dimensions=(2**32, 2**32)), f"tensor 't' claims {2**64} values"),
    "product wraps to 8": (one_tensor(dimensions=(2**61 + 1, 8)), f"tensor 't' claims {2**64 + 8} values"),
    "bytes wrap": (one_tensor(dimensions=(2**62,)), f"tensor 't' needs bytes 64 to {64 + 2**64}, and the file has 96"),
    "ragged row": (
        one_tensor(dimensions=(33,), type_id=Q4_0),
        "tensor 't' has rows of 33 values, which is no whole number of blocks of 32 values of type q4_0 (byte 24)",
    ),
    "type 100": (one_tensor(type_id=100), "tensor 't' is of the unknown type 100 (byte 45)"),
    "type 2^31": (one_tensor(type_id=2**31), f"tensor 't' is of the unknown type {2**31}"),
    "Q4_2": (one_tensor(type_id=4), "tensor 't' is of type 4 (Q4_2), which GGUF no longer has"),
    "Q4_3": (one_tensor(type_id=5), "tensor 't' is of type 5 (Q4_3), which GGUF no longer has"),
    "Q4_0_4_4": (one_tensor(type_id=31), "tensor 't' is of type 31 (Q4_0_4_4), which GGUF no longer has"),
    "IQ4_NL_4_4": (one_tensor(type_id=36), "tensor 't' is of type 36 (IQ4_NL_4_4), which GGUF no longer has"),
    "offset not aligned": (
        one_tensor(offset=4, data=bytes(64)),
        "tensor 't' lies at offset 4, which is no multiple of the alignment 32 (byte 24)",
    ),
    "past the end": (one_tensor(dimensions=(9,)), "tensor 't' needs bytes 64 to 100, and the file has 96 (byte 24)"),
    "offset past the end": (one_tensor(offset=32), "tensor 't' needs bytes 96 to 128, and the file has 96"),
    "offset wraps": (one_tensor(offset=2**64 - 32), f"tensor 't' needs bytes {2**64 + 32} to {2**64 + 64}"),
    "overlap": (
        gguf([], [tensor("a", (16,), F32, 0), tensor("b", (8,), F32, 32)], bytes(64)),
        "tensors 'a' and 'b' overlap (byte 128)",
    ),
    "same place": (
        gguf([], [tensor("a", (8,), F32, 0), tensor("b", (8,), F32, 0)], bytes(64)),
        "tensors 'a' and 'b' overlap (byte 96)",
    ),
    "data past the end": (
        one_tensor()[:60],
        "the tensor data would begin at byte 64, past the end of the file (byte 57)",
    ),
    "one tensor too many": (
        gguf([], [tensor("t" * 20, (8,), F32, 0)], bytes(8), n_tensors=2),
        "the name of tensor 2 of 2 has 0 bytes",
    ),
    "padding to 4 MiB": (
        gguf([key("general.alignment", UINT32, 1 << 22)], [tensor("t", (8,), F32, 0)], bytes(32)),
        f"the tensor data would begin at byte {1 << 22}, past the end of the file",
    ),
}


def refusal(path) -> str:
    """The message of the error; fails when opening takes too long or too much memory."""
    tracemalloc.start()
    began = time.perf_counter()
    try:
        with pytest.raises(GGUFError) as caught:
            open_gguf(path)
        assert time.perf_counter() - began < MOST_SECONDS
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message and len(message) < 500
    return message


def refused_bytes(tmp_path, data: bytes) -> str:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    return refusal(path)


@pytest.mark.parametrize("case", HEADER)
def test_header(tmp_path, case):
    data, expected = HEADER[case]
    assert expected in refused_bytes(tmp_path, data)


@pytest.mark.parametrize("case", KEYS)
def test_keys(tmp_path, case):
    data, expected = KEYS[case]
    assert expected in refused_bytes(tmp_path, data)


@pytest.mark.parametrize("case", ALIGNMENT)
def test_alignment(tmp_path, case):
    data, expected = ALIGNMENT[case]
    wanted = "key 'general.alignment' must be a power of two from 8 to 4194304, and"
    assert f"{wanted} {expected}" in refused_bytes(tmp_path, data)


@pytest.mark.parametrize("case", TENSORS)
def test_tensors(tmp_path, case):
    data, expected = TENSORS[case]
    assert expected in refused_bytes(tmp_path, data)


def test_every_prefix_of_a_file_is_refused(tmp_path):
    whole = llama_file()
    for length in [*range(1, 1200, 7), len(whole) - 1]:
        refused_bytes(tmp_path, whole[:length])


def read_all(path) -> int:
    with open_gguf(path) as file:
        return len(list(file.metadata.values())) + len(file.tensors)


def test_many_small_items_stay_cheap(tmp_path):
    """About half a MB of the smallest things, so half the memory: keys, strings, nested arrays, tensors."""
    n = 30_000
    many_keys = gguf([key(f"{index:x}", UINT8, 1) for index in range(n)])
    strings = gguf([raw_key("k", ARRAY, u32(STRING) + u64(2 * n) + bytes(16 * n))])
    arrays = gguf([raw_key("k", ARRAY, u32(ARRAY) + u64(n) + (u32(UINT8) + u64(0)) * n)])
    tensors = gguf([], [tensor(f"{index:x}", (1,), F32, 32 * index) for index in range(n // 3)], bytes(32 * n // 3))
    path = tmp_path / "m.gguf"
    for data in (many_keys, strings, arrays, tensors):
        path.write_bytes(data)
        began = time.process_time()
        assert read_all(path) > 0
        assert time.process_time() - began < MOST_SECONDS
        # Tracing makes allocation several times slower, so memory is measured in a run of its own.
        tracemalloc.start()
        read_all(path)
        assert tracemalloc.get_traced_memory()[1] < MOST_BYTES // 2
        tracemalloc.stop()


def test_directory(tmp_path):
    assert refusal(tmp_path) == f"{tmp_path}: is a directory, and a GGUF file is needed"


def test_missing_file(tmp_path):
    assert refusal(tmp_path / "absent.gguf").endswith("absent.gguf: no such file")


def test_path_through_a_file(tmp_path):
    (tmp_path / "file").write_bytes(b"x")
    assert "no such file" in refusal(tmp_path / "file" / "m.gguf")


def test_path_with_a_null_character(tmp_path):
    with pytest.raises(GGUFError, match="no such file"):
        open_gguf(f"{tmp_path}/a\0b.gguf")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no named pipes")
def test_pipe(tmp_path):
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert refusal(path) == f"{path}: is a pipe, and a GGUF file is needed"


@pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="the system has no /dev/zero")
def test_device():
    assert refusal("/dev/zero") == "/dev/zero: is a device, and a GGUF file is needed"


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="the system has no file sockets")
def test_socket(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("s")
        assert refusal("s") == "s: is a socket, and a GGUF file is needed"


def test_symbolic_link_loop(tmp_path):
    path = tmp_path / "loop.gguf"
    try:
        path.symlink_to(path)
    except OSError:
        pytest.skip("this system lets no symbolic link be made")
    assert refusal(path) == f"{path}: cannot be read: its symbolic links form a loop"


def test_unreadable_file(tmp_path, monkeypatch):
    path = tmp_path / "m.gguf"
    path.write_bytes(llama_file())

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    # An administrator may read everything, so the system is asked to refuse here.
    monkeypatch.setattr(os, "open", denied)
    assert refusal(path) == f"{path}: cannot be read: permission denied"


@pytest.mark.skipif(os.name == "nt", reason="Windows lets no mapped file be cut or replaced")
def test_file_cut_while_open(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(llama_file())
    with open_gguf(path) as file:
        norm = file.tensors["output_norm.weight"]
        os.truncate(path, norm.offset + 10)
        with pytest.raises(GGUFError) as caught:
            _ = norm.data
    end = norm.offset + norm.n_bytes
    cut = f"was cut to {norm.offset + 10} bytes while open, and bytes up to {end} are needed"
    assert str(caught.value) == f"{path}: {cut}"


@pytest.mark.skipif(os.name == "nt", reason="Windows lets no mapped file be cut or replaced")
def test_vocabulary_cut_while_open(tmp_path):
    path = tmp_path / "m.gguf"
    path.write_bytes(llama_file())
    with open_gguf(path) as file:
        os.truncate(path, 30)
        for read in (file.metadata.get, file.raw_strings):
            with pytest.raises(GGUFError, match="was cut to 30 bytes while open"):
                read("tokenizer.ggml.tokens")


@pytest.mark.skipif(os.name == "nt", reason="Windows lets no mapped file be cut or replaced")
def test_file_replaced_while_open(tmp_path):
    path, other = tmp_path / "m.gguf", tmp_path / "other"
    path.write_bytes(one_tensor(data=struct.pack("<8f", *range(8))))
    other.write_bytes(b"nonsense")
    with open_gguf(path) as file:
        os.replace(other, path)
        assert file.tensors["t"].data.view("<f4").tolist() == list(range(8))


def test_names_in_messages_are_escaped_and_cut(tmp_path):
    assert "key '\\x1b[2Jk' has" in refused_bytes(tmp_path, gguf([raw_key("\x1b[2Jk", 13, bytes(8))]))
    assert f"key '{'k' * 80}'... has" in refused_bytes(tmp_path, gguf([raw_key("k" * 5000, 13, bytes(8))]))
