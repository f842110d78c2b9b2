"""Texts as vectors: hidden states after the last norm, pooled over the tokens of a text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from .errors import EdgellamaError

if TYPE_CHECKING:
    from .model import Model

POOLINGS = ("mean", "last")


def embed(model: "Model", texts: str | Sequence[str], pooling: str, normalize: bool) -> np.ndarray:
    """See Model.embed. Raises EdgellamaError for an unknown pooling, and for a text that does not fit the context."""
    if pooling not in POOLINGS:
        raise EdgellamaError(f"pooling must be one of {', '.join(POOLINGS)}, and is {pooling!r}")
    if isinstance(texts, str):
        return _embed_one(model, texts, pooling, normalize)
    return np.array([_embed_one(model, text, pooling, normalize) for text in texts], np.float32)


def _embed_one(model: "Model", text: str, pooling: str, normalize: bool) -> np.ndarray:
    ids = model.tokenize(text)
    with model.slots.borrow(ids) as session:
        session.reset()
        hidden = session.hidden(ids)  # (n_tokens, d_model)
    vector = hidden[-1] if pooling == "last" else hidden.mean(axis=0, dtype=np.float64)
    length = np.linalg.norm(vector)
    return np.float32(vector / length if normalize and length > 0 else vector)
