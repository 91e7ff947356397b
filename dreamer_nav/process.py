"""How this process computes: its number of threads, and freed memory that it keeps for the next update."""

from __future__ import annotations

import ctypes

import torch

__all__ = ["configure_process"]

# Parameters of glibc's mallopt (malloc.h).
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_LARGEST_BLOCK = 1 << 30  # bytes; larger ones still go back to the system when freed
_LARGEST_BLOCK_BEFORE_2_35 = 1 << 25  # bytes; what older versions of glibc accept


def configure_process(threads: int) -> None:
    """Set torch's CPU threads (0 leaves its own choice) and keep freed memory in the process."""
    if threads:
        torch.set_num_threads(threads)
    _keep_freed_memory()


def _keep_freed_memory() -> None:
    """Have freed blocks used again instead of returned to the system; nothing changes where the C library is not glibc.

    An update allocates and frees the same large arrays each time. By default glibc takes each from the system, whose
    pages are cleared again at the first touch: tens of thousands of page faults an update.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return
    blocks = (_LARGEST_BLOCK, _LARGEST_BLOCK_BEFORE_2_35)
    if any(mallopt(_M_MMAP_THRESHOLD, size) for size in blocks):
        mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
