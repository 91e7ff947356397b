"""What every test starts from: checked array shapes, few threads, fixed seeds."""

from __future__ import annotations

import os
import random
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

# Before numpy or torch is imported, and inherited by every process a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("MKL_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from jaxtyping import install_import_hook

# Before the package is imported: every annotation `Float[Tensor, "B T"]` in it is then checked at every call.
# This file must therefore not import dreamer_nav at its top.
# Ints pass for floats, as type checkers have it.
install_import_hook(
    "dreamer_nav", "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))"
)

torch.set_num_threads(1)

# A shell starts background jobs with Ctrl-C ignored, and Python then keeps it so; tests of it need it.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _fixed_seeds() -> Iterator[None]:
    """Each test starts from the same random state, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    yield
    assert torch.get_default_dtype() == torch.float32, "a test changed torch's default dtype"


@pytest.fixture
def other_python(tmp_path: Path) -> str:
    """An interpreter that is not this one by name, so that nothing of this one's path is handed on."""
    path = tmp_path / "python"
    path.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    path.chmod(0o755)
    return str(path)
