"""Every block format: its layout, bytes written by hand, and equality with the independent ``gguf`` package."""

import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from edgellama import formats
from edgellama.formats.plain import PlainFormat

REAL_FILES = sorted((Path(__file__).parents[2] / "shared" / "data" / "quantized").glob("*/*.gguf"))
NO_REAL_FILES = pytest.param(
    None, marks=pytest.mark.skip(reason="no quantized sample files beside the checkout"), id="none"
)
WITHOUT_PEER = {"i8", "i16", "i32", "i64", "f64", "q1_0"}  # the gguf package names these but does not decode them
PEERED = [f for f in formats.ALL if f.name not in WITHOUT_PEER]
INTEGER = [f for f in formats.ALL if not issubclass(f, PlainFormat)]
ENCODERS = [formats.by_name(name) for name in ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "q5_0", "q5_1")]
BLOCK_ENCODERS = [f for f in ENCODERS if not issubclass(f, PlainFormat)]


def each(formats_: list) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("fmt", formats_, ids=lambda fmt: fmt.name)


def random_blocks(fmt, n_blocks: int, seed: int = 0) -> np.ndarray:
    """Random bytes, with every F16 field finite."""
    data = np.random.default_rng(seed).integers(0, 256, (n_blocks, fmt.block_bytes), dtype=np.uint8)
    blocks = data.reshape(-1).view(fmt.dtype)
    for field in half_fields(fmt):
        blocks[field] = np.where(np.isfinite(blocks[field]), blocks[field], np.float16(0.0123))
    if fmt.name == "iq1_m":
        blocks["run_scales"][:, 3] &= 0xBFFF  # the top exponent bit of the scale that is spread over four words
    return blocks


def half_fields(fmt) -> list[str]:
    return [field for field in fmt.dtype.names if fmt.dtype[field] == np.float16]


def as_bytes(blocks: np.ndarray) -> np.ndarray:
    return blocks.view(np.uint8).reshape(len(blocks), blocks.dtype.itemsize)


def peer_decode(fmt, blocks: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):
        return gguf.quants.dequantize(as_bytes(blocks), gguf.GGMLQuantizationType(fmt.type_id))


def assert_same_bits(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype == np.float32
    assert actual.shape == expected.shape
    both_nan = np.isnan(actual) & np.isnan(expected)  # which NaN comes out of inf * 0 is the processor's choice
    assert ((actual.view(np.uint32) == expected.view(np.uint32)) | both_nan).all()


# --- registry and layout ---------------------------------------------------------------------------------------------


def test_registry_is_complete_and_ordered():
    not_in_files = {"Q8_1", "Q8_K"}  # formats of activations in flight, never of a stored tensor
    expected = {int(t): t.name.lower() for t in gguf.GGMLQuantizationType if t.name not in not_in_files}
    assert {f.type_id: f.name for f in formats.ALL} == expected
    assert [f.type_id for f in formats.ALL] == sorted(expected)
    assert formats.by_id(12) is formats.by_name("q4_k")
    with pytest.raises(KeyError):
        formats.by_id(4)
    with pytest.raises(KeyError):
        formats.by_name("q4_2")


@each(formats.ALL)
def test_layout(fmt):
    assert (fmt.block_values, fmt.block_bytes) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(fmt.type_id)]
    assert fmt.dtype.itemsize == fmt.block_bytes
    assert fmt.bits_per_weight == 8 * fmt.block_bytes / fmt.block_values
    ends = [fmt.dtype.fields[name][1] + fmt.dtype[name].itemsize for name in fmt.dtype.names]
    assert ends[-1] == fmt.block_bytes and sum(fmt.dtype[name].itemsize for name in fmt.dtype.names) == ends[-1]


def test_a_type_id_is_claimed_once():
    with pytest.raises(TypeError, match="type id 2 is both Q4_0 and Impostor"):
        type("Impostor", (formats.BlockFormat,), {"type_id": 2})


def test_import_needs_numpy_only():
    code = "import sys, edgellama.formats; print({'gguf', 'numba', 'llvmlite'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    assert result.stdout.strip() == "set()", result.stderr


