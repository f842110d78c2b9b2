"""A text as chunks of tokens, cut as llama.cpp's perplexity and imatrix tools cut it.

The text is tokenized once, with the token that begins a text in front where the model wants one, and cut into chunks
of one context each; what is left over is not used. While a chunk is evaluated, that token stands in its first place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from edgellama.errors import EdgellamaError

if TYPE_CHECKING:
    from edgellama.tokenizer import Tokenizer


@dataclass(frozen=True)
class TextChunks:
    """`ids`, int32 (n_chunks, context), are the text's own; `bos_id` replaces the first of each chunk for the model."""

    ids: NDArray[np.int32]
    bos_id: int | None

    @property
    def context(self) -> int:
        return self.ids.shape[1]

    def __len__(self) -> int:
        return len(self.ids)

    def evaluated(self, index: int) -> list[int]:
        """The tokens of a chunk as the model sees them."""
        ids = self.ids[index].tolist()
        return ids if self.bos_id is None else [self.bos_id, *ids[1:]]

    def first(self, n_chunks: int | None) -> "TextChunks":
        """The first n_chunks, or all."""
        return TextChunks(self.ids[:n_chunks], self.bos_id)


def cut(tokenizer: "Tokenizer", text: str, context: int) -> TextChunks:
    """The chunks of a text. Raises EdgellamaError for a text that does not fill two of them."""
    bos_id = first_id(tokenizer)
    ids = tokenizer.encode(text, add_special=False)
    return _cut(ids if bos_id is None else [bos_id, *ids], context, bos_id)


def first_id(tokenizer: "Tokenizer") -> int | None:
    """The token that the model wants at the beginning of a text, if any."""
    return tokenizer.bos_id if tokenizer.adds_bos else None


def _cut(ids: Sequence[int], context: int, bos_id: int | None) -> TextChunks:
    n_chunks = len(ids) // context
    if n_chunks < 2:
        raise EdgellamaError(
            f"the text has {len(ids)} tokens, and a context of {context} needs at least {2 * context}:"
            " use a longer text or a smaller --context"
        )
    used = np.array(ids[: n_chunks * context], np.int32)
    return TextChunks(used.reshape(n_chunks, context), bos_id)
