"""Checkpoint readers, one file per source format, and the GGUF writer behind them."""
