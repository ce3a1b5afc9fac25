"""The engine: tasks on Dask's workers, on this machine or on a cluster, and their results through one writer.

Every worker computes one task at a time; the next is sent when one is finished, with the values that it needs. So a killed
worker loses its one task, which another worker computes again, and the main process alone writes the result cache: workers
need no shared disk. Timed tasks run when nothing else does.
"""

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import cloudpickle
import dask
import psutil
from distributed import Client, Future, KilledWorker, LocalCluster, Status, as_completed

from reproduce import plugins, worker
from reproduce.context import Context
from reproduce.errors import UserError
from reproduce.tasks import Result, Task

AnyTask = Task[Any, Any]

ATTEMPTS = 3  # how often a task is sent again after the worker that computed it was killed
SECONDS_UNTIL_REPLACED = 30  # after which a worker that did not come back counts as lost
MEMORY_OF_A_WORKER = 2.5 * 2**30  # bytes; the largest embedded task takes about 2 GB
SETTINGS = {
    "distributed.scheduler.allowed-failures": ATTEMPTS,
    "distributed.deploy.lost-worker-timeout": f"{SECONDS_UNTIL_REPLACED}s",
    "distributed.worker.daemon": True,  # workers end with the main process, however it ends
    "distributed.worker.memory.target": False,  # nothing is spilled to disk
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.admin.large-graph-warning-threshold": "1GB",  # the needs of a task travel with it
    "distributed.logging.distributed": "critical",  # what goes wrong is said in our own sentences
    "distributed.worker.multiprocessing-method": "spawn",
}


@dataclass(frozen=True)
class Workers:
    """How the work is spread.

    Attributes:
        count: worker processes on this machine; of a cluster it is the cluster's.
        threads: of each.
        scheduler: address of a running Dask scheduler, or None for workers of our own on the loopback address.
    """

    count: int
    threads: int
    scheduler: str | None = None

    def __str__(self) -> str:
        return self.scheduler or f"{self.count} workers with {self.threads} threads each"


