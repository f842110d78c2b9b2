"""ModelConfig: the numbers read, their defaults, and every value that no model can have."""

import math
from dataclasses import FrozenInstanceError

import pytest
from gguf_builder import (
    ARRAY,
    BOOL,
    F32,
    FLOAT32,
    FLOAT64,
    INT32,
    STRING,
    UINT32,
    UINT64,
    gguf,
    llama_keys,
    tensor,
)

from edgellama.config import ModelConfig, RopeScaling
from edgellama.errors import ModelError
from edgellama.gguf import open_gguf


def llama(**changes):
    return {f"llama.{name.replace('__', '.')}": value for name, value in changes.items()}


@pytest.fixture
def read(tmp_path):
    def read_config(changes=None, tensors=(), vocab_size=None) -> ModelConfig:
        path = tmp_path / "m.gguf"
        rows = [tensor(name, (8,), F32, 32 * index) for index, name in enumerate(tensors)]
        path.write_bytes(gguf(llama_keys(**(changes or {})), rows, bytes(32 * len(rows))))
        with open_gguf(path) as file:
            return ModelConfig.from_gguf(file, vocab_size)

    return read_config


def test_every_number(read):
    assert read() == ModelConfig(
        architecture="llama",
        name="tiny",
        context_length=128,
        d_model=64,
        d_embedding=64,
        n_layers=2,
        d_ff=96,
        n_heads=4,
        n_kv_heads=2,
        head_dim_k=16,
        head_dim_v=16,
        norm_eps=2.0**-17,
        rope_dim=16,
        rope_base=10000.0,
        rope_scaling=RopeScaling(original_context=128),
        vocab_size=5,
    )


def test_config_is_frozen(read):
    with pytest.raises(FrozenInstanceError):
        read().n_layers = 3


def test_defaults(read):
    dropped = llama(attention__head_count_kv=None, rope__dimension_count=None)
    config = read({**dropped, "general.name": None})
    assert (config.n_kv_heads, config.rope_dim, config.name) == (4, 16, "")


def test_explicit_head_sizes_need_not_divide_the_width(read):
    changes = llama(
        embedding_length=(UINT32, 70),
        attention__key_length=(UINT32, 24),
        attention__value_length=(UINT32, 12),
        rope__dimension_count=None,
    )
    config = read(changes)
    assert (config.d_model, config.head_dim_k, config.head_dim_v, config.rope_dim) == (70, 24, 12, 24)


def test_heads_that_do_not_pair_for_rope(read):
    changes = llama(attention__key_length=(UINT32, 15), rope__dimension_count=None)
    with pytest.raises(ModelError, match="heads of 15 values, which do not pair"):
        read(changes)


def test_layer_norm_epsilon_stands_in(read):
    config = read(llama(attention__layer_norm_rms_epsilon=None, attention__layer_norm_epsilon=(FLOAT32, 0.125)))
    assert config.norm_eps == 0.125


def test_counts_stored_per_layer(read):
    changes = llama(
        attention__head_count=(ARRAY, (INT32, [4, 4])),
        attention__head_count_kv=(ARRAY, (UINT32, [1, 1])),
        feed_forward_length=(ARRAY, (INT32, [96, 96])),
    )
    config = read(changes)
    assert (config.n_heads, config.n_kv_heads, config.d_ff) == (4, 1, 96)


def test_vocabulary_size(read):
    no_tokens = {"tokenizer.ggml.tokens": None}
    assert read({**no_tokens, **llama(vocab_size=(UINT32, 77))}).vocab_size == 77
    assert read(no_tokens, vocab_size=99).vocab_size == 99
    assert read(vocab_size=8).vocab_size == 8
    assert read(llama(vocab_size=(UINT32, 77))).vocab_size == 5


def test_integers_of_any_width_and_bases_stored_as_integers(read):
    config = read(llama(block_count=(UINT64, 3), rope__freq_base=(UINT32, 500000), context_length=(INT32, 7)))
    assert (config.n_layers, config.rope_base, config.context_length) == (3, 500000.0, 7)


