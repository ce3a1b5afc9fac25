"""Seconds of each case of the regression check, one thread, fastest of many rounds; passes and peak bytes beside them.

python -m pytest benchmarks --benchmark-enable
"""

import pytest
import torch

from benchmarks.cases import BenchmarkCase, benchmark_cases
from reproduce.peak_memory import peak_bytes
from xdnn.passes import count_passes

CASES = benchmark_cases()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(group="cases")
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(benchmark, case: BenchmarkCase) -> None:
    case.check()  # a wrong result fails here and is not timed
    benchmark.extra_info["peak_bytes"] = peak_bytes(case.run)
    if case.model is not None:
        with count_passes(case.model) as passes:
            case.run()
        benchmark.extra_info |= {"forward": passes.forward, "backward": passes.backward}
    benchmark.pedantic(case.run, rounds=10, warmup_rounds=1)
