"""Pictures of words and molecules, each letter or atom coloured by its attribution: red speaks for the output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WORDS, MOLECULES = 10, 3  # that are shown
COLOURS = "RdBu_r"


def _colours(maps: np.ndarray) -> np.ndarray:
    import matplotlib as mpl

    return mpl.colormaps[COLOURS](0.5 + 0.4 * maps / max(float(np.abs(maps).max()), 1e-12))


def draw_words(ax: Axes, words: Sequence[str], maps: np.ndarray) -> None:
    """The first WORDS words under each other; ``maps`` (N, P) has a number for each letter."""
    for line, (word, tokens) in enumerate(zip(words[:WORDS], maps, strict=False)):
        for place, (letter, colour) in enumerate(zip(word, _colours(tokens), strict=False)):
            box = {"facecolor": colour, "edgecolor": "none", "boxstyle": "square,pad=0.25"}
            ax.text(place, -line, letter, family="monospace", ha="center", va="center", bbox=box)
    ax.set(xlim=(-1, 15), ylim=(-WORDS, 0.8))


def draw_molecules(ax: Axes, names: Sequence[str], maps: np.ndarray) -> None:
    """The first MOLECULES molecules, given as SMILES, under each other; ``maps`` (N, P) has a number for each atom."""
    from rdkit import Chem
    from rdkit.Chem import rdDepictor

    for line, (name, tokens) in enumerate(zip(names[:MOLECULES], maps, strict=False)):
        mol = Chem.MolFromSmiles(name)
        rdDepictor.Compute2DCoords(mol)
        places = mol.GetConformer().GetPositions()[:, :2]
        if np.ptp(places[:, 1]) > np.ptp(places[:, 0]):
            places = places[:, ::-1]
        places = places - (places.min(0) + places.max(0)) / 2 - [0, 7.0 * line]
        for bond in mol.GetBonds():
            ends = places[[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()]]
            ax.plot(*ends.T, color="0.6", lw=0.8 + 0.6 * bond.GetBondTypeAsDouble(), zorder=1)
        colours = _colours(tokens[: len(places)])
        ax.scatter(places[:, 0], places[:, 1], s=95, color=colours, edgecolors="0.4", linewidths=0.5, zorder=2)
        for atom, (x, y) in zip(mol.GetAtoms(), places, strict=True):
            if atom.GetSymbol() != "C":
                ax.text(x, y, atom.GetSymbol(), fontsize=6, ha="center", va="center", zorder=3)
    ax.set_aspect("equal", adjustable="datalim")
