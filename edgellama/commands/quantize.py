"""`edgellama quantize IN.gguf OUT.gguf TYPE`: the same model with smaller weights."""

import argparse
import re
from typing import TYPE_CHECKING, Any

from edgellama.commands import UsageError, tool_packages
from edgellama.commands.model_options import positive
from edgellama.commands.progress import Report, progress_line

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile
    from quant.importance import ImportanceMatrix
    from quant.plan import Plan

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "KI": 2**10, "MI": 2**20, "GI": 2**30}
_PADDING_BYTES = 32  # between two tensors, at most
_SIZE = re.compile(r"(\d+(?:\.\d*)?)\s*([KMG]I?)?B?", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="IN.gguf", help="the model to read; of a model in several files, the first")
    parser.add_argument("output", metavar="OUT.gguf", help="the file to write")
    parser.add_argument("type", metavar="TYPE", nargs="?", help="a mix such as Q4_K_M; a wrong one lists them all")
    parser.add_argument("-t", "--threads", type=positive, metavar="N", help="worker threads (default: all usable CPUs)")
    parser.add_argument("--imatrix", metavar="FILE", help="importance of the columns, from llama.cpp or edgellama")
    parser.add_argument("--allow-requantize", action="store_true", help="also read tensors that are quantized already")
    parser.add_argument("--dry-run", action="store_true", help="show types and sizes, write nothing")
    parser.add_argument("--report", action="store_true", help="show the error of every tensor that was written")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    types = parser.add_argument_group("choosing types")
    types.add_argument(
        "--tensor-type",
        action="append",
        default=[],
        type=_override,
        metavar="REGEX=TYPE",
        help="a type for tensors whose name the expression finds; the first that fits counts",
    )
    types.add_argument(
        "--fp8-granularity",
        default="row",
        choices=("row", "tensor", "block"),
        help="what shares a scale in tensors that become FP8 (row)",
    )
    types.add_argument("--pure", action="store_true", help="TYPE for all matrices, whatever the mix says")
    types.add_argument("--output-tensor-type", metavar="T", help="type of the output matrix")
    types.add_argument("--token-embedding-type", metavar="T", help="type of the token embedding")
    types.add_argument(
        "--target-size", type=_size, metavar="3.5G", help="in place of TYPE: types by measured error, for this size"
    )
    types.add_argument("--target-bpw", type=_positive_number, metavar="4.5", help="the same in bits per weight")


def main(args: argparse.Namespace) -> int:
    """Write the file, or show what would be written; 0. Raises EdgellamaError for anything that does not work."""
    _check_usage(args)
    tool_packages.require("quant")
    from edgellama.gguf import open_gguf
    from edgellama.models import model_path
    from quant.importance import read_importance
    from quant.quantizer import write_quantized

    importance = read_importance(args.imatrix) if args.imatrix else None
    with open_gguf(model_path(args.model)) as source, progress_line() as progress:
        plan = _plan(source, args, importance, progress)
        if not args.dry_run:
            write_quantized(source, args.output, plan.jobs, plan.keys, _threads(args), args.report, progress)
        before = sum(tensor.n_bytes + getattr(tensor, "scale_bytes", 0) for tensor in source.tensors.values())
    print(_as_json(plan, args) if args.json else _as_text(plan, args, before))
    return 0


def _check_usage(args: argparse.Namespace) -> None:
    n_ways = sum(choice is not None for choice in (args.type, args.target_size, args.target_bpw))
    if n_ways != 1:
        raise UsageError("give one of TYPE, --target-size and --target-bpw")
    by_recipe = args.tensor_type or args.pure or args.output_tensor_type or args.token_embedding_type
    if args.type is None and by_recipe:
        raise UsageError("--target-size and --target-bpw choose all types: leave out the other options that do")
    if args.report and args.dry_run:
        raise UsageError("--report needs the written tensors: leave out --dry-run")


def _plan(
    source: "GGUFFile", args: argparse.Namespace, importance: "ImportanceMatrix | None", progress: Report | None
) -> "Plan":
    from quant.budget import choose_for_size, file_type_of
    from quant.plan import plan_recipe, plan_types
    from quant.recipes import recipe_named
    from quant.type_choice import TypeOptions

    if args.type is not None:
        output, embedding = args.output_tensor_type, args.token_embedding_type
        options = TypeOptions(args.pure, _type_name(output), _type_name(embedding), tuple(args.tensor_type))
        recipe = recipe_named(args.type)
        return plan_recipe(source, recipe, options, importance, args.allow_requantize, args.fp8_granularity)
    types = choose_for_size(source, _target_bytes(source, args), importance, _threads(args), progress)
    return plan_types(source, types, file_type_of(types, source), importance, args.allow_requantize)


