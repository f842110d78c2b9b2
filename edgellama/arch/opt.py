"""OPT, 125M to 66B (https://arxiv.org/abs/2205.01068).

Layer norms, learned positions, a feed-forward part with ReLU and no gate; everything has biases. The 350M has its norms
behind the sums, and an embedding that is narrower than its layers. llama.cpp does not know this family.
"""

from collections.abc import Mapping
from typing import Any

from ..config import ModelConfig
from ..ops import HALF_SPLIT, RELU
from ..program import Builder, Program, View
from .blocks import activated, attend, finish, layer_norm_layer
from .records import attention, layer_norm, plain, vector
from .spec import COMMON_KEYS, LAYER_EPSILON, About, Key, Source, TensorSpec

TENSORS = (
    TensorSpec("token_embd.weight", ("vocab", "d_embedding")),
    TensorSpec("position_embd.weight", ("positions", "d_model")),
    TensorSpec("token_proj.weight", ("d_model", "d_embedding"), optional=True),
    TensorSpec("output_proj.weight", ("d_embedding", "d_model"), optional=True),
    vector("output_norm.weight", optional=True),
    vector("output_norm.bias", optional=True),
    TensorSpec("output.weight", ("vocab", "d_embedding"), optional=True),
    *layer_norm("blk.{i}.attn_norm")[1:],
    *attention("always", "always"),
    *plain(),
)

ABOUT = About(
    tokenizer="byte-level BPE `gpt-2`",
    template="`plain`",
    checked="transformers: OPT 125M and 350M",
    limits="runs; llama.cpp does not know it",
)
MODEL_TYPES = ("opt",)
FIXED = {
    "activation_function": "relu", "enable_bias": True, "layer_norm_elementwise_affine": True,
    "_remove_final_layer_norm": False,
}  # fmt: skip


def respelled(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"intermediate_size": config.get("ffn_dim"), "post_norm": not config.get("do_layer_norm_before", True)}


KEYS = (
    *COMMON_KEYS,
    LAYER_EPSILON,
    Key("token_embedding_length", ("word_embed_proj_dim", "hidden_size")),
    Key("post_norm", ("post_norm",), bool),
)
_LAYER = "decoder.layers.{i}."
SOURCES = (
    Source("token_embd", "decoder.embed_tokens"),
    Source("position_embd", "decoder.embed_positions", steps=(("skip_rows", "2"),)),  # nothing sees the first two
    Source("token_proj", "decoder.project_in"),
    Source("output_proj", "decoder.project_out"),
    Source("output_norm", "decoder.final_layer_norm"),
    Source("output", "lm_head"),
    Source("blk.{i}.attn_norm", _LAYER + "self_attn_layer_norm"),
    Source("blk.{i}.attn_q", _LAYER + "self_attn.q_proj"),
    Source("blk.{i}.attn_k", _LAYER + "self_attn.k_proj"),
    Source("blk.{i}.attn_v", _LAYER + "self_attn.v_proj"),
    Source("blk.{i}.attn_output", _LAYER + "self_attn.out_proj"),
    Source("blk.{i}.ffn_norm", _LAYER + "final_layer_norm"),
    Source("blk.{i}.ffn_up", _LAYER + "fc1"),
    Source("blk.{i}.ffn_down", _LAYER + "fc2"),
)
OPTIONAL_PREFIX = "model."
UNUSED_SOURCES = ()


def build(b: Builder, config: ModelConfig, context: int) -> Program:
    """The forward pass of a model for sessions of up to `context` positions."""
    x = b.embed("token_embd.weight")  # (n_tokens, d_embedding)
    if "token_proj.weight" in b.tensors:
        x = b.project(x, ("token_proj.weight",))  # (n_tokens, d_model)
    b.add_positions(x, "position_embd.weight")
    for layer in range(config.n_layers):
        if config.is_post_norm:
            x = _post_norm_layer(b, config, x, layer)
        else:
            layer_norm_layer(b, config, x, layer, None, HALF_SPLIT, RELU)
    hidden = b.gather(x)
    if not config.is_post_norm:
        hidden = b.layernorm(hidden, "output_norm.weight", config.norm_eps)
    projected = b.project(hidden, ("output_proj.weight",)) if "output_proj.weight" in b.tensors else None
    return finish(b, config, hidden, projected)


def _post_norm_layer(b: Builder, config: ModelConfig, x: View, layer: int) -> View:
    """The rows that the next layer starts from: norms stand behind the sums."""
    p = f"blk.{layer}."
    a = attend(b, config, x, layer, None, HALF_SPLIT)
    b.project(a, (p + "attn_output.weight",), out=x, add=True)
    h = b.layernorm(x, p + "attn_norm.weight", config.norm_eps, out=b.buffer("after_attention", config.d_model))
    b.project(activated(b, h, layer, RELU), (p + "ffn_down.weight",), out=h, add=True)
    return b.layernorm(h, p + "ffn_norm.weight", config.norm_eps, out=b.buffer("after_layer", config.d_model))
