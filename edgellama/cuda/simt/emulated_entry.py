"""Gives every kernel a second entry that takes its arguments from a fiber's words, as the emulator calls it."""

import re

from ...compiler import codegen
from .emulated_layout import ARGUMENTS, CONTEXT, DONE, SCHEDULER

FIBER_SUFFIX = ".fiber"


def add_fiber_entries(module, names: list[str]):
    """The module with a function NAME.fiber(fiber) for each kernel, which calls it and then never runs again."""
    text = str(module)
    parts = [text]
    if "@swapcontext" not in text:
        parts.append("declare i32 @swapcontext(i64, i64)")
    for name in names:
        signature = re.search(rf"define [^\n]*@{re.escape(name)}\(([^)]*)\)", text)
        kinds = [part.split()[0] for part in signature.group(1).split(",") if part.strip()]
        parts.append(_fiber_entry(name, kinds))
    return codegen.parse("\n".join(parts))


def _fiber_entry(name: str, kinds: list[str]) -> str:
    lines = [f'define void @"{name}{FIBER_SUFFIX}"(i64 %fiber) {{']
    for index, kind in enumerate(kinds):
        lines += _load(f"a{index}", "%fiber", ARGUMENTS + index, kind)
    arguments = ", ".join(f"{kind} %a{index}" for index, kind in enumerate(kinds))
    lines.append(f"call void @{name}({arguments})")
    lines += [f"%d = add i64 %fiber, {8 * DONE}", "%dp = inttoptr i64 %d to ptr", "store i64 1, ptr %dp"]
    lines += _load("mine", "%fiber", CONTEXT, "i64") + _load("scheduler", "%fiber", SCHEDULER, "i64")
    lines += ["call i32 @swapcontext(i64 %mine, i64 %scheduler)", "ret void", "}"]
    return "\n".join(lines)


def _load(result: str, base: str, word: int, kind: str) -> list[str]:
    return [
        f"%{result}.at = add i64 {base}, {8 * word}",
        f"%{result}.p = inttoptr i64 %{result}.at to ptr",
        f"%{result} = load {kind}, ptr %{result}.p",
    ]
