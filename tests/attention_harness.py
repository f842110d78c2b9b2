"""One attention layer run by hand: a poisoned paged cache, its decoders, and sequences that step through it."""

from dataclasses import dataclass, replace

import numpy as np
from kernel_harness import Guarded, Machine

from edgellama.cpu.layout import attention_scratch_bytes
from edgellama.frame import FEW_ROWS, PAGE_POSITIONS, Frame
from edgellama.ops import ADJACENT, ATTENTION, ROPE_STORE, ROPE_TABLE
from edgellama.program import AttentionShape

NORM_EPSILON = 1e-5
BASE = 100.0  # of the rotary frequencies: small, so that every pair turns far within a test


@dataclass(frozen=True)
class Layer:
    """One attention layer: head counts and widths, how many values of a head turn, which form pairs, and its quirks."""

    shape: AttentionShape
    rope_dim: int
    pairing: int = ADJACENT
    window: int = 0
    soft_cap: float = 0.0
    slopes: np.ndarray | None = None  # (n_heads,)
    norms: tuple[np.ndarray, np.ndarray] | None = None  # of queries and of keys, (key_dim,)

    @property
    def width(self) -> int:
        """Values in a row of queries, keys and values."""
        shape = self.shape
        return (shape.n_heads + shape.n_kv_heads) * shape.key_dim + shape.n_kv_heads * shape.value_dim

    @property
    def out_width(self) -> int:
        return self.shape.n_heads * self.shape.value_dim

    @property
    def inverse_frequencies(self) -> np.ndarray:
        return BASE ** (-np.arange(0, self.rope_dim, 2) / self.rope_dim)


def layer_of(head_dim: int, group: int, n_kv_heads: int = 2, pairing: int = ADJACENT) -> Layer:
    return Layer(AttentionShape(group * n_kv_heads, n_kv_heads, head_dim, head_dim, "f16"), head_dim, pairing)


class Cache:
    """The poisoned cache of one layer; decodes to float32 (n_pages, n_kv_heads, PAGE_POSITIONS, width)."""

    def __init__(self, shape: AttentionShape, n_pages: int):
        self.shape, self.kv_type, self.n_pages = shape, shape.kv_type, n_pages
        sizes = shape.key_bytes, shape.value_bytes
        self.keys, self.values = (Guarded((n_pages * shape.n_kv_heads, size), np.uint8) for size in sizes)

    def decoded(self) -> tuple[np.ndarray, np.ndarray]:
        sides = ((self.keys, self.shape.key_dim, True), (self.values, self.shape.value_dim, False))
        shape = (self.n_pages, self.shape.n_kv_heads, PAGE_POSITIONS, -1)
        decode = {"q8_0": decode_q8, "f16": decode_f16, "f32": decode_f32}[self.kv_type]
        keys, values = (decode(memory.check(), width, is_key).reshape(shape) for memory, width, is_key in sides)
        return keys, values


def decode_f16(pages: np.ndarray, width: int, is_key: bool) -> np.ndarray:
    return decode_floats(pages.view(np.float16), width, is_key)


def decode_f32(pages: np.ndarray, width: int, is_key: bool) -> np.ndarray:
    return decode_floats(pages.view(np.float32), width, is_key)


