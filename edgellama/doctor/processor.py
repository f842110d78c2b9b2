"""The CPU, the instruction set that is used on it, and where the kernels for that come from."""

from importlib.util import find_spec

from .. import device, system
from ..compiler import cache, shipped
from ..compiler.groups import groups_of
from ..errors import EdgellamaError
from ..simd import detect
from .finding import NOTE, WELL, WRONG, Finding


def check_processor() -> Finding:
    """The CPU's name, its usable cores, and the threads that follow."""
    usable = system.usable_cpus()
    facts = {
        "name": device.cpu_model(),
        "usable_cpus": len(usable),
        "quota_cpus": system.cpu_quota(),
        "threads": device.load_settings().decode_threads or device.default_thread_count(),
    }
    quota = "" if facts["quota_cpus"] is None else f", limited to {facts['quota_cpus']:g}"
    text = f"{facts['name']}, usable logical CPUs: {len(usable)}{quota}, threads: {facts['threads']}"
    return Finding("processor", WELL, text, facts)


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
