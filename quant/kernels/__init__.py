"""Compiled encoders: float32 rows to the bytes of a GGUF tensor type, written with the runtime's SIMD layer."""
