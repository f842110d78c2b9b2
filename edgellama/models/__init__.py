"""Models by name: where they come from, how they get here whole, and where they are kept.

`names` says what a name may look like and which file it means, `store` keeps files by their digest, `hub` and `web`
ask the Hugging Face hub, `remote_header` reads a model's header before its weights, `download` brings the bytes.
Nothing here is imported unless a model is named instead of a file.
"""

import os
from pathlib import Path


def model_path(model: str | os.PathLike[str]) -> Path:
    """The file that a MODEL argument means: a path, or else the name of a model that was pulled.

    A path that exists, or that has no form of a name, stays as it is. Raises EdgellamaError for a name that no stored
    model has; the sentence tells how to get it.
    """
    from .names import parse_name
    from .store import Store

    path = Path(model)
    name = parse_name(model) if isinstance(model, str) and not os.path.lexists(model) else None
    return path if name is None else Store().find(name).path
