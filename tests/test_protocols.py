"""A study's protocols select nets and tables that its scale has: a selector that names nothing would be left out silently."""

from collections.abc import Mapping

import pytest

from reproduce.datasets import NETS, TABLES
from reproduce.studies import STUDIES


def selectors(scale):
    """Groups of nets, kinds of weights and single nets of a scale, and all tables."""
    groups = {name: group for name, group in NETS.items() if scale in group.scales}
    nets = {f"{name}/{model}" for name, group in groups.items() for model in group.widths}
    return {*groups, *(group.weights for group in groups.values()), *nets, *TABLES}


@pytest.mark.parametrize("name", STUDIES)
def test_every_selector_names_something_that_the_scale_has(name):
    for scale, protocols in STUDIES[name].protocols.items():
        if isinstance(protocols, Mapping):
            assert set(protocols) <= selectors(scale), scale
