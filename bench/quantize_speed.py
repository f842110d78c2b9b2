"""How fast a model is quantized: edgellama and llama.cpp on the same file, one after the other, in turns.

Every run is a process of its own that reads the whole file and writes the whole result, so neither side keeps anything
from the run before. Its time does not include starting the process and loading libraries. edgellama also syncs its
output to the disk; a --folder in memory (/dev/shm) leaves the disk out for both.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

MODULE = "bench.quantize_speed"
REPOSITORY = Path(__file__).resolve().parent.parent


def run_edgellama(model: str, output: str, type_name: str, n_threads: int) -> float:
    """Seconds, compiled kernels being in memory."""
    from edgellama.gguf import open_gguf
    from quant.encoders import kernels
    from quant.plan import plan_recipe
    from quant.quantizer import write_quantized
    from quant.recipes import recipe_named

    kernels()
    begin = time.perf_counter()
    with open_gguf(model) as source:
        plan = plan_recipe(source, recipe_named(type_name))
        write_quantized(source, output, plan.jobs, plan.keys, n_threads)
    return time.perf_counter() - begin


def run_llama_cpp(model: str, output: str, type_name: str, n_threads: int) -> float:
    """Seconds of llama_model_quantize, which is all that llama-quantize does."""
    import llama_cpp

    parameters = llama_cpp.llama_model_quantize_default_params()
    parameters.nthread, parameters.ftype = n_threads, file_type(type_name)
    begin = time.perf_counter()
    if llama_cpp.llama_model_quantize(model.encode(), output.encode(), ctypes.byref(parameters)):
        raise RuntimeError(f"llama.cpp cannot quantize {model} to {type_name}")
    return time.perf_counter() - begin


RUNS = {"edgellama": run_edgellama, "llama.cpp": run_llama_cpp}


def file_type(type_name: str) -> int:
    from quant.recipes import recipe_named

    return recipe_named(type_name).file_type


def read_once(path: Path) -> None:
    """Bring the file into the system's cache, so that the first run does not pay for the disk."""
    with open(path, "rb") as file:
        while file.read(1 << 24):
            pass


def run_child(python: str, name: str, model: Path, output: Path, type_name: str, n_threads: int) -> float:
    """Seconds of one run in a fresh process; its output file is removed."""
    command = [python, "-m", MODULE, str(model), "--run", name, "--output", str(output), "--threads", str(n_threads)]
    paths = os.pathsep.join(filter(None, [str(REPOSITORY), os.environ.get("PYTHONPATH")]))
    try:
        result = subprocess.run(
            [*command, "--types", type_name],
            capture_output=True,
            env={**os.environ, "PYTHONPATH": paths},
            check=False,
            text=True,
        )
    finally:
        output.unlink(missing_ok=True)
    if result.returncode:
        raise RuntimeError(f"the run of {name} failed: {result.stderr[-500:]}")
    return json.loads(result.stdout.splitlines()[-1])["seconds"]


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Type -> runtime -> seconds of every round, and the median of the ratios round by round."""
    pythons = {"edgellama": sys.executable, "llama.cpp": arguments.peer_python}
    figures = {}
    read_once(arguments.model)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        output = Path(folder) / "quantized.gguf"
        for type_name in arguments.types:
            seconds: dict[str, list[float]] = {name: [] for name in RUNS}
            for _ in range(arguments.rounds):
                for name in RUNS:
                    run = run_child(pythons[name], name, arguments.model, output, type_name, arguments.threads)
                    seconds[name].append(run)
            ratios = [peer / ours for ours, peer in zip(seconds["edgellama"], seconds["llama.cpp"], strict=True)]
            figures[type_name] = {"seconds": seconds, "ratio": statistics.median(ratios), "ratios": ratios}
    return figures


def text_of(report: dict[str, Any]) -> str:
    lines = [f"{report['model']} ({report['bytes'] / 1e9:.2f} GB), {report['threads']} threads, {report['cpu']}"]
    for type_name, figure in report["figures"].items():
        ours, peer = (statistics.median(figure["seconds"][name]) for name in RUNS)
        spread = f"{figure['ratio']:.2f} times as fast ({min(figure['ratios']):.2f} to {max(figure['ratios']):.2f})"
        rates = f"{report['bytes'] / ours / 1e6:.0f} against {report['bytes'] / peer / 1e6:.0f} MB/s"
        lines.append(f"{type_name:8} {ours:6.2f} s against {peer:6.2f} s, {rates}: {spread}")
    return "\n".join(lines)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, help="an F16 model, such as `synthesize tinyllama-1.1b f16` writes")
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q4_K_M", "Q8_0"])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--folder", type=Path, help="where the results are written (default: the system's)")
    parser.add_argument("--peer-python", default=sys.executable, help="an interpreter that has llama-cpp-python")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--run", choices=RUNS, help=argparse.SUPPRESS)
    parser.add_argument("--output", help=argparse.SUPPRESS)


def main(arguments: argparse.Namespace) -> int:
    if arguments.run:
        seconds = RUNS[arguments.run](str(arguments.model), arguments.output, arguments.types[0], arguments.threads)
        print(json.dumps({"seconds": seconds}))
        return 0
    from edgellama import device

    report = {"model": arguments.model.name, "threads": arguments.threads, "cpu": device.cpu_model()}
    report |= {"bytes": arguments.model.stat().st_size, "figures": measure(arguments)}
    print(json.dumps(report, indent=1) if arguments.json else text_of(report))
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog=f"python -m {MODULE}", description=__doc__)
    add_arguments(parser)
    sys.exit(main(parser.parse_args()))
