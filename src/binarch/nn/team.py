"""Threads that share the rows of a loop; they sleep while they wait, unlike those of OpenMP."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import pairwise
from typing import Any

import torch


@cache
def _pool(threads: int, process: int) -> ThreadPoolExecutor:
    """One pool a process: a fork has no threads of its parent's."""
    return ThreadPoolExecutor(threads, thread_name_prefix="binarch-team")


def share(work: Callable[..., Any], count: int, *arguments: Any) -> None:
    """Call ``work(*arguments, first, last)`` for as many parts of ``range(count)`` as PyTorch has threads.

    ``work`` must not hold Python's lock, and no part may write where another one reads or writes.
    """
    threads = torch.get_num_threads()
    parts = min(threads, count)
    if parts <= 1:
        work(*arguments, 0, count)
        return
    ends = [count * part // parts for part in range(parts + 1)]
    own, pool = partial(work, *arguments), _pool(threads, os.getpid())
    for done in [pool.submit(own, first, last) for first, last in pairwise(ends)]:
        done.result()
