"""Choosing what to encode: recipes, importance matrices, error measures, and the streaming quantizer."""
