"""What maps of one net are worth, by all measures of quality that need no training: for the study ``one-pass``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from reproduce.datasets.images import Images
from reproduce.maps import batch_size
from xdnn.logits import target_logits
from xdnn.metrics.agreement import relative_l1
from xdnn.metrics.insertion_deletion import area, insertion_deletion
from xdnn.metrics.localisation import average_precision
from xdnn.metrics.masks import blur, mask_metrics

Explain = Callable[[nn.Module, Tensor, Tensor], tuple[Tensor, Tensor]]  # -> attributions (B, *F), passes (B,)
BASELINES = ("zero", "black", "blurred")


@dataclass(frozen=True)
class Explained:
    """What one method's maps are worth, for each image.

    Attributes:
        method, baseline: names.
        radius: times the fitted one, where the method has one radius for all images; else 0.
        passes: backward passes.
        distance: relative L1 of the map, a mean over channels, to that of IG from the same baseline.
        gap: |sum A - (F(x) - F(c))|, logits.
        masks: the six mask metrics, (n, 6).
        insertion, deletion: areas, mean colour as substrate, pixels in one order.
        ap: average precision against the true mask, (n,); empty where there is none.
    """

    method: str
    baseline: str
    radius: float
    passes: list[float]
    distance: list[float]
    gap: list[float]
    masks: Tensor
    insertion: Tensor
    deletion: Tensor
    ap: Tensor


def with_passes(passes: int, attribute: Callable[..., Tensor]) -> Explain:
    """A method with the passes that it takes for each image."""
    return lambda model, inputs, targets: (attribute(model, inputs, targets), torch.full((len(inputs),), float(passes)))


def at(baseline: str, inputs: Tensor, images: Images) -> Tensor:
    """The baseline of each image, (B, *F): the mean colour, black, or the picture under the mask metrics' blur."""
    if baseline == "blurred":
        return blur(inputs)
    black = -torch.tensor(list(images.mean)) / torch.tensor(list(images.std))
    colour = torch.zeros(3) if baseline == "zero" else black
    return colour.to(inputs).view(3, 1, 1).expand_as(inputs)


@dataclass(frozen=True)
class Evaluation:
    """Makes maps of one net, and says what they are worth.

    Attributes:
        curve_steps: of insertion and deletion.
    """

    model: nn.Module
    curve_steps: int
    device: torch.device

    def batches(self, images: Images) -> Iterator[tuple[Tensor, Tensor]]:
        return images.batches(batch_size(self.model, images, self.device), self.device)

    @torch.no_grad()
    def change(self, images: Images, baseline: str) -> Tensor:
        """F(x) - F(c), (n,)."""
        parts = [
            target_logits(self.model, x, t) - target_logits(self.model, at(baseline, x, images), t)
            for x, t in self.batches(images)
        ]
        return torch.cat(parts).cpu()

    def make(self, images: Images, explain: Explain) -> tuple[Tensor, list[float]]:
        """Maps, means over channels (n, H, W), and the passes that each took."""
        maps, passes = [], []
        for x, t in self.batches(images):
            full, taken = explain(self.model, x, t)
            maps.append(full.mean(1).cpu())
            passes += taken.tolist()
        return torch.cat(maps), passes

    def score(
        self,
        images: Images,
        name: tuple[str, str, float],
        maps: Tensor,
        passes: Sequence[float],
        reference: Tensor,
        masks: Tensor | None = None,
    ) -> Explained:
        """What maps are worth.

        Args:
            name: method, baseline and radius.
            reference: IG's maps from the same baseline; the first of them are of these images.
            masks: the six mask metrics, where they are known.
        """
        side, areas, scores = maps.shape[-1], [], []
        step = -(-side * side // self.curve_steps)
        size = batch_size(self.model, images, self.device)
        for (x, t), part in zip(self.batches(images), maps.to(self.device).split(size), strict=True):
            shown = part[:, None].expand_as(x).contiguous()  # the same in each channel: the same order of the pixels
            both = insertion_deletion(self.model, x, shown, step=step, ranking="pixels")
            areas.append(torch.stack([area(both.insertion), area(both.deletion)]).cpu())
            if masks is None:
                scores.append(mask_metrics(self.model, x, t, part).cpu())
        insertion, deletion = torch.cat(areas, 1)
        total = images.inputs(slice(0, 1)).shape[1] * maps.flatten(1).sum(1)
        return Explained(
            *name,
            list(map(float, passes)),
            relative_l1(reference[: len(maps)], maps).tolist(),
            (total - self.change(images, name[1])).abs().tolist(),
            torch.cat(scores) if masks is None else masks,
            insertion,
            deletion,
            maps.new_zeros(0) if images.masks is None else average_precision(maps, images.masks),
        )
