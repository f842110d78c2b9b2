"""Training: AdamW with a rate that rises, stays and falls, one pass over text that never repeats as a whole.

Most of it sees short windows, which are cheap; the last part sees windows of the whole context. The loss counts the
model's own words; those of the others count a little, because they too teach what words belong together.
"""

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from .data_set import read_data_set
from .llama import Llama, Shape

_WEIGHT_OF_OTHERS = 0.1
_SAVE_EVERY = 400
_REPORT_EVERY = 100
_N_CHECK_TOKENS = 32_768


@dataclass(frozen=True)
class Plan:
    n_tokens: int = 6_100_000
    batch_tokens: int = 2048
    short_window: int = 256
    share_of_long_windows: float = 0.1
    learning_rate: float = 2e-3
    last_rate_share: float = 0.02
    share_of_falling_rate: float = 0.4
    warm_up_steps: int = 100
    weight_decay: float = 0.1
    seed: int = 1

    @property
    def n_steps(self) -> int:
        return self.n_tokens // self.batch_tokens

    def rate(self, step: int) -> float:
        """Up, level, and down in a line, so that a longer plan begins as a shorter one does (Hu et al. 2024)."""
        down = (self.n_steps - step) / (self.n_steps * self.share_of_falling_rate)
        return self.learning_rate * min(1.0, (step + 1) / self.warm_up_steps, max(down, self.last_rate_share))

    def window(self, step: int, context: int) -> int:
        """Tokens of each window of a step."""
        return self.short_window if step < self.n_steps * (1 - self.share_of_long_windows) else context


class Trainer:
    """`folder` keeps the state between runs: state.pt, and loss.jsonl with a line for each report."""

    def __init__(self, folder: Path, shape: Shape, plan: Plan, precision: torch.dtype = torch.float32):
        torch.manual_seed(plan.seed)
        self.folder, self.plan, self.precision = folder, plan, precision
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = Llama(shape).to(self.device)
        self.optimizer = torch.optim.AdamW(_groups(self.model, plan.weight_decay), plan.learning_rate, (0.9, 0.98))
        self.step = 0
        self._begin = 0  # the token that chats begin with, from the data set
        self._state = folder / "state.pt"
        if self._state.exists():
            self._resume()

    def run(self, train: Path, check: Path) -> Llama:
        """Train to the end of the plan on the data set `train`; `check` has text that is not trained on."""
        ids, own = read_data_set(train)
        self._begin = int(ids[0])
        begin, first = time.monotonic(), self.step
        losses: list[float] = []
        while self.step < self.plan.n_steps:
            losses.append(self._train_on(*self._batch(ids, own)))
            self.step += 1
            is_last = self.step == self.plan.n_steps
            if self.step % _REPORT_EVERY == 0 or is_last:
                rate = (self.step - first) * self.plan.batch_tokens / (time.monotonic() - begin)
                checked = self.check(check) if self.step % _SAVE_EVERY == 0 or is_last else None
                self._report(float(np.mean(losses)), checked, rate)
                losses.clear()
            if self.step % _SAVE_EVERY == 0 or is_last:
                self._save()
        return self.model

    @torch.no_grad()
    def check(self, path: Path) -> float:
        """Nats per token of the model's own words in text that it was not trained on."""
        ids, own = read_data_set(path)
        window, total, count = self.plan.short_window, 0.0, 0
        for start in range(0, min(len(ids) - window - 1, _N_CHECK_TOKENS), 16 * window):
            x, y, is_own = self._windows(ids, own, start, 16, window)
            losses = self._losses(x, y)
            total += float((losses * is_own).sum())
            count += int(is_own.sum())
        return total / max(1, count)

    def _batch(self, ids: np.ndarray, own: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        window = self.plan.window(self.step, self.model.shape.context)
        n_rows = self.plan.batch_tokens // window
        start = self.step * self.plan.batch_tokens % (len(ids) - self.plan.batch_tokens - 1)
        return self._windows(ids, own, start, n_rows, window)

    def _windows(self, ids: np.ndarray, own: np.ndarray, start: int, n_rows: int, window: int):
        """Inputs, targets, and which targets are the model's own words: (n_rows, window) each."""
        n_rows = min(n_rows, (len(ids) - 1 - start) // window)
        text = torch.from_numpy(ids[start : start + n_rows * window + 1].astype(np.int64)).to(self.device)
        is_own = torch.from_numpy(own[start + 1 : start + n_rows * window + 1]).to(self.device)
        return text[:-1].view(n_rows, window), text[1:].view(n_rows, window), is_own.view(n_rows, window)

    def _train_on(self, x: torch.Tensor, y: torch.Tensor, is_own: torch.Tensor) -> float:
        """One step; the loss of the model's own words."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan.rate(self.step)
        losses = self._losses(x, y)
        weights = torch.where(is_own, 1.0, _WEIGHT_OF_OTHERS) * (y != self._begin)  # chats may end anywhere
        ((losses * weights).sum() / weights.sum()).backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float((losses.detach() * is_own).sum() / is_own.sum().clamp(min=1))

    def _losses(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32):
            logits = self.model(x)
        return functional.cross_entropy(logits.flatten(0, 1).float(), y.flatten(), reduction="none").view_as(y)

    def _report(self, loss: float, checked: float | None, rate: float) -> None:
        line = {"step": self.step, "tokens": self.step * self.plan.batch_tokens, "loss": round(loss, 4)}
        if checked is not None:
            line["check_loss"] = round(checked, 4)
        line["tokens_per_second"] = round(rate)
        with (self.folder / "loss.jsonl").open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def _save(self) -> None:
        partial = self._state.with_suffix(".partial")
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "step": self.step}
        torch.save(state, partial)
        partial.rename(self._state)

    def _resume(self) -> None:
        state = torch.load(self._state, map_location=self.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step = state["step"]


def _groups(model: Llama, weight_decay: float) -> Iterator[dict]:
    """Matrices decay; norms do not."""
    for decays in (True, False):
        parameters = [p for p in model.parameters() if (p.dim() >= 2) == decays]
        yield {"params": parameters, "weight_decay": weight_decay if decays else 0.0}