# --- bytes written by hand -------------------------------------------------------------------------------------------

ONE = "003c"  # 1.0 in F16
TWO = "0040"
BY_HAND = [
    ("f32", "0000c03f", {0: 1.5}, "little-endian"),
    ("f64", "000000000000f8bf", {0: -1.5}, "narrowed to float32"),
    ("bf16", "c0bf", {0: -1.5}, "upper half of the float32 0xbfc00000"),
    ("i16", "feff", {0: -2.0}, "two's complement"),
    ("q4_0", TWO + "f0" + "08" * 15, {0: -16, 16: 14, 1: 0, 17: -16}, "code 0 is -8, 15 is +7; high nibble 16 later"),
    ("q4_1", TWO + ONE + "f0" + "00" * 15, {0: 1, 16: 31, 1: 1}, "the offset is added"),
    ("q5_0", ONE + "01000080" + "00" * 15 + "f0", {0: 0, 1: -16, 15: -16, 31: 15}, "bits 0 and 31 are the fifth bits"),
    ("q5_1", ONE + TWO + "00000100" + "00" * 16, {0: 2, 16: 18}, "bit 16 belongs to the first high nibble"),
    ("q8_0", TWO + "80" + "7f" + "ff" * 30, {0: -256, 1: 254, 31: -2}, "signed bytes, all 256 of them"),
    ("q1_0", TWO + "01" + "00" * 14 + "80", {0: 2, 1: -2, 127: 2}, "lowest bit first; 0 is minus"),
    ("q2_k", "21" + "00" * 15 + "e4" * 64 + ONE + TWO, {0: -4, 16: 0, 240: 0}, "run 0: 1 * code - 2 * 2"),
    ("q3_k", "ff" + "00" * 31 + "03" + "00" * 63 + "01" * 8 + "02" * 4 + ONE, {0: 3, 1: -4, 128: 0}, "scale 33 - 32"),
    ("q4_k", ONE + TWO + "81010000" + "41000000" + "23000000" + "f2" + "00" * 127, {0: 0, 1: -2, 32: 15}, "runs 0, 1"),
    (
        "q4_k",
        ONE + TWO + "81000000" + "41000000" + "23000000" + "01" * 128,
        {128: -1},
        "run 4: 35 - 2 * 18, split bits",
    ),
    (
        "q5_k",
        ONE + TWO + "01000000" * 2 + "00000000" + "01" + "00" * 159,
        {0: 14, 1: -2, 32: 0},
        "fifth bit of value 0",
    ),
    ("q6_k", "f1" + "00" * 127 + "83" + "00" * 63 + "01ff" + "01" * 14 + ONE, {0: 17, 16: 32, 64: -17, 96: 0}, "4 + 2"),
    ("tq1_0", "80" + "00" * 51 + ONE, {0: 0, 32: 0, 64: 0, 1: -1}, "byte 128 is 0.1111 in base three"),
    ("tq2_0", "86" + "00" * 63 + ONE, {0: 1, 32: 0, 64: -1, 96: 1, 1: -1}, "codes 2, 1, 0, 2 from the lowest bits"),
    ("iq4_nl", ONE + "f7" + "00" * 15, {0: -10, 16: 113, 1: -127}, "table levels 7 and 15"),
    ("iq4_xs", ONE + "0200" + "01" + "00" * 3 + "08" * 128, {0: 1, 32: -32}, "run 0: 33 - 32; run 1: 0 - 32; level 1"),
    ("mxfp4", "80" + "72" + "00" * 15, {0: 2, 16: 12}, "2 ** (128 - 127) times 1 and 6"),
    ("mxfp4", "00" + "01" * 16, {0: 2.0**-128}, "the smallest scale, halved: a subnormal"),
    ("nvfp4", "38400180" + "72" + "00" * 7 + "02" * 24, {0: 1, 8: 6, 16: 2, 32: 2.0**-9, 48: 0}, "1, 2, 2 ** -9, -0"),
    (
        "iq2_xxs",
        ONE + "00000000" + "01000010" + "00" * 56,
        {0: -3, 1: 3, 7: -3, 8: 3},
        "8 * 3 / 8; the 8th sign is even",
    ),
    ("iq1_s", TWO + "00" * 32 + "0080" + "0000" * 7, {0: -2.25, 32: -1.75}, "row 0 is all -1; bit 15 shifts down"),
    ("iq1_m", "00" * 32 + "08" + "00" * 15 + "0000" * 3 + "0040", {0: -2.25, 8: -1.75}, "scale 2 = nibbles 0, 0, 0, 4"),
]


