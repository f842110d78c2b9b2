"""Chat templates of a Hugging Face folder, by name; "default" is the one without a name.

They stand in chat_template.jinja with others beside it, in chat_template.json, or in tokenizer_config.json as one text
or as a list of named ones. The files of their own came last and win.
"""

import re
from pathlib import Path
from typing import Any

from ..source_file import read_optional_json, read_text


def read_templates(folder: Path, tokenizer_config: dict[str, Any]) -> dict[str, str]:
    """Template texts by name; empty where there are none."""
    named = _named(tokenizer_config.get("chat_template"))
    named |= _named(read_optional_json(folder / "chat_template.json").get("chat_template"))
    for path in sorted((folder / "additional_chat_templates").glob("*.jinja")):
        named[path.stem] = read_text(path)
    if (folder / "chat_template.jinja").is_file():
        named["default"] = read_text(folder / "chat_template.jinja")
    return {re.sub(r"[^A-Za-z0-9]", "_", name): text for name, text in named.items() if text}


def _named(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        return {"default": value}
    entries = value if isinstance(value, list) else ()
    pairs = [(entry.get("name"), entry.get("template")) for entry in entries if isinstance(entry, dict)]
    return {name: text for name, text in pairs if isinstance(name, str) and isinstance(text, str)}
