"""How a process on a CPU keeps the memory that tensors free."""

import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h
MMAP_BYTES = 2**30  # larger blocks are still mapped one by one, and given back

_kept = False


def keep_freed_memory() -> bool:
    """From here on this process keeps the memory that tensors on the CPU free, as the CUDA allocator does; was that possible?

    glibc gives large freed blocks back to the system until it has learnt their size, and at each pass the pages of its
    activations are then mapped and zeroed anew, which costs small nets more time than their arithmetic. What is held is
    the most that was in use at once. For programs, not for the library: the command line and the benchmarks call it.
    """
    global _kept
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, TypeError, AttributeError):  # not glibc
        return False
    _kept = bool(mallopt(M_TRIM_THRESHOLD, -1) and mallopt(M_MMAP_THRESHOLD, MMAP_BYTES))
    return _kept


def keeps_freed_memory() -> bool:
    """Has this process been asked to, with success?"""
    return _kept
