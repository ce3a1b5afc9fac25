"""`list`: studies, models, methods and data sets, and whether what each needs is there."""

import json
from typing import TYPE_CHECKING, Any

from reproduce.cli import options
from reproduce.cli.console import console, say, table
from reproduce.cli.context import make_context
from reproduce.paths import CACHE

if TYPE_CHECKING:
    from reproduce.context import Context


def list_(
    scale: options.Scale = "embedded",
    cache: options.Cache = CACHE,
    as_json: options.Json = False,
    plugin: options.Plugins = None,
) -> None:
    """Show studies, models, methods and data sets.

    And how much is computed, and what cannot be for want of data or weights.

    Example: python -m reproduce list --scale paper
    """
    found = listing(make_context(scale, cache=cache))
    if as_json:
        print(json.dumps(found, indent=1))
        return
    shown = table(f"studies at scale {found['scale']}", "study", "question", "tasks done")
    for name, study in found["studies"].items():
        shown.add_row(name, study["question"], f"{study['tasks_done']}/{study['tasks']}")
    console.print(shown)
    for name, reason in found["missing"].items():
        say(f"missing   {name}: {reason}")
    for name, about in found["scales"].items():
        say(f"scale     {name}: {about}")
    say("models    " + ", ".join(found["models"]))
    say("methods   " + ", ".join(found["methods"]))
    for name, source in found["datasets"].items():
        say(f"data set  {name}: {source}")


def listing(context: "Context") -> dict[str, Any]:
    """What ``list`` shows, as JSON."""
    from reproduce.datasets import DATASETS
    from reproduce.models import MODELS
    from reproduce.scales import SCALES
    from reproduce.studies import STUDIES
    from reproduce.tasks import in_order
    from xdnn import METHODS

    studies: dict[str, Any] = {}
    missing: dict[str, str] = {}
    for name, study in STUDIES.items():
        tasks = in_order(study.at(context))
        studies[name] = {
            "question": study.question,
            "source": study.source,
            "tasks_done": sum(map(context.cache.has, tasks)),
            "tasks": len(tasks),
        }
        missing |= study.missing_at(context)
    return {
        "scale": context.scale.name,
        "studies": studies,
        "missing": missing,
        "scales": {name: scale.about for name, scale in SCALES.items()},
        "models": list(MODELS),
        "methods": {name: method.label for name, method in METHODS.items()},
        "datasets": {name: data.source for name, data in DATASETS.items()},
    }
