"""Choosing the next token from the logits of one position."""

from .kernel_scan import KernelScan
from .logprobs import logprob, logprobs
from .options import SampleOptions
from .sampler import Sampler

__all__ = ["KernelScan", "SampleOptions", "Sampler", "logprob", "logprobs"]
