"""The reference interpreter against an independent forward pass, a real trained model and exact quantized logits."""

from pathlib import Path

import gguf_builder
import numpy as np
import pytest
from gguf_builder import F32, FLOAT32, UINT32

from edgellama import arch, formats, reference
from edgellama.arch.spec import check_tensors
from edgellama.config import ModelConfig
from edgellama.frame import Frame
from edgellama.gguf import open_gguf
from edgellama.ops import HALF_SPLIT
from edgellama.program import Builder
from edgellama.reference import ReferenceMachine

VOCABULARY, D_MODEL, D_FF, N_LAYERS = 50, 24, 40, 2
N_HEADS, N_KV_HEADS, KEY_DIM, VALUE_DIM = 4, 2, 16, 12
EPSILON, BASE = 2.0**-17, 500.0
PAGES_PER_SLOT = 2


def tiny_shapes() -> dict[str, tuple[int, ...]]:
    """Tensors of a llama with biases, a tied output, and heads whose widths do not follow from d_model."""
    shapes = {"token_embd.weight": (VOCABULARY, D_MODEL), "output_norm.weight": (D_MODEL,)}
    for layer in range(N_LAYERS):
        matrices = {
            "attn_q": (N_HEADS * KEY_DIM, D_MODEL),
            "attn_k": (N_KV_HEADS * KEY_DIM, D_MODEL),
            "attn_v": (N_KV_HEADS * VALUE_DIM, D_MODEL),
            "attn_output": (D_MODEL, N_HEADS * VALUE_DIM),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in matrices.items()}
        shapes |= {f"blk.{layer}.{name}.bias": shape[:1] for name, shape in matrices.items()}
        shapes |= {f"blk.{layer}.{name}.weight": (D_MODEL,) for name in ("attn_norm", "ffn_norm")}
        shapes |= {f"blk.{layer}.{name}.weight": (D_FF, D_MODEL) for name in ("ffn_gate", "ffn_up")}
        shapes[f"blk.{layer}.ffn_down.weight"] = (D_MODEL, D_FF)
    return shapes


def tiny_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    gain = {1: 1.0, 2: 0.5}  # vectors, matrices
    return {
        name: (random.standard_normal(shape) * gain[len(shape)]).astype(np.float32)
        for name, shape in tiny_shapes().items()
    }


def write_tiny_model(path: Path, weights: dict[str, np.ndarray]) -> None:
    """The weights as an F32 GGUF file."""
    keys = {
        "embedding_length": (UINT32, D_MODEL), "feed_forward_length": (UINT32, D_FF),
        "block_count": (UINT32, N_LAYERS), "context_length": (UINT32, 512), "vocab_size": (UINT32, VOCABULARY),
        "attention.head_count": (UINT32, N_HEADS), "attention.head_count_kv": (UINT32, N_KV_HEADS),
        "attention.key_length": (UINT32, KEY_DIM), "attention.value_length": (UINT32, VALUE_DIM),
        "attention.layer_norm_rms_epsilon": (FLOAT32, EPSILON), "rope.freq_base": (FLOAT32, BASE),
        "rope.dimension_count": (UINT32, KEY_DIM),
    }  # fmt: skip
    tokenizer = {name: None for name in ("tokens", "scores", "token_type", "add_bos_token")}
    rows, data = [], b""
    for name, values in weights.items():
        rows.append(gguf_builder.tensor(name, values.shape[::-1], F32, len(data)))
        data += values.tobytes() + bytes(-values.nbytes % 32)
    changes = {f"llama.{name}": value for name, value in keys.items()}
    changes |= {f"tokenizer.ggml.{name}": value for name, value in tokenizer.items()}
    path.write_bytes(gguf_builder.gguf(gguf_builder.llama_keys(**changes), rows, data))


