"""`python -m bench.gpu_check`: is the CUDA path right on this GPU, and how fast is it against the GPU's own limits?

Some minutes, one table; --save writes a record. Nothing is downloaded: models are made of random numbers.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgellama.cuda.device import Device
from edgellama.cuda.device_frame import TILE_TOKENS
from edgellama.cuda.steps import Counts, Step
from edgellama.errors import EdgellamaError

from .gpu_correct import differences, same_texts
from .gpu_models import FP8, GpuModel

COPY_BYTES = 4 << 30
SHORT, LONG = 128, 4000  # positions of the token that is decoded
N_DECODED = 64  # tokens of one timing
PROMPTS = (1, 512, 2048)  # tokens
MODELS = (
    "llama-3.2-1b:Q4_0", "llama-3.2-1b:Q8_0", "llama-3.1-8b:Q4_0", "llama-3.1-8b:Q4_K_M", "llama-3.1-8b:Q8_0",
    f"llama-3.1-8b:{FP8}", "llama-3.1-8b:BF16",
)  # fmt: skip


def seconds_of(device: Device, stream, work: Callable[[], None], n_times: int = 5) -> float:
    """Median of the GPU's seconds for work()."""
    start, end, seconds = device.event(), device.event(), []
    work()
    for _ in range(n_times):
        stream.record(start)
        work()
        stream.record(end)
        seconds.append(end.seconds_since(start))
    return float(np.median(seconds))


