"""Long tasks in shards: the tables are the same, whoever computes them."""

from dataclasses import replace

import pytest
from rich.console import Console

from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.engine import Workers
from reproduce.nets import training_task
from reproduce.runner import run_studies
from reproduce.scales import SCALES
from reproduce.studies import STUDIES, table1
from reproduce.tasks import in_order

NAMES = ("contrast", "table1")
SMOKE = SCALES["smoke"]


def context(folder, shard, kept=None):
    """A run of the smoke scale in shards of so many images, into its own cache; ``kept`` are results that are there."""
    cache = ResultCache(folder / "cache", {})
    for path in kept or ():
        cache.folder.joinpath(path.name).write_bytes(path.read_bytes())
    return Context(replace(SMOKE, shard=shard), cache, folder / "results")


@pytest.mark.timeout(600)
def test_shards_do_not_change_a_table(tmp_path):
    """The whole at once; in shards of 16, of which the last may be smaller, by one worker and by two."""
    studies = [STUDIES[name] for name in NAMES]
    whole = context(tmp_path / "whole", None)
    run_studies(studies, whole, Console(quiet=True), workers=Workers(2, 1))
    nets = [net for net, _ in whole.nets(STUDIES["table1"].protocols["smoke"]) if net.weights == "trained"]
    trained = [whole.cache.path(training_task(whole, net)) for net in nets]  # only the measuring is compared
    for count in (1, 2):
        sharded = context(tmp_path / str(count), 16, trained)
        tasks = in_order(task for study in studies for task in study.at(sharded))
        assert sum(task.name.endswith(" 16-32") for task in tasks) >= len(NAMES)
        run_studies(studies, sharded, Console(quiet=True), workers=Workers(count, 1))
        for name in NAMES:
            csv = f"{name}.csv"
            assert (sharded.results / csv).read_text() == (whole.results / csv).read_text(), (name, count)


def test_a_shard_is_a_multiple_of_the_batch_that_mard_is_defined_by():
    for scale, protocols in table1.PROTOCOLS.items():
        for protocol in protocols.values():
            assert SCALES[scale].shard is None or SCALES[scale].shard % protocol.mard_batch == 0


def test_the_images_of_a_run_can_be_fewer_and_never_more(tmp_path):
    embedded = Context(SCALES["embedded"], ResultCache(tmp_path, {}), tmp_path)
    protocols = STUDIES["table1"].protocols["embedded"]
    few = replace(embedded, most_images=10)
    many = replace(embedded, most_images=10**9)
    assert {protocol.images for _, protocol in few.nets(protocols)} == {10}
    assert many.nets(protocols) == embedded.nets(protocols)