@pytest.mark.parametrize(
    ("name", "text", "expected", "reason"), BY_HAND, ids=[f"{row[0]}-{i}" for i, row in enumerate(BY_HAND)]
)
def test_bytes_written_by_hand(name, text, expected, reason):
    fmt = formats.by_name(name)
    data = np.frombuffer(bytes.fromhex(text), np.uint8)
    assert data.size == fmt.block_bytes
    values = fmt.decode_rows(data, fmt.block_values)[0]
    assert {i: float(values[i]) for i in expected} == expected, reason


# --- decoding against the gguf package -------------------------------------------------------------------------------


@each(PEERED)
def test_random_bytes_decode_like_the_peer(fmt):
    blocks = random_blocks(fmt, 300 if fmt.block_values > 1 else 20_000)
    assert_same_bits(fmt.decode(blocks), peer_decode(fmt, blocks))


@each([f for f in PEERED if half_fields(f)])
def test_extreme_scales_decode_like_the_peer(fmt):
    extremes = np.array([0, -0.0, 2**-24, -(2**-14), 1, 65504, -65504, np.inf, -np.inf, np.nan], np.float16)
    scales = [half.reshape(-1) for half in np.meshgrid(*[extremes] * len(half_fields(fmt)))]
    blocks = random_blocks(fmt, len(scales[0]))
    for field, scale in zip(half_fields(fmt), scales, strict=True):
        blocks[field] = scale
    assert_same_bits(fmt.decode(blocks), peer_decode(fmt, blocks))


@each([f for f in PEERED if f in INTEGER])
def test_every_byte_value_at_every_place(fmt):
    blocks = random_blocks(fmt, 256)
    for field in set(fmt.dtype.names) - set(half_fields(fmt)):
        part = np.ascontiguousarray(blocks[field]).view(np.uint8).reshape(256, -1)
        part[:] = np.arange(256, dtype=np.uint8)[:, None] + 37 * np.arange(part.shape[1], dtype=np.uint8)
        blocks[field] = part.view(fmt.dtype[field].base).reshape(blocks[field].shape)
    assert_same_bits(fmt.decode(blocks), peer_decode(fmt, blocks))


@pytest.mark.parametrize(("name", "field"), [("iq2_xs", "codes"), ("iq1_s", "high_bits"), ("iq1_m", "run_scales")])
def test_every_value_of_a_sixteen_bit_code(name, field):
    fmt = formats.by_name(name)
    length = fmt.dtype[field].shape[0]
    blocks = random_blocks(fmt, 65536 // length)
    blocks[field] = np.arange(65536, dtype=np.uint16).reshape(-1, length)
    assert_same_bits(fmt.decode(blocks), peer_decode(fmt, blocks))


@pytest.mark.parametrize("name", ["f16", "bf16"])
def test_every_sixteen_bit_float(name):
    fmt = formats.by_name(name)
    blocks = np.arange(65536, dtype=np.uint16).view(fmt.dtype)
    values = fmt.decode(blocks)
    assert_same_bits(values, peer_decode(fmt, blocks))
    numbers = ~np.isnan(values[:, 0])
    assert np.array_equal(fmt.encode(values)[numbers], as_bytes(blocks)[numbers])


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=f"{path.parent.name}/{path.stem}") for path in REAL_FILES] or [NO_REAL_FILES]
)
def test_real_files_decode_like_the_peer(path):
    seen = set()
    for tensor in gguf.GGUFReader(path).tensors:
        fmt = formats.by_id(int(tensor.tensor_type))
        if fmt in seen:
            continue  # one tensor of each type keeps the whole sweep in seconds
        seen.add(fmt)
        n_columns = int(tensor.shape[0])
        data = tensor.data.reshape(-1).view(np.uint8)[: 32 * fmt.row_bytes(n_columns)]
        expected = gguf.quants.dequantize(data.reshape(-1, fmt.row_bytes(n_columns)), tensor.tensor_type)
        assert_same_bits(fmt.decode_rows(data, n_columns), expected)


