"""Measuring: synthetic full-size models, the limits of this machine, and peers on the same file."""
