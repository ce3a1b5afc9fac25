"""Attribution quality where the truth is known: the digit's mask of digits-on-photos, beside what the mask metrics say."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from scipy.stats import rankdata
from torch import Tensor, nn

from reproduce.attributions import METHODS
from reproduce.cells import Cell, Tick, Value
from reproduce.datasets import Images
from reproduce.metrics import localisation, masks
from reproduce.metrics.faithfulness import RADIUS, SAMPLES, infidelity, max_sensitivity
from reproduce.metrics.statistics import difference_interval, mean_interval
from reproduce.report import figures
from reproduce.report.tables import wide
from reproduce.run import Net, Run
from reproduce.studies import table2
from reproduce.studies.maps import (
    EXTENDED,
    EXTENDED_SHARE,
    IG,
    batch_size,
    count_for,
    homogeneous,
    maps,
    one_pass,
    references,
)
from reproduce.studies.study import Claim, Study, select

VERSION = 1
INFIDELITY_IMAGES = 60  # at most; 20 forward passes an image and method
# End points that the completeness gap is measured to; None is that of a method that claims no sum.
COUNTED_FROM = ("zero", "references", None)
SENSITIVITY_IMAGES = 3  # at most; 11 attributions an image and method, of IG 1,408 passes
RANKED_BY = (
    "kpm",
    "knm",
    "kam",
    "ram",
)  # the columns of the paper's table; table2's protocol says what RPM and RNM measure
VIEWS = {"positive": lambda m: m, "absolute": torch.abs}  # what ranks the pixels: the attribution, or its magnitude
MAIN_VIEW = "positive"  # relevance for the class, as Arras et al. pool it; both views are in the rows


def cells(run: Run) -> list[Cell]:
    return [
        run.cell(
            "ground-truth", VERSION, net, partial(_measure, run, net), images=count, seconds=10,
            needs=(maps(run, net, count), table2.cell(run, net, count)),
            views=list(VIEWS), infidelity=INFIDELITY_IMAGES, sensitivity=SENSITIVITY_IMAGES, seed=run.seed,
        )
        for net, count in run.nets("ground-truth")
    ]  # fmt: skip


def _measure(run: Run, net: Net, tick: Tick, model: nn.Module, images: Images, judged: Value, scored: Value) -> Value:
    if images.masks is None:
        raise ValueError(f"{net.dataset} has no masks: ground-truth cannot be run on it")
    found, truth = judged["maps"], {}
    for view, of in VIEWS.items():
        for name, m in found.items():
            for metric, (_, score) in localisation.METRICS.items():
                truth[f"{view} {name} {metric}"] = score(of(m), images.masks[: len(m)])
    gaps = _completeness(run, net, model, images, found)
    tick(0.1)
    shown = images.first(min(INFIDELITY_IMAGES, len(images)))
    fidelity = {name: _infidelity(run, net, model, shown, name, m) for name, m in found.items()}
    tick(0.4)
    shown = images.first(min(SENSITIVITY_IMAGES, len(images)))
    stability = {name: _sensitivity(run, net, model, shown, name) for name in found if name not in EXTENDED}
    means = {name: scores.mean(0) for name, scores in scored["scores"].items()}
    return {"truth": truth, "gaps": gaps, "infidelity": fidelity, "sensitivity": stability, "mask_means": means}


@torch.no_grad()
def _completeness(run: Run, net: Net, model: nn.Module, images: Images, found: dict[str, Tensor]) -> dict[str, Tensor]:
    """|sum A - (F(x) - F(x'))| per image, in percent of the mean |F(x) - F(x')|; x' is zero, for EG the references."""
    size = batch_size(run, model, images)
    logits = torch.cat([model(inputs).cpu() for inputs, _ in images.batches(size, run.device)])
    pool = references(run, net)
    zero = model(torch.zeros_like(pool[:1])).cpu()
    mean = torch.cat([model(part).cpu() for part in pool.split(size)]).mean(0, keepdim=True)
    gaps = {}
    for name, m in found.items():
        if METHODS[name].baseline not in COUNTED_FROM:
            continue
        change = (logits - (mean if METHODS[name].references else zero)).gather(1, images.targets[:, None]).squeeze(1)
        total = pool.shape[1] * m.flatten(1).sum(1)  # the maps are means over channels
        gaps[name] = 100 * (total - change[: len(m)]).abs() / change.abs().mean()
    return gaps


def _infidelity(run: Run, net: Net, model: nn.Module, images: Images, name: str, found: Tensor) -> Tensor:
    """The same squares for every method: the generator depends on the net only."""
    count, generator = min(len(images), len(found)), run.generator("infidelity", net.label)
    parts, first = [], 0
    for inputs, targets in images.first(count).batches(max(1, batch_size(run, model, images) // SAMPLES), run.device):
        part = found[first : first + len(inputs)].to(run.device)
        parts.append(infidelity(model, inputs, targets, part, generator=generator).cpu())
        first += len(inputs)
    return torch.cat(parts)


def _sensitivity(run: Run, net: Net, model: nn.Module, images: Images, name: str) -> Tensor:
    method, own = METHODS[name], run.generator("sensitivity", net.label, name)
    explain = partial(method, model, references=references(run, net), generator=own)
    inputs, targets = next(images.first(count_for(name, net.variant, len(images))).batches(len(images), run.device))
    return max_sensitivity(explain, inputs, targets, generator=run.generator("noise", net.label)).cpu()


# --- rows -------------------------------------------------------------------------------------------------------------


def rows(values: list[Value]) -> pd.DataFrame:
    """``view`` says what ranks the pixels, where that matters; ``against`` as in table2."""
    return pd.DataFrame(row for value in values for row in _rows(value, values))


def _rows(value: Value, values: list[Value]) -> Iterator[dict[str, object]]:
    net, truth = value["net"], value["truth"]
    plain = {"against": "", "view": "", "unit": "", "better": "lower"}
    for key, sample in truth.items():
        view, name, metric = key.split()
        ids = {"method": name, "metric": metric, "against": "", "view": view, "unit": "%", "better": "higher"}
        yield net | ids | mean_interval(100 * sample).columns()
    for metric, unit, samples in (
        ("completeness_gap", "%", value["gaps"]),
        ("infidelity", "logits^2", value["infidelity"]),
        ("max_sensitivity", "", value["sensitivity"]),
    ):
        for name, sample in samples.items():
            yield net | plain | {"method": name, "metric": metric, "unit": unit} | mean_interval(sample).columns()
    for metric, name, sample in _ranks(value):
        yield net | plain | {"method": name, "metric": metric} | mean_interval(sample).columns()
    wanted = net | {"variant": "regular"}
    regular = next((other for other in values if other["net"] == wanted), None)
    if homogeneous(net["variant"]) and regular is not None:
        yield from _against_regular(net, truth, regular["truth"])


def _against_regular(net: Value, truth: Value, regular: Value) -> Iterator[dict[str, object]]:
    """X-Gradient on the X-net against IG and against Input x Gradient on the regular net, paired over images."""
    name = one_pass(net["variant"])
    for other in (IG, "input_x_gradient"):
        for view in VIEWS:
            for metric in localisation.METRICS:
                pair = truth[f"{view} {name} {metric}"], regular[f"{view} {other} {metric}"]
                ids = {"method": name, "metric": metric, "against": f"regular {other}", "view": view}
                interval = difference_interval(100 * pair[0], 100 * pair[1])
                yield net | ids | {"unit": "%", "better": "higher"} | interval.columns()


def _ranks(value: Value) -> Iterator[tuple[str, str, np.ndarray]]:
    """Each method's ranks (1 is best) by the paper's four mask metrics and by the four against the truth.

    IG on a homogeneous net is X-Gradient, on fewer images: it is not ranked a second time. Nor are methods that were run on a
    few images ranked with those that were run on all.
    """
    twice = {IG} if homogeneous(value["net"]["variant"]) else set()
    names = [name for name in value["mask_means"] if name not in twice | set(EXTENDED)]
    columns = [list(masks.METRICS).index(metric) for metric in RANKED_BY]
    by_mask = torch.stack([value["mask_means"][name][columns] for name in names], 1).numpy()  # (4, methods)
    signs = np.array([-1 if masks.METRICS[metric].better == "higher" else 1 for metric in RANKED_BY])
    truth = [[value["truth"][f"{MAIN_VIEW} {n} {m}"].mean().item() for n in names] for m in localisation.METRICS]
    for metric, scores in (("mask_rank", signs[:, None] * by_mask), ("truth_rank", -np.array(truth))):
        for name, ranks in zip(names, rankdata(scores, axis=1).T, strict=True):
            yield metric, name, ranks


# --- table and figure -------------------------------------------------------------------------------------------------

OTHERS = {
    "completeness_gap": "completeness gap (%)", "infidelity": "infidelity", "max_sensitivity": "max-sensitivity",
    "mask_rank": "rank by mask metrics", "truth_rank": "rank by ground truth",
}  # fmt: skip


def table(rows: pd.DataFrame) -> pd.DataFrame:
    part = rows[(rows["against"] == "") & rows["view"].isin((MAIN_VIEW, ""))]
    absolute = rows[(rows["against"] == "") & (rows["view"] == "absolute") & (rows["metric"] == "ap")]
    part = pd.concat([part, absolute.assign(metric="ap_absolute")])
    part = part.assign(method=part["method"].map(table2.label))
    part.loc[part["metric"].str.endswith("_rank"), ["low", "high"]] = np.nan
    columns = {name: f"{label} (%) ↑" for name, (label, _) in localisation.METRICS.items()}
    columns |= {"ap_absolute": "average precision of |.| (%) ↑"} | {
        name: f"{label} ↓" for name, label in OTHERS.items()
    }
    return wide(part, ["dataset", "model", "variant", "method"], columns)


def figure(rows: pd.DataFrame, values: list[Value]) -> Figure:
    """Mean rank of each method by the two judges, one panel per net: a line that is steep is a disagreement."""
    nets = [(value["net"]["model"], value["net"]["variant"]) for value in values]
    columns = max(1, len(nets) // 2)
    fig, axes = figures.subplots(-(-len(nets) // columns), columns, sharey=True, height=4.8)
    order = sorted(range(len(nets)), key=lambda i: nets[i][1] != "regular")  # regular nets above, their variants below
    for ax, i in zip(axes, order, strict=False):
        model, variant = nets[i]
        part = rows[(rows["model"] == model) & (rows["variant"] == variant)]
        ends = [part[part["metric"] == metric].set_index("method")["value"] for metric in ("mask_rank", "truth_rank")]
        for method in ends[0].index:
            style = {"color": table2.COLOURS.get(method, figures.GREEN), "marker": "o", "ms": 3}
            ax.plot((0, 1), [end[method] for end in ends], label=table2.label(method), **style)
        ax.set_xticks((0, 1), ("mask metrics", "ground truth"))
        ax.set(title=f"{figures.MODEL_LABEL.get(model, model)}, {figures.VARIANT_LABEL[variant]}", xlim=(-0.2, 1.2))
    axes[0].invert_yaxis()
    axes[0].set_ylabel("mean rank (1 is best)")
    found = {text: handle for ax in axes for handle, text in zip(*ax.get_legend_handles_labels(), strict=True)}
    fig.legend(found.values(), found.keys(), loc="outside lower center", ncols=6)
    return fig


# --- claims -----------------------------------------------------------------------------------------------------------


def _not_worse(rows: pd.DataFrame, other: str) -> tuple[bool, str]:
    part = select(rows, variant="x", against=f"regular {other}", view=MAIN_VIEW)
    kept = part["high"] >= 0
    words = [
        f"{figures.MODEL_LABEL.get(str(model), model)} "
        + ", ".join(
            f"{localisation.METRICS[r['metric']][0]} {r['value']:+.1f} [{r['low']:.1f}, {r['high']:.1f}]"
            for _, r in group.iterrows()
        )
        for model, group in part.groupby("model", sort=False)
    ]
    return bool(kept.all()), f"{kept.sum()} of {len(part)} not worse: {'; '.join(words)}"


def _same_best(rows: pd.DataFrame) -> tuple[bool, str]:
    """Do the methods of the best mean rank by either judge overlap? A tie names each of the tied."""
    ranked = rows[rows["metric"].isin(("mask_rank", "truth_rank"))]
    words, same = [], 0
    nets = ranked.groupby(["model", "variant"], sort=False)
    for (model, variant), part in nets:
        mask, truth = (_best(select(part, metric=metric)) for metric in ("mask_rank", "truth_rank"))
        same += bool(mask & truth)
        if not mask & truth:
            net = f"{figures.MODEL_LABEL.get(model, model)} {figures.VARIANT_LABEL[variant]}"
            words.append(f"{net}: {' or '.join(sorted(mask))} and {' or '.join(sorted(truth))}")
    return same == len(nets), "; ".join([f"the same on {same} of {len(nets)} nets", *words])


def _best(part: pd.DataFrame) -> set[str]:
    return {table2.label(method) for method in part[part["value"] == part["value"].min()]["method"]}


STUDY = Study(
    name="ground-truth",
    title="Attribution quality against ground truth",
    question="Do attributions find the pixels that decide the class, and do the mask metrics prefer those that do?",
    source="extends X-DNN Sec. 4.2; metrics of Arras, Osman, Samek 2022 and Yeh et al. 2019",
    protocol=(
        "The maps of table2 against the digit's mask. Positive relevance, mean over channels: the share that lies in the mask (mass accuracy), "
        "the share of the K highest pixels in a mask of K (rank accuracy), whether the highest pixel is in it (pointing game), and average "
        "precision, also of the magnitudes. Ties count as chance. Completeness gap: |sum A - (F(x) - F(x'))| in percent of the mean "
        f"|F(x) - F(x')|; x' is zero, for EG the mean over its references. captum's infidelity: {SAMPLES} squares a quarter of the side set to "
        f"zero, attribution scaled to fit, first {INFIDELITY_IMAGES} images; captum's max-sensitivity: {SAMPLES} draws of uniform noise "
        f"+-{RADIUS}, first {SENSITIVITY_IMAGES} images. Ranks: means over the paper's four mask metrics, and over the four against the truth. "
        f"Later path methods are judged on every {EXTENDED_SHARE}th of AlexNet's images and not ranked. "
        "Intervals: 95 % bootstrap over images, paired for differences; one trained net each, so the spread of training is not in them."
    ),
    differs="The paper has no ground truth; the mask metrics are its only judge.",
    cells=cells,
    rows=rows,
    table=table,
    figure=figure,
    claims=(
        Claim("X-nets do not lose quality: X-Gradient is not worse than IG (128) on the regular net by any metric against the truth",
              "X-DNN Sec. 4.2, extended", "", partial(_not_worse, other=IG)),
        Claim("X-Gradient is not worse than Input x Gradient on the regular net by any metric against the truth",
              "X-DNN Sec. 4.2, extended", "", partial(_not_worse, other="input_x_gradient")),
        Claim("Mask metrics and ground truth name the same best method on every net", "ours", "", _same_best),
    ),
)  # fmt: skip
