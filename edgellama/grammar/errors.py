"""What goes wrong with a grammar, as one sentence."""

from edgellama.errors import EdgellamaError


class GrammarError(EdgellamaError):
    """A grammar or schema that cannot be read, is not supported, or leaves no token to choose."""
