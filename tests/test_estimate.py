"""What a scale will cost: the line through two small runs, and what does not grow with images."""

import pytest
from command_line import invoke
from rich.console import Console

from reproduce import estimate
from reproduce.cache import ResultCache
from reproduce.context import Context
from reproduce.engine import Workers
from reproduce.scales import SCALES
from reproduce.studies import STUDIES
from reproduce.tasks import Result, in_order


@pytest.fixture
def computed(monkeypatch):
    """Nothing is computed: a pretended clock says 2 s and 0.5 s per image. The names of the tasks that would have been."""
    names = []

    def note(tasks, context, workers, console):
        names.extend(task.name for task in in_order(tasks))

    monkeypatch.setattr(estimate, "compute", note)
    monkeypatch.setattr(Context, "result", lambda self, task: Result(task.about, None, 2 + 0.5 * task.images, {}))
    return names


def estimated(studies, context, images):
    found = estimate.estimate(studies, context, images, Workers(1, 1), Console(quiet=True))
    return {one.study: one for one in found}


def context(folder, scale):
    return Context(SCALES[scale], ResultCache(folder / "cache", {}), folder)


@pytest.mark.parametrize(
    ("points", "images", "seconds"),
    [
        ([(4, 4.0), (8, 6.0)], 40, 22.0),  # 2 s and 0.5 s per image
        ([(4, 6.0), (8, 6.0)], 40, 6.0),  # does not grow
        ([(4, 6.0), (8, 5.0)], 40, 5.0),  # noise: never below what the larger run took
        ([(4, 4.0), (4, 4.0)], 40, 40.0),  # there are no more
    ],
)
def test_the_line_through_two_points(points, images, seconds):
    assert estimate.on_the_line(points, images) == pytest.approx(seconds)


def test_a_study_s_images_lie_on_the_line_of_its_own_net(computed, tmp_path):
    embedded = context(tmp_path, "embedded")
    tasks = [task for task in in_order(STUDIES["contrast"].at(embedded)) if task.images]
    found = estimated([STUDIES["contrast"]], embedded, 4)["contrast"]
    assert found.images == sum(task.images for task in tasks) > 0
    assert found.seconds == pytest.approx(sum(2 + 0.5 * task.images for task in tasks))


def test_every_study_can_be_estimated_and_what_does_not_grow_is_a_guess(computed, tmp_path):
    """Each task that grows with the images has its counterpart among the few, or this would be an IndexError."""
    embedded = context(tmp_path, "embedded")
    found = estimated(list(STUDIES.values()), embedded, 2)
    assert list(found) == list(STUDIES)
    for name, study in STUDIES.items():
        fixed = [task for task in in_order(study.at(embedded)) if not task.images]
        assert found[name].guessed == pytest.approx(sum(task.seconds for task in fixed))
        if not any(task.images for task in in_order(study.at(embedded))):
            assert not any(done.startswith(name) for done in computed) and found[name].seconds == 0


def test_the_command_measures_and_says_hours(tmp_path):
    output = invoke(
        "estimate", "contrast", "--scale", "smoke", "--images", 2, "--cache", tmp_path, "--workers", 1
    ).output
    assert "what is left of smoke" in output and "hours of one worker" in output
    assert "contrast" in output
