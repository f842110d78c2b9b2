"""CUDA kernels: the ops of a Program for one GPU. thread.py says what a thread can do."""
