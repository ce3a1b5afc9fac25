"""The gallery's pictures: the first is one that every net of its architecture classifies rightly."""

import pytest

from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.scales import SCALES
from reproduce.studies import gallery


@pytest.mark.parametrize(
    "classified, order",
    [
        ([[0, 1, 1, 3]], [0, 1, 2, 3]),
        ([[9, 1, 2, 3], [0, 9, 2, 3]], [2, 0, 1, 3]),
        ([[9, 9, 9, 9], [0, 1, 2, 3]], [0, 1, 2, 3]),
    ],
)
def test_what_every_net_classifies_rightly_comes_first(classified, order):
    assert gallery.right_first([0, 1, 2, 3], classified) == order


def test_a_net_shows_what_it_and_its_variant_of_the_same_training_classify(tmp_path):
    context = Context(SCALES["smoke"], ResultCache(tmp_path, {}), tmp_path, seeds=2)
    for task in gallery.STUDY.at(context):
        nets = [need.about for need in task.needs if need.type is gallery.Predictions]
        assert [net.seed for net in nets] == [task.about.seed] * 2
        assert [net.variant for net in nets] == list(dict.fromkeys(("regular", nets[1].variant)))
        assert task.about in nets
