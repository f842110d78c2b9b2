"""The CPU, the instruction set that is used on it, and where the kernels for that come from."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from .. import device, system
from ..compiler import cache, shipped
from ..compiler.groups import groups_of
from ..core_names import core_names
from ..errors import EdgellamaError
from ..placement import Places
from ..simd import detect
from ..topology import Topology, cpu_list, read_topology
from .finding import NOTE, WELL, WRONG, Finding


def check_processor(root: Path = Path("/")) -> Finding:
    """The CPU's name, its usable cores by class, and the threads that follow."""
    topology = read_topology(root / "sys/devices/system/cpu")
    usable = system.usable_cpus()
    places = Places.of(topology, usable)
    prefill = places.prefill()
    facts = {
        "name": device.cpu_model(root),
        "usable_cpus": len(usable),
        "quota_cpus": system.cpu_quota(root),
        "threads": device.load_settings().decode_threads or prefill.threads,
        "core_classes": _core_classes(root, topology, places),
        "prefill": prefill._asdict(),
        "decode": [choice._asdict() for choice in places.decode_candidates()],
    }
    quota = "" if facts["quota_cpus"] is None else f", limited to {facts['quota_cpus']:g}"
    text = f"{facts['name']}, usable logical CPUs: {len(usable)}{quota}, threads: {facts['threads']}"
    if len(places.classes) > 1:
        text += "".join(f"\n{_class_line(entry)}" for entry in facts["core_classes"])
        decode = ", ".join(choice.describe() for choice in places.decode_candidates())
        text += f"\nprefill: {prefill.describe()}; decode, measured at first use: {decode}"
    return Finding("processor", WELL, text, facts)


def _core_classes(root: Path, topology: Topology, places: Places) -> list[dict[str, Any]]:
    """The fastest first; `share` is the speed of a core beside that of the fastest."""
    names, frequencies = core_names(root, topology), {cpu.index: cpu.max_frequency_hz for cpu in topology.cpus}
    entries = []
    for group in places.classes:
        cpus = sorted(cpu for core in group for cpu in core.cpus)
        entries.append(
            {
                "names": list(dict.fromkeys(names[cpu] for cpu in cpus if cpu in names)),
                "cores": len(group),
                "cpus": cpus,
                "share": round(group[0].share, 3),
                "max_frequency_hz": max((frequencies[cpu] or 0 for cpu in cpus), default=0) or None,
            }
        )
    return entries


def _class_line(entry: dict[str, Any]) -> str:
    """Such as: 4 cores Cortex-A55 up to 1.80 GHz, CPUs 0-3, at 40% of the fastest core's speed."""
    name = "".join(f" {name}" for name in entry["names"])
    frequency = f" up to {entry['max_frequency_hz'] / 1e9:.2f} GHz" if entry["max_frequency_hz"] else ""
    share = "the fastest" if entry["share"] == 1 else f"at {entry['share']:.0%} of the fastest core's speed"
    return f"{entry['cores']} cores{name}{frequency}, CPUs {cpu_list(entry['cpus'])}, {share}"


def check_instruction_set() -> Finding:
    """Which one is used and what the CPU lacks for the better ones. Wrong: EDGELLAMA_ISA names none that works."""
    features, targets = detect.host_features(), detect.host_targets()
    lacking = {name: sorted(target.required - features) for name, target in targets.items()}
    facts = {"lacking": {name: missing for name, missing in lacking.items() if missing}}
    try:
        isa = detect.chosen_isa()
    except EdgellamaError as error:
        return Finding("instruction set", WRONG, str(error), facts)
    best = detect.executable_isas()[0]
    why = "the best of this CPU" if isa == best else f"chosen by EDGELLAMA_ISA; this CPU also runs {best}"
    better = list(targets)[: list(targets).index(best)]
    reasons = "".join(f"\n{name} lacks {', '.join(lacking[name])}" for name in better)
    state = WELL if isa == best else NOTE
    return Finding("instruction set", state, f"{isa}: {why}{reasons}", facts | {"isa": isa, "best": best})


def check_kernels() -> Finding:
    """Whether starting needs a compilation. Wrong: it does and cannot, or an object that came along does not fit."""
    try:
        isa = detect.chosen_isa()
    except EdgellamaError as error:
        return Finding("kernels", WRONG, f"unknown, because {error}")
    groups, abi = groups_of("edgellama"), shipped.host_abi()
    fitting = [group for group in groups if shipped.load(group, isa)]
    others = [group for group in groups if group not in fitting]
    unfit = [group.name for group in others if abi and shipped.path_of(shipped.FOLDER, group, isa, abi).exists()]
    cached = [group for group in others if cache.load(group, isa, cache.key_of(group, isa))]
    n_missing = len(others) - len(cached)
    facts = {"isa": isa, "abi": abi, "shipped": len(fitting), "cached": len(cached), "missing": n_missing}
    text = f"{len(groups)} groups for {isa}: {len(fitting)} came with the package, {len(cached)} cached, "
    text += f"{n_missing} to compile at the next start" if n_missing else "none to compile"
    problem = ""
    if unfit:
        problem = f"\nobjects that do not fit the package's sources: {', '.join(unfit)}; install edgellama again"
    elif n_missing and find_spec("numba") is None:
        problem = "\nNumba, which compiles them, is not installed"
    return Finding("kernels", WRONG if problem else WELL, text + problem, facts)
