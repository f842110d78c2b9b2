"""How a family declares its tensors, and the check of a file against that declaration."""

from dataclasses import dataclass

from ..config import ModelConfig
from ..errors import ModelError
from ..gguf import GGUFFile

MATRIX, VECTOR = "matrix", "vector"


@dataclass(frozen=True)
class TensorSpec:
    """One tensor: its GGUF name ({i} for the layer), its shape in symbols of `dimensions`, and its role."""

    name: str
    shape: tuple[str, ...]
    role: str = MATRIX
    optional: bool = False

    @property
    def per_layer(self) -> bool:
        return "{i}" in self.name


def dimensions(config: ModelConfig) -> dict[str, int]:
    """What the symbols of a TensorSpec's shape stand for."""
    return {
        "vocab": config.vocab_size,
        "d_model": config.d_model,
        "d_ff": config.d_ff,
        "q": config.n_heads * config.head_dim_k,
        "k": config.n_kv_heads * config.head_dim_k,
        "v": config.n_kv_heads * config.head_dim_v,
        "o": config.n_heads * config.head_dim_v,
        "rope_pairs": config.rope_dim // 2,
    }


def check_tensors(file: GGUFFile, config: ModelConfig, specs: tuple[TensorSpec, ...]) -> None:
    """Every declared tensor is there with its shape and nothing else is; ModelError names the first that is not."""
    sizes, expected = dimensions(config), {}
    for spec in specs:
        for layer in range(config.n_layers if spec.per_layer else 1):
            expected[spec.name.format(i=layer)] = spec
    for name, spec in expected.items():
        shape = tuple(sizes[symbol] for symbol in spec.shape)
        if name not in file.tensors:
            if spec.optional:
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