def copy_rate(device: Device) -> float:
    """Bytes read and written per second by a copy within the GPU's memory."""
    n_bytes = min(COPY_BYTES, device.free_bytes() // 4)
    stream, source, target = device.stream(), device.allocate(n_bytes), device.allocate(n_bytes)
    seconds = seconds_of(device, stream, lambda: stream.copy(target.address, source.address, n_bytes))
    source.free()
    target.free()
    return 2 * n_bytes / seconds


def decode_seconds(model: GpuModel, position: int) -> float:
    """For a token at a position, the GPU choosing each next one."""
    model.fill_frame(1, position)
    model.machine.run_likeliest()
    start = time.perf_counter()
    for index in range(N_DECODED):
        model.frame.fill([model.machine.last_choice], [position + 1 + index], [0], [0])
        model.machine.run_likeliest()
    return (time.perf_counter() - start) / N_DECODED


def host_seconds(model: GpuModel) -> float:
    """For a token whose logits go to the host each time."""
    start = time.perf_counter()
    for index in range(N_DECODED):
        model.fill_frame(1, SHORT + index)
        model.machine.run()
    return (time.perf_counter() - start) / N_DECODED


def prefill_seconds(model: GpuModel, n_tokens: int) -> float:
    """For a prompt in one step and its logits on the host."""
    seconds = []
    for _ in range(4):
        model.fill_frame(n_tokens, 0)
        start = time.perf_counter()
        model.machine.run()
        seconds.append(time.perf_counter() - start)
    return float(np.median(seconds[1:]))


def measure(name: str, copy: float, with_detail: bool, context: int = 4096) -> dict[str, Any]:
    """A model's figures, "SHAPE:TYPE"; `copy`: bytes per second that shares are of."""
    start = time.perf_counter()
    model = GpuModel(*name.split(":"), context)
    record: dict[str, Any] = {"model": name, "weight_bytes": model.weight_bytes}
    record["make_seconds"] = time.perf_counter() - start
    try:
        prefill_seconds(model, PROMPTS[1])
        for position in (SHORT, LONG):
            seconds = decode_seconds(model, position)
            n_bytes = model.weight_bytes + position * model.kv_bytes_per_position
            record[f"decode_at_{position}"] = 1 / seconds
            record[f"decode_share_at_{position}"] = n_bytes / seconds / copy
        record["decode_with_logits"] = 1 / host_seconds(model)
        for n_tokens in PROMPTS:
            seconds = prefill_seconds(model, n_tokens)
            record[f"prefill_{n_tokens}"] = n_tokens / seconds
            record[f"prefill_{n_tokens}_tflops"] = 2 * model.matrix_values * n_tokens / seconds / 1e12
        if with_detail:
            show_detail(model)
    finally:
        model.close()
    return record


def show_detail(model: GpuModel) -> None:
    """The time of every kind of launch, in decode and in the longest prefill."""
    model.fill_frame(1, SHORT)
    model.machine.run()
    show_kinds(model, model.machine.steps_for_one, Counts(1, 1, 1))
    longest = PROMPTS[-1]
    model.fill_frame(longest, 0)
    model.machine.run()
    show_kinds(model, model.machine.steps_for_many, Counts(longest, 1, -(-longest // TILE_TOKENS)))


def show_kinds(model: GpuModel, steps: Iterable[Step], counts: Counts) -> None:
    """All launches of one kernel and one size, in a graph of their own."""
    machine, kinds = model.machine, {}
    for step in steps:
        if step.needed(counts):
            kinds.setdefault((step.kernel, step.blocks(counts), step.shared_bytes), []).append(step)
    for (kernel, blocks, _), same in kinds.items():
        with machine.stream.capture() as graph:
            machine.launch(same, counts)
        seconds = seconds_of(machine.device, machine.stream, lambda graph=graph: graph.launch(machine.stream))
        print(f"    {kernel:22} blocks {blocks!s:16} {len(same):3} x {seconds / len(same) * 1e6:8.2f} us", flush=True)


def show_record(record: dict[str, Any]) -> None:
    decode = [
        f"{record[f'decode_at_{position}']:6.0f} ({record[f'decode_share_at_{position}']:4.0%})"
        for position in (SHORT, LONG)
    ]
    prefill, longest = [f"{record[f'prefill_{n}']:6.0f}" for n in PROMPTS[1:]], PROMPTS[-1]
    speed = f"{record[f'prefill_{longest}_tflops']:3.0f} TFLOP/s"
    first = 1000 * longest / record[f"prefill_{longest}"]
    logits = f"{record['decode_with_logits']:6.0f}"
    print(f"{record['model']:20}", *decode, logits, *prefill, speed, f"{first:5.0f} ms", flush=True)


def check_results(device: str) -> list[dict[str, Any]]:
    """Print and return how the GPU's results differ from the CPU's."""
    records = []
    for found in differences(device):
        print(f"{found.type_name:5} prefill {found.prefill:.5f} decode {found.decode:.5f} same {found.same_top:.1%}")
        records.append(vars(found))
    for question, is_same in same_texts(device).items():
        print(f"greedy text {'same' if is_same else 'DIFFERS'}: {question}", flush=True)
        records.append({"question": question, "same": is_same})
    return records


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu_check", description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda", help="cuda, or cuda:1 for the second GPU")
    parser.add_argument("--save", type=Path, metavar="FILE", help="write a record, as JSON")
    parser.add_argument("--detail", action="store_true", help="also the time of each kind of launch")
    parser.add_argument("--models", default=",".join(MODELS), help="SHAPE:TYPE, separated by commas")
    parser.add_argument("--skip-check", action="store_true", help="measure only")
    return parser.parse_args()


def main() -> int:
    options = parse_arguments()
    with Device(int(options.device.partition(":")[2] or 0)) as device:
        version = ".".join(map(str, device.driver_version))
        record: dict[str, Any] = {"device": device.name, "driver": version, "date": datetime.now(UTC).isoformat()}
        record["copy_bytes_per_second"] = copy = copy_rate(device)
    print(f"{record['device']}, driver {version}; copy {copy / 1e12:.2f} TB/s", flush=True)
    if not options.skip_check:
        print("relative difference from the CPU:")
        record["check"] = check_results(options.device)
    print(
        "tokens/s: decode at 128, at 4000 (share of the copy rate), with logits; prefill of 512, of 2048, first token"
    )
    record["measured"] = []
    for name in filter(None, options.models.split(",")):
        try:
            record["measured"].append(measure(name, copy, options.detail))
        except EdgellamaError as error:
            print(f"{name:20} {error}", flush=True)
            continue
        show_record(record["measured"][-1])
        if options.save:
            options.save.write_text(json.dumps(record, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgellamaError as error:
        sys.exit(f"error: {error}")
