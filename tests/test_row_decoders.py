"""Weights that stay as they lie in the file: every row decoder against formats.integers(), and products on top."""

import numpy as np
import pytest

from edgellama import formats
from edgellama.compiler.loader import load_kernels
from edgellama.cpu.layout import WORKER, quantized_bytes, unpacked_scratch_bytes
from edgellama.frame import FRAME
from edgellama.ops import ADD, BOUND, EMBED, MATMUL, PANEL, QUANTIZE, STORE

FORMATS = [block_format.name for block_format in formats.ALL if "integers" in vars(block_format)]
FLOATS = ("f32", "f16", "bf16")
GUARD = 64


@pytest.fixture(scope="module")
def kernels():
    """The kernels of the current instruction set."""
    return load_kernels()


def aligned(n_bytes: int) -> np.ndarray:
    """Bytes at an address that is a multiple of 64, all 0xAA."""
    memory = np.full(n_bytes + 64, 0xAA, np.uint8)
    start = -memory.ctypes.data % 64
    return memory[start : start + n_bytes]


class Guarded:
    """An output with guard bytes on both sides."""

    def __init__(self, shape, dtype):
        self.n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        self.memory = aligned(self.n_bytes + 2 * GUARD)
        self.values = self.memory[GUARD : GUARD + self.n_bytes].view(dtype).reshape(shape)
        self.address = self.values.ctypes.data

    def check(self) -> np.ndarray:
        assert (self.memory[:GUARD] == 0xAA).all()
        assert (self.memory[GUARD + self.n_bytes :] == 0xAA).all()
        return self.values


