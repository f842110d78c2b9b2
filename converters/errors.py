"""What is wrong with a checkpoint, in one sentence."""

from edgellama.errors import EdgellamaError


class ConvertError(EdgellamaError):
    """A checkpoint that cannot be converted; the sentence names the file, the fact and the way out."""
