"""Seconds of each contest of the gate, one thread, fastest of many rounds; passes and peak bytes beside them.

python -m pytest benchmarks --benchmark-enable
"""

import pytest
import torch

from benchmarks.contests import Contest, contests
from reproduce.metrics.memory import peak_bytes
from reproduce.metrics.timing import counted

CONTESTS = contests()


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.benchmark(group="contests")
@pytest.mark.parametrize("contest", CONTESTS, ids=lambda contest: contest.name)
def test_contest(benchmark, contest: Contest) -> None:
    contest.check()  # a wrong result fails here and is not timed
    benchmark.extra_info["peak_bytes"] = peak_bytes(contest.run)
    if contest.model is not None:
        with counted(contest.model) as passes:
            contest.run()
        benchmark.extra_info |= {"forward": passes.forward, "backward": passes.backward}
    benchmark.pedantic(contest.run, rounds=10, warmup_rounds=1)
