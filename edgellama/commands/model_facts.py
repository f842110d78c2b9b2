"""What a person wants to know of a model before running it: what it is, what it takes, how fast it can be here."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgellama.commands.inspect import describe
from edgellama.models.names import size
from edgellama.terminal.safe_text import safe_line

if TYPE_CHECKING:
    from edgellama.gguf import GGUFFile

_SHOWN_SHARE = 0.005  # of the bytes; norms take less


@dataclass(frozen=True)
class ModelFacts:
    """Sizes in bytes; None is what cannot be told, and `problem` says why this version cannot run the model."""

    architecture: str
    n_parameters: int
    types: dict[str, float] = field(hash=False)  # share of the bytes by type, largest first
    context: int | None
    weight_bytes: int
    memory_context: int | None  # tokens of context that memory_bytes includes
    memory_bytes: int | None
    available_bytes: int
    bytes_per_second: float  # of memory
    tokens_per_second: float | None
    problem: str | None

    @property
    def fits(self) -> bool:
        return self.memory_bytes is None or self.memory_bytes <= self.available_bytes


def facts_of(file: "GGUFFile", bytes_per_second: float) -> ModelFacts:
    """The facts of an open file, whose tensors may be without data. The speed is that of reading all weights once.

    A token's embedding is one row of its matrix, so that matrix counts only where it is the output matrix too.
    """
    from edgellama.memory_needs import available_bytes

    report = describe(file)
    config, memory = report["config"], report["memory"] or {}
    names = file.tensors.keys()
    read = sum(t.n_bytes for n, t in file.tensors.items() if n != "token_embd.weight" or "output.weight" not in names)
    total = max(report["weight_bytes"], 1)
    architecture = file.metadata.get("general.architecture")
    return ModelFacts(
        architecture=safe_line(architecture, 40) if isinstance(architecture, str) else "unknown",
        n_parameters=report["n_values"],
        types={name: entry["n_bytes"] / total for name, entry in report["types"].items()},
        context=config and config.context_length,
        weight_bytes=report["weight_bytes"],
        memory_context=memory.get("context"),
        memory_bytes=memory.get("total_f16_bytes"),
        available_bytes=available_bytes(),
        bytes_per_second=bytes_per_second,
        tokens_per_second=bytes_per_second / read if read else None,
        problem=_problem(file),
    )


def _problem(file: "GGUFFile") -> str | None:
    from edgellama.errors import ModelError
    from edgellama.model import recognise

    try:
        recognise(file)
    except ModelError as error:
        return safe_line(str(error).removeprefix(f"{file.path}: "), 400)
    return None


def lines(facts: ModelFacts) -> list[tuple[str, str]]:
    """Rows of a label and a text."""
    rows = [
        ("architecture", f"{facts.architecture}, {_count(facts.n_parameters)} parameters"),
        ("types", ", ".join(f"{name} {share:.0%}" for name, share in facts.types.items() if share >= _SHOWN_SHARE)),
    ]
    if facts.context:
        rows.append(("context", f"{facts.context:,} tokens"))
    rows.append(("weights", size(facts.weight_bytes)))
    if facts.memory_bytes:
        needed = f"{size(facts.memory_bytes)} with {facts.memory_context:,} tokens of context"
        rows.append(("memory", f"{needed}, {size(facts.available_bytes)} are free"))
    if facts.tokens_per_second:
        memory_speed = f"memory is read at {facts.bytes_per_second / 1e9:.1f} GB/s"
        rows.append(("speed", f"about {facts.tokens_per_second:.3g} tokens/s here: {memory_speed}"))
    if facts.problem:
        rows.append(("problem", f"this version cannot run it: {facts.problem}"))
    return rows


def print_rows(rows: list[tuple[str, Any]]) -> None:
    """Print labels in one column and texts, broken where the line ends, in another."""
    import shutil
    import textwrap

    indent = max(len(label) for label, _ in rows) + 4
    columns = max(shutil.get_terminal_size().columns - 1, indent + 20)
    for label, text in rows:
        first, *rest = textwrap.wrap(str(text), columns - indent, break_on_hyphens=False) or [""]
        print(f"  {label.ljust(indent - 2)}{first}", *(" " * indent + part for part in rest), sep="\n")


def _count(n_values: int) -> str:
    return f"{n_values / 1e9:.2f} billion" if n_values >= 1e9 else f"{n_values / 1e6:.1f} million"
