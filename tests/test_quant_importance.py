"""Importance matrices: both kinds of file, written here by hand, and what each refuses."""

import struct

import numpy as np
import pytest
from gguf_builder import ARRAY, F32, FLOAT32, STRING, UINT32, gguf, key, tensor

from edgellama.errors import EdgellamaError
from edgellama.gguf import open_gguf
from quant.encoders import column_weights
from quant.importance import read_importance

SUMS = np.array([[2048.0, 4096.0, 0.0], [9.0, 9.0, 9.0]], np.float32)  # two experts
COUNTS = np.array([1024.0, 0.0], np.float32)  # the second was never chosen


def gguf_file(path, sums=SUMS, counts=COUNTS, kind="imatrix"):
    keys = [
        key("general.type", STRING, kind),
        key("imatrix.datasets", ARRAY, (STRING, ["a text"])),
        key("imatrix.chunk_count", UINT32, 2),
        key("imatrix.chunk_size", UINT32, 512),
    ]
    n_rows, n_columns = sums.shape
    padded = sums.tobytes().ljust(32, b"\0")
    rows = [
        tensor("blk.0.ffn_up.weight.in_sum2", (n_columns, n_rows), F32, 0),
        tensor("blk.0.ffn_up.weight.counts", (1, len(counts)), F32, len(padded)),
    ]
    path.write_bytes(gguf(keys, rows, padded + counts.tobytes()))
    return path


def dat_entry(name: str, values, n_calls: int = 3) -> bytes:
    data = np.asarray(values, "<f4").tobytes()
    return struct.pack("<i", len(name)) + name.encode() + struct.pack("<ii", n_calls, len(values)) + data


def dat_file(path, *entries: bytes, tail: bytes = b""):
    path.write_bytes(struct.pack("<i", len(entries)) + b"".join(entries) + tail)
    return path


def tensor_of(tmp_path, name: str, dimensions: tuple[int, ...]):
    """A tensor as a model file has it; `dimensions` with the contiguous one first."""
    path = tmp_path / "model.gguf"
    path.write_bytes(gguf([key("x", FLOAT32, 1.0)], [tensor(name, dimensions, F32, 0)], bytes(4 * np.prod(dimensions))))
    with open_gguf(path) as file:
        return file.tensors[name]


def test_gguf_gives_sums_over_counts_and_ones_for_unseen_experts(tmp_path):
    matrix = read_importance(gguf_file(tmp_path / "i.gguf"))
    np.testing.assert_array_equal(matrix.columns["blk.0.ffn_up.weight"], [[2, 4, 0], [1, 1, 1]])
    assert (matrix.datasets, matrix.n_chunks) == (("a text",), 2)


def test_dat_with_and_without_its_tail(tmp_path):
    entries = dat_entry("blk.0.attn_q.weight", [1, 2, 3]), dat_entry("output.weight", [5, 6])
    tail = struct.pack("<ii", 11, 6) + b"a text"
    matrix = read_importance(dat_file(tmp_path / "new.dat", *entries, tail=tail))
    np.testing.assert_array_equal(matrix.columns["blk.0.attn_q.weight"], [1, 2, 3])
    np.testing.assert_array_equal(matrix.columns["output.weight"], [5, 6])
    assert (matrix.datasets, matrix.n_chunks) == (("a text",), 11)
    old = read_importance(dat_file(tmp_path / "old.dat", *entries))
    assert list(old.columns) == list(matrix.columns) and old.n_chunks == 0


def test_columns_of_a_tensor(tmp_path):
    matrix = read_importance(gguf_file(tmp_path / "i.gguf"))
    experts = tensor_of(tmp_path, "blk.0.ffn_up.weight", (3, 5, 2))
    np.testing.assert_array_equal(matrix.of(experts), [[2, 4, 0], [1, 1, 1]])
    assert matrix.of(tensor_of(tmp_path, "blk.1.ffn_up.weight", (3, 5, 2))) is None
    with pytest.raises(EdgellamaError, match=r"'blk\.0\.ffn_up\.weight'.*another model"):
        matrix.of(tensor_of(tmp_path, "blk.0.ffn_up.weight", (3, 5)))


def test_the_token_embedding_has_no_inputs(tmp_path):
    matrix = read_importance(dat_file(tmp_path / "i.dat", dat_entry("token_embd.weight", [1, 2])))
    assert matrix.of(tensor_of(tmp_path, "token_embd.weight", (2, 8))) is None


def test_weights_have_mean_one_and_are_never_zero():
    weights = column_weights(np.array([0.0, 2e-30, 6e-30]))
    np.testing.assert_allclose(weights, [1e-6, 0.75, 2.25], rtol=1e-6)
    np.testing.assert_array_equal(column_weights(np.zeros(4)), np.ones(4))


@pytest.mark.parametrize("length", [0, 3, 4, 10, 30, 60])
def test_a_cut_dat_is_refused(tmp_path, length):
    path = dat_file(tmp_path / "i.dat", dat_entry("blk.0.attn_q.weight", np.arange(1, 9)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(EdgellamaError, match=r"i\.dat: (is no importance matrix|holds no importance)"):
        read_importance(path)


@pytest.mark.parametrize(
    "content",
    [
        b"not an importance matrix at all",
        struct.pack("<iii", 1, 2**30, 1),  # a name longer than the file
        struct.pack("<ii", 1, -5) + bytes(64),
        struct.pack("<ii4sii", 1, 4, b"name", 1, -8) + bytes(64),
        struct.pack("<ii4sii", 1, 4, b"name", 1, 2**30) + bytes(64),
        struct.pack("<i", -1),
    ],
)
def test_hostile_dat(tmp_path, content):
    (tmp_path / "i.dat").write_bytes(content)
    with pytest.raises(EdgellamaError, match=r"i\.dat: (is no importance matrix|holds no importance)"):
        read_importance(tmp_path / "i.dat")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_values_that_are_no_mean_squares_are_refused(tmp_path, bad):
    for path in (
        dat_file(tmp_path / "i.dat", dat_entry("output.weight", [1, bad])),
        gguf_file(tmp_path / "i.gguf", np.array([[1, bad, 1]], np.float32), COUNTS[:1]),
    ):
        with pytest.raises(EdgellamaError, match="negative numbers, NaN or infinity"):
            read_importance(path)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(EdgellamaError, match="imatrix"):
        read_importance(gguf_file(tmp_path / "model.gguf", kind="model"))
    with pytest.raises(EdgellamaError, match="cannot be read"):
        read_importance(tmp_path / "missing.dat")
