"""What a chat says of itself when it begins."""

from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

from edgellama.bundled import REAL_MODEL, is_bundled
from edgellama.terminal.safe_text import safe_line

if TYPE_CHECKING:
    from edgellama import Model
    from edgellama.chat.conversation import Conversation

_ORIGINS = {"file": "", "built-in": " (built-in)", "guessed": " (guessed)", "none": " (no chat template)"}
_UNITS = ((1e9, "B"), (1e6, "M"), (1e3, "K"))


def facts(conversation: "Conversation") -> dict[str, str]:
    """Name, size and type of weights, context and template."""
    model, template = conversation.model, conversation.template
    return {
        "model": name(model),
        "weights": f"{_count(n_values(model))} {main_type(model)}",
        "context": str(model.context),
        "template": safe_line(template.name, 40) + _ORIGINS[template.origin],
    }


def warning(conversation: "Conversation") -> str | None:
    """What a person has to know who wonders about the answers."""
    if is_bundled(conversation.model.file.path):
        return f"this is the tiny demo model that comes with edgellama; a real one:\nedgellama pull {REAL_MODEL}"
    if conversation.template.origin != "none":
        return None
    return "this file has no chat template: the model sees the texts alone (--template NAME gives it one)"


def name(model: "Model") -> str:
    """The model's name, or its file's."""
    return safe_line(model.config.name, 40) or Path(model.file.path).stem


def n_values(model: "Model") -> int:
    """How many numbers all tensors have."""
    return sum(prod(tensor.shape) for tensor in model.file.tensors.values())


def main_type(model: "Model") -> str:
    """The type that most values have."""
    totals: dict[str, int] = {}
    for tensor in model.file.tensors.values():
        totals[tensor.type_name] = totals.get(tensor.type_name, 0) + prod(tensor.shape)
    return max(totals, key=totals.__getitem__)


def _count(n: int) -> str:
    """Two digits and a unit: 1.1B, 8B, 135M."""
    size, unit = next((pair for pair in _UNITS if n >= pair[0]), (1, ""))
    return f"{n / size:.2g}{unit}" if n / size < 100 else f"{n / size:.0f}{unit}"
