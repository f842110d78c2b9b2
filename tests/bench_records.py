"""Made-up benchmark records, in the form that `edgellama bench -o json` writes."""

import math
from typing import Any


def result(test: str, threads: int, rate: float, limit: str, limit_ts: float, **changes: Any) -> dict[str, Any]:
    kind, _, depth = test.partition(" @ d")
    size = int(kind[2:])
    return {
        "test": test,
        "n_prompt": size if kind.startswith("pp") else 0,
        "n_gen": size if kind.startswith("tg") else 0,
        "n_depth": int(depth or 0),
        "n_batch": 1,
        "n_threads": threads,
        "type_k": "f16",
        "type_v": "f16",
        "samples_ts": [rate * 0.99, rate, rate * 1.02],
        "median_ts": rate,
        "avg_ts": rate * 1.003,
        "stddev_ts": rate * 0.012,
        "limit": limit,
        "limit_ts": limit_ts,
        "of_limit": rate / limit_ts,
        "bytes_per_token": 6.4e8 + int(depth or 0) * 45056 if kind.startswith("tg") else 6.4e8 / 512,
        "reliable": True,
        "warnings": [],
        "energy": None,
    } | changes


def energy(joules: float) -> dict[str, Any]:
    source = {
        "source": "sensor ina226", "measures": "supply rail", "seconds": 5.2, "joules": joules * 128,
        "average_watts": 9.1, "idle_watts": 3.2, "joules_per_token": joules * 1.5,
        "joules_per_token_above_idle": joules, "reliable": True,
    }  # fmt: skip
    return {"idle_seconds": 3.0, "sources": [source]}


def sustained(minutes: int) -> list[dict[str, Any]]:
    """A board that throttles after four minutes."""
    points = []
    for index in range(minutes * 30):
        t = index / 30
        warm = 45 + 41 * (1 - math.exp(-t / 1.6))
        hot = warm > 82
        points.append(
            {
                "seconds": index * 2.0 + 2,
                "tokens_per_second": (14.1 if hot else 19.2) + 0.25 * math.sin(index * 1.7),
                "temperature_celsius": min(warm, 83.5) + 0.3 * math.sin(index),
                "frequency_hz": 1.8e9 if hot else 2.4e9,
                "throttling": ["the kernel lowers the frequency against heat"] if hot else [],
            }
        )
    return points


def record(**changes: Any) -> dict[str, Any]:
    """A board with everything that a record can hold."""
    rates = {1: (21.0, 8.1), 2: (41.0, 14.8), 4: (79.0, 19.2), 8: (88.0, 18.4)}
    results = [result("pp512", n, pp, "int8", 30.0 * n if n < 5 else 140.0) for n, (pp, _) in rates.items()]
    results += [
        result("tg128", n, tg, "stream", min(9.3 * n, 22.4), energy=energy(0.31) if n == 4 else None)
        for n, (_, tg) in rates.items()
    ]
    results += [
        result(f"tg128 @ d{depth}", 4, 19.2 / (1 + depth / 9000), "stream", 22.4 / (1 + depth / 14000))
        for depth in (1024, 2048, 4096, 8192)
    ]
    results[5] |= {"reliable": False, "warnings": ["a frequency fell from 2400 to 1800 MHz"]}
    return {
        "schema": 1,
        "command": ["edgellama", "bench", "tinyllama-1.1b-q4_0.gguf", "-p", "512", "-n", "128", "-t", "1,2,4,8"],
        "time": "2026-11-28T06:00:00Z",
        "versions": {"python": "3.11.7", "edgellama": "0.1.0", "numba": "0.68.1", "llvmlite": "0.50.0"},
        "device": {
            "board": "Radxa ROCK 5B",
            "cpu": {
                "model": "Cortex-A76 + Cortex-A55", "machine": "aarch64", "isa": "generic", "physical_cores": 8,
                "logical_cpus": 8, "threads_per_core": 1, "quota_cpus": None,
                "core_kinds": [
                    {"name": "Cortex-A76", "cores": 4, "logical_cpus": 4, "capacity": 1024, "max_frequency_hz": 2.4e9},
                    {"name": "Cortex-A55", "cores": 4, "logical_cpus": 4, "capacity": 414, "max_frequency_hz": 1.8e9},
                ],
            },
            "caches": [
                {"level": 1, "size_bytes": 32 << 10, "count": 4}, {"level": 1, "size_bytes": 64 << 10, "count": 4},
                {"level": 2, "size_bytes": 512 << 10, "count": 4}, {"level": 3, "size_bytes": 3 << 20, "count": 1},
            ],
            "memory": {"total_bytes": 16 << 30},
            "gpus": ["rockchip,rk3588-mali (panthor)"],
            "system": {"name": "Armbian 24.5.1 bookworm", "kernel": "6.1.43"},
            "virtualization": {"machine": None, "container": None},
            "state": {
                "governors": ["performance"], "frequencies_hz": [1.8e9, 2.4e9], "max_frequencies_hz": [1.8e9, 2.4e9],
                "temperature_celsius": 46.2, "throttle_count": None, "throttling": [], "throttled_before": [],
            },
        },
        "model": {
            "name": "TinyLlama 1.1B", "architecture": "llama", "type": "Q4_0", "n_parameters": 1_100_048_384,
            "file_bytes": 637_699_456, "weight_bytes": 600_000_000,
        },
        "settings": {"repetitions": 3},
        "limits": {
            "stream_bytes_per_second": {"1": 6.1e9, "2": 11.8e9, "4": 14.3e9, "8": 14.3e9},
            "int8_operations_per_second": {"1": 62e9, "2": 124e9, "4": 248e9, "8": 290e9},
            "float_operations_per_second": {"1": 38e9, "2": 76e9, "4": 152e9, "8": 190e9},
            "cache_bytes": {"3": 3 << 20},
            "cache_bytes_per_second": {"4": 41e9},
        },
        "results": results,
        "start": {
            "load_seconds": 0.42, "first_token_seconds": 0.91, "kernel_compile_seconds": 0.0, "kernels_cached": True,
            "peak_memory_bytes": 945_000_000,
        },
        "peers": [],
        "sustain": sustained(8),
    } | changes  # fmt: skip


def with_peer() -> dict[str, Any]:
    ours = record(sustain=None)
    rows = [result("pp512", 4, 38.2, "int8", 120.0), result("tg128", 4, 15.9, "stream", 22.4)]
    return ours | {"peers": [{"runtime": "llama.cpp", "version": "0.3.36", "results": rows}]}


def small() -> dict[str, Any]:
    """The least that a run gives: two results of a virtual machine that tells nothing."""
    device = {"cpu": {"model": "AMD EPYC", "isa": "avx512vnni", "physical_cores": 2, "logical_cpus": 2}}
    rows = [result("pp512", 2, 310.0, "int8", 477.0), result("tg128", 2, 94.0, "stream", 111.0)]
    return record(device=device, results=rows, sustain=None, start=None, limits={})
