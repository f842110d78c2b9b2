"""The model that is trained: a plain Llama in PyTorch (Touvron et al. 2023), with tied embeddings.

Parameters have the names that Hugging Face's checkpoints have, so that export is a copy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Shape:
    """Every matrix has rows of a multiple of 256 values, so the model can be stored in every GGUF type."""

    vocab_size: int = 1280
    d_model: int = 256
    n_layers: int = 4
    n_heads: int = 8
    n_kv_heads: int = 2
    d_ffn: int = 512
    context: int = 1024
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.d_model // self.n_heads


class Attention(nn.Module):
    """Causal attention in which groups of query heads share a key and a value head (Ainslie et al. 2023)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.head_dim = shape.head_dim
        self.q_proj = nn.Linear(shape.d_model, shape.n_heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.d_model, shape.n_kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.d_model, shape.n_kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.n_heads * shape.head_dim, shape.d_model, bias=False)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        q = rotated(self._heads(self.q_proj(x)), cosine, sine)  # (batch, n_heads, n_tokens, head_dim)
        k = rotated(self._heads(self.k_proj(x)), cosine, sine)  # (batch, n_kv_heads, n_tokens, head_dim)
        v = self._heads(self.v_proj(x))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.gate_proj = nn.Linear(shape.d_model, shape.d_ffn, bias=False)
        self.up_proj = nn.Linear(shape.d_model, shape.d_ffn, bias=False)
        self.down_proj = nn.Linear(shape.d_ffn, shape.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.d_model, shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.d_model, shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cosine, sine)
        return x + self.mlp(self.post_attention_layernorm(x))


class Llama(nn.Module):
    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.d_model)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.n_layers))
        self.norm = nn.RMSNorm(shape.d_model, shape.norm_epsilon)
        self._initialise()

    def forward(self, ids: Tensor) -> Tensor:
        """(batch, n_tokens) ids to (batch, n_tokens, vocab_size) logits."""
        cosine, sine = rotations(self.shape, ids.shape[1], ids.device)
        x = self.embed_tokens(ids)
        for layer in self.layers:
            x = layer(x, cosine, sine)
        return functional.linear(self.norm(x), self.embed_tokens.weight)

    def n_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters())

    def _initialise(self) -> None:
        """Normal weights; those that add to the residual stream smaller, by its number of additions (Radford 2019)."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.03 / (2 * self.shape.n_layers) ** 0.5 if adds else 0.03)


def rotations(shape: Shape, n_tokens: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine of every position's angles, (n_tokens, head_dim) each (Su et al. 2021)."""
    fractions = torch.arange(0, shape.head_dim, 2, device=device) / shape.head_dim
    angles = torch.outer(torch.arange(n_tokens, device=device), shape.rope_base**-fractions)
    angles = torch.cat([angles, angles], dim=-1)
    return angles.cos(), angles.sin()


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """Pairs are (i, i + head_dim / 2), as in Hugging Face's checkpoints."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
