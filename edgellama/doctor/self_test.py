"""`python -m edgellama.doctor.self_test MODEL`: the compiled kernels against the reference interpreter.

Runs in a process of its own, because an instruction that the CPU lacks would end it.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

from ..compiler.children import child_environment
from .finding import WELL, WRONG, Finding

PROMPT_TOKENS, ANSWER_TOKENS = 24, 12
# Largest relative root mean square difference of logits. Both sides round activations to the same int8 blocks and
# differ in the order of sums, so that now and then an integer rounds the other way and the next layers feel it: 0.02
# is usual for random tokens. A wrong kernel gives about 1.
BOUND = 0.05
TIMEOUT_SECONDS = 300  # compiling included, on a slow computer


def check_self_test(model: Path | None) -> Finding:
    """Logits of a prompt and of greedy tokens after it. Wrong: too far apart, other tokens, or a process that died."""
    if model is None:
        return Finding("self-test", WRONG, "not done: the model that comes with edgellama is missing")
    command = [sys.executable, "-P", "-m", "edgellama.doctor.self_test", str(model)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, env=child_environment(), check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("self-test", WRONG, f"did not finish: {error}")
    if done.returncode != 0:
        return Finding("self-test", WRONG, _cause_of_end(done), {"exit_status": done.returncode})
    return judged(json.loads(done.stdout.splitlines()[-1]))


def _cause_of_end(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        import signal

        return f"the process that ran the kernels was ended by {signal.Signals(-done.returncode).name}"
    last = done.stderr.strip().splitlines() or ["it said nothing"]
    return f"failed with exit status {done.returncode}: {last[-1]}"


def judged(facts: dict) -> Finding:
    """The finding of what run() measured."""
    error, same = facts["error"], facts["same_tokens"]
    text = (
        f"logits differ from the reference interpreter's by {error:.1e} (at most {BOUND:g}), "
        f"{same} of {facts['tokens']} greedy tokens are the same, {facts['seconds']:.1f} s"
    )
    is_well = math.isfinite(error) and error <= BOUND and same == facts["tokens"]
    return Finding("self-test", WELL if is_well else WRONG, text, facts)


def run(path: str | os.PathLike[str]) -> dict:
    """Prompt, then one token a step, on both interpreters; the worst relative difference and how many tokens agree.

    A token counts as the same when the reference gives it its highest logit, or one that is less than the bound away:
    between two tokens that are as likely, either is right.
    """
    import numpy as np

    import edgellama

    from ..reference import ReferenceMachine

    start = time.perf_counter()
    worst, same = 0.0, 0
    with edgellama.load(path, context=256) as model, model.new_session() as session:
        reference = ReferenceMachine(model.machine.program, model.frame, kv_type=model.kv_type)
        generator = np.random.default_rng(1)
        ids = generator.integers(3, model.config.vocab_size, PROMPT_TOKENS).tolist()
        for _ in range(ANSWER_TOKENS):
            logits = session.prefill(ids).astype(np.float64)
            expected = reference.run()[-1].astype(np.float64)  # the frame still holds what the session ran
            scale = np.sqrt(np.mean(expected**2))
            worst = max(worst, float(np.sqrt(np.mean((logits - expected) ** 2)) / scale))
            token = int(np.argmax(logits))
            same += bool(expected[token] >= expected.max() - BOUND * scale)
            ids = [token]
    return {"error": worst, "same_tokens": same, "tokens": ANSWER_TOKENS, "seconds": time.perf_counter() - start}


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[1])))