SCALINGS = [
    ({}, (), RopeScaling(original_context=128)),
    (llama(rope__scaling__type=(STRING, "none")), (), RopeScaling(original_context=128)),
    (
        llama(rope__scaling__type=(STRING, "linear"), rope__scaling__factor=(FLOAT32, 4.0)),
        (),
        RopeScaling("linear", 4.0, 128),
    ),
    (llama(rope__scale_linear=(FLOAT32, 2.0)), (), RopeScaling("linear", 2.0, 128)),
    (llama(rope__scaling__factor=(FLOAT32, 0.0)), (), RopeScaling("none", 1.0, 128)),
    (
        llama(
            rope__scaling__type=(STRING, "yarn"),
            rope__scaling__factor=(FLOAT32, 8.0),
            rope__scaling__original_context_length=(UINT32, 64),
        ),
        (),
        RopeScaling("yarn", 8.0, 64, yarn_ext_factor=1.0),
    ),
    (
        llama(
            rope__scaling__type=(STRING, "yarn"),
            rope__scaling__factor=(FLOAT32, 8.0),
            rope__scaling__yarn_ext_factor=(FLOAT32, 0.5),
            rope__scaling__yarn_attn_factor=(FLOAT32, 1.25),
            rope__scaling__yarn_beta_fast=(FLOAT32, 16.0),
            rope__scaling__yarn_beta_slow=(FLOAT32, 2.0),
        ),
        (),
        RopeScaling("yarn", 8.0, 128, 1.25, 0.5, 16.0, 2.0),
    ),
    ({}, ("rope_freqs.weight",), RopeScaling("llama3", 1.0, 128)),
    (
        llama(
            rope__scaling__original_context_length=(UINT32, 32),
            rope__scaling__attn_factor=(FLOAT32, 1.5),
        ),
        ("rope_factors_long.weight", "rope_factors_short.weight"),
        RopeScaling("longrope", 1.0, 32, 1.5),
    ),
]


@pytest.mark.parametrize(("changes", "tensors", "expected"), SCALINGS)
def test_rope_scaling(read, changes, tensors, expected):
    assert read(changes, tensors).rope_scaling == expected


def refusals():
    integer = "must be an integer from"
    cases = {
        "general.architecture": [
            ((UINT32, 3), "must be a string, and is uint32 3"),
            (None, "is missing, and must be a string"),
        ],
        "llama.block_count": [
            ((STRING, "2"), f"{integer} 1 to 1024, and is the string '2'"),
            ((INT32, -1), f"{integer} 1 to 1024, and is int32 -1"),
            ((UINT32, 0), f"{integer} 1 to 1024, and is uint32 0"),
            ((UINT32, 2**31), f"{integer} 1 to 1024, and is uint32 {2**31}"),
            ((FLOAT32, 2.0), f"{integer} 1 to 1024, and is float32 2.0"),
            ((BOOL, 1), f"{integer} 1 to 1024, and is bool True"),
            ((ARRAY, (UINT32, [2])), f"{integer} 1 to 1024, and is an array of uint32"),
            (None, f"is missing, and {integer} 1 to 1024"),
        ],
        "llama.context_length": [
            ((UINT32, 0), f"{integer} 1 to {2**30}, and is uint32 0"),
            ((UINT64, 2**63), f"{integer} 1 to {2**30}, and is uint64 {2**63}"),
        ],
        "llama.embedding_length": [
            ((UINT32, 0), f"{integer} 1 to {2**24}, and is uint32 0"),
            ((UINT32, 66), "is 66, which the 4 heads do not divide"),
        ],
        "llama.feed_forward_length": [
            ((UINT32, 0), f"{integer} 1 to {2**24}, and is uint32 0"),
            ((ARRAY, (UINT32, [96, 64])), "must hold the same integer for all layers, and does not"),
            ((ARRAY, (UINT32, [])), "must hold the same integer for all layers, and does not"),
        ],
        "llama.attention.head_count": [
            ((UINT32, 0), f"{integer} 1 to 64, and is uint32 0"),
            ((UINT32, 65), f"{integer} 1 to 64, and is uint32 65"),
            ((ARRAY, (INT32, [0, 0])), f"{integer} 1 to 64, and is 0"),
            ((ARRAY, (INT32, [4, 2])), "must hold the same integer for all layers, and does not"),
            ((ARRAY, (FLOAT32, [4.0])), "must hold the same integer for all layers, and does not"),
            ((ARRAY, (STRING, ["4"])), f"{integer} 1 to 64, and is an array of string"),
        ],
        "llama.attention.head_count_kv": [
            ((UINT32, 0), f"{integer} 1 to 4, and is uint32 0"),
            ((UINT32, 3), "is 3, which does not divide the 4 heads"),
            ((UINT32, 8), f"{integer} 1 to 4, and is uint32 8"),
        ],
        "llama.attention.key_length": [((UINT32, 0), f"{integer} 1 to {2**24}, and is uint32 0")],
        "llama.attention.value_length": [((INT32, -16), f"{integer} 1 to {2**24}, and is int32 -16")],
        "llama.attention.layer_norm_rms_epsilon": [
            ((FLOAT32, math.nan), "must be a finite number from 0.0 to 1.0, and is float32 nan"),
            ((FLOAT32, math.inf), "must be a finite number from 0.0 to 1.0, and is float32 inf"),
            ((FLOAT32, -1.0), "must be a finite number from 0.0 to 1.0, and is float32 -1.0"),
            ((STRING, "1e-5"), "must be a finite number from 0.0 to 1.0, and is the string '1e-5'"),
            (None, "is missing, and must be a finite number from 0.0 to 1.0"),
        ],
        "llama.rope.dimension_count": [
            ((UINT32, 7), "must be even, and is 7"),
            ((UINT32, 18), f"{integer} 2 to 16, and is uint32 18"),
            ((UINT32, 0), f"{integer} 2 to 16, and is uint32 0"),
        ],
        "llama.rope.freq_base": [
            ((FLOAT32, math.nan), "must be a finite number from 1.0 to 1000000000000000.0, and is float32 nan"),
            ((FLOAT64, -math.inf), "must be a finite number from 1.0 to 1000000000000000.0, and is float64 -inf"),
            ((FLOAT32, 0.0), "must be a finite number from 1.0 to 1000000000000000.0, and is float32 0.0"),
        ],
        "llama.rope.scaling.factor": [
            ((FLOAT32, math.nan), "must be a finite number from 0.0 to 1000000.0, and is float32 nan"),
            ((FLOAT32, -2.0), "must be a finite number from 0.0 to 1000000.0, and is float32 -2.0"),
        ],
        "llama.rope.scaling.type": [
            ((STRING, "ntk"), "must be one of none, linear, yarn, longrope, and is 'ntk'"),
            ((UINT32, 1), "must be a string, and is uint32 1"),
        ],
        "tokenizer.ggml.tokens": [
            ((UINT32, 5), "must be an array, and is uint32"),
            ((ARRAY, (STRING, [])), "must hold at least one token, and holds 0"),
        ],
    }
    return [(name, value, message) for name, rows in cases.items() for value, message in rows]


