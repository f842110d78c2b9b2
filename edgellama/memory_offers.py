"""What to say, and to offer, when a model does not fit into the memory of this machine."""

import errno
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import ModuleType

from .config import ModelConfig
from .errors import EdgellamaError
from .frame import PAGE_POSITIONS
from .gguf import GGUFFile
from .memory_needs import LoadOptions, MemoryNeeds, Room, needs_of, tightest
from .models.names import size

Estimate = Callable[[LoadOptions], MemoryNeeds]


@dataclass(frozen=True)
class Offer:
    """Options with which the model fits, among them `changed`: names of edgellama.load's arguments."""

    options: LoadOptions
    changed: tuple[str, ...]
    needs: MemoryNeeds

    def arguments(self) -> dict[str, object]:
        """For edgellama.load()."""
        return {name: getattr(self.options, name) for name in self.changed}


class MemoryShortageError(EdgellamaError):
    """A model that does not fit; `offers` are ways in which it does. The text names arguments of load()."""

    def __init__(self, fact: str, offers: list[Offer], room: Room):
        self.fact, self.offers, self.room = fact, offers, room
        super().__init__(self.text(_as_argument))

    def text(self, spell: Callable[[str, object], str], fixed: tuple[str, ...] = ()) -> str:
        """The fact and a sentence for each offer; `spell` writes an argument of load() and its value.

        Offers that change what is `fixed` are left out.
        """
        offers = [offer for offer in self.offers if not set(fixed) & set(offer.changed)]
        if not offers:
            return f"{self.fact}. No smaller context or cache helps: take a smaller model or type"
        return ". ".join([self.fact, *(_sentence(offer, self.room, spell) for offer in offers)])


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system refused an allocation, as it may in spite of the check below: others take memory too."""
    return isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM)


def check_fit(file: GGUFFile, family: ModuleType, config: ModelConfig, options: LoadOptions) -> MemoryNeeds:
    """What a load with these options takes. Raises MemoryShortageError if that is more than there is."""

    def estimate(changed: LoadOptions) -> MemoryNeeds:
        return needs_of(file, family, config, changed)

    needs = estimate(options)
    room = tightest(needs)
    if room.fits(needs):
        return needs
    raise MemoryShortageError(_fact(file, options, needs, room), find_offers(options, estimate, room), room)


def find_offers(options: LoadOptions, estimate: Estimate, room: Room) -> list[Offer]:
    """Each single change that is enough; if none is, the mildest set of changes that is."""
    found = [offer for offer in _changes(options, estimate, room, _SINGLE) if offer]
    return found or [offer for offer in _changes(options, estimate, room, _TOGETHER) if offer][:1]


_SINGLE = (("context",), ("kv_type",), ("repack",))
_TOGETHER = (("kv_type", "context"), ("repack", "kv_type"), ("repack", "context"), ("repack", "kv_type", "context"))
_SAVING = {"kv_type": "q8_0", "repack": False}


def _changes(
    options: LoadOptions, estimate: Estimate, room: Room, sets: tuple[tuple[str, ...], ...]
) -> Iterator[Offer | None]:
    for names in sets:
        values = {name: _SAVING[name] for name in names if name in _SAVING}
        if any(getattr(options, name) == value for name, value in values.items()):
            yield None  # is so already
            continue
        changed: LoadOptions | None = replace(options, **values)
        if "context" in names:
            changed = _longest(changed, estimate, room)
        needs = changed and estimate(changed)
        yield Offer(changed, names, needs) if changed and room.fits(needs) else None


def _longest(options: LoadOptions, estimate: Estimate, room: Room) -> LoadOptions | None:
    """The longest smaller context of whole pages that fits; None if not even one page does."""
    low, high = 0, (options.context - 1) // PAGE_POSITIONS  # low fits, or is nothing
    while low < high:
        middle = (low + high + 1) // 2
        fits = room.fits(estimate(replace(options, context=middle * PAGE_POSITIONS)))
        low, high = (middle, high) if fits else (low, middle - 1)
    return replace(options, context=low * PAGE_POSITIONS) if low else None


def _fact(file: GGUFFile, options: LoadOptions, needs: MemoryNeeds, room: Room) -> str:
    each = f"{options.sequences} sequences of " if options.sequences > 1 else ""
    parts = (
        f"weights {size(needs.weight_bytes)}, cache {size(needs.cache_bytes)} for {each}{options.context:,} tokens, "
        f"activations {size(needs.activation_bytes)}, program {size(needs.runtime_bytes)}"
    )
    left = max(0, room.n_bytes - room.extra_bytes)
    return f"{file.path}: needs {size(needs.total_bytes)} of memory ({parts}), and {size(left)} {room.name}"


def _sentence(offer: Offer, room: Room, spell: Callable[[str, object], str]) -> str:
    says = {
        "context": f"a context of {offer.options.context:,} tokens",
        "kv_type": "a cache in q8_0",
        "repack": "computing from the mapped file",
    }
    what = " and ".join(says[name] for name in offer.changed)
    spelled = " ".join(spell(name, value) for name, value in offer.arguments().items())
    text = f"{what[0].upper()}{what[1:]} fits with {size(offer.needs.total_bytes)}: {spelled}"
    if "repack" in offer.changed:
        is_slow = room.holds_files and offer.needs.file_bytes > room.n_bytes - offer.needs.total_bytes
        text += ", slower, as each token reads the file again" if is_slow else ", slower"
    return text


def as_option(name: str, value: object) -> str:
    """How the command line spells an argument of load()."""
    return "--no-repack" if name == "repack" else f"--{name.replace('_', '-')} {value}"


def _as_argument(name: str, value: object) -> str:
    return f"{name}={value!r}"
