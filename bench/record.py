"""The record of a benchmark run: what `-o json` writes and saved.py reads. One object a run, `schema` 1.

command, time (UTC), versions, device (device.py), settings
model      name, architecture, type, n_parameters, file_bytes, weight_bytes
limits     by name and number of threads: stream_bytes_per_second, int8_operations_per_second,
           float_operations_per_second, cache_bytes_per_second; cache_bytes by level
results    a row a variant, see `Result` of fields.py
start      load_seconds, first_token_seconds, kernel_compile_seconds, kernels_cached, peak_memory_bytes
peers      runtime, version, settings, results, error
sustain    a point every few seconds, see `SustainedPoint` there, or null
"""

from __future__ import annotations

import datetime
import math
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fields import Result
from .trust import Samples
from .variants import Variant

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile


def now_utc() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def command_of(arguments: list[str]) -> list[str]:
    """The command line without folders, which may hold a user's name."""
    return ["edgellama", "bench", *(Path(text).name if "/" in text or "\\" in text else text for text in arguments)]


def describe_model(path: Path) -> dict[str, Any]:
    """Raises EdgellamaError for what is no model."""
    from edgellama.gguf import open_gguf

    from .model_cost import cost_of

    with open_gguf(path) as file:
        return {
            "name": file.get("general.name", str, path.stem),
            "architecture": file.get("general.architecture", str, ""),
            "type": type_of(file),
            "n_parameters": sum(math.prod(tensor.shape) for tensor in file.tensors.values()),
            "file_bytes": sum(part.stat().st_size for part in {tensor.file.path for tensor in file.tensors.values()}),
            "weight_bytes": cost_of(path).weight_bytes,
        }


def type_of(file: GGUFFile) -> str:
    """The name of the mix that the file says it is, else the type that most of its bytes have."""
    from gguf import LlamaFileType

    from edgellama import fp8

    if fp8.KEY + "version" in file.metadata:
        return "FP8"
    try:
        return LlamaFileType(file.get("general.file_type", int, -1)).name.removeprefix("MOSTLY_")
    except ValueError:
        sizes: dict[str, int] = {}
        for tensor in file.tensors.values():
            sizes[tensor.type_name] = sizes.get(tensor.type_name, 0) + tensor.n_bytes
        return max(sizes, key=sizes.__getitem__).upper()


def row_of(variant: Variant, samples: Samples, limit: str, bytes_per_token: float) -> dict[str, Any]:
    """One result, as an object for JSON."""
    rates, warnings = samples.rates, samples.warnings()
    row = Result(
        test=variant.name,
        n_prompt=variant.n_prompt,
        n_gen=variant.n_gen,
        n_depth=variant.n_depth,
        n_batch=variant.n_sequences,
        n_threads=variant.n_threads,
        type_k=variant.kv_type,
        type_v=variant.kv_type,
        samples_ts=rates,
        median_ts=samples.median_ts,
        avg_ts=statistics.fmean(rates),
        stddev_ts=statistics.stdev(rates) if len(rates) > 1 else 0.0,
        limit=limit,
        limit_ts=samples.limit_ts,
        of_limit=samples.of_limit,
        bytes_per_token=bytes_per_token,
        reliable=not warnings,
        warnings=warnings,
        energy=None,
    )
    return asdict(row)