def choose_workers(
    device: str, count: int | None = None, threads: int | None = None, scheduler: str | None = None
) -> Workers:
    """As many workers of one thread as there are cores and memory for; on CUDA one for each GPU.

    Narrow nets' operations are too small for two threads: two processes of one thread do more.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if count is None:
        if device == "cuda":
            import torch

            count = max(1, torch.cuda.device_count())
        elif device.startswith("cuda"):
            count = 1
        else:
            count = int(min(cores, psutil.virtual_memory().total * 0.8 // MEMORY_OF_A_WORKER)) or 1
    return Workers(count, threads or (1 if device == "cpu" else max(1, cores // count)), scheduler)


@contextmanager
def connected(workers: Workers) -> Iterator[Client]:
    """A client of the workers, which are started and ended here unless they are a cluster's.

    Raises:
        UserError: the scheduler does not answer, or the workers do not start.
    """
    with dask.config.set(SETTINGS):
        if workers.scheduler is not None:
            try:
                client = Client(workers.scheduler, timeout=20)
            except (OSError, TimeoutError, ValueError) as error:
                raise UserError(f"no Dask scheduler answers at {workers.scheduler!r}: {error}") from error
            with client:
                yield client
            return
        with _local_cluster(workers.count) as cluster, _kept_whole(cluster, workers.count), Client(cluster) as client:
            yield client


def _local_cluster(count: int, attempts: int = ATTEMPTS) -> LocalCluster:
    """So many worker processes on this machine; tried again where one is killed while it starts, before Dask watches it."""
    try:
        return LocalCluster(
            n_workers=count,
            threads_per_worker=1,  # one task at a time; torch's threads are set by the task
            processes=True,
            host="127.0.0.1",
            dashboard_address="127.0.0.1:0",  # any free port: only health checks are served there
            scheduler_kwargs={"dashboard": False},
            memory_limit="auto",
            silence_logs="CRITICAL",
            preload=["reproduce.worker"],
        )
    except RuntimeError as error:
        if attempts > 1:
            return _local_cluster(count, attempts - 1)
        raise UserError(
            f"the {count} worker processes did not start ({error}), most likely because memory ran out; fewer workers "
            "(--workers 1) need less"
        ) from error


@contextmanager
def _kept_whole(cluster: LocalCluster, count: int) -> Iterator[None]:
    """Within the block lost workers are replaced: Dask gives one up for good that is killed while it is started again."""
    ended = threading.Event()
    assert cluster.loop is not None  # it runs
    soon = cluster.loop.add_callback

    def replace_lost() -> None:
        for name, nanny in list(cluster.workers.items()):
            if nanny.status in (Status.failed, Status.closed):
                del cluster.workers[name]
        cluster.scale(count)  # starts those that are missing

    def ask() -> None:
        while not ended.wait(SECONDS_UNTIL_REPLACED):
            soon(replace_lost)

    asking = threading.Thread(target=ask, name="workers", daemon=True)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()


Done = Callable[[AnyTask, Result[Any, Any]], None]
Began = Callable[[AnyTask], None]


class Engine:
    """Computes tasks in the order that they are given in, needs first.

    Args:
        began: told each task that is sent to a worker.
        done:  told each result, after it is in the cache.
        report: told (digest, share of the work that is done) of running tasks.
    """

    def __init__(
        self,
        client: Client,
        context: Context,
        workers: Workers,
        began: Began,
        done: Done,
        report: Callable[[str, float], None],
    ) -> None:
        self.client, self.context, self.workers = client, context, workers
        self.began, self.done = began, done
        self.running: dict[Future[Any], AnyTask] = {}
        client.subscribe_topic(worker.PROGRESS, lambda event: report(event[1]["task"], event[1]["share"]))

    def compute(self, waiting: Sequence[AnyTask]) -> None:
        """Compute the tasks and write them to the cache.

        Raises:
            UserError: a worker was killed ATTEMPTS times over one task, e.g. because memory ran out; names the task.
        """
        left = {task.digest: task for task in waiting}
        finished = as_completed([], with_results=False)
        while left or self.running:
            for task in self._next(left):
                del left[task.digest]
                finished.add(self._send(task))
            future = next(finished)
            task = self.running.pop(future)
            self._keep(task, future)
            future.release()

    def _next(self, left: dict[str, AnyTask]) -> list[AnyTask]:
        """The tasks to send now: as many as there are idle workers; a timed one where nothing else can run, and alone."""
        if any(task.alone for task in self.running.values()):
            return []
        unfinished = left.keys() | {task.digest for task in self.running.values()}
        ready = [task for task in left.values() if not any(need.digest in unfinished for need in task.needs)]
        shared = [task for task in ready if not task.alone]
        if shared or self.running:
            return shared[: max(0, self._slots() - len(self.running))]
        if not ready:
            raise ValueError(f"tasks need each other in a circle: {', '.join(task.name for task in left.values())}")
        return ready[:1]

    def _slots(self) -> int:
        return max(1, len(self.client.scheduler_info(n_workers=-1)["workers"]))

    def _send(self, task: AnyTask) -> "Future[Any]":
        work = cloudpickle.dumps((self.context, task, [self._value(need) for need in task.needs]))
        cores = self.workers.threads * self.workers.count
        future = self.client.submit(
            worker.compute,
            work,
            cores if task.alone else self.workers.threads,
            list(plugins.LOADED),
            key=f"{task.name} {task.digest}",
            pure=False,
        )
        self.running[future] = task
        self.began(task)
        return future

    def _value(self, need: AnyTask) -> Any:
        result = self.context.cache.read(need)
        if result is None:
            raise UserError(f"{need.name} is no longer in the result cache; run the same command again")
        return result.value

    def _keep(self, task: AnyTask, future: "Future[Any]") -> None:
        try:
            result = future.result()
        except KilledWorker as error:
            raise UserError(
                f"{task.name}: the worker that computed it was killed {ATTEMPTS + 1} times, most likely because memory "
                "ran out; what is finished is kept. Fewer workers (--workers 1) leave each more memory"
            ) from error
        self.context.cache.write(task, result)
        self.done(task, result)
