"""Checkpoints to GGUF: `conversion.py` is the whole way; `sources/` has one file per checkpoint format."""
