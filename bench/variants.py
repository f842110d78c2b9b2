"""What a benchmark measures: variants, one row of its table each, named as llama-bench names them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Any

from .model_cost import ModelCost

PREFILL, DECODE, BATCH = "prefill", "decode", "batch"


@dataclass(frozen=True)
class Variant:
    """A prompt of n_prompt tokens, or n_gen tokens decoded for each of n_sequences, both behind n_depth cached ones."""

    n_prompt: int = 0
    n_gen: int = 0
    n_depth: int = 0
    n_sequences: int = 1
    n_threads: int = 1
    kv_type: str = "f16"

    @property
    def name(self) -> str:
        name = f"pp{self.n_prompt}" if self.n_prompt else f"tg{self.n_gen}"
        name += f" x{self.n_sequences}" if self.n_sequences > 1 else ""
        return f"{name} @ d{self.n_depth}" if self.n_depth else name

    @property
    def op(self) -> str:
        """The worker's name for it."""
        if self.n_prompt:
            return PREFILL
        return BATCH if self.n_sequences > 1 else DECODE

    @property
    def request(self) -> dict[str, Any]:
        if self.op == BATCH:
            return {"n": self.n_gen, "sequences": self.n_sequences}
        return {"n": self.n_prompt or self.n_gen, "depth": self.n_depth}

    @property
    def n_tokens(self) -> int:
        return self.n_prompt or self.n_gen * self.n_sequences

    def operations_per_token(self, cost: ModelCost) -> float:
        return cost.prefill_operations(self.n_prompt) / self.n_prompt

    def bytes_per_token(self, cost: ModelCost) -> float:
        """GGUF bytes of the weights, which the tokens of a step share, and of the cache; the mean over all tokens."""
        if self.n_prompt:
            return cost.decode_bytes(self.n_depth + (self.n_prompt - 1) / 2, self.kv_type) / self.n_prompt
        depth = self.n_depth + (self.n_gen - 1) / 2
        return cost.weight_bytes / self.n_sequences + cost.decode_bytes(depth, self.kv_type) - cost.weight_bytes


def variants_of(
    prompts: list[int],
    generated: list[int],
    depths: list[int],
    sequences: list[int],
    threads: list[int],
    kv_types: list[str],
) -> list[Variant]:
    """All combinations, in the order of llama-bench; a length of 0 is left out. Batches are decoded at depth 0 only."""
    found = []
    for kv_type, n_threads, n_depth in product(kv_types, threads, depths):
        found += [Variant(n_prompt=n, n_depth=n_depth, n_threads=n_threads, kv_type=kv_type) for n in prompts if n]
        found += [
            Variant(n_gen=n, n_depth=n_depth, n_sequences=count, n_threads=n_threads, kv_type=kv_type)
            for n, count in product(generated, sequences)
            if n and not (count > 1 and n_depth)
        ]
    return list(dict.fromkeys(found))
