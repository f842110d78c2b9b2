"""`edgellama bench MODEL.gguf`: how fast a model runs here, and how far that is from what the hardware allows."""

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgellama.commands import UsageError, tool_packages
from edgellama.commands.model_options import positive
from edgellama.commands.progress import progress_line

if TYPE_CHECKING:
    from bench.run import Bench, Report
    from bench.variants import Variant
    from bench.versus import Rival

KV_TYPES = ("f16", "q8_0", "f32")
FORMATS = ("md", "csv", "json", "jsonl")
PEERS = ("llama.cpp",)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a GGUF file; of a model in several files, the first")
    parser.add_argument("--shape", metavar="NAME", help="instead of MODEL: random weights of a real shape, made once")
    parser.add_argument("--type", dest="type_name", default="q4_0", metavar="TYPE", help="their type (default: q4_0)")
    _add_variants(parser.add_argument_group("what is measured; lists like 1,2,4 give all combinations"))
    _add_course(parser.add_argument_group("how"))
    _add_tuning(parser.add_argument_group("instead of measuring"))
    output = parser.add_argument_group("output")
    output.add_argument("-o", "--output", choices=FORMATS, default="md", help="form of the result (default: md)")
    output.add_argument(
        "--save", type=Path, metavar="FILE.json", help="also write the whole record, for compare and report"
    )
    output.add_argument("--report", type=Path, metavar="FILE.html", help="also write a page with plots")
    output.add_argument("--plot", type=Path, action="append", default=[], metavar="NAME.svg", help=_PLOT_HELP)


_PLOT_HELP = "also write one plot, named for what it shows: roofline.svg, depth.png, threads.svg, sustain.svg"


def _add_variants(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "-p", "--n-prompt", type=_sizes, default=[512], metavar="N", help="tokens of a prompt (512); 0: none"
    )
    group.add_argument("-n", "--n-gen", type=_sizes, default=[128], metavar="N", help="tokens to decode (128); 0: none")
    group.add_argument("-d", "--n-depth", type=_sizes, default=[0], metavar="N", help="tokens in the cache before (0)")
    group.add_argument(
        *("-b", "--sequences"), type=_counts, default=[1], metavar="N", help="sequences decoded together in a step (1)"
    )
    group.add_argument("-t", "--threads", type=_counts, metavar="N", help="threads (default: one for each fast core)")
    group.add_argument(
        "-ctk", "--kv-type", type=_kv_types, default=["f16"], metavar="TYPE", help="type of the cache (f16)"
    )


