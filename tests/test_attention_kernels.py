"""rope_table, rope_store and attention: what they leave in a paged cache, and what they read from it, against NumPy."""

from dataclasses import replace

import numpy as np
import pytest
from attention_harness import NORM_EPSILON, Layer, Session, layer_of, random_qkv
from kernel_harness import Guarded, Machine

from edgellama import reference
from edgellama.compiler import load_kernels
from edgellama.frame import Frame
from edgellama.ops import ADJACENT, HALF_SPLIT, ROPE_TABLE
from edgellama.prefix import Layout
from edgellama.program import AttentionShape

LENGTHS = (1, 15, 16, 17, 255, 256, 257, 600)
KV_TYPES = ("f16", "q8_0", "f32")


@pytest.fixture(scope="module")
def kernels():
    return load_kernels()


def rope_rows(layer: Layer, positions) -> np.ndarray:
    """Cosines, then sines, (n, rope_dim)."""
    angles = np.multiply.outer(positions, layer.inverse_frequencies)
    return np.concatenate([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def check_cache(session: Session, qkv: np.ndarray, rotated: np.ndarray, slot: int = 0) -> None:
    """Queries in `rotated` and the cache hold what the reference stores for rows qkv (length, width)."""
    layer, length = session.layer, len(qkv)
    table = rope_rows(layer, np.arange(length))
    queries, keys, values = reference.split_heads(qkv, layer.shape.sizes())
    if layer.norms:
        pairs = zip((queries, keys), layer.norms, strict=True)
        queries, keys = (reference.rms_normalized(heads, norm, NORM_EPSILON) for heads, norm in pairs)
    wanted = reference.rotated(queries, table, layer.pairing).reshape(length, -1)
    n_query_values = wanted.shape[1]
    np.testing.assert_allclose(rotated[:, :n_query_values], wanted, rtol=0, atol=2e-6)
    np.testing.assert_array_equal(rotated[:, n_query_values:], qkv[:, n_query_values:])
    round_cached = reference.KV_ROUNDING[session.kv_type]
    got_keys, got_values = session.sequence(slot, length)
    np.testing.assert_array_equal(got_values, round_cached(values))
    wanted = round_cached(reference.rotated(keys, table, layer.pairing))
    # A rotation may differ in the last bit, which moves a few roundings to the cache's type by one step.
    step = 2.0**-10 * np.abs(wanted) + 1e-6 if session.kv_type != "q8_0" else np.abs(wanted).max() / 126
    assert (np.abs(got_keys - wanted) <= step).all()
    assert (np.abs(got_keys - wanted) > 1e-5).mean() < 1e-3


def check_attention(session: Session, rotated: np.ndarray, out: np.ndarray, positions, slot: int = 0) -> None:
    """Rows of `out` at these positions against the cache as it is."""
    layer = session.layer
    queries, _, _ = reference.split_heads(rotated, layer.shape.sizes())
    keys, values = session.sequence(slot, len(out))
    for position in positions:
        seen = slice(max(0, position + 1 - layer.window) if layer.window else 0, position + 1)
        scale = layer.shape.key_dim**-0.5
        heads = queries[position], keys[seen], values[seen]
        wanted = reference.attended(*heads, scale, layer.soft_cap, layer.slopes)
        exact = {"rtol": 0, "atol": 4e-6 + 4e-7 * layer.soft_cap}  # the cap's tanh ends in a difference
        np.testing.assert_allclose(out[position], wanted, **exact, err_msg=f"position {position}")


def chunks_that_single_out(positions, length: int) -> list[int]:
    """Step lengths in which each of these positions is a step of its own."""
    edges = sorted({0, length, *positions, *(position + 1 for position in positions)})
    return np.diff(edges).tolist()


def check_quirks(kernels, layer: Layer, kv_type: str = "f16") -> None:
    """A layer in one prefill, and in steps of one token with the same bits."""
    last = [length - 1 for length in LENGTHS]
    qkv = random_qkv(layer, LENGTHS[-1])
    session = Session(kernels, layer, kv_type)
    rotated, out = session.run(qkv, [len(qkv)])
    check_cache(session, qkv, rotated)
    check_attention(session, rotated, out, last)
    stepped = Session(kernels, layer, kv_type, n_workers=2).run(qkv, chunks_that_single_out(last, len(qkv)))
    np.testing.assert_array_equal(stepped[1], out)


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("window", (1, 7, 16, 250, 256, 300, 1000))
def test_window(kernels, window, kv_type):
    """Smaller than a tile of tokens, than a page, across pages, and larger than the sequence."""
    check_quirks(kernels, replace(layer_of(64, 3), window=window), kv_type)


@pytest.mark.parametrize("soft_cap", (0.25, 50.0))
def test_soft_cap(kernels, soft_cap):
    check_quirks(kernels, replace(layer_of(80, 2), soft_cap=soft_cap))


@pytest.mark.parametrize("window", (0, 20))
def test_slopes(kernels, window):
    """ALiBi, with heads that differ, and without rotation."""
    layer = layer_of(64, 3)
    slopes = np.float32(2.0) ** -np.arange(1, 7, dtype=np.float32)
    check_quirks(kernels, replace(layer, rope_dim=0, slopes=slopes, window=window, soft_cap=3.0 if window else 0.0))


@pytest.mark.parametrize("head_dim", (8, 20, 128, 256))
@pytest.mark.parametrize("pairing", (ADJACENT, HALF_SPLIT))
def test_norms_of_heads(kernels, pairing, head_dim):
    random = np.random.default_rng(3)
    norms = tuple(random.standard_normal(head_dim, dtype=np.float32) for _ in range(2))
    check_quirks(kernels, replace(layer_of(head_dim, 2, pairing=pairing), norms=norms))


@pytest.mark.parametrize("group", (1, 3, 8))
@pytest.mark.parametrize("head_dim", (8, 64, 80, 128))
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_a_prefill_and_single_steps(kernels, kv_type, head_dim, group):
    """One prefill is right at every length, and steps of one token give the same bits."""
    layer, last = layer_of(head_dim, group), [length - 1 for length in LENGTHS]
    qkv = random_qkv(layer, LENGTHS[-1])
    session = Session(kernels, layer, kv_type)
    rotated, out = session.run(qkv, [len(qkv)])
    check_cache(session, qkv, rotated)
    check_attention(session, rotated, out, last)
    stepped = Session(kernels, layer, kv_type).run(qkv, chunks_that_single_out(last, len(qkv)))
    np.testing.assert_array_equal(stepped[0], rotated)
    np.testing.assert_array_equal(stepped[1], out)


@pytest.mark.parametrize("chunks", ([2, 3, 4, 5, 8, 9], [1] * 31, [250, 4, 4, 4, 1, 1], [256, 1, 255, 1], [7, 600]))
@pytest.mark.parametrize("kv_type", KV_TYPES)
def test_any_chunks_give_the_same_bits(kernels, kv_type, chunks):
    layer = layer_of(64, 3)
    qkv = random_qkv(layer, sum(chunks))
    whole = Session(kernels, layer, kv_type).run(qkv, [len(qkv)])
    for n_workers in (1, 2):
        parts = Session(kernels, layer, kv_type, n_workers=n_workers).run(qkv, chunks)
        np.testing.assert_array_equal(parts[0], whole[0])
        np.testing.assert_array_equal(parts[1], whole[1])


@pytest.mark.parametrize("pairing", (ADJACENT, HALF_SPLIT))
@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize(("key_dim", "value_dim", "rope_dim"), [(64, 64, 16), (48, 80, 48), (96, 40, 6)])
def test_pairings_partial_rotation_and_unequal_widths(kernels, kv_type, pairing, key_dim, value_dim, rope_dim):
    layer = Layer(AttentionShape(4, 2, key_dim, value_dim, "f16"), rope_dim, pairing)
    qkv = random_qkv(layer, 40)
    session = Session(kernels, layer, kv_type, n_workers=2)
    rotated, out = session.run(qkv, [33, 1, 6])
    check_cache(session, qkv, rotated)
    check_attention(session, rotated, out, range(40))


@pytest.mark.parametrize("kv_type", KV_TYPES)
@pytest.mark.parametrize("lengths", [(3, 1), (20, 270), (258, 257)])
def test_two_sequences_in_one_frame(kernels, kv_type, lengths):
    """Prefilled together, then one token each: what each gets alone, bit for bit."""
    layer = layer_of(64, 2)
    rows = [random_qkv(layer, length + 1, seed) for seed, length in enumerate(lengths)]
    together = Session(kernels, layer, kv_type, n_slots=2)
    positions = np.concatenate([np.arange(length) for length in lengths])
    first = together.step(np.concatenate([row[:-1] for row in rows]), positions, np.repeat([0, 1], lengths))
    second = together.step(np.stack([row[-1] for row in rows]), np.array(lengths), np.array([0, 1]))
    start = 0
    for slot, (length, row) in enumerate(zip(lengths, rows, strict=True)):
        alone = Session(kernels, layer, kv_type).run(row, [length, 1])
        for got, step, wanted in zip(first, second, alone, strict=True):
            np.testing.assert_array_equal(np.concatenate([got[start : start + length], step[slot : slot + 1]]), wanted)
        check_cache(together, row, alone[0], slot)
        start += length


def test_rope_angles_stay_exact_far_out(kernels):
    """cos and sin of position * frequency at position 131,071, as float32 of the exact angle."""
    frame = Frame(2, 1, 1, 1, 512)
    frame.page_table[:] = 0
    positions = np.array([77, 131_071])
    frame.fill(np.zeros(2, int), positions, np.zeros(2, int), np.zeros(0, int))
    frequencies, table = Guarded.of(10000.0 ** (-np.arange(64) / 64)), Guarded((2, 128))
    machine = Machine(kernels, frame)
    operands = {"table": table, "inverse_frequencies": frequencies}
    machine.run(machine.bind(ROPE_TABLE, operands, {"n_pairs": 64, "n_second": 0}, {"magnitude": 1.25}))
    angles = np.multiply.outer(positions, frequencies.values)
    wanted = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * 1.25
    np.testing.assert_allclose(table.check(), wanted, rtol=0, atol=2e-7)


def test_positions_of_two_numbers(kernels):
    """The last pairs turn by the second number."""
    frame = Frame(3, 1, 1, 1, 1)
    frame.page_table[:] = 0
    rotary = np.array([[5, 0], [2, 9], [2, 10]], np.int32)
    frame.fill(np.zeros(3, int), np.arange(3), np.zeros(3, int), np.zeros(0, int), Layout(rotary, np.array([2, 2, 3])))
    frequencies, table = Guarded.of(10.0 ** (-np.arange(6) / 6)), Guarded((3, 12))
    machine = Machine(kernels, frame)
    sizes = {"n_pairs": 6, "n_second": 2}
    operands = {"table": table, "inverse_frequencies": frequencies}
    machine.run(machine.bind(ROPE_TABLE, operands, sizes, {"magnitude": 1.0}))
    angles = rotary[:, [0, 0, 0, 0, 1, 1]] * frequencies.values
    wanted = np.concatenate([np.cos(angles), np.sin(angles)], axis=1)
    np.testing.assert_allclose(table.check(), wanted, rtol=0, atol=2e-7)
    assert frame.visible[:3].tolist() == [[0, 2], [0, 2], [0, 3]]


def test_a_value_beyond_float16_spoils_no_earlier_token(kernels):
    """Saturated, not infinite: an infinity times an earlier token's probability of zero would be NaN."""
    layer = layer_of(16, 1)
    qkv = random_qkv(layer, 6)
    wanted = Session(kernels, layer, "f16").run(qkv, [6])[1]
    qkv[5, -32:] = 1e6
    got = Session(kernels, layer, "f16").run(qkv, [6])[1]
    np.testing.assert_array_equal(got[:5], wanted[:5])
    assert np.isfinite(got).all()
