"""`edgellama inspect MODEL`: what is in a GGUF file and how much memory running it takes."""

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from edgellama.gguf import GGUFFile, Metadata, TensorInfo

HELP = "show what is in a model file and the memory it needs"

_LONGEST_VALUE = 72  # characters of a value in the listing
_SHOWN_ITEMS = 4
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", metavar="MODEL", help="a GGUF file (of several, the first) or a pulled model")
    parser.add_argument("--json", action="store_true", help="print everything as one JSON object")
    parser.add_argument("-c", "--context", type=_positive, metavar="N", help="tokens of context for the memory figures")
    parser.add_argument("--tensors", action="store_true", help="list every tensor")


def main(args: argparse.Namespace) -> int:
    """Print the report; 0. Raises EdgellamaError for a file that cannot be read."""
    from edgellama.gguf import open_gguf
    from edgellama.models import model_path

    with open_gguf(model_path(args.model)) as file:
        report = describe(file, args.context)
        print(_as_json(report) if args.json else _as_text(report, file.metadata, args.tensors))
    return 0


def describe(file: "GGUFFile", context: int | None = None) -> dict[str, Any]:
    """Everything the command knows of an open file; values are plain Python or NumPy arrays, sizes are in bytes.

    `config` is None for a file that is no model (a bare vocabulary, say), and `memory` for one that this version cannot
    run; `config_error` says why.
    """
    from edgellama.config import ModelConfig
    from edgellama.errors import ModelError
    from edgellama.fp8 import join_scales

    config, memory, reason = None, None, None
    try:
        join_scales(file)
        config = ModelConfig.from_gguf(file)
        memory = _memory(file, context)
    except ModelError as error:
        reason = str(error)
    tensors = list(file.tensors.values())
    return {
        "path": str(file.path),
        "metadata": dict(file.metadata),
        "tensors": [_tensor_record(tensor) for tensor in tensors],
        "types": _totals(tensors),
        "n_values": sum(_n_values(tensor) for tensor in tensors),
        "weight_bytes": sum(map(_n_bytes, tensors)),
        "config": config,
        "config_error": reason,
        "memory": memory,
    }


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _n_values(tensor: "TensorInfo") -> int:
    from math import prod

    return prod(tensor.shape)


def _tensor_record(tensor: "TensorInfo") -> dict[str, Any]:
    fields = ("name", "type_name", "type_id", "shape", "n_bytes", "offset", "file_index")
    return {field: getattr(tensor, field) for field in fields} | {"n_bytes": _n_bytes(tensor)}


def _n_bytes(tensor: "TensorInfo") -> int:
    """With the scales of an FP8 weight, which lie in a tensor of their own."""
    return tensor.n_bytes + getattr(tensor, "scale_bytes", 0)


def _totals(tensors: "Iterable[TensorInfo]") -> dict[str, dict[str, Any]]:
    """Per type name, largest first: tensors, values, bytes, bits per weight."""
    totals: dict[str, dict[str, Any]] = {}
    for tensor in tensors:
        total = totals.setdefault(tensor.type_name, {"n_tensors": 0, "n_values": 0, "n_bytes": 0})
        total["n_tensors"] += 1
        total["n_values"] += _n_values(tensor)
        total["n_bytes"] += _n_bytes(tensor)
    for total in totals.values():
        total["bits_per_weight"] = 8 * total["n_bytes"] / total["n_values"]
    return dict(sorted(totals.items(), key=lambda item: -item[1]["n_bytes"]))


def _memory(file: "GGUFFile", context: int | None) -> dict[str, int]:
    """Bytes that running takes at a context length (default: as a load's). Raises ModelError for what cannot run."""
    from dataclasses import replace

    from edgellama.memory_needs import LoadOptions, needs_of
    from edgellama.model import default_context, recognise

    family, config = recognise(file)
    plain = LoadOptions(context or default_context(config))
    needs = {
        "f16": needs_of(file, family, config, plain),
        "q8_0": needs_of(file, family, config, replace(plain, kv_type="q8_0")),
        "no_repack": needs_of(file, family, config, replace(plain, repack=False)),
    }
    return {
        "context": plain.context,
        "weight_bytes": needs["f16"].weight_bytes,
        "kv_cache_f16_bytes": needs["f16"].cache_bytes,
        "kv_cache_q8_0_bytes": needs["q8_0"].cache_bytes,
        "activation_bytes": needs["f16"].activation_bytes,
        "runtime_bytes": needs["f16"].runtime_bytes,
        **{f"total_{name}_bytes": found.total_bytes for name, found in needs.items()},
    }


