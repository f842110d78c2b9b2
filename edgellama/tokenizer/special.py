"""Finding the texts of special tokens in a text."""

import re
from collections.abc import Iterable, Iterator

from edgellama.tokenizer.vocabulary import TokenType, Vocabulary


class SpecialTokens:
    """The tokens of some types, found in a text as a whole; of two that begin at one place the longer."""

    def __init__(self, vocabulary: Vocabulary, types: Iterable[TokenType]):
        tokens = [(vocabulary.tokens[index], index) for index in vocabulary.ids_of_types(*types)]
        texts = [(token.decode(errors="replace"), token, index) for token, index in tokens]
        # A token that is no UTF-8 stands in no text.
        self._ids = {text: index for text, token, index in texts if text.encode() == token}
        self._ids.pop("", None)
        longest_first = sorted(self._ids, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def split(self, text: str) -> Iterator[str | int]:
        """Stretches of plain text, none empty, and the ids of the special tokens between them, in order."""
        position = 0
        for match in self._pattern.finditer(text) if self._ids else ():
            if match.start() > position:
                yield text[position : match.start()]
            yield self._ids[match.group()]
            position = match.end()
        if position < len(text):
            yield text[position:]
