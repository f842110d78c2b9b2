"""The sampler of one sequence: which steps there are, in which order, and what they remember of the text."""

import math
import secrets

import numpy as np

from ..errors import EdgellamaError
from .candidates import FEW, Candidates
from .dry import Dry, HasPieces
from .many import Many
from .mirostat import Mirostat
from .options import SampleOptions
from .penalties import Change, RecentTokens, bias
from .scan import NOTHING, NUMPY_SCAN, Scan, bits
from .steps import LOWEST_TEMPERATURE, steps_of, temperature_of


class Sampler:
    """Draws tokens for one sequence. `seed` is the seed in use, also where the options left it open.

    The prompt and every token of the answer go through `accept`, so that the penalties know them. `scan` does the
    passes over all logits; a KernelScan is several times as fast as the default. `tokenizer` is for the sequence
    breakers of DRY. Raises EdgellamaError if these are wanted and there is none, or if a bias names a token past the
    vocabulary.

    The order is that of llama.cpp: logit bias, penalties, DRY, the steps of steps.py, temperature, draw. Mirostat
    replaces all between the bias and the temperature, also as there.
    """

    def __init__(
        self, options: SampleOptions, vocab_size: int, scan: Scan | None = None, tokenizer: HasPieces | None = None
    ):
        self.options, self.vocab_size = options, vocab_size
        self.seed = secrets.randbits(32) if options.seed is None else options.seed
        self.scan, self._tokenizer = scan or NUMPY_SCAN, tokenizer
        for token_id in options.logit_bias:
            if token_id >= vocab_size:
                raise EdgellamaError(f"logit_bias names token {token_id}, and the vocabulary ends at {vocab_size - 1}")
        self._bias = bias(options)
        self._changed = np.empty(vocab_size, np.float32)  # logits after biases and penalties
        self._steps = list(steps_of(options).values())
        self.reset()

    @property
    def takes_likeliest(self) -> bool:
        """Whether every choice is the token of the highest logit, whatever came before."""
        return self.options.is_greedy and self._bias is None and not self._memories

    def reset(self) -> None:
        """Forget the text and start again with the same seed."""
        options = self.options
        self._random = np.random.Generator(np.random.PCG64(self.seed))
        self._mirostat = Mirostat(options) if options.mirostat else None
        self._memories: list[RecentTokens | Dry] = []
        if RecentTokens.is_on(options) and not options.mirostat:
            self._memories.append(RecentTokens(options))
        if Dry.is_on(options) and not options.mirostat:
            self._memories.append(Dry(options, self._tokenizer))

    def accept(self, token_id: int) -> None:
        """Note a token of the text. Raises EdgellamaError for an id past the vocabulary."""
        self._check_id(token_id)
        for memory in self._memories:
            memory.accept(int(token_id))

    def sample(self, logits: np.ndarray, allowed: np.ndarray | None = None) -> int:
        """The id of the next token, from float32 logits (vocab_size,), which stay as they are.

        `allowed`: uint32 (ceil(vocab_size / 32),), bit i % 32 of word i // 32 says whether token i may be chosen. A NaN
        counts as lower than every number; of equal logits the lowest id goes first. Raises EdgellamaError where biases
        and `allowed` together leave no token.
        """
        candidates = self._candidates(logits, allowed)
        if self.options.is_greedy:
            return candidates.likeliest_id()
        if self._mirostat:
            return self._mirostat.choose(candidates, self._random)
        for step in self._steps:
            candidates = step(candidates, self.options, self._random)
        temperature = temperature_of(candidates, self.options)
        if temperature == 0:
            return candidates.likeliest_id()
        token_id, _ = candidates.draw(max(temperature, LOWEST_TEMPERATURE), self._random.random())
        return token_id

    def _candidates(self, logits: np.ndarray, allowed: np.ndarray | None) -> Candidates:
        """All tokens that may be chosen, with their changed logits."""
        self._check_arrays(logits, allowed)
        logits = original = np.ascontiguousarray(logits, np.float32)
        if allowed is not None:
            logits = self.scan.allowed(logits, np.ascontiguousarray(allowed))
        for ids, amounts, rule in self._changes():
            if logits is original:
                logits = self._changed
                np.copyto(logits, original)
            with np.errstate(over="ignore"):
                logits[ids] = list(map(rule, logits[ids].tolist(), amounts))
        candidates = Many(self.scan, logits)
        if not math.isfinite(candidates.top):
            candidates = self._equals(candidates, allowed)
        return candidates if allowed is None and self.vocab_size > FEW else candidates.listed()

    def _changes(self) -> list[Change]:
        changes = [self._bias, *(memory.change() for memory in self._memories)]
        return [change for change in changes if change is not None]

    def _equals(self, candidates: Many, allowed: np.ndarray | None) -> Many:
        """Where the largest logit is infinite: all tokens that have it, equally likely, if they may be chosen."""
        is_choice = candidates.logits == np.inf
        if candidates.top < 0:  # every logit is minus infinity or NaN
            is_choice = np.ones(self.vocab_size, bool) if allowed is None else bits(allowed, self.vocab_size)
            is_choice[[token_id for token_id, bias in self.options.logit_bias.items() if bias == NOTHING]] = False
        if not is_choice.any():
            raise EdgellamaError("no token can be chosen: logit_bias and the grammar leave none")
        return Many(self.scan, np.where(is_choice, 0, NOTHING).astype(np.float32))

    def _check_id(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise EdgellamaError(f"token id {token_id} is outside the vocabulary, which has 0 to {self.vocab_size - 1}")

    def _check_arrays(self, logits: np.ndarray, allowed: np.ndarray | None) -> None:
        if logits.shape != (self.vocab_size,):
            raise EdgellamaError(f"logits must have the shape ({self.vocab_size},), and have {logits.shape}")
        n_words = -(-self.vocab_size // 32)
        if allowed is not None and (allowed.shape != (n_words,) or allowed.dtype != np.uint32):
            found = f"{allowed.dtype} {allowed.shape}"
            raise EdgellamaError(f"allowed must be a uint32 array of the shape ({n_words},), and is {found}")
