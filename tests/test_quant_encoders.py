"""Encoders: the bytes of the gguf package where rounding decides, no more error than llama.cpp where a search does."""

from concurrent.futures import ThreadPoolExecutor

import gguf
import numpy as np
import pytest

from edgellama import formats
from edgellama.compiler import load_kernels
from edgellama.gguf import open_gguf
from edgellama.simd.detect import executable_isas
from quant.encoders import (
    ENCODABLE,
    ROUNDED,
    SEARCHED,
    SEARCHED_WITH_IMPORTANCE,
    Encoder,
    column_weights,
    encode_rows,
    kernels,
    largest_magnitude,
    peak,
)
from quant.scratch import SCRATCH_BYTES

KINDS = ("gaussian", "laplacian", "student_t", "trained")
# Relative errors that ggml_quantize_chunk of llama.cpp (llama-cpp-python 0.3.36) makes on the matrices below: without
# importance, then weighted by it, each for the four KINDS. The smallest types need importance there.
PEER_ERRORS = {
    "q2_k": (0.29695, 0.34412, 0.351955, 0.313995, 0.234726, 0.259304, 0.27409, 0.239842),
    "q3_k": (0.151049, 0.176883, 0.189731, 0.150741, 0.134658, 0.156028, 0.17758, 0.136736),
    "q4_k": (0.071589, 0.084717, 0.092562, 0.073611, 0.064231, 0.075195, 0.086328, 0.065355),
    "q5_k": (0.036133, 0.042873, 0.047068, 0.036544, 0.032799, 0.038667, 0.04477, 0.033202),
    "q6_k": (0.017813, 0.021667, 0.025644, 0.017456, 0.016231, 0.019692, 0.024247, 0.015853),
    "iq4_nl": (0.076108, 0.088068, 0.102773, 0.077421, 0.069852, 0.080397, 0.096751, 0.070635),
    "iq4_xs": (0.076711, 0.088791, 0.103848, 0.078258, 0.070601, 0.081373, 0.098675, 0.07145),
    "iq3_s": (0.166366, 0.194165, 0.220032, 0.163812, 0.119416, 0.135896, 0.172233, 0.120706),
    "iq3_xxs": (0.214712, 0.24718, 0.282081, 0.213269, 0.151016, 0.163757, 0.19913, 0.156483),
    "iq2_s": (None, None, None, None, 0.224906, 0.265333, 0.339262, 0.226588),
    "iq2_xs": (None, None, None, None, 0.258951, 0.289075, 0.364598, 0.25927),
    "iq2_xxs": (None, None, None, None, 0.295665, 0.335394, 0.447349, 0.293429),
    "iq1_m": (None, None, None, None, 0.386954, 0.41084, 0.445602, 0.38921),
    "iq1_s": (None, None, None, None, 0.43458, 0.484295, 0.563108, 0.45098),
    "q4_0": (None, None, None, None, 0.078031, 0.09757, 0.122629, 0.076635),
    "q4_1": (None, None, None, None, 0.063294, 0.073426, 0.083513, 0.064465),
    "q5_0": (None, None, None, None, 0.038179, 0.049184, 0.065177, 0.038832),
    "q5_1": (None, None, None, None, 0.030663, 0.035694, 0.040588, 0.031124),
}