def _add_tuning(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--tune", action="store_true", help="find and store this device's fastest threads and cores")
    group.add_argument("--forget", action="store_true", help="with --tune: drop what was stored")


def _add_course(group: argparse._ArgumentGroup) -> None:
    group.add_argument("-r", "--repetitions", type=positive, default=5, metavar="N", help="of each figure (5)")
    group.add_argument("--no-repack", dest="repack", action="store_false", help="compute on the file's own layout")
    group.add_argument("--vs", choices=PEERS, help="measure this peer too, in turns, and compare")
    group.add_argument("--peer-python", metavar="PATH", help="the Python that has llama-cpp-python (default: this one)")
    group.add_argument("--peer-timeout", type=positive, default=600, metavar="S", help="seconds for an answer (600)")
    group.add_argument("--energy", action="store_true", help="measure joules per token, where the device can tell")
    group.add_argument(
        "--sustain", type=_minutes, metavar="MINUTES", help="then decode for so long, and watch the heat"
    )


def main(args: argparse.Namespace) -> int:
    """Print the figures; 0. Raises EdgellamaError for a model or options that do not work."""
    tool_packages.require("bench")
    if args.forget and not args.tune:
        raise UsageError("--forget needs --tune")
    if args.tune and args.forget:
        return _forget()
    if bool(args.model) == bool(args.shape):
        raise UsageError("name a MODEL, or a --shape to make one")
    if args.tune:
        return _tune(args)
    from bench.report_files import check_plot_name

    for path in args.plot:
        check_plot_name(path)
    variants = _variants(args)
    with progress_line() as report:
        record = _measured(args, variants, report)
    _write(args, record)
    return 0


def _forget() -> int:
    from bench import tune

    tune.forget()
    print("edgellama: forgotten; loads measure their thread count again", file=sys.stderr)
    return 0


def _tune(args: argparse.Namespace) -> int:
    if args.output not in ("md", "json"):
        raise UsageError("--tune writes md or json")
    from bench import tune

    with progress_line() as report:
        tuned = tune.tune(Path(args.model) if args.model else _made_model(args, report), report=report)
    print(tune.text_of(tuned, args.output))
    return 0


def _variants(args: argparse.Namespace) -> "list[Variant]":
    from bench.variants import variants_of
    from edgellama import placement

    threads = args.threads or [placement.default_thread_count()]
    found = variants_of(args.n_prompt, args.n_gen, args.n_depth, args.sequences, threads, args.kv_type)
    if not found:
        raise UsageError("there is nothing to measure: -p and -n are both 0")
    return found


def _measured(args: argparse.Namespace, variants: "list[Variant]", report: "Report | None") -> dict[str, Any]:
    """The record of the run."""
    from bench import device, energy, fields, record, run, start_figures

    path = Path(args.model) if args.model else _made_model(args, report)
    found = {
        "schema": fields.SCHEMA,
        "command": record.command_of(sys.argv[2:]),
        "time": record.now_utc(),
        "versions": device.versions(),
        "device": device.describe(),
        "model": record.describe_model(path),
        "peers": [],
        "sustain": None,
    }
    start = start_figures.compile_kernels()
    start["first_token_seconds"] = start_figures.first_token_seconds(path, variants[0].n_threads)
    settings = run.Settings(args.repetitions, args.repack)
    found["settings"] = {"repetitions": args.repetitions, "repack": args.repack}
    with energy.Meter() as meter:
        if args.energy:
            found["settings"]["energy"] = meter.reason
            meter.measure_idle()
        with run.start(path, variants, settings, report, _rival(args, path, variants)) as bench:
            bench.warm_up(report)
            bench.rounds(report)
            found["results"], found["peers"] = bench.rows(), bench.peers()
            if args.energy:
                for variant, row in zip(variants, found["results"], strict=True):
                    row["energy"] = bench.energy_of(variant, meter)
            found["limits"] = bench.limits_record()
            found["start"] = start | bench.memory_and_load()
            if args.sustain:
                found["sustain"] = _sustained(bench, args.sustain, report)
    return found


def _rival(args: argparse.Namespace, path: Path, variants: "list[Variant]") -> "Rival | None":
    from bench import versus

    return versus.llama_cpp(path, variants, args.peer_python, args.peer_timeout) if args.vs else None


def _made_model(args: argparse.Namespace, report: "Report | None") -> Path:
    from bench.synthetic_cache import cached_model

    if report is not None:
        report(f"making {args.shape} {args.type_name}", 0, 1)
    return cached_model(args.shape, args.type_name)


def _sustained(bench: "Bench", minutes: float, report: "Report | None") -> list[dict[str, Any]]:
    from bench.sustain import sustain

    decoding = next((variant for variant in bench.variants if variant.n_gen and variant.n_sequences == 1), None)
    if decoding is None:
        raise UsageError("--sustain decodes, so -n must not be 0")
    worker = bench.worker_of(decoding)
    return sustain(lambda: worker.ask("decode", n=16, depth=decoding.n_depth)["n"], minutes, report)


def _write(args: argparse.Namespace, record: dict[str, Any]) -> None:
    from bench import output, versus
    from bench.report_files import write_plot, write_report
    from bench.saved import record_of
    from bench.sustain import sentence
    from edgellama.system import atomic_file

    print(output.text_of(record, args.output))
    if record["peers"] and args.output == "md":
        print(f"\n{versus.comparison_of(record)}")
    if record["sustain"] is not None and args.output == "md":
        print(f"\n{sentence(record['sustain'])}")
    if args.save:
        with atomic_file(args.save) as file:
            file.write(f"{output.as_json(record)}\n".encode())
    saved = [record_of(record, "this run")] if args.report or args.plot else []
    if args.report:
        write_report(saved, args.report)
    for path in args.plot:
        write_plot(saved, path)


def _sizes(text: str) -> list[int]:
    """An argument like 0,512."""
    try:
        values = [int(part) for part in text.split(",")]
    except ValueError:
        values = [-1]
    if min(values) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers like 0,512")
    return values


def _counts(text: str) -> list[int]:
    values = _sizes(text)
    if min(values) < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return values


def _kv_types(text: str) -> list[str]:
    values = text.lower().split(",")
    if not set(values) <= set(KV_TYPES):
        raise argparse.ArgumentTypeError(f"{text!r} is no list of {', '.join(KV_TYPES)}")
    return values


def _minutes(text: str) -> float:
    value = float(text)
    if not 0 < value <= 24 * 60:
        raise argparse.ArgumentTypeError("must be above 0 and at most a day")
    return value
