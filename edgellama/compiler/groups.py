"""Kernel groups: which modules are compiled together into one object.

A group is recompiled as a whole and by one process, so groups of about equal size start fastest on a new device.
"""

from dataclasses import dataclass

# name: modules. Groups of the runtime itself; other packages call register().
GROUPS = {
    "walk": tuple(
        f"edgellama.cpu.kernels.{name}"
        for name in ("walk", "rows", "norms", "activations", "quantize", "pack", "rope_store")
    ),
    "gemm": tuple(f"edgellama.cpu.kernels.{name}" for name in ("gemm", "simple_blocks", "k_blocks")),
    "matvec": ("edgellama.cpu.kernels.matvec",),
    "few": ("edgellama.cpu.kernels.few",),
    "float_blocks": tuple(f"edgellama.cpu.kernels.{name}" for name in ("float_blocks", "fp8", "sampling", "leading")),
    "attention": tuple(f"edgellama.cpu.kernels.{name}" for name in ("attention", "attention_tiles", "cache_store")),
    "unpacked": ("edgellama.cpu.kernels.unpacked", "edgellama.cpu.kernels.rows_iq"),
    "rows": tuple(f"edgellama.cpu.kernels.rows_{name}" for name in ("simple", "k", "other")),
}


@dataclass(frozen=True)
class Group:
    """Modules whose entries become one object; a package's groups are loaded together."""

    package: str
    modules: tuple[str, ...]
    name: str


_groups = {name: Group("edgellama", modules, name) for name, modules in GROUPS.items()}


def register(group: Group) -> None:
    """Add another package's group; registering the same one again changes nothing."""
    if _groups.setdefault(group.name, group) != group:
        raise ValueError(f"another kernel group is already called {group.name}")


def groups_of(package: str) -> list[Group]:
    """All groups of one package in the order of their registration."""
    return [group for group in _groups.values() if group.package == package]