def decode_row(kernels, name: str, data: np.ndarray, n_columns: int):
    outputs = Guarded(n_columns, np.uint8), Guarded(n_columns // 16, np.float32), Guarded(n_columns // 16, np.float32)
    kernels.function(f"row_{name}", 5)(data.ctypes.data, n_columns, *(output.address for output in outputs))
    return [output.check() for output in outputs]


def check_row(kernels, name: str, data: np.ndarray, n_columns: int) -> None:
    codes, scales, minimums = decode_row(kernels, name, data, n_columns)
    block_format = formats.by_name(name)
    with np.errstate(all="ignore"):
        q, expected_scales, expected_minimums = block_format.integers(block_format.blocks(data, n_columns))
    np.testing.assert_array_equal(codes, (q.reshape(-1).astype(np.int16) + 128).astype(np.uint8))
    np.testing.assert_array_equal(scales, expected_scales.reshape(-1))
    np.testing.assert_array_equal(minimums, -expected_minimums.reshape(-1))


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("n_blocks", (1, 3, 37))
def test_random_bytes_decode_to_the_integers_of_the_format(kernels, name, n_blocks):
    block_format = formats.by_name(name)
    random = np.random.default_rng(n_blocks)
    data = random.integers(0, 256, n_blocks * block_format.block_bytes, dtype=np.uint8)
    check_row(kernels, name, data, n_blocks * block_format.block_values)


@pytest.mark.parametrize("name", FORMATS)
def test_every_byte_value_at_every_place(kernels, name):
    """All grid rows, levels, exponents and scale codes that a byte can name, with every neighbour equal to it."""
    block_format = formats.by_name(name)
    data = np.repeat(np.arange(256, dtype=np.uint8), block_format.block_bytes)
    check_row(kernels, name, data, 256 * block_format.block_values)


@pytest.mark.parametrize("name", FLOATS)
@pytest.mark.parametrize("n_columns", (1, 7, 16, 33, 100))
def test_float_rows(kernels, name, n_columns):
    block_format = formats.by_name(name)
    data = np.random.default_rng(n_columns).integers(0, 256, n_columns * block_format.block_bytes, dtype=np.uint8)
    out = Guarded(n_columns, np.float32)
    kernels.function(f"row_{name}", 3)(data.ctypes.data, n_columns, out.address)
    np.testing.assert_array_equal(out.check(), block_format.decode_rows(data, n_columns)[0])


def random_rows(name: str, n_rows: int, n_columns: int) -> np.ndarray:
    """Rows of random bytes, (n_rows, row bytes), whose float fields are small numbers."""
    random, block_format = np.random.default_rng(n_rows), formats.by_name(name)
    if name in FLOATS:
        return block_format.encode(random.standard_normal((n_rows, n_columns), dtype=np.float32))
    n_bytes = block_format.row_bytes(n_columns)
    data = random.integers(0, 256, (n_rows, n_bytes), dtype=np.uint8)
    blocks = data.reshape(-1).view(block_format.dtype)
    for field in {"scale", "offset", "minimum_scale"} & set(block_format.dtype.names):
        blocks[field] = random.uniform(-0.02, 0.02, len(blocks))
    if name == "iq1_m":  # its scale is spread over the upper nibbles: 1.0 is 0x3C00
        blocks["run_scales"] = blocks["run_scales"] & 0xFFF | np.array([0, 0, 0xC000, 0x3000], np.uint16)
    if name == "mxfp4":
        blocks["exponent"] = random.integers(118, 124, len(blocks))
    if name == "nvfp4":
        blocks["scales"] = random.integers(0, 64, (len(blocks), 4))
    return data


class Machine:
    """Runs one kernel at a time as worker 0 of 1 on a frame of n_tokens tokens."""

    def __init__(self, kernels, n_tokens: int, scratch_bytes: int):
        self.kernels, self.n_tokens = kernels, n_tokens
        self.frame, self.worker = np.zeros(1, FRAME), np.zeros(1, WORKER)
        self.scratch = Guarded(scratch_bytes, np.uint8)
        self.frame["n_tokens"] = n_tokens
        self.worker["scratch"], self.worker["n_active"] = self.scratch.address, 1

    def run(self, kernel: str, spec, operands: dict, integers: dict, helper: str = "", floats=()) -> None:
        op = aligned(BOUND.itemsize)
        op[:] = 0
        for name, value in operands.items():
            op[spec.operand(name) :][:8].view(np.int64)[0] = value
        for name, value in integers.items():
            op[spec.integer(name) :][:8].view(np.int64)[0] = value
        for name, value in dict(floats).items():
            op[spec.float(name) :][:4].view(np.float32)[0] = value
        if helper:
            op.view(BOUND)["helper"] = self.kernels.address(helper)
        addresses = (op.ctypes.data, self.frame.ctypes.data, self.worker.ctypes.data)
        self.kernels.function(kernel, 3)(*addresses)
        self.scratch.check()


def product(kernels, name: str, data: np.ndarray, x: np.ndarray, mode: int = STORE, bias=None, start=None):
    """out (n_tokens, n_rows) of the unpacked kernel for this many tokens."""
    (n_tokens, n_columns), n_rows, floats = x.shape, len(data), name in FLOATS
    tokens = kernels.target.tile_tokens
    machine = Machine(kernels, n_tokens, unpacked_scratch_bytes(n_columns, tokens, floats))
    panels = aligned(max(quantized_bytes(n_columns, n_tokens, tokens), 4 * n_columns * (n_tokens + tokens)))
    shape = {"width": n_columns, "pitch": n_columns}
    preparation = ("panel", PANEL) if floats else ("quantize", QUANTIZE)
    machine.run(*preparation, {"x": x.ctypes.data, "out": panels.ctypes.data}, shape)
    out = Guarded((n_tokens, n_rows), np.float32)
    out.values[:] = np.nan if start is None else start
    operands = {"weight": data.ctypes.data, "x": panels.ctypes.data, "out": out.address}
    operands["bias"] = 0 if bias is None else bias.ctypes.data
    integers = {"n_rows": n_rows, "n_columns": n_columns, "pitch": n_rows, "mode": mode, "row_bytes": data.shape[1]}
    kernel = ("matvec" if n_tokens == 1 else "gemm") + ("_float_rows" if floats else "_rows")
    machine.run(kernel, MATMUL, operands, integers, f"row_{name}")
    return out.check()


def rounded(x: np.ndarray) -> np.ndarray:
    """What int8 blocks of 32 keep of the activations."""
    blocks = x.reshape(-1, 32)
    largest = np.abs(blocks).max(axis=1, keepdims=True)
    return (np.rint(blocks * (np.float32(127) / largest)) * (largest / np.float32(127))).reshape(x.shape)


def check_product(kernels, name: str, n_rows: int, n_columns: int, n_tokens: int) -> None:
    data = random_rows(name, n_rows, n_columns)
    random = np.random.default_rng(n_tokens)
    x = random.standard_normal((n_tokens, n_columns), dtype=np.float32)
    out = product(kernels, name, data, x)
    weights = formats.by_name(name).decode_rows(data, n_columns).astype(np.float64)
    kept = x if name in FLOATS else rounded(x)
    expected = kept @ weights.T
    bound = 4e-6 * (np.abs(kept) @ np.abs(weights).T) + 1e-12
    assert (np.abs(out - expected) <= bound).all()
    for token in range(n_tokens):
        np.testing.assert_array_equal(out[token], product(kernels, name, data, x[token : token + 1])[0])


@pytest.mark.parametrize("name", [*FORMATS, *FLOATS])
def test_a_product_of_every_format(kernels, name):
    check_product(kernels, name, n_rows=37, n_columns=256 * 5, n_tokens=3)


@pytest.mark.parametrize("n_tokens", (1, 2, 5, 6, 7, 13))
@pytest.mark.parametrize(("name", "n_columns"), [("q4_0", 32 * 3), ("q5_1", 1024 + 32), ("q4_k", 512), ("q8_0", 32)])
def test_products_of_any_number_of_tokens(kernels, name, n_columns, n_tokens):
    for n_rows in (1, 17, 32, 70):
        check_product(kernels, name, n_rows, n_columns, n_tokens)


@pytest.mark.parametrize("n_tokens", (1, 2, 7))
@pytest.mark.parametrize("name", FLOATS)
def test_float_products_of_odd_widths(kernels, name, n_tokens):
    check_product(kernels, name, n_rows=35, n_columns=259, n_tokens=n_tokens)


@pytest.mark.parametrize("n_tokens", (1, 7))
@pytest.mark.parametrize("name", ("q6_k", "bf16"))
def test_bias_and_addition(kernels, name, n_tokens):
    data, random = random_rows(name, 41, 256), np.random.default_rng(0)
    x = random.standard_normal((n_tokens, 256), dtype=np.float32)
    bias = random.standard_normal(41, dtype=np.float32)
    start = random.standard_normal((n_tokens, 41), dtype=np.float32)
    plain = product(kernels, name, data, x)
    np.testing.assert_array_equal(product(kernels, name, data, x, bias=bias), plain + bias)
    np.testing.assert_array_equal(product(kernels, name, data, x, ADD, start=start), plain + start)
    np.testing.assert_array_equal(product(kernels, name, data, x, ADD, bias, start), (plain + bias) + start)


@pytest.mark.parametrize("scale", (1.0, 16.25))
@pytest.mark.parametrize("name", [*FORMATS, *FLOATS])
def test_embedding(kernels, name, scale):
    data = random_rows(name, 19, 768)
    token_ids = np.array([18, 0, 7, 7, 3], np.int32)
    machine = Machine(kernels, len(token_ids), unpacked_scratch_bytes(768, 1))
    machine.frame["token_ids"] = token_ids.ctypes.data
    out = Guarded((len(token_ids), 768), np.float32)
    kernel = "embed_floats" if name in FLOATS else "embed_codes"
    operands = {"table": data.ctypes.data, "out": out.address}
    machine.run(kernel, EMBED, operands, {"width": 768, "row_bytes": data.shape[1]}, f"row_{name}", {"scale": scale})
    wanted = formats.by_name(name).decode_rows(data, 768)[token_ids] * np.float32(scale)
    np.testing.assert_array_equal(out.check(), wanted)