def _as_json(report: dict[str, Any]) -> str:
    import json

    return json.dumps(_plain(report), allow_nan=False)


def _plain(value: Any) -> Any:
    """The same value out of JSON's types; NaN and the infinities, which JSON lacks, become strings."""
    from dataclasses import asdict, is_dataclass
    from math import isfinite

    if hasattr(value, "tolist"):
        value = value.tolist()
    if is_dataclass(value):
        value = asdict(value)
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, float) and not isfinite(value) else value


def _as_text(report: dict[str, Any], metadata: "Metadata", list_tensors: bool) -> str:
    keys = [(_printable(key), metadata.type_of(key), _summary(value)) for key, value in report["metadata"].items()]
    sections = [_printable(report["path"]), _table(("key", "type", "value"), keys)]
    if list_tensors:
        rows = [
            (_printable(t["name"]), t["type_name"], _shape(t["shape"]), _size(t["n_bytes"])) for t in report["tensors"]
        ]
        sections.append(_table(("tensor", "type", "shape", "size"), rows, right=(3,)))
    sections.append(_totals_table(report))
    what = "This version cannot run it" if report["config"] else "Not a model"
    sections.append(_memory_table(report["memory"]) if report["memory"] else f"{what}: {report['config_error']}")
    return "\n\n".join(sections)


def _totals_table(report: dict[str, Any]) -> str:
    whole = {"n_tensors": len(report["tensors"]), "n_values": report["n_values"], "n_bytes": report["weight_bytes"]}
    whole["bits_per_weight"] = 8 * whole["n_bytes"] / max(whole["n_values"], 1)
    rows = [
        (name, t["n_tensors"], f"{t['n_values']:,}", _size(t["n_bytes"]), f"{t['bits_per_weight']:.2f}")
        for name, t in [*report["types"].items(), ("all", whole)]
    ]
    return _table(("type", "tensors", "values", "size", "bits per weight"), rows, right=(1, 2, 3, 4))


def _memory_table(memory: dict[str, int]) -> str:
    labels = {
        "weight_bytes": "weights, packed",
        "kv_cache_f16_bytes": "KV cache, f16",
        "kv_cache_q8_0_bytes": "KV cache, q8_0",
        "activation_bytes": "activations",
        "runtime_bytes": "program (measured)",
        "total_f16_bytes": "total with f16 cache",
        "total_q8_0_bytes": "total with q8_0 cache",
        "total_no_repack_bytes": "total with f16 cache, --no-repack",
    }
    rows = [(label, _size(memory[name])) for name, label in labels.items()]
    return _table((f"memory at {memory['context']} tokens", "size"), rows, right=(1,))


def _table(header: tuple[str, ...], rows: list[tuple], right: tuple[int, ...] = ()) -> str:
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    lines = (
        "  ".join(
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in cells
    )
    return "\n".join(line.rstrip() for line in lines)


def _summary(value: Any) -> str:
    """One short line: a string is escaped and cut, an array shows its length and first items."""
    if isinstance(value, str):
        text = _printable(value)
        return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}... ({len(value):,} characters)"
    if not hasattr(value, "__len__"):
        return str(value)
    items = ", ".join(_summary(item)[: _LONGEST_VALUE // _SHOWN_ITEMS] for item in value[:_SHOWN_ITEMS])
    return f"[{items}, ...] ({len(value):,} items)" if len(value) > _SHOWN_ITEMS else f"[{items}]"


def _printable(text: str) -> str:
    """Names and values come from strangers: a terminal must not obey what is in them."""
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text[: 2 * _LONGEST_VALUE])


def _shape(shape: tuple[int, ...]) -> str:
    return " x ".join(str(size) for size in shape)


def _size(n_bytes: int) -> str:
    size, unit = float(n_bytes), 0
    while size >= 1024 and unit < len(_UNITS) - 1:
        size, unit = size / 1024, unit + 1
    return f"{n_bytes} B" if unit == 0 else f"{size:.1f} {_UNITS[unit]}"
