"""The CUDA kernels of attention, emulated on this CPU, against NumPy: rotation into the cache, one token, many."""

from dataclasses import dataclass

import numpy as np
import pytest
from cuda_emulation import (
    ORDERS,
    floats,
    words,
)
from kernel_harness import Guarded

from edgellama.cuda import plan
from edgellama.cuda.device_frame import _tiles
from edgellama.frame import PAGE_POSITIONS
from edgellama.op_functions import attended, rms_normalized, rotated, round_f16
from edgellama.ops import ADJACENT, HALF_SPLIT
from edgellama.program import AttentionShape

N_PAGES, PAGES_PER_SLOT = 9, 4
EPSILON = 1e-5
UNUSED = 1000.0  # in the cache where nothing was stored: finite, as the machine's cache always is, and easily seen


def shape_of(head_dim: int, group: int, n_kv_heads: int = 2, value_dim: int = 0) -> AttentionShape:
    return AttentionShape(group * n_kv_heads, n_kv_heads, head_dim, value_dim or head_dim, "f16")


class Cache:
    """Pages of one layer, of which the last is nobody's. Slot s has pages handed out backwards."""

    def __init__(self, shape: AttentionShape, n_slots: int = 2):
        self.shape, self.width = shape, -(-shape.value_dim // 16) * 16
        self.table = np.arange(n_slots * PAGES_PER_SLOT)[::-1].reshape(n_slots, PAGES_PER_SLOT).astype(np.int32)
        sizes = (N_PAGES, shape.n_kv_heads, PAGE_POSITIONS // 16, shape.key_dim, 16), (
            N_PAGES, shape.n_kv_heads, PAGE_POSITIONS, self.width)  # fmt: skip
        self.keys, self.values = (Guarded.of(np.full(size, UNUSED, np.float16)) for size in sizes)

    def rows(self, slot: int, positions) -> np.ndarray:
        """Physical rows of positions of a sequence."""
        positions = np.asarray(positions)
        return self.table[slot, positions // PAGE_POSITIONS] * PAGE_POSITIONS + positions % PAGE_POSITIONS

    def fill(self, slot: int, keys: np.ndarray, values: np.ndarray) -> None:
        """Store positions 0.. of a sequence, (n, n_kv_heads, dim) each."""
        for row, key, value in zip(self.rows(slot, np.arange(len(keys))), keys, values, strict=True):
            page, place = divmod(int(row), PAGE_POSITIONS)
            self.keys.values[page, :, place // 16, :, place % 16] = key
            self.values.values[page, :, place, : self.shape.value_dim] = value
            self.values.values[page, :, place, self.shape.value_dim :] = 0

    def read(self, rows) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values at physical rows, float32 (n, n_kv_heads, dim)."""
        pages, places = np.divmod(np.asarray(rows), PAGE_POSITIONS)
        keys = self.keys.check()[pages, :, places // 16, :, places % 16]
        values = self.values.check()[pages, :, places]
        assert (values[..., self.shape.value_dim :] == 0).all()
        return keys.astype(np.float32), values[..., : self.shape.value_dim].astype(np.float32)


@dataclass
class Step:
    """Tokens of one step: a slot and a position each, what they may see from, and rows of q, k, v (n, pitch)."""

    shape: AttentionShape
    slots: np.ndarray
    positions: np.ndarray
    begin: int = 0
    seed: int = 0

    def __post_init__(self):
        shape, random = self.shape, np.random.default_rng(self.seed)
        self.n = len(self.slots)
        self.widths = (
            shape.n_heads * shape.key_dim,
            shape.n_kv_heads * shape.key_dim,
            shape.n_kv_heads * shape.value_dim,
        )
        self.qkv = random.standard_normal((self.n, sum(self.widths) + 4), dtype=np.float32)
        self.visible = np.stack(
            [np.maximum(0, self.positions + 1 - (self.begin or 1 << 30)), self.positions + 1], axis=1
        )

    @property
    def pitch(self) -> int:
        return self.qkv.shape[1]

    def heads(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Queries, keys and values, (n, heads, dim) each."""
        shape, parts = self.shape, np.split(self.qkv, np.cumsum(self.widths), axis=1)
        sizes = ((shape.n_heads, shape.key_dim), (shape.n_kv_heads, shape.key_dim), (shape.n_kv_heads, shape.value_dim))
        return tuple(part.reshape(self.n, *size) for part, size in zip(parts, sizes, strict=False))

    def table(self, n_pairs: int) -> np.ndarray:
        """Cosines and sines, (n, 2 * n_pairs)."""
        angles = np.multiply.outer(self.positions, 100.0 ** (-np.arange(n_pairs) / max(n_pairs, 1)))
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def history(shape: AttentionShape, n: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Keys and values of n positions, as the cache rounds them."""
    random = np.random.default_rng(seed)
    keys = random.standard_normal((n, shape.n_kv_heads, shape.key_dim), dtype=np.float32)
    return round_f16(keys), round_f16(random.standard_normal((n, shape.n_kv_heads, shape.value_dim), dtype=np.float32))


def sizes_of(shape: AttentionShape) -> tuple[int, ...]:
    return tuple(shape.sizes().values())


def test_the_order_of_sizes():
    """The kernels take them as the planner writes them."""
    names = ["n_heads", "n_kv_heads", "key_dim", "value_dim", "key_bytes", "value_bytes"]
    assert list(shape_of(64, 1).sizes()) == names


def normed_heads(heads: np.ndarray, norm: np.ndarray | None) -> np.ndarray:
    return heads if norm is None else rms_normalized(heads, norm, EPSILON)


@pytest.mark.parametrize("with_norms", [False, True])
@pytest.mark.parametrize("pairing", [ADJACENT, HALF_SPLIT])
@pytest.mark.parametrize(
    ("shape", "n_pairs"),
    [(shape_of(64, 2), 32), (shape_of(96, 1, value_dim=40), 20), (shape_of(256, 4), 128), (shape_of(64, 1), 0)],
)
def test_rotation_into_the_cache(gpu, shape, n_pairs, pairing, with_norms):
    step = Step(shape, np.array([0, 0, 0, 1]), np.array([254, 255, 256, 17]))
    cache, table = Cache(shape), step.table(n_pairs)
    queries, keys, values = (part.copy() for part in step.heads())
    norms = (None, None)
    if with_norms:
        norms = np.random.default_rng(9).uniform(0.5, 1.5, (2, shape.key_dim)).astype(np.float32)
    queries, keys = normed_heads(queries, norms[0]), normed_heads(keys, norms[1])
    rows = np.concatenate(
        [cache.rows(slot, [position]) for slot, position in zip(step.slots, step.positions, strict=True)]
    )
    qkv, before = floats(step.qkv), cache.keys.values.copy()
    blocks = (step.n, shape.n_heads + 2 * shape.n_kv_heads, 1)
    gpu.run(
        "rope_store", blocks, qkv, floats(table), cache.keys, cache.values, *map(given, norms), words(rows),
        step.pitch, *sizes_of(shape), n_pairs, pairing, EPSILON,
    )  # fmt: skip
    width = step.widths[0]
    found = qkv.values[:, :width].reshape(queries.shape)
    np.testing.assert_allclose(found, rotated(queries, table, pairing), atol=2e-6)
    np.testing.assert_array_equal(qkv.values[:, width:], step.qkv[:, width:])
    found_keys, found_values = cache.read(rows)
    np.testing.assert_allclose(found_keys, rotated(keys, table, pairing), atol=3e-3, rtol=1e-3)
    assert (np.abs(found_keys - rotated(keys, table, pairing)) <= 2.0**-11 * np.abs(found_keys) * 1.01 + 1e-6).all()
    np.testing.assert_array_equal(found_values, round_f16(values))
    written = (cache.keys.values != before).sum()
    assert written == step.n * shape.n_kv_heads * shape.key_dim, "other rows stay as they are"


def given(values: np.ndarray | None) -> Guarded | None:
    return None if values is None else floats(values)


@dataclass(frozen=True)
class Quirks:
    """What some families' layers have: see ops.ATTENTION."""

    window: int = 0
    soft_cap: float = 0.0
    slopes: np.ndarray | None = None
    norms: tuple[np.ndarray | None, np.ndarray | None] = (None, None)

    def attended(self, query: np.ndarray, keys: np.ndarray, values: np.ndarray, scale: float) -> np.ndarray:
        """Of the keys that a token sees without a window."""
        keys, values = (side[-self.window :] if self.window else side for side in (keys, values))
        return attended(query, keys, values, scale, self.soft_cap, self.slopes)


PLAIN = Quirks()


@pytest.mark.parametrize("value", [1e6, -np.inf, np.nan])
def test_the_cache_stays_finite(gpu, value):
    """Weight 0 times what lies behind the visible positions has to be 0."""
    step = Step(shape_of(64, 1), np.array([0]), np.array([3]))
    step.qkv[:] = value
    cache = Cache(step.shape)
    gpu.run(
        "rope_store", (1, 6, 1), floats(step.qkv), floats(step.table(0)), cache.keys, cache.values, None, None,
        words(cache.rows(0, [3])), step.pitch, *sizes_of(step.shape), 0, ADJACENT, EPSILON,
    )  # fmt: skip
    for side in cache.read(cache.rows(0, [3])):
        assert np.abs(side).min() == 65504


class OneToken:
    """attention_decode for a step; `fused` also stores."""

    def __init__(
        self, gpu, step: Step, lengths: dict[int, int], n_pairs: int = 0, pairing: int = ADJACENT,
        quirks: Quirks = PLAIN,
    ):  # fmt: skip
        self.quirks = quirks
        self.gpu, self.step, self.shape, self.pairing = gpu, step, step.shape, pairing
        self.n_pairs, self.scale = n_pairs, float(np.float32(step.shape.key_dim**-0.5))
        self.rotations = step.table(n_pairs)
        self.past = {slot: history(step.shape, n, slot + 5) for slot, n in lengths.items()}

    def run(self, n_parts: int = 1, fused: bool = False, order: int = 0) -> np.ndarray:
        step, shape = self.step, self.shape
        self.cache = cache = Cache(shape)
        for slot, (keys, values) in self.past.items():
            cache.fill(slot, keys, values)
        self.rows = [int(cache.rows(slot, position)) for slot, position in zip(step.slots, step.positions, strict=True)]
        group = shape.n_heads // shape.n_kv_heads
        counters = words(np.zeros(step.n * shape.n_kv_heads))
        parts = Guarded(step.n * shape.n_heads * n_parts * (cache.width + 2))
        out_width = shape.n_heads * shape.value_dim
        out = Guarded((step.n, out_width + 3))
        shared = 2 * plan.SEGMENT * (shape.key_dim + cache.width)
        shared += group * (4 * shape.key_dim + 4 * plan.SEGMENT + 4 * cache.width + 16)
        self.gpu.run(
            "attention_decode", (n_parts, shape.n_kv_heads, step.n), floats(step.qkv), floats(self.rotations),
            cache.keys, cache.values, *map(given, self.quirks.norms), given(self.quirks.slopes), out, parts, counters,
            words(step.slots), words(self.rows), words(step.visible), words(cache.table), PAGES_PER_SLOT, step.pitch,
            out_width + 3, *sizes_of(shape), self.quirks.window, self.n_pairs, self.pairing, int(fused), EPSILON,
            self.scale, self.quirks.soft_cap, shared_bytes=shared, order=order,
        )  # fmt: skip
        assert (counters.values == 0).all()
        assert np.isnan(out.values[:, out_width:]).all()
        return out.values[:, :out_width]

    def expected(self, fused: bool = False) -> np.ndarray:
        """What the tokens attend to; a fused token's own key and value come from its row."""
        queries, new_keys, new_values = self.step.heads()
        if fused:
            queries, new_keys = map(normed_heads, (queries, new_keys), self.quirks.norms)
            queries = rotated(queries, self.rotations, self.pairing)
            new_keys = round_f16(rotated(new_keys, self.rotations, self.pairing))
        found = []
        for token, (slot, (begin, end)) in enumerate(zip(self.step.slots, self.step.visible, strict=True)):
            keys, values = (side.copy() for side in self.past[slot])
            if fused:
                keys[end - 1], values[end - 1] = new_keys[token], round_f16(new_values[token])
            found.append(self.quirks.attended(queries[token], keys[begin:end], values[begin:end], self.scale))
        return np.array(found)


HEADS = [(64, 1), (64, 4), (80, 4), (96, 1), (128, 4), (256, 1)]


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize(("head_dim", "group"), HEADS)
def test_attention_of_one_token(gpu, head_dim, group, fused):
    step = Step(shape_of(head_dim, group), np.array([0]), np.array([133]))
    attention = OneToken(gpu, step, {0: 134}, n_pairs=head_dim // 2)
    found = attention.run(2, fused)
    np.testing.assert_allclose(found, attention.expected(fused), atol=2e-5)


@pytest.mark.parametrize("n_parts", [1, 2, 3, 16])
@pytest.mark.parametrize("length", [1, 64, 65, 300, 513])
def test_parts_of_the_positions(gpu, length, n_parts):
    """Also more parts than there are segments."""
    step = Step(shape_of(64, 2), np.array([0]), np.array([length - 1]))
    attention = OneToken(gpu, step, {0: length}, n_pairs=32, pairing=HALF_SPLIT)
    np.testing.assert_allclose(attention.run(n_parts, True), attention.expected(True), atol=2e-5)
    keys, values = attention.cache.read(attention.rows)
    _, new_keys, new_values = step.heads()
    np.testing.assert_array_equal(values, round_f16(new_values))
    np.testing.assert_allclose(keys, rotated(new_keys, attention.rotations, HALF_SPLIT), atol=3e-3)


@pytest.mark.parametrize("begin", [1, 70, 200])
def test_one_token_that_sees_only_the_last(gpu, begin):
    step = Step(shape_of(64, 2), np.array([0]), np.array([290]), begin=begin)
    attention = OneToken(gpu, step, {0: 291}, n_pairs=32)
    for n_parts in (1, 3):
        np.testing.assert_allclose(attention.run(n_parts, True), attention.expected(True), atol=2e-5)


def quirks_of(n_heads: int, key_dim: int) -> dict[str, Quirks]:
    norms = tuple(np.random.default_rng(9).uniform(0.5, 1.5, (2, key_dim)).astype(np.float32))
    slopes = (2.0 ** -np.arange(1, n_heads + 1)).astype(np.float32)
    return {
        "window": Quirks(window=100),
        "short window": Quirks(window=3),
        "cap": Quirks(soft_cap=2.0),
        "slopes": Quirks(slopes=slopes),
        "all": Quirks(70, 5.0, slopes, norms),
    }


QUIRKS = list(quirks_of(1, 1))


@pytest.mark.parametrize("name", QUIRKS)
def test_layers_of_other_families_with_one_token(gpu, name):
    step = Step(shape_of(64, 2), np.array([0]), np.array([290]))
    attention = OneToken(gpu, step, {0: 291}, n_pairs=16, quirks=quirks_of(4, 64)[name])
    np.testing.assert_allclose(attention.run(3, True), attention.expected(True), atol=5e-5)


def test_tokens_of_several_sequences(gpu):
    step = Step(shape_of(64, 2), np.array([0, 1, 1]), np.array([299, 5, 6]))
    attention = OneToken(gpu, step, {0: 300, 1: 7})
    np.testing.assert_allclose(attention.run(3), attention.expected(), atol=2e-5)


def test_values_narrower_than_keys(gpu):
    step = Step(shape_of(96, 2, value_dim=40), np.array([0]), np.array([70]))
    attention = OneToken(gpu, step, {0: 71}, n_pairs=20)
    np.testing.assert_allclose(attention.run(2, True), attention.expected(True), atol=2e-5)


def test_large_scores(gpu):
    """Weights of nearly one and nearly zero: a running maximum keeps them finite."""
    step = Step(shape_of(64, 2), np.array([0]), np.array([199]))
    step.qkv[:] *= 300
    attention = OneToken(gpu, step, {0: 200})
    np.testing.assert_allclose(attention.run(2), attention.expected(), atol=1e-3)


def test_one_token_does_not_depend_on_the_order_of_threads(gpu):
    step = Step(shape_of(64, 4), np.array([0]), np.array([133]))
    attention = OneToken(gpu, step, {0: 134}, n_pairs=32)
    expected = attention.run(2, True).copy()
    for order in ORDERS:
        np.testing.assert_array_equal(attention.run(2, True, order), expected)


class ManyTokens:
    """attention_prefill for a step."""

    def __init__(self, gpu, step: Step, quirks: Quirks = PLAIN):
        self.gpu, self.step, self.shape, self.quirks = gpu, step, step.shape, quirks
        self.scale = float(np.float32(step.shape.key_dim**-0.5))
        lengths = {int(slot): int(step.positions[step.slots == slot].max()) + 1 for slot in step.slots}
        self.past = {slot: history(step.shape, n, slot + 5) for slot, n in lengths.items()}

    def run(self, order: int = 0) -> np.ndarray:
        step, shape, cache = self.step, self.shape, Cache(self.shape)
        for slot, (keys, values) in self.past.items():
            cache.fill(slot, keys, values)
        out_width, tiles = shape.n_heads * shape.value_dim, _tiles(step.slots)
        out = Guarded((step.n, out_width + 3))
        padded = -(-shape.key_dim // 16) * 16
        self.gpu.run(
            "attention_prefill", (len(tiles), shape.n_heads, -(-shape.value_dim // 64)), floats(step.qkv), cache.keys,
            cache.values, given(self.quirks.slopes), out, words(tiles), words(step.slots), words(step.visible),
            words(cache.table), PAGES_PER_SLOT, step.pitch, out_width + 3, *sizes_of(shape), self.quirks.window,
            self.scale, self.quirks.soft_cap,
            shared_bytes=64 * (2 * padded + 16) + 128 * padded + 64 * 144, order=order,
        )  # fmt: skip
        assert np.isnan(out.values[:, out_width:]).all()
        return out.values[:, :out_width]

    def check(self, found: np.ndarray) -> None:
        queries, _, _ = self.step.heads()
        for token, (slot, (begin, end)) in enumerate(zip(self.step.slots, self.step.visible, strict=True)):
            keys, values = self.past[slot]
            exact = self.quirks.attended(queries[token], keys[begin:end], values[begin:end], self.scale)
            # Queries and weights are halves: scores are off by 2^-11 of theirs, weights by as much again.
            np.testing.assert_allclose(found[token], exact, atol=6e-3)


def many(shape: AttentionShape, runs: list[tuple[int, int, int]], begin: int = 0) -> Step:
    """A step of runs (slot, first position, count)."""
    slots = np.concatenate([np.full(n, slot) for slot, _, n in runs])
    positions = np.concatenate([np.arange(first, first + n) for _, first, n in runs])
    return Step(shape, slots, positions, begin)


@pytest.mark.parametrize(("head_dim", "group"), HEADS)
def test_attention_of_many_tokens(gpu, head_dim, group):
    attention = ManyTokens(gpu, many(shape_of(head_dim, group, 1), [(0, 40, 37)]))
    attention.check(attention.run())


@pytest.mark.parametrize(
    "runs",
    [[(0, 0, 1)], [(0, 0, 64)], [(0, 0, 65)], [(1, 250, 20)], [(0, 3, 9), (1, 0, 70), (0, 30, 2)], [(0, 510, 64)]],
    ids=["one", "a tile", "more", "two pages", "sequences", "far"],
)
def test_tiles_of_tokens(gpu, runs):
    attention = ManyTokens(gpu, many(shape_of(64, 1, 1), runs))
    attention.check(attention.run())


@pytest.mark.parametrize("begin", [1, 40, 100])
def test_many_tokens_that_see_only_the_last(gpu, begin):
    attention = ManyTokens(gpu, many(shape_of(64, 1, 1), [(0, 120, 70)], begin))
    attention.check(attention.run())


@pytest.mark.parametrize("name", QUIRKS)
def test_layers_of_other_families_with_many_tokens(gpu, name):
    attention = ManyTokens(gpu, many(shape_of(64, 2, 1), [(0, 120, 70)]), quirks_of(2, 64)[name])
    attention.check(attention.run())


@pytest.mark.parametrize("dims", [(96, 40), (40, 80), (72, 72), (24, 128)])
def test_keys_and_values_of_other_widths(gpu, dims):
    shape = AttentionShape(2, 1, *dims, "f16")
    attention = ManyTokens(gpu, many(shape, [(0, 10, 20)]))
    attention.check(attention.run())


def test_many_tokens_do_not_depend_on_the_order_of_threads(gpu):
    attention = ManyTokens(gpu, many(shape_of(64, 2, 1), [(0, 60, 20)]))
    expected = attention.run().copy()
    for order in ORDERS:
        np.testing.assert_array_equal(attention.run(order), expected)