def decode_floats(values: np.ndarray, width: int, is_key: bool) -> np.ndarray:
    n_pages = len(values)
    if is_key:
        values = values.reshape(-1, PAGE_POSITIONS // 16, width, 16).transpose(0, 1, 3, 2)
    return values.reshape(n_pages, PAGE_POSITIONS, -1)[..., :width].astype(np.float32)


def decode_q8(pages: np.ndarray, width: int, is_key: bool) -> np.ndarray:
    blocks, n_codes = -(-width // 32), PAGE_POSITIONS * (-(-width // 32) * 32)
    codes, scales = pages[:, :n_codes].view(np.int8), np.ascontiguousarray(pages[:, n_codes:]).view(np.float16)
    if is_key:
        codes = codes.reshape(-1, PAGE_POSITIONS // 16, 32 * blocks, 16).transpose(0, 1, 3, 2)
        scales = scales.reshape(-1, PAGE_POSITIONS // 16, blocks, 16).transpose(0, 1, 3, 2)
    codes = codes.reshape(len(pages), PAGE_POSITIONS, blocks, 32).astype(np.float32)
    values = codes * scales.reshape(len(pages), PAGE_POSITIONS, blocks, 1).astype(np.float32)
    return values.reshape(len(pages), PAGE_POSITIONS, -1)[..., :width]


class Session:
    """Sequences that attend in one layer; physical pages are handed out backwards and one is never used."""

    def __init__(self, kernels, layer: Layer, kv_type: str, n_slots: int = 1, pages_per_slot: int = 3, n_workers=1):
        layer = replace(layer, shape=replace(layer.shape, kv_type=kv_type))
        self.layer, self.kv_type = layer, kv_type
        n_pages = n_slots * pages_per_slot
        self.frame = Frame(1024, 1, 1, n_slots, pages_per_slot)
        self.frame.page_table[:] = np.arange(n_pages, 0, -1).reshape(n_slots, pages_per_slot)
        self.cache = Cache(layer.shape, n_pages + 1)
        sizes = layer.shape.sizes()
        self.machine = Machine(kernels, self.frame, n_workers, attention_scratch_bytes(*list(sizes.values())[:4]))
        group = -(-sizes["n_heads"] // sizes["n_kv_heads"] // 4) * 4
        state_bytes = 64 + 4 * (-(-sizes["value_dim"] // 16) * 16)
        pairs = FEW_ROWS * sizes["n_kv_heads"]
        self.partials = Guarded(64 * pairs + pairs * pages_per_slot * group * state_bytes, np.uint8)
        self.partials.values[:] = 0

    def step(self, qkv: np.ndarray, positions, slots) -> tuple[np.ndarray, np.ndarray]:
        """Rows of qkv (n_tokens, width) -> the rows with queries rotated, and what the heads attend to."""
        self.frame.fill(np.zeros(len(qkv), int), positions, slots, np.zeros(0, int))
        layer, sizes = self.layer, self.layer.shape.sizes()
        n_pairs = layer.rope_dim // 2
        table, rows = Guarded((len(qkv), layer.rope_dim)), Guarded.of(qkv)
        out = Guarded((len(qkv), layer.out_width))
        sides = {"qkv": rows, "keys": self.cache.keys, "values": self.cache.values}
        frequencies = {"table": table, "inverse_frequencies": Guarded.of(layer.inverse_frequencies)}
        bind, pitch = self.machine.bind, layer.width
        turn = {"pitch": pitch, "n_pairs": n_pairs, "pairing": layer.pairing, **sizes}
        attend = {"pitch": pitch, "out_pitch": layer.out_width, "window": layer.window, **sizes}
        scale = {"scale": layer.shape.key_dim**-0.5, "soft_cap": layer.soft_cap}
        query_norm, key_norm = map(Guarded.of, layer.norms) if layer.norms else (None, None)
        turned = {"table": table if n_pairs else None, "query_norm": query_norm, "key_norm": key_norm, **sides}
        attended = {"out": out, "partials": self.partials, "slopes": layer.slopes, **sides}
        self.machine.run(
            bind(ROPE_TABLE, frequencies, {"n_pairs": n_pairs, "n_second": 0}, {"magnitude": 1.0}),
            bind(ROPE_STORE, turned, turn, {"epsilon": NORM_EPSILON}, helper=f"store_key_{self.kv_type}",
                 second_helper=f"store_value_{self.kv_type}"),
            bind(ATTENTION, attended, attend, scale,
                 helper=f"scores_{self.kv_type}", second_helper=f"weighted_{self.kv_type}"),
        )  # fmt: skip
        for memory in (table, self.partials, self.cache.keys, self.cache.values):
            memory.check()
        return rows.check(), out.check()

    def run(self, qkv: np.ndarray, chunks) -> tuple[np.ndarray, np.ndarray]:
        """One sequence in slot 0, in steps of these lengths."""
        ends = np.cumsum(chunks)
        assert ends[-1] == len(qkv)
        parts = [
            self.step(qkv[end - n : end], np.arange(end - n, end), np.zeros(n, int))
            for end, n in zip(ends, chunks, strict=True)
        ]
        rows, outs = zip(*parts, strict=True)
        return np.concatenate(rows), np.concatenate(outs)

    def sequence(self, slot: int, length: int) -> tuple[np.ndarray, np.ndarray]:
        """Cached keys and values of a sequence, (length, n_kv_heads, width); fails if anything behind was written."""
        sides = []
        for side in self.cache.decoded():
            pages = side[self.frame.page_table[slot]]
            positions = pages.transpose(0, 2, 1, 3).reshape(-1, pages.shape[1], pages.shape[3])
            assert np.isnan(positions[length:]).all(), "positions that were never stored were written"
            assert np.isnan(side[0]).all(), "a page of nobody was written"
            sides.append(positions[:length])
        return sides[0], sides[1]


def random_qkv(layer: Layer, length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((length, layer.width), dtype=np.float32)
