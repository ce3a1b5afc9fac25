"""Peak memory of a call, exact to the byte on a CPU: every allocation of a tensor is seen, whatever the allocator keeps."""

import os
from collections.abc import Callable

import torch


def peak_bytes(call: Callable[[], object], device: torch.device | str = "cpu") -> int:
    """Largest number of tensor bytes alive at once that the call itself allocated: model and inputs do not count.

    On CUDA the allocator's own counter; elsewhere the profiler's record of allocations, replayed in order.
    """
    device = torch.device(device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        call()
        return torch.cuda.max_memory_allocated(device) - before
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler announces itself on standard error
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    results = profile.profiler.kineto_results if profile.profiler else None
    if results is None:
        raise RuntimeError("the profiler gave no record of allocations")
    events = sorted((e for e in results.events() if e.name() == "[memory]"), key=lambda event: event.start_ns())
    alive = peak = 0
    for event in events:
        alive += event.nbytes()
        peak = max(peak, alive)
    return peak
