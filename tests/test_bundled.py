"""The model that comes along: it answers what new users ask first, and tells the same text everywhere."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edgellama
from bench.perturb import FIRM, firmness
from edgellama import bundled
from edgellama.simd.detect import executable_isas
from edgellama.tokenizer import from_gguf

REPOSITORY = Path(__file__).resolve().parent.parent
FIRST_QUESTIONS = json.loads((REPOSITORY / "training" / "first_questions.json").read_text(encoding="utf-8"))