# --- the integer view ------------------------------------------------------------------------------------------------


@each(INTEGER)
def test_integers_reconstruct_the_values(fmt):
    blocks = random_blocks(fmt, 200)
    q, scale, minimum = fmt.integers(blocks)
    assert (q.dtype, scale.dtype, minimum.dtype) == (np.int8, np.float32, np.float32)
    assert q.shape == (200, fmt.block_values)
    assert scale.shape == minimum.shape == (200, fmt.block_values // 16)
    products = q.astype(np.float64) * np.repeat(scale, 16, axis=1)
    minimums = np.repeat(minimum, 16, axis=1).astype(np.float64)
    values = fmt.decode(blocks)
    held = np.isfinite(values)  # the largest MXFP4 exponents go beyond float32
    error = np.abs(products - minimums - values)[held]
    assert (error <= np.float64(2**-23) * (np.abs(products) + np.abs(minimums))[held]).all()
    assert (np.abs(products)[~held] > np.finfo(np.float32).max).all()


LARGEST_CODES = {
    "q4_0": 15,
    "q4_1": 15,
    "q5_0": 31,
    "q5_1": 31,
    "q2_k": 3,
    "q3_k": 7,
    "q4_k": 15,
    "q5_k": 31,
    "q6_k": 63,
}
LARGEST_CODES |= {"tq1_0": 2, "tq2_0": 3}


@each(INTEGER)
def test_stored_codes_fill_their_range(fmt):
    q = fmt.integers(random_blocks(fmt, 200))[0].astype(int)
    if fmt.name in LARGEST_CODES:
        codes = q + fmt.zero_point
        assert (codes.min(), codes.max()) == (0, LARGEST_CODES[fmt.name])
    else:  # signed bytes as they are, or levels from a table
        assert fmt.zero_point == (0 if fmt.name == "q8_0" else None)


# --- rows ------------------------------------------------------------------------------------------------------------


@each(formats.ALL)
def test_rows_of_several_blocks(fmt):
    blocks = random_blocks(fmt, 12)
    rows = fmt.decode_rows(as_bytes(blocks).reshape(3, -1), 4 * fmt.block_values)
    assert_same_bits(rows, fmt.decode(blocks).reshape(3, 4 * fmt.block_values))
    assert fmt.decode_rows(np.empty(0, np.uint8), fmt.block_values).shape == (0, fmt.block_values)


def test_rows_longer_than_one_chunk():
    fmt = formats.by_name("q6_k")
    blocks = random_blocks(fmt, 2500)
    assert_same_bits(fmt.decode_rows(as_bytes(blocks), 256 * 2500), fmt.decode(blocks).reshape(1, -1))


def test_wrong_row_sizes_are_refused():
    fmt = formats.by_name("q4_k")
    for n_columns in (0, -256, 255, 384):
        with pytest.raises(ValueError, match="multiples of 256"):
            fmt.decode_rows(np.zeros(144, np.uint8), n_columns)
    with pytest.raises(ValueError, match="not whole q4_k rows"):
        fmt.decode_rows(np.zeros(145, np.uint8), 256)
    with pytest.raises(ValueError, match="float32 are not whole"):
        fmt.decode_rows(np.zeros(144, np.float32), 256)


# --- encoding --------------------------------------------------------------------------------------------------------


def odd_rows() -> dict[str, np.ndarray]:
    """Rows of 64 values that rounding code gets wrong."""
    rng = np.random.default_rng(5)
    ramp = np.arange(64, dtype=np.float32)
    return {
        "zeros": np.zeros(64),
        "negative zeros": np.full(64, -0.0),
        "constant": np.full(64, 0.3),
        "negative constant": np.full(64, -0.3),
        "equal extremes, plus first": np.where(ramp % 2 == 0, 1.0, -1.0),
        "equal extremes, minus first": np.where(ramp % 2 == 0, -1.0, 1.0),
        "one value": np.where(ramp == 40, 5.0, 0.0),
        "halves of 4-bit steps": np.append((ramp[:63] - 31) / 4 % 8, -8.0),
        "halves of 8-bit steps": np.append(ramp[:63] - 31.5, 127.0),
        "F16 subnormal scale": rng.standard_normal(64) * 1e-6,
        "scale below F16": rng.standard_normal(64) * 1e-9,
        "as large as F16": np.append(rng.uniform(-1, 1, 63), 1.0) * 65504,
        "one far value": np.append(rng.standard_normal(63), 1000.0),
        "far from zero": 100 + rng.standard_normal(64),
    }


@pytest.mark.parametrize("case", odd_rows())
@each(ENCODERS)
def test_odd_rows_encode_like_the_peer(fmt, case):
    rows = odd_rows()[case].astype(np.float32)[None]
    with np.errstate(over="ignore"):
        expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType(fmt.type_id)).view(np.uint8)
    assert np.array_equal(fmt.encode(rows), expected)


