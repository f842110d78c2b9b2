"""What a user can choose about sampling, with the range of each option."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..errors import EdgellamaError

SEQUENCE_BREAKERS = ("\n", ":", '"', "*")


@dataclass(frozen=True)
class SampleOptions:
    """How to choose a token. Raises EdgellamaError naming the option that is out of range.

    Options are listed in the order in which they take effect. Without Mirostat:

    logit_bias: token id -> what is added to its logit; minus infinity bans the token.
    repeat_penalty: divides positive and multiplies other logits of the last `repeat_last_n` tokens; 1 is off.
    frequency_penalty: taken off a logit for every time its token is among these; 0 is off.
    presence_penalty: taken off a logit once if its token is among these; 0 is off.
    repeat_last_n: how many tokens back these penalties look; 0 is off.
    dry_multiplier: a token that would repeat a run of `dry_allowed_length` tokens or more loses
        dry_multiplier * dry_base ** (length of the run - dry_allowed_length); 0 is off.
    dry_penalty_last_n: how many tokens back DRY looks; 0 is off.
    dry_sequence_breakers: texts that no run goes across.
    top_n_sigma: keep logits at most so many standard deviations below the largest; 0 is off.
    top_k: keep the k likeliest tokens; 0 keeps all.
    typical_p: keep the tokens of the most expected surprise that together exceed this probability; 1 keeps all.
    top_p: keep the likeliest tokens that together reach this probability; 1 keeps all.
    min_p: drop tokens less likely than this share of the likeliest one; 0 keeps all.
    xtc_probability: how often to drop all but the least likely of the tokens that reach `xtc_threshold`; 0 is off,
        and so is a threshold above 0.5.
    min_keep: typical_p, top_p, min_p and XTC leave at least so many tokens.
    temperature: 0 takes the likeliest token before any is dropped; larger is more varied.
    dynamic_temperature_range: the temperature goes so far down and up with the entropy of what is left; 0 is off.
    dynamic_temperature_exponent: bends that relation.

    mirostat: 2 steers the surprise of each token towards `mirostat_tau` bits, learning at the rate `mirostat_eta`;
        only logit_bias and temperature take part then. 0 is off.
    seed: same seed, same tokens; None takes a fresh one.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    repeat_penalty: float = 1.0
    repeat_last_n: int = 64
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = SEQUENCE_BREAKERS
    top_n_sigma: float = 0.0
    typical_p: float = 1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    min_keep: int = 0
    dynamic_temperature_range: float = 0.0
    dynamic_temperature_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in _RANGES:
            _check_range(name, getattr(self, name))
        if self.mirostat not in (0, 2):
            raise EdgellamaError(f"mirostat must be 0 (off) or 2, and is {self.mirostat!r}")
        object.__setattr__(self, "dry_sequence_breakers", _checked_breakers(self.dry_sequence_breakers))
        object.__setattr__(self, "logit_bias", _checked_bias(self.logit_bias))

    @property
    def is_greedy(self) -> bool:
        """Whether the likeliest token is always taken."""
        return self.temperature == 0 and (self.dynamic_temperature_range == 0 or self.mirostat == 2)


_MOST = 2**31 - 1
_INTEGERS = frozenset(
    {"top_k", "repeat_last_n", "seed", "dry_allowed_length", "dry_penalty_last_n", "min_keep", "mirostat"}
)
_RANGES = {  # lowest, highest
    "temperature": (0.0, 100.0),
    "top_k": (0, _MOST),
    "top_p": (0.0, 1.0),
    "min_p": (0.0, 1.0),
    "repeat_penalty": (0.01, 100.0),
    "repeat_last_n": (0, _MOST),
    "seed": (0, 2**64 - 1),
    "frequency_penalty": (-100.0, 100.0),
    "presence_penalty": (-100.0, 100.0),
    "dry_multiplier": (0.0, 100.0),
    "dry_base": (1.0, 100.0),
    "dry_allowed_length": (1, _MOST),
    "dry_penalty_last_n": (0, _MOST),
    "top_n_sigma": (0.0, 100.0),
    "typical_p": (0.0, 1.0),
    "xtc_probability": (0.0, 1.0),
    "xtc_threshold": (0.0, 1.0),
    "min_keep": (0, _MOST),
    "dynamic_temperature_range": (0.0, 100.0),
    "dynamic_temperature_exponent": (0.0, 100.0),
    "mirostat": (0, 2),
    "mirostat_tau": (0.0, 100.0),
    "mirostat_eta": (0.0, 1.0),
}
_LARGEST_BIAS = 1e30


def _check_range(name: str, value: object) -> None:
    low, high = _RANGES[name]
    kind, noun = (int, "an integer") if name in _INTEGERS else (int | float, "a number")
    if value is None and name == "seed":
        return
    # A NaN is in no range.
    if isinstance(value, bool) or not isinstance(value, kind) or not low <= value <= high:
        raise EdgellamaError(f"{name} must be {noun} from {low} to {high}, and is {value!r}")


def _checked_breakers(breakers: object) -> tuple[str, ...]:
    """As a tuple. A lone text would be taken for its letters."""
    texts = tuple(breakers) if isinstance(breakers, list | tuple) else (None,)
    if not all(isinstance(text, str) and text for text in texts):
        raise EdgellamaError(f"dry_sequence_breakers must be a list of texts that are not empty, and is {breakers!r}")
    return texts


def _checked_bias(biases: object) -> dict[int, float]:
    """A copy, which a later change of the caller's mapping leaves alone."""
    if not isinstance(biases, Mapping):
        raise EdgellamaError(f"logit_bias must map token ids to numbers, and is {biases!r}")
    for token_id, bias in biases.items():
        if isinstance(token_id, bool) or not isinstance(token_id, int) or token_id < 0:
            raise EdgellamaError(f"logit_bias must map token ids to numbers, and has the key {token_id!r}")
        is_number = isinstance(bias, int | float) and not isinstance(bias, bool)
        if not is_number or not (bias == float("-inf") or abs(bias) <= _LARGEST_BIAS):
            raise EdgellamaError(f"logit_bias must be a finite number or -inf, and is {bias!r} for token {token_id}")
    return dict(biases)
