"""How a family declares its tensors, and the check of a file against that declaration.

Beside what the runtime reads, a family says here where converters find its numbers and tensors in checkpoints.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..config import ModelConfig
from ..errors import ModelError
from ..gguf import REQUIRED, GGUFFile

MATRIX, VECTOR = "matrix", "vector"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its GGUF name ({i} for the layer), its shape in symbols of `dimensions`, and its role.

    `instead` names another that makes this one superfluous.
    """

    name: str
    shape: tuple[str, ...]
    role: str = MATRIX
    optional: bool = False
    instead: str = ""

    @property
    def per_layer(self) -> bool:
        return "{i}" in self.name


@dataclass(frozen=True)
class Source:
    """Where the weight and the bias of one GGUF tensor come from; no name has its `.weight` or `.bias`.

    `hf` is the name in Hugging Face's checkpoints, `meta` in Meta's own, which llama2.c shares. `steps` make the file's
    tensor of Hugging Face's: the name of a function in `converters/transforms.py`, then its arguments. Meta's tensors
    need none. `when` says by the checkpoint's config whether they are taken. `unless` names a flag of that config which
    makes the tensor superfluous.
    """

    name: str
    hf: str
    meta: str = ""
    steps: tuple[tuple[str, ...], ...] = ()
    unless: str = ""
    when: Callable[[Mapping[str, Any]], bool] | None = None


@dataclass(frozen=True)
class Key:
    """A number of the model: its GGUF name below `{architecture}.`, and the fields of config.json that may hold it.

    `compute` makes it of the config where no field does. A default of None leaves an absent key out of the file.
    """

    name: str
    fields: tuple[str, ...] = ()
    kind: type = int
    default: Any = REQUIRED
    compute: Callable[[Mapping[str, Any]], Any] | None = None


COMMON_KEYS = (
    Key("context_length", ("max_sequence_length", "max_position_embeddings")),
    Key("embedding_length", ("hidden_size",)),
    Key("block_count", ("num_hidden_layers",)),
    Key("feed_forward_length", ("intermediate_size",)),
    Key("attention.head_count", ("num_attention_heads",)),
    Key("attention.head_count_kv", ("num_key_value_heads", "num_attention_heads")),
    Key("attention.key_length", ("head_dim",)),
    Key("attention.value_length", ("head_dim",)),
)


@dataclass(frozen=True)
class About:
    """What people want to know of a family: `tokenizer` and `template` are what its files usually have.

    `checked`: the independent implementation whose logits the tests compare with. `limits`: what does not work.
    """

    tokenizer: str
    template: str
    checked: str
    limits: str = ""


RMS_EPSILON = Key("attention.layer_norm_rms_epsilon", ("rms_norm_eps",), float, 1e-6)
LAYER_EPSILON = Key("attention.layer_norm_epsilon", ("layer_norm_epsilon", "norm_epsilon"), float, 1e-5)


def dimensions(config: ModelConfig) -> dict[str, int]:
    """What the symbols of a TensorSpec's shape stand for."""
    return {
        "vocab": config.vocab_size,
        "d_model": config.d_model,
        "d_embedding": config.d_embedding,
        "d_ff": config.d_ff,
        "q": config.n_heads * config.head_dim_k,
        "k": config.n_kv_heads * config.head_dim_k,
        "v": config.n_kv_heads * config.head_dim_v,
        "o": config.n_heads * config.head_dim_v,
        "qkv": (config.n_heads + config.n_kv_heads) * config.head_dim_k + config.n_kv_heads * config.head_dim_v,
        "head": config.head_dim_k,
        "gate_up": 2 * config.d_ff,
        "half_d_ff": config.d_ff // 2,
        "positions": config.context_length,
        "rope_pairs": config.rope_dim // 2,
    }


def check_tensors(file: GGUFFile, config: ModelConfig, specs: tuple[TensorSpec, ...]) -> None:
    """Every declared tensor is there with its shape and nothing else is; ModelError names the first that is not."""
    sizes, expected = dimensions(config), {}
    for spec in specs:
        for layer in range(config.n_layers if spec.per_layer else 1):
            expected[spec.name.format(i=layer)] = spec, spec.instead.format(i=layer)
    for name, (spec, instead) in expected.items():
        shape = tuple(sizes[symbol] for symbol in spec.shape)
        if name not in file.tensors:
            if spec.optional or instead in file.tensors:
                continue
            raise ModelError(f"{file.path}: tensor {name!r} is missing; its shape would be {shape}")
        _check_tensor(file, name, shape, spec.role)
    for name in file.tensors:
        if name not in expected and not name.endswith(".rope_freqs.weight"):
            raise ModelError(f"{file.path}: tensor {name!r} is no part of a {config.architecture} model")


def _check_tensor(file: GGUFFile, name: str, shape: tuple[int, ...], role: str) -> None:
    tensor = file.tensors[name]
    if tensor.shape != shape:
        raise ModelError(f"{file.path}: tensor {name!r} has shape {tensor.shape}, and must have {shape}")
    kinds = ("f32", "f16", "bf16") if role == VECTOR else None
    if kinds and tensor.type_name not in kinds:
        raise ModelError(f"{file.path}: tensor {name!r} has type {tensor.type_name}, and must have one of {kinds}")
    if tensor.type_name in ("i8", "i16", "i32", "i64", "f64"):
        raise ModelError(f"{file.path}: tensor {name!r} has type {tensor.type_name}, which holds no weights")
