"""`python -m training.run --output FOLDER`: everything from text to the finished GGUF file, step by step.

Each step leaves a file in the folder and is skipped when that is there, and training goes on from its last saved state:
run the same command again after an interruption.
"""

import argparse
import sys
from pathlib import Path

import torch

from .data_set import write_data_set
from .evaluate import held_out_questions
from .export import write_checkpoint, write_gguf
from .llama import Shape
from .train import Plan, Trainer
from .vocabulary import open_vocabulary, train_vocabulary

_TRAIN_SEED, _CHECK_SEED = 2, 3
_N_CHECK_TOKENS = 40_000


def main(arguments: list[str] | None = None) -> int:
    args = _parser().parse_args(arguments)
    torch.set_num_threads(args.threads)
    folder: Path = args.output
    folder.mkdir(parents=True, exist_ok=True)
    shape, plan = Shape(), Plan(n_tokens=args.tokens)
    tokenizer, train, check = folder / "tokenizer.model", folder / "train.npz", folder / "check.npz"
    if not tokenizer.exists():
        train_vocabulary(tokenizer, shape.vocab_size)
    vocabulary, left_out = open_vocabulary(tokenizer), held_out_questions()
    if not train.exists():
        write_data_set(train, vocabulary, plan.n_tokens + plan.batch_tokens + 2, _TRAIN_SEED, left_out)
    if not check.exists():
        write_data_set(check, vocabulary, _N_CHECK_TOKENS, _CHECK_SEED, left_out)
    trainer = Trainer(folder, shape, plan, getattr(torch, args.precision))
    model = trainer.run(train, check)
    write_checkpoint(folder / "checkpoint", model, vocabulary, tokenizer)
    write_gguf(folder / "checkpoint", folder / "edgellama-demo-q8_0.gguf")
    print(f"written: {folder / 'edgellama-demo-q8_0.gguf'}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m training.run", description=__doc__)
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="where all files go")
    parser.add_argument("--tokens", type=int, default=Plan.n_tokens, help="how much to train on")
    parser.add_argument("--threads", type=int, default=2)
    precision_help = "bfloat16 is faster on CPUs that have it"
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help=precision_help)
    return parser


if __name__ == "__main__":
    sys.exit(main())
