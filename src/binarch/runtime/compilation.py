"""Whether Numba has compiled the kernels for this machine already: asked without compiling them."""

from binarch.runtime.kernels import execute


def is_done() -> bool:
    """True if a call of the kernels would not wait for the compiler.

    They are compiled in this process, or Numba's index on disk lists them for this source, this version of Numba and
    this processor. Numba has no public question for the latter, so its own way of reading the index is used; should it
    move one day, or where Numba is switched off, the answer is True, and the kernels are called as if nobody had asked.
    """
    if getattr(execute, "signatures", True):
        return True
    try:
        entries = execute._cache._cache_file._load_index()
        return bool(entries) and execute.targetctx.codegen().magic_tuple() in {key[1] for key in entries}
    except (AttributeError, TypeError, IndexError):
        return True