def normed(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return x / np.sqrt((x**2).mean(axis=1, keepdims=True) + EPSILON) * weight


def turned(heads: np.ndarray) -> np.ndarray:
    """Adjacent pairs as complex numbers, multiplied by exp(i * position * frequency)."""
    pairs = heads[..., 0::2] + 1j * heads[..., 1::2]  # (n, heads, KEY_DIM / 2)
    frequencies = BASE ** (-2 * np.arange(KEY_DIM // 2) / KEY_DIM)
    pairs = pairs * np.exp(1j * np.arange(len(heads))[:, None, None] * frequencies)
    return np.stack([pairs.real, pairs.imag], axis=-1).reshape(heads.shape)


def attended(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Causal attention head by head: (n, heads, width) -> (n, N_HEADS * VALUE_DIM)."""
    n, outs = len(q), []
    for head in range(N_HEADS):
        kv_head = head // (N_HEADS // N_KV_HEADS)
        scores = q[:, head] @ k[:, kv_head].T / np.sqrt(KEY_DIM) + np.triu(np.full((n, n), -np.inf), 1)
        powers = np.exp(scores)
        outs.append(powers / powers.sum(axis=1, keepdims=True) @ v[:, kv_head])
    return np.concatenate(outs, axis=1)


def forward(weights: dict[str, np.ndarray], ids: np.ndarray) -> np.ndarray:
    """Logits (n, VOCABULARY) in float64, written down from the papers and without a Program."""
    w = {name: values.astype(np.float64) for name, values in weights.items()}
    x, n = w["token_embd.weight"][ids], len(ids)
    for layer in range(N_LAYERS):

        def part(name: str, kind: str = "weight", layer=layer):
            return w[f"blk.{layer}.{name}.{kind}"]

        h = normed(x, part("attn_norm"))
        q, k, v = (h @ part(name).T + part(name, "bias") for name in ("attn_q", "attn_k", "attn_v"))
        q, k, v = (heads.reshape(n, -1, width) for heads, width in ((q, KEY_DIM), (k, KEY_DIM), (v, VALUE_DIM)))
        x = x + attended(turned(q), turned(k), v) @ part("attn_output").T + part("attn_output", "bias")
        h = normed(x, part("ffn_norm"))
        gate = h @ part("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ part("ffn_up").T)) @ part("ffn_down").T
    return normed(x, w["output_norm.weight"]) @ w["token_embd.weight"].T


def machine_for(path: Path, n_slots: int = 1, packed=frozenset(), **options) -> ReferenceMachine:
    """A machine whose slots own two physical pages each, handed out backwards."""
    file = open_gguf(path)
    config = ModelConfig.from_gguf(file)
    family = arch.find(config.architecture)
    check_tensors(file, config, family.TENSORS)
    program = family.build(Builder(file.tensors, partial_bytes=64, packed=packed), config, 512)
    frame = Frame(512, 512, config.vocab_size, n_slots, PAGES_PER_SLOT)
    frame.page_table[:] = np.arange(n_slots * PAGES_PER_SLOT)[::-1].reshape(n_slots, -1)
    return ReferenceMachine(program, frame, **options)


def logits_of(machine: ReferenceMachine, ids, start: int = 0, rows=None) -> np.ndarray:
    """One step of slot 0 from position `start`; all rows of logits unless told."""
    n = len(ids)
    machine.frame.fill(ids, np.arange(start, start + n), np.zeros(n, int), np.arange(n) if rows is None else rows)
    return machine.run()


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return tiny_weights()


@pytest.fixture(scope="module")
def model(tmp_path_factory, weights) -> Path:
    path = tmp_path_factory.mktemp("reference") / "tiny.gguf"
    write_tiny_model(path, weights)
    return path


@pytest.fixture(scope="module")
def prompt() -> np.ndarray:
    """Longer than a page."""
    return np.random.default_rng(8).integers(0, VOCABULARY, 300)


def assert_close(got: np.ndarray, wanted: np.ndarray) -> None:
    np.testing.assert_allclose(got, wanted, rtol=0, atol=2e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("packed", (frozenset(), frozenset({"f32"})))
def test_a_prompt_gives_the_logits_of_an_independent_forward_pass(model, weights, prompt, packed):
    """As single matrices, and as the fused ones (side by side, interleaved) of packed formats."""
    machine = machine_for(model, packed=packed, kv_type="f32")
    assert_close(logits_of(machine, prompt), forward(weights, prompt))


def test_steps_give_what_one_prompt_gives(model, weights, prompt):
    machine = machine_for(model, kv_type="f32")
    parts = [logits_of(machine, prompt[:250])]
    parts += [logits_of(machine, prompt[i : i + 1], i) for i in range(250, 258)]
    parts.append(logits_of(machine, prompt[258:], 258))
    assert_close(np.concatenate(parts), forward(weights, prompt))


def test_only_wanted_rows_have_logits(model, weights, prompt):
    machine, wanted = machine_for(model, kv_type="f32"), forward(weights, prompt[:20])
    assert_close(logits_of(machine, prompt[:20], rows=[19, 3]), wanted[[19, 3]])
    assert logits_of(machine, prompt[:20], rows=np.zeros(0, int)).shape == (0, VOCABULARY)


def test_two_sequences_in_one_frame_do_not_see_each_other(model, weights, prompt):
    machine = machine_for(model, n_slots=2, kv_type="f32")
    ids = (prompt, prompt[::-1][:40])
    positions = np.concatenate([np.arange(len(part)) for part in ids])
    slots = np.repeat([0, 1], [len(part) for part in ids])
    order = np.argsort(positions, kind="stable")  # interleaved: the second sequence's tokens between the first's
    machine.frame.fill(np.concatenate(ids)[order], positions[order], slots[order], np.arange(len(order)))
    logits = machine.run()
    for slot, part in enumerate(ids):
        assert_close(logits[slots[order] == slot], forward(weights, part))


@pytest.mark.parametrize(("kv_type", "largest"), [("f16", 2e-3), ("q8_0", 5e-2)])
def test_a_rounded_cache_moves_the_logits_a_little(model, prompt, kv_type, largest):
    exact, rounded = (logits_of(machine_for(model, kv_type=kind), prompt) for kind in ("f32", kv_type))
    assert 1e-6 < relative_rms(rounded, exact) < largest


def relative_rms(got: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.square(got - wanted).mean()) / wanted.std())


def test_quantized_activations_by_hand():
    block = np.zeros(64, np.float32)
    block[:6] = (127, 0.5, 1.5, -0.5, -2.5, 3.2)  # the scale is 1: ties go to even
    values = reference.quantized(block[None])[0]
    np.testing.assert_array_equal(values[:6], np.array([127, 0, 2, 0, -2, 3], np.float32))
    assert (values[6:] == 0).all()


def test_a_q8_0_cache_rounds_like_the_format(shape=(3, 2, 64)):
    heads = np.random.default_rng(9).standard_normal(shape, dtype=np.float32)
    q8_0 = formats.by_name("q8_0")
    wanted = q8_0.decode_rows(q8_0.encode(heads.reshape(-1, 64)), 64).reshape(shape)
    np.testing.assert_allclose(reference.round_q8_0(heads), wanted, atol=1e-6)
    np.testing.assert_array_equal(
        reference.round_q8_0(heads[..., :40])[..., :32], reference.round_q8_0(heads)[..., :32]
    )


def test_pairs_that_lie_half_a_head_apart():
    """Pair i is (i, i + n_pairs); what lies behind the rotated values stays."""
    head, angles = np.array([1, 2, 0, 0, 9], np.float32), np.array([np.pi / 2, np.pi])
    table = np.concatenate([np.cos(angles), np.sin(angles)]).astype(np.float32)
    out = reference.rotated(head[None, None], table[None], HALF_SPLIT)[0, 0]
    np.testing.assert_allclose(out, [0, -2, 1, 0, 9], atol=1e-6)


def test_a_trained_model_tells_its_story(shared_data):
    """Every position of a real model against logits of other implementations."""
    expected = np.load(shared_data / "trained/stories260K/expected_story.npz")
    machine = machine_for(shared_data / "trained/stories260K/f32.gguf", kv_type="f32")
    logits = logits_of(machine, expected["ids"])
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-3)


QUICK = ("stories260K/Q4_0", "stories260K/Q4_K_M")
OTHERS = tuple(f"stories260K/{name}" for name in ("F16", "BF16", "Q4_1", "Q5_0", "Q6_K", "Q8_0")) + tuple(
    f"llama2-gqa/{name}"
    for name in (
        "BF16", "IQ1_S", "IQ2_XS", "IQ3_S", "IQ4_XS", "Q2_K", "Q3_K_M", "Q4_0", "Q4_1", "Q4_K_M", "Q5_1", "Q5_K_M",
        "Q6_K", "Q8_0", "TQ1_0",
    )
)  # fmt: skip


@pytest.mark.parametrize("name", [*QUICK, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_quantized_files(shared_data, name):
    """Exact activations give the logits of the decoded weights; int8 activations about llama.cpp's own error."""
    expected = np.load(shared_data / f"quantized/{name}.npz")
    path, ids, exact = shared_data / f"quantized/{name}.gguf", expected["input_ids"], expected["exact"]
    logits = logits_of(machine_for(path, kv_type="f32", quantize_activations=False), ids)
    assert relative_rms(logits, exact) < 1e-5
    bound = max(1.5 * relative_rms(expected["lcpp"], exact), 2e-3)
    assert relative_rms(logits_of(machine_for(path), ids), exact) < bound
