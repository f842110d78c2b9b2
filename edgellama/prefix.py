"""Prompts whose tokens all see each other, up to a token that ends them: prefix language models (Du et al. 2022).

Such a prompt is evaluated in one step, and a changed one again in full.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .errors import EdgellamaError


class Layout(NamedTuple):
    """Of a step: int32 rotary positions (n_tokens, 2), and where what each token sees ends (n_tokens,)."""

    rotary: NDArray[np.int32]
    ends: NDArray[np.int32]


@dataclass(frozen=True)
class PrefixRule:
    """`end_id` is the token that begins the answer; the answer stands in the place of the first of `mask_ids` there is.

    Positions are pairs. In the prompt they are (0, 0), (1, 0), …; in the answer (place of the mask, 1), (…, 2), ….
    """

    end_id: int
    mask_ids: tuple[int, ...]

    def end_of(self, ids: Sequence[int]) -> int | None:
        """Where the prompt ends: the place of end_id, None while there is none."""
        ids = list(ids)
        return ids.index(self.end_id) if self.end_id in ids else None

    def layout(self, before: Sequence[int], ids: Sequence[int]) -> Layout:
        """Of the tokens `ids` that follow `before`. Raises EdgellamaError if that would evaluate a prompt in parts."""
        whole, n_before = [*before, *ids], len(before)
        end, places = self.end_of(whole), np.arange(n_before, len(whole), dtype=np.int32)
        if end is None:
            return Layout(np.stack([places, np.zeros_like(places)], axis=1), places + 1)
        if 0 < n_before <= end:
            raise EdgellamaError("this model reads a prompt as a whole: give all of it in one step")
        mask = next((whole.index(mask_id) for mask_id in self.mask_ids if mask_id in whole[:end]), max(end - 1, 0))
        is_prompt = places < end
        rotary = np.stack([np.where(is_prompt, places, mask), np.where(is_prompt, 0, places - end + 1)], axis=1)
        return Layout(rotary.astype(np.int32), np.where(is_prompt, end, places + 1).astype(np.int32))

    def usable(self, cached: Sequence[int], ids: Sequence[int], n_common: int) -> int:
        """How many of the first n_common tokens of both, evaluated as part of `cached`, are right as part of `ids`."""
        end, old_end = self.end_of(ids), self.end_of(cached)
        is_behind = end is not None and end < n_common
        return n_common if is_behind or (end is None and old_end is None) else 0
