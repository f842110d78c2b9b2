"""The options that say how a token is chosen and when a text ends, the same in every command that generates."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from edgellama.commands.model_options import given
from edgellama.errors import EdgellamaError

ON_FULL = ("stop", "shift")


def _integer(text: str) -> int:
    return int(text)


def _number(text: str) -> float:
    return float(text)


def _text(text: str) -> str:
    """A text in which \\n is a new line and \\t a tab, which are hard to type in a shell."""
    return text.replace("\\n", "\n").replace("\\t", "\t")


def _bias(text: str) -> tuple[int, float]:
    """ID=BIAS; as in llama.cpp also ID+BIAS and ID-BIAS."""
    for separator in "=+-":
        token, found, bias = text.partition(separator)
        if found:
            return int(token), float(bias) if separator == "=" else float(separator + bias)
    raise ValueError(text)


class SampleOption(NamedTuple):
    """A field of SampleOptions. `collect` makes the value of several words, for options that can be repeated."""

    name: str
    metavar: str
    parse: Callable[[str], Any]
    help: str
    default: str
    alias: str | None = None  # llama.cpp's name where it is another
    collect: Callable[[Sequence[Any]], Any] | None = None


OPTIONS = (
    SampleOption("temperature", "T", _number, "larger is more varied, 0 takes the likeliest token", "0.8"),
    SampleOption("top_k", "K", _integer, "choose among the K likeliest tokens; 0 is off", "40"),
    SampleOption("top_p", "P", _number, "among the likeliest that together reach P; 1 is off", "0.95"),
    SampleOption("min_p", "P", _number, "none below P times the likeliest; 0 is off", "0.05"),
    SampleOption("typical_p", "P", _number, "among the most typical that together reach P; 1 is off", "1.0", "typical"),
    SampleOption("top_n_sigma", "N", _number, "at most N deviations below the best; 0 is off", "0.0", "top-nsigma"),
    SampleOption("xtc_probability", "P", _number, "how often XTC drops the likeliest; 0 is off", "0.0"),
    SampleOption("xtc_threshold", "P", _number, "XTC leaves one of those that reach P; above 0.5 is off", "0.1"),
    SampleOption("min_keep", "N", _integer, "what drops tokens leaves at least N", "0"),
    SampleOption(
        *("dynamic_temperature_range", "R", _number, "from T - R to T + R, by entropy; 0 is off"),
        *("0.0", "dynatemp-range"),
    ),
    SampleOption("dynamic_temperature_exponent", "E", _number, "bends that relation", "1.0", "dynatemp-exp"),
    SampleOption("repeat_penalty", "R", _number, "make repetition less likely; 1 is off", "1.0"),
    SampleOption("repeat_last_n", "N", _integer, "how many tokens back penalties look", "64"),
    SampleOption("presence_penalty", "X", _number, "off the logit of what was there; 0 is off", "0.0"),
    SampleOption("frequency_penalty", "X", _number, "off it for every time it was there; 0 is off", "0.0"),
    SampleOption("dry_multiplier", "X", _number, "DRY: make repeated sequences less likely; 0 is off", "0.0"),
    SampleOption("dry_base", "X", _number, "DRY: its growth with the sequence's length", "1.75"),
    SampleOption("dry_allowed_length", "N", _integer, "DRY: shorter sequences are free", "2"),
    SampleOption("dry_penalty_last_n", "N", _integer, "DRY: how many tokens back it looks", "64"),
    SampleOption(
        *("dry_sequence_breakers", "TEXT", _text, "DRY: no sequence goes across this; may be repeated"),
        *(r'\n : " *', "dry-sequence-breaker", tuple),
    ),
    SampleOption("mirostat", "M", _integer, "2: steer the surprise, in place of all this but T; 0 is off", "0"),
    SampleOption("mirostat_tau", "X", _number, "Mirostat: bits of surprise", "5.0", "mirostat-ent"),
    SampleOption("mirostat_eta", "X", _number, "Mirostat: how fast it learns", "0.1", "mirostat-lr"),
    SampleOption("logit_bias", "ID=BIAS", _bias, "add to a token's logit; may be repeated", "none", None, dict),
    SampleOption("seed", "S", _integer, "same seed, same text", "a new one"),
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Left out, an argument stays out of the namespace: SampleOptions alone has the defaults, and checks the range."""
    group = parser.add_argument_group("choosing tokens", argument_default=argparse.SUPPRESS)
    for option in OPTIONS:
        names = [f"--{option.name.replace('_', '-')}", *([f"--{option.alias}"] if option.alias else [])]
        group.add_argument(
            *names,
            dest=option.name,
            metavar=option.metavar,
            type=_named(option),
            action="append" if option.collect else "store",
            help=f"{option.help} (default: {option.default})".replace("%", "%%"),
        )
    _add_ending_arguments(parser)


def _add_ending_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("form and end of the text", argument_default=argparse.SUPPRESS)
    stop_help = r"end before this text; may be repeated; \n is a new line"
    group.add_argument("--stop", action="append", type=_text, metavar="STRING", help=stop_help)
    group.add_argument("--on-full", choices=ON_FULL, help="when the context is full (default: stop)")
    form = group.add_mutually_exclusive_group()
    form.add_argument("--json-schema", metavar="FILE", help="write JSON that this schema allows")
    form.add_argument("--grammar", metavar="FILE", help="write what this GBNF grammar allows")


def values(args: argparse.Namespace) -> dict[str, Any]:
    """The options of an answer that the command line has. Raises EdgellamaError for files that cannot be read."""
    found = given(args, (*(option.name for option in OPTIONS), "stop", "on_full"))
    for option in OPTIONS:
        if option.collect and option.name in found:
            found[option.name] = option.collect(found[option.name])
    return found | _form(args)


def _form(args: argparse.Namespace) -> dict[str, Any]:
    """What --json-schema or --grammar asks for, tried here so that a mistake in it is found before the model loads."""
    if not hasattr(args, "json_schema") and not hasattr(args, "grammar"):
        return {}
    from edgellama.grammar import Grammar

    if hasattr(args, "json_schema"):
        schema = read_json(args.json_schema)
        Grammar.from_json_schema(schema, args.json_schema)
        return {"json_schema": schema}
    text = _read_text(args.grammar)
    Grammar.from_gbnf(text, args.grammar)
    return {"grammar": text}


def check(options: dict[str, Any]) -> None:
    """Raise EdgellamaError if a value is out of range; only an answer would find that otherwise."""
    from edgellama.sampling import SampleOptions

    SampleOptions(**{option.name: options[option.name] for option in OPTIONS if option.name in options})


def read_json(path: str) -> Any:
    """What a JSON file holds. Raises EdgellamaError for one that cannot be read."""
    import json

    try:
        return json.loads(_read_text(path))
    except (ValueError, RecursionError) as error:
        raise EdgellamaError(f"{path} is no JSON: {error}") from error


def _read_text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise EdgellamaError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error


def _named(option: SampleOption) -> Callable[[str], Any]:
    """The option's parser under a name that argparse's sentence can use."""

    def parse(text: str) -> Any:
        return option.parse(text)

    parse.__name__ = {_integer: "integer", _number: "number"}.get(option.parse, option.metavar)
    return parse
