"""What an answer took, in one line, and what its reader has to know about how it ended."""

from typing import TYPE_CHECKING

from edgellama import system

if TYPE_CHECKING:
    from edgellama.chat.conversation import ChatAnswer
    from edgellama.terminal.screen import Screen

_MEGABYTE = 1_000_000


def report(answer: "ChatAnswer", n_newly_forgotten: int, context: int, screen: "Screen", shows_figures: bool) -> None:
    """Show what is to be said after an answer; `n_newly_forgotten` messages fell out of the context for it."""
    for remark in remarks(answer, n_newly_forgotten):
        screen.note(remark)
    if shows_figures and answer.ids:
        screen.figures(figures(answer, context))


def figures(answer: "ChatAnswer", context: int) -> list[str]:
    """`prefill 24 (96 cached) 301 tok/s`, `decode 145 33.1 tok/s`, `ctx 265/4096`, `945 MB`."""
    used = f"ctx {context_used(answer, context)}/{context}"
    return [f"prefill {prefill(answer)}", f"decode {decode(answer)}", used, memory()]


def prefill(answer: "ChatAnswer") -> str:
    """Tokens of the prompt that were evaluated, those that the cache had, and the speed."""
    stats = answer.stats
    cached = f" ({stats.cached_tokens} cached)" if stats.cached_tokens else ""
    return f"{stats.prompt_tokens - stats.cached_tokens}{cached}{_rate(stats.prompt_rate)}"


def decode(answer: "ChatAnswer") -> str:
    """Tokens of the answer, and the speed."""
    return f"{answer.stats.generated_tokens}{_rate(answer.stats.generate_rate)}"


def context_used(answer: "ChatAnswer", context: int) -> int:
    """Tokens of the context that prompt and answer take."""
    return min(answer.stats.prompt_tokens + answer.stats.generated_tokens, context)


def memory() -> str:
    """The most memory that the process has held."""
    return f"{system.peak_rss_bytes() / _MEGABYTE:.0f} MB"


def remarks(answer: "ChatAnswer", n_newly_forgotten: int) -> list[str]:
    """Sentences about an answer that did not end by itself, or that did not see all of the chat."""
    remarks = []
    if n_newly_forgotten:
        noun = "message" if n_newly_forgotten == 1 else "messages"
        remarks.append(f"the context is full: the {n_newly_forgotten} oldest {noun} no longer count (on-full shift)")
    if answer.finish_reason == "cancelled":
        remarks.append("stopped")
    elif answer.context_full:
        remarks.append("cut: the context is full; /reset, start with a larger --context, or /set on-full shift")
    elif answer.finish_reason == "length":
        remarks.append(f"cut after {answer.stats.generated_tokens} tokens (max-tokens)")
    return remarks


def _rate(tokens_per_second: float) -> str:
    """Empty where nothing was measured."""
    digits = 0 if tokens_per_second >= 100 else 1
    return f" {tokens_per_second:.{digits}f} tok/s" if tokens_per_second > 0 else ""
