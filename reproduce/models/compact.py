"""Small nets for inputs that are not pictures: words, letter by letter, and molecules, atom by atom."""

import torch
from torch import Tensor, nn


class LetterNet(nn.Module):
    """Two convolutions along a word and the strongest response of each: (B, letters, features) to (B, classes) logits."""

    def __init__(self, features: int, classes: int, width: int = 64) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(features, width, 5, padding=2), nn.ReLU(), nn.Conv1d(width, width, 3, padding=1), nn.ReLU()
        )
        self.strongest = nn.AdaptiveMaxPool1d(1)
        self.classify = nn.Linear(width, classes)

    def forward(self, words: Tensor) -> Tensor:
        return self.classify(self.strongest(self.convolutions(words.transpose(1, 2))).flatten(1))


class AtomNet(nn.Module):
    """Each atom hears its neighbours twice, then has a share in the property: (B, atoms, features + atoms) to (B, 1).

    The last columns are the bonds, with ones on the diagonal of atoms that are there. Bonds are read by where they
    are and not by their size, so the net is a function of the atoms' features alone, and its X-variant is homogeneous
    in them.
    """

    def __init__(self, features: int, width: int = 64) -> None:
        super().__init__()
        self.features = features
        self.own = nn.ModuleList([nn.Linear(features, width), nn.Linear(width, width)])
        self.near = nn.ModuleList([nn.Linear(features, width, bias=False), nn.Linear(width, width, bias=False)])
        self.share = nn.Linear(width, 1)

    def forward(self, molecules: Tensor) -> Tensor:
        atoms = molecules[..., : self.features]
        bonds = (molecules[..., self.features :] > 0).to(atoms.dtype)
        for own, near in zip(self.own, self.near, strict=True):
            atoms = torch.relu(own(atoms) + near(torch.matmul(bonds, atoms)))
        there = bonds.diagonal(dim1=-2, dim2=-1)
        return torch.matmul(there.unsqueeze(-2), self.share(atoms)).squeeze(-1)
