"""HTML and SVG elements from Python values. Whatever is not Markup already is escaped, so no text can become markup."""

from __future__ import annotations

import html
from typing import Any

VOID = {"meta", "br", "hr", "col"}  # HTML elements that have no end


class Markup(str):
    """Text that is markup: made by `element` and `join` only."""

    __slots__ = ()


def join(*children: Any) -> Markup:
    """Children one after the other; None and False are nothing, lists are joined."""
    return Markup("".join(map(_text, children)))


def element(name: str, /, *children: Any, **attributes: Any) -> Markup:
    """<name attribute="value">children</name>; `class_` and `stroke_width` are written class and stroke-width."""
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_number_text(value), quote=True)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def _text(child: Any) -> str:
    if isinstance(child, Markup):
        return child
    if isinstance(child, list | tuple):
        return join(*child)
    return "" if child is None or child is False else html.escape(str(child), quote=True)


def _number_text(value: Any) -> str:
    """Coordinates need no more than two digits after the point."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
