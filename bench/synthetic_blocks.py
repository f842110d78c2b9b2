"""Random but valid blocks of any GGUF tensor type, written as bytes without quantizing anything.

Every bit pattern of a block's integer part is legal, so it is filled with random bytes; only the float scales must be
sensible. A sample of blocks with scale one is decoded by the `gguf` package, which tells what scale gives the weights
the wanted root mean square: no table of per-type constants has to be kept.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

CHUNK_BYTES = 32 << 20  # random bytes made at once; bounds the memory beside the tensor itself
SAMPLE_BLOCKS = 512


@dataclass(frozen=True)
class ScaleFields:
    """Where a block keeps its F16 scale, and a second one (minimum or offset) as a multiple of the first."""

    offset: int
    second_offset: int | None = None
    second_ratio: float = 0.0  # chosen so that the decoded weights have mean zero


# Q4_K: w = d·scale·q - dmin·min with q in 0..15 and scale, min alike: dmin = 7.5·d centres w. Others likewise.
SCALE_FIELDS = {
    "Q4_0": ScaleFields(0),
    "Q4_1": ScaleFields(0, 2, -7.5),
    "Q5_0": ScaleFields(0),
    "Q5_1": ScaleFields(0, 2, -15.5),
    "Q8_0": ScaleFields(0),
    "Q2_K": ScaleFields(80, 82, 1.5),
    "Q3_K": ScaleFields(108),
    "Q4_K": ScaleFields(0, 2, 7.5),
    "Q5_K": ScaleFields(0, 2, 15.5),
    "Q6_K": ScaleFields(208),
    "IQ1_S": ScaleFields(0),
    "IQ2_XXS": ScaleFields(0),
    "IQ2_XS": ScaleFields(0),
    "IQ2_S": ScaleFields(0),
    "IQ3_XXS": ScaleFields(0),
    "IQ3_S": ScaleFields(0),
    "IQ4_NL": ScaleFields(0),
    "IQ4_XS": ScaleFields(0),
    "TQ1_0": ScaleFields(52),
    "TQ2_0": ScaleFields(64),
}


def _put_f16(blocks: np.ndarray, offset: int, values: np.ndarray) -> None:
    blocks[:, offset : offset + 2] = values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _put_scales(type_name: str, blocks: np.ndarray, scale: float, rng: np.random.Generator) -> None:
    """Signs are random: the integer ranges are lopsided (-8..7), and a common sign would give every weight one bias."""
    signed = np.where(rng.integers(0, 2, len(blocks), dtype=np.uint8), scale, -scale)
    if type_name == "IQ1_M":
        _put_iq1_m_scales(blocks, signed)
    elif type_name == "MXFP4":
        blocks[:, 0] = round(127 + math.log2(scale))  # E8M0 knows powers of two only, and no sign
    else:
        fields = SCALE_FIELDS[type_name]
        _put_f16(blocks, fields.offset, signed)
        if fields.second_offset is not None:
            _put_f16(blocks, fields.second_offset, signed * fields.second_ratio)


def _put_iq1_m_scales(blocks: np.ndarray, scales: np.ndarray) -> None:
    """IQ1_M spreads its F16 scale, lowest nibble first, over the top nibbles of its last four 16-bit words."""
    words = blocks[:, 48:56].copy().view("<u2")
    bits = scales.astype("<f2").view("<u2")
    for index in range(4):
        words[:, index] = (words[:, index] & 0x0FFF) | (((bits >> (4 * index)) & 0xF) << 12)
    blocks[:, 48:56] = words.view(np.uint8)


def block_type_names() -> list[str]:
    return [*SCALE_FIELDS, "IQ1_M", "MXFP4"]


def _block_sizes(type_name: str) -> tuple[int, int]:
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    return GGML_QUANT_SIZES[GGMLQuantizationType[type_name]]


def _random_bytes(n_bytes: int, rng: np.random.Generator) -> np.ndarray:
    words = rng.integers(0, 1 << 64, -(-n_bytes // 8), dtype=np.uint64)
    return words.view(np.uint8)[:n_bytes]


def _scale_for(type_name: str, rms: float, rng: np.random.Generator) -> float:
    """The scale that gives decoded weights the root mean square `rms`, found by decoding a sample with scale one."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize

    _, block_bytes = _block_sizes(type_name)
    sample = _random_bytes(SAMPLE_BLOCKS * block_bytes, rng).reshape(SAMPLE_BLOCKS, block_bytes).copy()
    _put_scales(type_name, sample, 1.0, rng)
    values = dequantize(sample, GGMLQuantizationType[type_name])
    return rms / float(np.sqrt(np.mean(np.square(values, dtype=np.float64))))


def _fill_blocks(type_name: str, out: np.ndarray, rms: float, rng: np.random.Generator) -> None:
    _, block_bytes = _block_sizes(type_name)
    scale = _scale_for(type_name, rms, rng)
    blocks = out.reshape(-1, block_bytes)
    step = max(1, CHUNK_BYTES // block_bytes)
    for start in range(0, len(blocks), step):
        part = blocks[start : start + step]
        part[:] = _random_bytes(part.size, rng).reshape(part.shape)
        _put_scales(type_name, part, scale, rng)


def _to_f32(values: np.ndarray) -> np.ndarray:
    return values.view(np.uint8)


def _to_f16(values: np.ndarray) -> np.ndarray:
    return values.astype("<f2").view(np.uint8)


def _to_bf16(values: np.ndarray) -> np.ndarray:
    return (values.view("<u4") >> 16).astype("<u2").view(np.uint8)


FLOAT_ENCODERS: dict[str, Callable[[np.ndarray], np.ndarray]] = {"F32": _to_f32, "F16": _to_f16, "BF16": _to_bf16}


def _fill_floats(type_name: str, out: np.ndarray, rms: float, rng: np.random.Generator) -> None:
    encode = FLOAT_ENCODERS[type_name]
    _, element_bytes = _block_sizes(type_name)
    step = CHUNK_BYTES // 4
    for start in range(0, out.size // element_bytes, step):
        count = min(step, out.size // element_bytes - start)
        values = (rng.random(count, dtype=np.float32) - np.float32(0.5)) * np.float32(rms * math.sqrt(12))
        out[start * element_bytes : (start + count) * element_bytes] = encode(values)


def row_bytes(type_name: str, n_columns: int) -> int:
    elements, block_bytes = _block_sizes(type_name)
    if n_columns % elements:
        raise ValueError(f"rows of {n_columns} values do not fill {type_name} blocks of {elements}")
    return n_columns // elements * block_bytes


def random_tensor(type_name: str, n_rows: int, n_columns: int, rms: float, rng: np.random.Generator) -> np.ndarray:
    """Bytes (n_rows, row bytes) of a random tensor whose decoded values have mean about zero and this rms."""
    out = np.empty(n_rows * row_bytes(type_name, n_columns), np.uint8)
    fill = _fill_floats if type_name in FLOAT_ENCODERS else _fill_blocks
    fill(type_name, out, rms, rng)
    return out.reshape(n_rows, -1)
