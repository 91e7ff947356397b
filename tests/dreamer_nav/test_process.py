"""The process keeps freed memory; run in processes of their own, for the setting lasts as long as the process."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

COUNT_FAULTS = """
import resource, sys, torch
from dreamer_nav.process import configure_process
if sys.argv[1] == "kept":
    configure_process(1)
    assert torch.get_num_threads() == 1
faults = []
for _ in range(40):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(10_000_000)  # 40 MB
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(*faults)
"""


def page_faults(how: str) -> list[int]:
    """Page faults of forty allocations of 40 MB, one after the other."""
    command = [sys.executable, "-c", COUNT_FAULTS, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [int(x) for x in done.stdout.split()]


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has these settings")
def test_freed_arrays_are_used_again_without_page_faults() -> None:
    # Not none: glibc cannot always place an aligned block in the gap that one of the same size left.
    assert sum(page_faults("kept")) < 0.5 * sum(page_faults("returned"))
