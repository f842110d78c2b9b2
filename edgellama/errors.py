"""The one error type that crosses the public API: one sentence with the file, the fact and the way out."""


class EdgellamaError(Exception):
    """Anything a user can cause and mend. The command line prints its sentence and exits with 2."""


class GGUFError(EdgellamaError):
    """A GGUF file that cannot be read; the sentence names the file, the key or tensor, and the offset.

    `position`: how many bytes of the header had been walked, None where the header is not to blame.
    """

    def __init__(self, sentence: str, position: int | None = None):
        super().__init__(sentence)
        self.position = position


class ModelError(EdgellamaError):
    """A readable file that is no model this runtime can run (wrong or missing keys, tensors, shapes)."""


class ContextFullError(EdgellamaError):
    """Tokens that do not fit into a session's context."""


class CancelledError(EdgellamaError):
    """What an answer's steps raise once it is cancelled; callers see a finish reason instead."""