@each(ENCODERS)
def test_random_rows_encode_like_the_peer(fmt):
    rng = np.random.default_rng(1)
    rows = (rng.standard_normal((64, 4096)) * 2.0 ** rng.integers(-12, 8, (64, 1))).astype(np.float32)
    expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType(fmt.type_id)).view(np.uint8)
    encoded = fmt.encode(rows)
    assert np.array_equal(encoded, expected)
    assert encoded.dtype == np.uint8 and encoded.shape == (64, fmt.row_bytes(4096))
    assert np.array_equal(encoded, fmt.encode(rows[:, ::-1][:, ::-1], importance=np.ones(4096)))


@each(BLOCK_ENCODERS)
def test_round_trip_error_and_idempotence(fmt):
    rows = np.random.default_rng(2).standard_normal((16, 512)).astype(np.float32)
    encoded = fmt.encode(rows)
    decoded = fmt.decode_rows(encoded, 512)
    scale = np.abs(fmt.integers(fmt.blocks(encoded, 512))[1]).repeat(16, axis=1).reshape(16, 512)
    # half a step, or one whole where the extreme opposite to the peak clips; and the rounding of scale and minimum
    steps = 1.0 if fmt.name in ("q4_0", "q5_0") else 0.5
    assert (np.abs(rows - decoded) <= steps * scale + 2**-10 * np.abs(rows).max()).all()
    assert np.array_equal(fmt.encode(decoded), encoded)


@each(BLOCK_ENCODERS)
def test_encoders_refuse_what_they_cannot_hold(fmt):
    rows = np.zeros((1, 32), np.float32)
    for bad in (np.nan, np.inf, -np.inf):
        rows[0, 5] = bad
        with pytest.raises(ValueError, match="NaN or infinity"):
            fmt.encode(rows)
    rows[0, 5] = 3e38
    with pytest.raises(ValueError, match="beyond the F16 range"):
        fmt.encode(rows)
    with pytest.raises(ValueError, match="multiples of 32"):
        fmt.encode(np.zeros((1, 33), np.float32))


@each(BLOCK_ENCODERS)
def test_values_below_any_scale_become_zero(fmt):
    tiny = np.full((1, 32), 1e-42, np.float32)
    tiny[0, 3] = -1e-42  # the reciprocal of the scale overflows here
    assert (fmt.decode_rows(fmt.encode(tiny), 32) == 0).all()


def test_sixteen_bit_floats_keep_what_is_not_finite():
    rows = np.array([[np.inf, -np.inf, np.nan, 1e39 - 1e39]], np.float32)
    rows.view(np.uint32)[0, 3] = 0x7F800001  # a signalling NaN with nothing in its upper half
    for name in ("f16", "bf16"):
        fmt = formats.by_name(name)
        values = fmt.decode_rows(fmt.encode(rows), 4)[0]
        assert values[0] == np.inf and values[1] == -np.inf and np.isnan(values[2:]).all()
