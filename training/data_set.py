"""Chats as ids, in the form that the chat template gives them, and which of the ids are the model's own words.

What an answer begins with decides what it is; the rest is soon known by heart. So most chats are one question and the
first words of its answer, which makes room for many more questions.
"""

import random
from pathlib import Path

import numpy as np
from sentencepiece import SentencePieceProcessor

from .corpus.chats import Message, chats
from .vocabulary import BEGIN, END, ROLES

_SHARE_OF_CUT_CHATS = 0.88
_WORDS_OF_CUT_ANSWERS = (6, 18)  # tokens, at least and at most


class Encoder:
    def __init__(self, vocabulary: SentencePieceProcessor):
        self._vocabulary = vocabulary
        self._begin, self._end = vocabulary.piece_to_id(BEGIN), vocabulary.piece_to_id(END)
        self._roles = {role: vocabulary.piece_to_id(mark) for role, mark in ROLES.items()}
        self._new_line = vocabulary.encode("\n")

    def encode(self, chat: list[Message]) -> tuple[list[int], list[bool]]:
        """Ids of a chat; True where the model shall learn to write them."""
        ids, own = [self._begin], [False]
        for message in chat:
            mark = [self._roles[message["role"]], *self._new_line]
            words = [*self._vocabulary.encode(message["content"]), self._end]
            ids += [*mark, *words, *self._new_line]
            own += [False] * len(mark) + [message["role"] == "assistant"] * len(words) + [False]
        return ids, own


def write_data_set(
    target: Path, vocabulary: SentencePieceProcessor, n_tokens: int, seed: int, left_out: frozenset[str]
):
    """Write at least `n_tokens` ids and their marks to the .npz file `target`."""
    encoder, rng = Encoder(vocabulary), random.Random(seed)
    ids, own = [], []
    for chat in chats(seed, left_out):
        chat_ids, chat_own = encoder.encode(chat)
        end = _end_of_cut(chat_own, rng) if rng.random() < _SHARE_OF_CUT_CHATS else len(chat_ids)
        ids += chat_ids[:end]
        own += chat_own[:end]
        if len(ids) >= n_tokens:
            break
    partial = target.with_suffix(".partial.npz")
    np.savez(partial, ids=np.array(ids, np.uint16), own=np.array(own, bool))
    partial.rename(target)


def _end_of_cut(own: list[bool], rng: random.Random) -> int:
    """How many tokens to keep of a chat, so that it ends in its first answer."""
    if True not in own:
        return len(own)
    begin = own.index(True)
    end = own.index(False, begin) + 1  # with the new line after the answer
    return min(end, begin + rng.randint(*_WORDS_OF_CUT_ANSWERS))


def read_data_set(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Ids, and whether the model shall learn to write them: (n_tokens,) each."""
    with np.load(path) as arrays:
        return arrays["ids"], arrays["own"]