@pytest.mark.parametrize(("name", "value", "message"), refusals())
def test_refused(read, tmp_path, name, value, message):
    with pytest.raises(ModelError) as caught:
        read({name: value})
    assert str(caught.value) == f"{tmp_path / 'm.gguf'}: key '{name}' {message}"


def test_another_architecture_has_its_own_keys(read):
    with pytest.raises(ModelError, match=r"key 'qwen2\.context_length' is missing"):
        read({"general.architecture": (STRING, "qwen2")})


def test_real_files(shared_data):
    with open_gguf(shared_data / "trained" / "stories260K" / "f32.gguf") as file:
        config = ModelConfig.from_gguf(file)
    assert (config.d_model, config.n_layers, config.n_heads, config.n_kv_heads, config.d_ff) == (64, 5, 8, 4, 172)
    with open_gguf(shared_data / "vocab" / "ggml-vocab-llama-bpe.gguf") as file:
        config = ModelConfig.from_gguf(file)
    assert (config.vocab_size, config.rope_base, config.head_dim_k) == (128256, 500000.0, 128)


def test_numbers_of_attention_and_prompts(read):
    """What most files leave out, and a window of the largest integer, which means none."""
    float32 = {"attention.scale": 0.25, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0}
    float32 |= {"attention.max_alibi_bias": 8.0, "rope.freq_base_swa": 500.0}
    integers = {"attention.sliding_window": 7, "token_embedding_length": 16, "prefix_end_id": 3, "prefix_gmask_id": 2}
    changes = {f"llama.{name}": (FLOAT32, value) for name, value in float32.items()}
    changes |= {f"llama.{name}": (UINT32, value) for name, value in integers.items()}
    config = read(changes)
    assert (config.attention_scale, config.attention_soft_cap, config.logit_soft_cap) == (0.25, 50.0, 30.0)
    assert (config.max_alibi_bias, config.local_rope_base, config.sliding_window) == (8.0, 500.0, 7)
    assert (config.d_embedding, config.prefix_end_id, config.prefix_mask_ids) == (16, 3, (2,))
    assert read({"llama.attention.sliding_window": (UINT32, 4294967295)}).sliding_window == 0
    assert read().attention_scale is None and read().max_alibi_bias is None and read().prefix_end_id is None
