"""`python -m bench.tables [--write]`: tables of the documents, made from the code and the records they describe.

A table stands between `<!-- table: NAME -->` and `<!-- end of table -->`. Without --write, stale files are named and
the exit code is 1; a test asks the same.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from edgellama import arch, cli, formats
from edgellama.chat import builtin_templates
from edgellama.cpu import packing
from edgellama.simd.target import TARGETS

from .performance_tables import full_tables, saved_records, short_table

REPOSITORY = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "docs/families.md", "docs/formats.md", "docs/index.md", "docs/performance.md")
PACKED, UNPACKED, NO_WEIGHTS = "packed", "unpacked", "not for weights"
DOT_INSTRUCTIONS = {
    "vnni512": "vpdpbusd, 512 bits",
    "vnni256": "vpdpbusd, 256 bits",
    "maddubs512": "vpmaddubsw + vpmaddwd, 512 bits",
    "maddubs256": "vpmaddubsw + vpmaddwd, 256 bits",
    "usdot": "usdot by lane",
    "sdot": "sdot by lane",
    "smull": "smull + smlal, int16 sums of a run",
    "generic": "whatever LLVM makes of plain vector IR",
}
_MARKED = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def row_decoders() -> set[str]:
    """Formats whose rows a kernel decodes as they lie in the file; read from the text, as kernels need a target."""
    files = (Path(packing.__file__).parent / "kernels").glob("rows_*.py")
    return {name for file in files for name in re.findall(r"^def row_(\w+)\(", file.read_text(), re.MULTILINE)}


def speed_class(name: str) -> str:
    """How weights of a format are computed with."""
    if name in packing.LAYOUTS:
        return PACKED
    return UNPACKED if name in row_decoders() else NO_WEIGHTS


def formats_table() -> str:
    rows = (
        (f"`{item.name}`", item.type_id, item.block_values, f"{item.bits_per_weight:g}", speed_class(item.name))
        for item in formats.ALL
    )
    return _table(("Format", "GGUF type id", "Values per block", "Bits per weight", "Weights in memory"), rows)


def speeds_table() -> str:
    """The formats of each speed class in one line."""
    meanings = {
        PACKED: "repacked at load for the fast kernels",
        UNPACKED: "computed from the mapped file; also every format with `--no-repack`",
        NO_WEIGHTS: "read, and refused as the type of a weight",
    }
    rows = (
        (kind, ", ".join(f"`{item.name}`" for item in formats.ALL if speed_class(item.name) == kind), meaning)
        for kind, meaning in meanings.items()
    )
    return _table(("", "Formats", "What happens"), rows)


def families_table() -> str:
    rows = ((f"`{name}`", arch.find(name).__doc__.splitlines()[0].rstrip(".")) for name in arch.names())
    return _table(("`general.architecture`", "Models"), rows)


def family_facts_table() -> str:
    """What the family files say of themselves."""
    families = ((name, arch.find(name)) for name in arch.names())
    rows = (
        (
            f"`{name}`",
            ", ".join(f"`{model_type}`" for model_type in family.MODEL_TYPES),
            family.ABOUT.tokenizer,
            family.ABOUT.template,
            family.ABOUT.checked,
            family.ABOUT.limits or "runs",
        )
        for name, family in families
    )
    return _table(("Family", "Converted `model_type`", "Tokenizer", "Template", "Checked against", "Status"), rows)


def instruction_sets_table() -> str:
    rows = (
        (
            f"`{target.name}`",
            target.architecture,
            ", ".join(sorted(target.required)) or "nothing",
            DOT_INSTRUCTIONS[target.dot],
            f"{16 * target.tile_halves} rows x {target.tile_tokens} tokens",
        )
        for target in TARGETS.values()
    )
    return _table(("Name", "Architecture", "The CPU must have", "Integer products", "Prefill tile"), rows)


def templates_table() -> str:
    return _table(("Name", "Models"), ((f"`{name}`", used_by) for name, used_by in builtin_templates.table()))


def commands_table() -> str:
    return _table(
        ("Command", "What it does"), ((f"`edgellama {name}`", line) for name, (_, line) in cli.COMMANDS.items())
    )


TABLES = {
    "commands": commands_table,
    "formats": formats_table,
    "speeds": speeds_table,
    "families": families_table,
    "family_facts": family_facts_table,
    "instruction_sets": instruction_sets_table,
    "templates": templates_table,
    "measured": lambda: short_table(saved_records()),
    "records": lambda: full_tables(saved_records()),
}


def _table(header: tuple[str, ...], rows: Iterable[tuple]) -> str:
    lines = (header, ["---"] * len(header), *rows)
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


def rendered(text: str) -> str:
    """A document with its tables as they should be now."""
    return _MARKED.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.tables", description=__doc__.splitlines()[0])
    parser.add_argument("--write", action="store_true", help="bring the files up to date")
    options = parser.parse_args(argv)
    stale = []
    for name in DOCUMENTS:
        path = REPOSITORY / name
        text = path.read_text(encoding="utf-8")
        wanted = rendered(text)
        if wanted != text:
            stale.append(name)
            if options.write:
                path.write_text(wanted, encoding="utf-8")
    print(*(f"{name}: {'written' if options.write else 'stale'}" for name in stale), sep="\n")
    return 1 if stale and not options.write else 0


if __name__ == "__main__":
    sys.exit(main())