def random_matrices() -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Three distributions of weights (32, 1024), and the importance of columns."""
    rng, shape = np.random.default_rng(7), (32, 1024)
    values = {
        "gaussian": rng.standard_normal(shape),
        "laplacian": rng.laplace(size=shape),
        "student_t": rng.standard_t(3, shape),
    }
    return {kind: (0.02 * x).astype(np.float32) for kind, x in values.items()}, np.exp(rng.standard_normal(1024))


MATRICES, IMPORTANCE = random_matrices()


@pytest.fixture(scope="session")
def trained(shared_data) -> np.ndarray:
    """The matrices of a trained model, cut into rows that every type can hold."""
    with open_gguf(shared_data / "trained" / "stories260K" / "f32.gguf") as file:
        values = [tensor.data.view(np.float32) for tensor in file.tensors.values() if len(tensor.shape) == 2]
        joined = np.concatenate(values)
    return joined[: len(joined) // 1024 * 1024].reshape(-1, 1024)


def decode(name: str, encoded: np.ndarray, n_columns: int) -> np.ndarray:
    return formats.by_name(name).decode_rows(encoded.reshape(-1), n_columns)


def relative_error(name: str, rows: np.ndarray, importance: np.ndarray | None = None) -> float:
    """Root mean square of the errors over that of the values, both weighted."""
    decoded = decode(name, encode_rows(name, rows, importance), rows.shape[1]).astype(np.float64)
    weights = np.ones(rows.shape[1]) if importance is None else importance
    return float(np.sqrt((weights * (decoded - rows) ** 2).sum() / (weights * rows.astype(np.float64) ** 2).sum()))


def awkward_rows(n_columns: int) -> np.ndarray:
    """Zeros, constants, ties between extremes, halves between codes, powers of two and their neighbours."""
    rng = np.random.default_rng(3)
    powers = np.exp2(rng.integers(-12, 13, (40, n_columns)))
    rows = [
        np.zeros((1, n_columns)),
        np.full((1, n_columns), -0.5),
        np.full((1, n_columns), 0.25),
        np.tile([1.0, -1.0], (1, n_columns // 2)),
        np.tile([-1.0, 1.0], (1, n_columns // 2)),
        rng.integers(-8, 9, (40, n_columns)) / 2,
        powers * rng.choice([-1, 1], powers.shape),
        powers * (1 - rng.integers(0, 50, powers.shape) * 2.0**-24),
        rng.standard_normal((40, n_columns)) * np.exp(3 * rng.standard_normal((40, 1))),
    ]
    return np.concatenate(rows).astype(np.float32)


@pytest.mark.parametrize("name", ROUNDED)
@pytest.mark.parametrize("rows", [*MATRICES.values(), awkward_rows(1024)], ids=[*MATRICES, "awkward"])
def test_bytes_are_those_of_the_gguf_package(name, rows):
    expected = gguf.quants.quantize(rows, gguf.GGMLQuantizationType[name.upper()])
    np.testing.assert_array_equal(encode_rows(name, rows), expected.view(np.uint8).reshape(len(rows), -1))


@pytest.mark.parametrize("name", ["f32", "f16", "bf16", "q4_0", "q4_1", "q5_0", "q5_1", "q8_0"])
def test_bytes_are_those_of_the_numpy_encoders(name):
    rows = np.concatenate([*MATRICES.values(), awkward_rows(1024)])
    np.testing.assert_array_equal(encode_rows(name, rows), formats.by_name(name).encode(rows))


@pytest.mark.parametrize("name", ["f16", "bf16"])
@pytest.mark.parametrize("n_columns", [1, 3, 15, 17, 172])
def test_floats_of_any_row_length(name, n_columns):
    rows = np.random.default_rng(0).standard_normal((5, n_columns)).astype(np.float32)
    np.testing.assert_array_equal(encode_rows(name, rows), formats.by_name(name).encode(rows))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", PEER_ERRORS)
def test_error_is_below_that_of_llama_cpp(name, kind, request):
    rows = request.getfixturevalue("trained") if kind == "trained" else MATRICES[kind]
    plain, weighted = (PEER_ERRORS[name][KINDS.index(kind) + shift] for shift in (0, len(KINDS)))
    assert relative_error(name, rows, IMPORTANCE) < weighted
    if plain is not None:
        assert relative_error(name, rows) < plain


@pytest.mark.parametrize("name", ["q2_k", "q3_k", "q4_k", "q5_k", "q6_k", "iq4_xs"])
def test_error_is_below_that_of_files_by_llama_quantize(name, shared_data):
    """Tensors of real files against the checkpoint they were made from (those that a converter only renames)."""
    file_names = {"q2_k": "Q2_K", "q3_k": "Q3_K_M", "q4_k": "Q4_K_M", "q5_k": "Q5_K_M", "q6_k": "Q6_K"}
    original = checkpoint_weights(shared_data / "models" / "llama2-gqa" / "model.safetensors")
    n_compared = 0
    with open_gguf(shared_data / "quantized" / "llama2-gqa" / f"{file_names.get(name, 'IQ4_XS')}.gguf") as file:
        for tensor in file.tensors.values():
            if tensor.type_name == name and tensor.name in original:
                rows = original[tensor.name]
                peer = np.square(decode(name, tensor.data, rows.shape[1]) - rows, dtype=np.float64).sum()
                ours = np.square(decode(name, encode_rows(name, rows), rows.shape[1]) - rows, dtype=np.float64).sum()
                assert ours < peer, tensor.name
                n_compared += 1
    assert n_compared >= 5


def checkpoint_weights(path) -> dict[str, np.ndarray]:
    """GGUF name -> F16 matrix of a safetensors file, for the matrices whose rows keep their order."""
    import json

    data = path.read_bytes()
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    roles = {"mlp.down_proj": "ffn_down", "mlp.up_proj": "ffn_up", "mlp.gate_proj": "ffn_gate"}
    roles |= {"self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output"}
    names = {"lm_head.weight": "output.weight", "model.embed_tokens.weight": "token_embd.weight"}
    names |= {f"model.layers.{i}.{old}.weight": f"blk.{i}.{new}.weight" for i in range(9) for old, new in roles.items()}
    weights = {}
    for name, entry in header.items():
        if name in names:
            assert entry["dtype"] == "F16"
            begin, end = (start + offset for offset in entry["data_offsets"])
            weights[names[name]] = np.frombuffer(data[begin:end], np.float16).reshape(entry["shape"]).astype(np.float32)
    return weights


@pytest.mark.parametrize("name", SEARCHED)
def test_blocks_do_not_depend_on_their_neighbours(name):
    """Kernels take several blocks at once, and pad the last set: any cut gives the same bytes."""
    block_format = formats.by_name(name)
    rows = MATRICES["laplacian"][:3, : 3 * max(block_format.block_values, 256)]
    importance = IMPORTANCE[: rows.shape[1]]
    whole = encode_rows(name, rows)
    alone = [encode_rows(name, block[None]) for block in rows.reshape(-1, block_format.block_values)]
    np.testing.assert_array_equal(whole.reshape(-1), np.concatenate([block.reshape(-1) for block in alone]))
    weighted = encode_rows(name, rows, importance)
    np.testing.assert_array_equal(weighted, np.concatenate([encode_rows(name, r[None], importance) for r in rows]))


@pytest.mark.parametrize("name", [*SEARCHED, *SEARCHED_WITH_IMPORTANCE])
def test_awkward_blocks_come_out_finite_and_close(name):
    rows = awkward_rows(512)
    decoded = decode(name, encode_rows(name, rows, np.ones(512)), 512)
    assert np.isfinite(decoded).all()
    assert not decoded[0].any() or name in ("iq1_m", "iq1_s")  # whose levels have no zero, but a scale of zero
    assert np.square(decoded - rows).sum() < np.square(rows).sum()


@pytest.mark.parametrize("name", ["q2_k", "q4_k", "q5_k", "q6_k", "q3_k", "iq4_xs", "iq4_nl"])
@pytest.mark.parametrize("value", [-0.5, 0.25, 0.05, -6e4])
def test_a_constant_block_keeps_its_value(name, value):
    decoded = decode(name, encode_rows(name, np.full((1, 512), value, np.float32)), 512)
    np.testing.assert_allclose(decoded, value, rtol=2e-3)


@pytest.mark.parametrize("name", ["q4_k", "q6_k", "iq4_nl", "iq3_s", "q4_0", "q5_1"])
def test_importance_moves_the_error_to_columns_that_do_not_matter(name):
    rows, importance = MATRICES["gaussian"], np.where(np.arange(1024) % 4 == 0, 50.0, 1.0)
    plain, weighted = (decode(name, encode_rows(name, rows, i), 1024) for i in (np.ones(1024), importance))
    of_plain, of_weighted = (np.square(x - rows).reshape(-1, 4).sum(axis=0) for x in (plain, weighted))
    assert of_weighted[0] < 0.8 * of_plain[0]
    assert of_weighted[1:].sum() > of_plain[1:].sum()


def test_only_ratios_of_importance_count():
    rows = MATRICES["student_t"]
    for scale in (1e-20, 1e20):
        np.testing.assert_array_equal(
            encode_rows("q4_k", rows, IMPORTANCE.astype(np.float32)),
            encode_rows("q4_k", rows, IMPORTANCE.astype(np.float32).astype(np.float64) * scale),
        )


@pytest.mark.parametrize("name", ENCODABLE)
def test_nothing_outside_the_rows_is_written(name):
    """With rows of one block too, whose vectors end where the row does."""
    block_format = formats.by_name(name)
    n_columns = max(block_format.block_values, 32)
    for n_rows in (1, 3, 7):
        rows = MATRICES["gaussian"].reshape(-1, n_columns)[:n_rows].copy()
        n_bytes = n_rows * block_format.row_bytes(n_columns)
        memory = np.full(n_bytes + 128, 0xAA, np.uint8)
        for weights in (None, column_weights(IMPORTANCE[:n_columns])):
            Encoder().encode(name, rows, weights, memory[64 : 64 + n_bytes].reshape(n_rows, -1))
            assert (memory[:64] == 0xAA).all() and (memory[64 + n_bytes :] == 0xAA).all()


def test_threads_give_the_same_bytes():
    rows = np.tile(MATRICES["laplacian"], (8, 1))
    with ThreadPoolExecutor(4) as pool:
        parts = pool.map(lambda part: encode_rows("q4_k", part), np.split(rows, 16))
    np.testing.assert_array_equal(np.concatenate(list(parts)), encode_rows("q4_k", rows))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 15, 16, 511, 1023])
def test_peak_finds_what_is_not_finite(bad, place):
    rows = MATRICES["gaussian"][:1].copy()
    assert peak(rows) == np.abs(rows).max()
    rows[0, place] = bad
    assert np.isnan(peak(rows))
    with pytest.raises(ValueError, match="cannot hold NaN"):
        encode_rows("q4_0", rows)


def test_the_largest_magnitudes_survive():
    for name in ("f16", "bf16", "q8_0", "q4_0", "q4_k", "q6_k"):
        limit = largest_magnitude(name)
        rows = np.linspace(-limit, limit, 256, dtype=np.float32)[None]
        decoded = decode(name, encode_rows(name, rows), 256)
        assert np.isfinite(decoded).all()
        assert np.abs(decoded - rows).max() <= 0.13 * limit
        with pytest.raises(ValueError, match="magnitudes above"):
            encode_rows(name, np.nextafter(rows * np.float32(1.0001), np.float32(np.inf)))


@pytest.mark.slow
def test_every_instruction_set_gives_the_same_bytes():
    rows = np.concatenate([matrix[:4, :512] for matrix in MATRICES.values()] + [awkward_rows(512)[:60]])
    weights, scratch = column_weights(IMPORTANCE[:512]), np.zeros(SCRATCH_BYTES, np.uint8)
    kernels()  # registers the groups
    for name in (*ROUNDED, *SEARCHED):
        found = {}
        for isa in executable_isas():
            encoded = np.empty((len(rows), formats.by_name(name).row_bytes(512)), np.uint8)
            addresses = (encoded.ctypes.data, scratch.ctypes.data)
            encode = load_kernels(isa=isa, package="quant").function(f"encode_{name}", 6)
            encode(rows.ctypes.data, weights.ctypes.data, *rows.shape, *addresses)
            found[isa] = encoded.tobytes()
        assert len(set(found.values())) == 1, name
