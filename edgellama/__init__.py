"""edgellama: runs quantized language models from GGUF files. `load()` is the whole entry; see its docstring.

NumPy, llvmlite and the tokenizers are imported by load(), not by this module.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .chat.conversation import Conversation as Conversation
    from .errors import EdgellamaError as EdgellamaError
    from .generation import Answer as Answer
    from .memory_offers import MemoryShortageError as MemoryShortageError
    from .model import Model as Model
    from .sampling import SampleOptions as SampleOptions
    from .session import Session as Session

__version__ = "0.1.0"

_PUBLIC = {
    "Answer": "generation",
    "Conversation": "chat.conversation",
    "EdgellamaError": "errors",
    "MemoryShortageError": "memory_offers",
    "Model": "model",
    "SampleOptions": "sampling",
    "Session": "session",
    "load": "loading",
}
__all__ = [
    "Answer",
    "Conversation",
    "EdgellamaError",
    "MemoryShortageError",
    "Model",
    "SampleOptions",
    "Session",
    "load",
]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_PUBLIC[name]}", __name__), name)
