"""What tests of the command line share: typing a command, result folders that were made up, a small net in a file."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
from click.testing import Result
from typer.testing import CliRunner

from reproduce.cli import app

ROOT = Path(__file__).resolve().parent.parent

NET = """
import torch
from torch import nn

def tiny():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5))

def seven():
    return 7

def broken():
    raise KeyError("weights")
"""


def invoke(*words: object) -> Result:
    """Type a command; a UserError is raised, as a test wants it, instead of printed."""
    result = CliRunner().invoke(app, list(map(str, words)))
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def claim(**changes: object) -> dict[str, object]:
    """A claim's entry of a study's record."""
    return {
        "id": "toy/holds",
        "study": "toy",
        "text": "It [really] holds",
        "kind": "empirical",
        "source": "X-DNN",
        "reported": "",
        "effect": None,
        "metric": "hits",
        "criterion": {"low": 0.0, "high": None, "margin": 1.5, "smallest": 0.0},
        "every": True,
        "n_chosen": "all there are",
        "outcome": "reproduced",
        "reason": "",
        "evidence": [{"model": "a", "metric": "hits", "value": 1.0, "low": 0.9, "high": 1.1, "n": 40, "says": True}],
    } | changes


ROWS = pd.DataFrame(
    {
        "model": ["a", "b", "c", "d"],
        "factor": [0.1, 0.1, 0.2, 0.2],
        "metric": ["hits", "hits", "hits", "seconds"],
        "unit": ["%", "%", "%", "s"],
        "value": [1.0, 2.0, 3.0, 4.0],
        "low": [0.9, 1.9, 3.0, 3.9],
        "high": [1.1, 2.1, 3.0, 4.1],
        "n": 10,
        "trainings": 1,
        "spread": np.nan,
    }
)


def result_folder(
    path: Path, rows: pd.DataFrame = ROWS, claims: tuple[dict[str, object], ...] = (claim(),), study: str = "toy"
) -> Path:
    """A folder of results with one study."""
    path.mkdir(parents=True, exist_ok=True)
    rows.to_csv(path / f"{study}.csv", index=False)
    (path / f"{study}.json").write_text(json.dumps({"study": study, "order": 1, "claims": claims}))
    return path