def _target_bytes(source: "GGUFFile", args: argparse.Namespace) -> int:
    """What all tensors together may take."""
    from math import prod

    tensors = source.tensors.values()
    if args.target_bpw is not None:
        return int(args.target_bpw * sum(prod(tensor.shape) for tensor in tensors) / 8)
    header = min((tensor.offset for tensor in tensors if tensor.file_index == 0), default=0)
    return args.target_size - header - _PADDING_BYTES * len(tensors)


def _threads(args: argparse.Namespace) -> int:
    from edgellama.system import default_worker_limit

    return args.threads or default_worker_limit()


def _type_name(text: str | None) -> str | None:
    """As the runtime spells it; of FP8, weights are E4M3 unless they are asked for by the full name."""
    lower = text and text.lower()
    return "fp8_e4m3" if lower == "fp8" else lower


def _override(text: str) -> tuple[re.Pattern[str], str]:
    """An argument REGEX=TYPE."""
    pattern, equals, type_name = text.rpartition("=")
    if not equals or not pattern or not type_name:
        raise argparse.ArgumentTypeError(f"{text!r} is not REGEX=TYPE, like attn_v=q8_0")
    try:
        return re.compile(pattern), _type_name(type_name)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{pattern!r} is no regular expression: {error}") from None


def _size(text: str) -> int:
    """An argument like 3.5G (10**9 bytes), 900M or 4GiB."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or float(match[1]) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is no size like 3.5G, 900M or 4GiB")
    return int(float(match[1]) * _UNITS[(match[2] or "").upper()])


def _positive_number(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError("must be above zero")
    return value


def _rows(plan: "Plan", with_errors: bool) -> list[dict[str, Any]]:
    rows = []
    for job in plan.jobs:
        row = {
            "name": job.tensor.name,
            "shape": list(job.tensor.shape),
            "from": job.tensor.type_name,
            "type": job.type_name,
            "bytes": job.n_bytes,
            "bits_per_weight": 8 * job.n_bytes / (job.output.n_rows * job.tensor.shape[-1]),
        }
        if with_errors and not job.is_copied:
            row["relative_rms"] = job.sums.relative_rms
            row["largest_error"] = job.sums.largest
            if job.weights is not None:
                row["weighted_relative_rms"] = job.sums.weighted_relative_rms
        rows.append(row)
    return rows


def _as_json(plan: "Plan", args: argparse.Namespace) -> str:
    import json

    totals = {"output": args.output, "bytes": plan.n_bytes, "bits_per_weight": 8 * plan.n_bytes / max(plan.n_values, 1)}
    return json.dumps({**totals, "tensors": _rows(plan, args.report)})


def _as_text(plan: "Plan", args: argparse.Namespace, bytes_before: int) -> str:
    lines = [_line(row) for row in _rows(plan, args.report)] if args.report or args.dry_run else []
    if args.report:
        lines.append(_total_errors(plan))
    verb = "would take" if args.dry_run else "takes"
    bits = 8 * plan.n_bytes / max(plan.n_values, 1)
    lines.append(
        f"{args.output} {verb} {_amount(plan.n_bytes)}, {bits:.2f} bits per weight ({_amount(bytes_before)} before)"
    )
    return "\n".join(lines)


def _line(row: dict[str, Any]) -> str:
    shape = " x ".join(map(str, row["shape"]))
    change = row["type"] if row["type"] == row["from"] else f"{row['from']} -> {row['type']}"
    text = f"{row['name']:32} {shape:>16}  {change:16} {row['bits_per_weight']:6.3f} bits"
    if "relative_rms" in row:
        text += f"  rms {row['relative_rms']:.5f}  largest {row['largest_error']:.5f}"
    if "weighted_relative_rms" in row:
        text += f"  weighted {row['weighted_relative_rms']:.5f}"
    return text


def _total_errors(plan: "Plan") -> str:
    """The relative error of all changed tensors together."""
    changed = [job.sums for job in plan.jobs if not job.is_copied]
    errors, values = sum(sums.errors for sums in changed), sum(sums.values for sums in changed)
    largest = max((sums.largest for sums in changed), default=0.0)
    rms = (errors / values) ** 0.5 if values else 0.0
    return f"{len(changed)} tensors changed: rms {rms:.5f} of the values', largest error {largest:.5g}"


def _amount(n_bytes: int) -> str:
    return f"{n_bytes / 1e9:.2f} GB" if n_bytes >= 1e9 else f"{n_bytes / 1e6:.1f} MB"
