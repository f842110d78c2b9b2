"""The GGUF container: a bounds-checked reader over a memory mapping.

Nothing here knows what a model is. Opening a file walks its header once, proves every count, length and extent against
the bytes that exist, and copies nothing; values and tensor bytes are decoded when somebody asks for them.
"""

from edgellama.gguf.metadata import Metadata
from edgellama.gguf.reader import REQUIRED, GGUFFile, open_gguf
from edgellama.gguf.tensor_table import TensorInfo

__all__ = ["REQUIRED", "GGUFFile", "Metadata", "TensorInfo", "open_gguf"]
