"""How a config's rotary positions become keys and tensors of a GGUF file.

Both spellings are read: rope_theta beside rope_scaling {type, factor}, and rope_parameters {rope_type, rope_theta},
which transformers 5 writes. What each kind means: `edgellama/rope.py`.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgellama.rope import plain_frequencies

from .errors import ConvertError
from .fields import Fields


@dataclass
class Rope:
    """`keys` below `{architecture}.`, float32 `tensors` (rope_dim / 2,), and what the user should know."""

    keys: dict[str, Any]
    tensors: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def scale(self, **values: Any) -> None:
        """Set keys `rope.scaling.*`."""
        self.keys |= {f"rope.scaling.{name}": value for name, value in values.items()}


@dataclass(frozen=True)
class _Given:
    """What the kinds of scaling are computed from; `asked_context` is the user's, or None."""

    fields: Fields  # of the scaling
    config: Fields
    rope_dim: int
    base: float
    asked_context: int | None

    @property
    def trained_context(self) -> int:
        return self.config.get("max_position_embeddings", int)

    @property
    def original_context(self) -> int:
        """The context before stretching; a field of the config itself comes before the scaling's own."""
        name = "original_max_position_embeddings"
        own = self.fields.get(name, int, None) or self.trained_context
        return self.config.get(name, int, None) or own

    @property
    def factor(self) -> float:
        stretch = self.trained_context / max(1, self.original_context)
        value = self.fields.get("factor", float, stretch)
        if value <= 0:
            raise ConvertError(f"{self.config.path}: {self.fields.prefix}factor must be above 0, and is {value}")
        return value


def read_rope(config: Fields, head_dim: int, context: int | None) -> Rope:
    """The rotary keys and tensors of a config; `context`: the length that the user asked for, if any."""
    name = "rope_parameters" if "rope_parameters" in config and "rope_scaling" not in config else "rope_scaling"
    fields, local = config.inside(name), {}
    if "full_attention" in fields and "sliding_attention" in fields:
        local = _local_base(fields.inside("sliding_attention"))
        fields = fields.inside("full_attention")
    if any(isinstance(value, dict) for value in fields.values.values()):
        raise ConvertError(f"{config.path}: {name} differs between layers, which cannot be converted")
    base = fields.get("rope_theta", float, config.get("rope_theta", float, 10000.0))
    share = fields.get("partial_rotary_factor", float, config.get("partial_rotary_factor", float, 1.0))
    rope_dim = int(head_dim * share)
    kind = fields.get(("rope_type", "type"), str, "default")
    if kind not in _KINDS:
        raise ConvertError(f"{config.path}: RoPE scaling {kind[:40]!r} cannot be converted; {', '.join(_KINDS)} can")
    rope = Rope({"rope.dimension_count": rope_dim, "rope.freq_base": base} | local)
    _KINDS[kind](rope, _Given(fields, config, rope_dim, base, context))
    return rope


def _local_base(fields: Fields) -> dict[str, float]:
    """The base of the layers that see a window only."""
    kind = fields.get(("rope_type", "type"), str, "default")
    if kind != "default":
        raise ConvertError(f"{fields.path}: {fields.prefix}rope_type is {kind[:40]!r}, which cannot be converted")
    return {"rope.freq_base_swa": fields.get("rope_theta", float, 10000.0)}


def _default(rope: Rope, given: _Given) -> None:
    """Nothing to do."""


def _linear(rope: Rope, given: _Given) -> None:
    rope.scale(type="linear", factor=given.factor)


def _dynamic(rope: Rope, given: _Given) -> None:
    """The base grows with the length of the text (NTK-aware scaling): here it is fixed for the length asked for."""
    length = given.asked_context or given.trained_context
    if length <= given.trained_context:
        rope.notes.append(
            f"RoPE scaling 'dynamic' begins after {given.trained_context} positions, where the context of the file "
            "ends; --context fixes it for a longer one"
        )
        return
    stretch = given.factor * length / given.trained_context - (given.factor - 1)
    rope.keys["rope.freq_base"] = given.base * stretch ** (given.rope_dim / (given.rope_dim - 2))
    rope.notes.append(f"RoPE scaling 'dynamic' is fixed for texts of {length} positions")


def _yarn(rope: Rope, given: _Given) -> None:
    rope.scale(type="yarn", factor=given.factor, original_context_length=given.original_context)
    stretched = int(given.factor * given.original_context)
    if given.asked_context is None and stretched > given.trained_context:  # Qwen2 leaves its field at the original
        rope.keys["context_length"] = stretched
    fields = given.fields
    if not fields.get("truncate", bool, True):
        raise ConvertError(f"{given.config.path}: YaRN with truncate = false cannot be said in a GGUF file")
    for name in ("beta_fast", "beta_slow"):
        if name in fields:
            rope.scale(**{f"yarn_{name}": fields.get(name, float)})
    usual = _yarn_magnitude(given.factor)
    magnitude = fields.get("attention_factor", float, None) or _deepseek_magnitude(fields, given.factor) or usual
    if magnitude != usual:
        rope.scale(attn_factor=magnitude / usual)


def _yarn_magnitude(factor: float, weight: float = 1.0) -> float:
    """YaRN, eq. 22 (https://arxiv.org/abs/2309.00071)."""
    return 1.0 if factor <= 1 else 0.1 * weight * math.log(factor) + 1.0


def _deepseek_magnitude(fields: Fields, factor: float) -> float | None:
    above, below = fields.get("mscale", float, 0.0), fields.get("mscale_all_dim", float, 0.0)
    return _yarn_magnitude(factor, above) / _yarn_magnitude(factor, below) if above and below else None


def _llama3(rope: Rope, given: _Given) -> None:
    """Long wavelengths are slowed by the factor, short ones kept, those between blended (Llama 3.1's model.py)."""
    low, high = (given.fields.get(f"{name}_freq_factor", float) for name in ("low", "high"))
    frequencies = plain_frequencies(given.rope_dim, given.base)
    turns = given.original_context * frequencies / (2 * math.pi)
    kept = np.clip((turns - low) / (high - low), 0.0, 1.0) if high != low else (turns >= low).astype(np.float64)
    rope.tensors["rope_freqs.weight"] = (1.0 / ((1.0 - kept) / given.factor + kept)).astype(np.float32)


def _longrope(rope: Rope, given: _Given) -> None:
    """A divisor for each frequency, one list for short texts and one for long (https://arxiv.org/abs/2402.13753)."""
    for name in ("short", "long"):
        values = given.fields.get(f"{name}_factor", list)
        if len(values) != given.rope_dim // 2 or not all(isinstance(value, int | float) for value in values):
            wanted = f"a list of {given.rope_dim // 2} numbers"
            raise ConvertError(f"{given.config.path}: {given.fields.prefix}{name}_factor must be {wanted}, and is not")
        rope.tensors[f"rope_factors_{name}.weight"] = np.array(values, np.float32)
    # No factor: llama.cpp would divide all positions by it as well.
    rope.scale(type="longrope", original_context_length=given.original_context)
    usual = math.sqrt(1 + max(0.0, math.log(given.factor)) / math.log(max(2, given.original_context)))
    rope.scale(attn_factor=given.fields.get("attention_factor", float, usual))


_KINDS: dict[str, Callable[[Rope, _Given], None]] = {
    "default": _default,
    "linear": _linear,
    "dynamic": _dynamic,
    "yarn": _yarn,
    "llama3": _llama3,
    "longrope": _longrope,
    "su": _longrope,  # its first name
}
