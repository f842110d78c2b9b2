"""Kernels: plain Numba functions over addresses, one idea a file, compiled by edgellama.compiler into objects.

An entry has the signature kernel(op, frame, worker): addresses of a BOUND record, of the frame's header and of the
worker (cpu/layout.py). Kernels allocate nothing, check nothing and raise nothing: shapes were proved before.
"""
