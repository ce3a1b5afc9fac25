"""`compare`: one's own results held against the published ones, or any two folders of results."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from reproduce.cli import options
from reproduce.cli.console import console, say, table
from reproduce.errors import UserError
from reproduce.paths import PUBLISHED, RESULTS

if TYPE_CHECKING:
    from reproduce.compare import Comparison

MOST_ROWS = 20  # of each status on the terminal; --json has all


def compare(
    folders: Annotated[
        list[Path] | None,
        typer.Argument(help="two folders of results, or one to hold against the published; default: your own"),
    ] = None,
    scale: options.Scale = "embedded",
    check: Annotated[bool, typer.Option("--check", help="exit with 3 where something moved")] = False,
    as_json: options.Json = False,
) -> None:
    """Hold your own results against the published ones.

    Says what moved by more than chance, and which claims have another outcome. One training is inside where its value lies
    within the range of several published ones.

    Example: python -m reproduce compare results/A/embedded results/B/embedded
    """
    from reproduce.compare import compare as hold_against

    before, after = two_folders(folders or [], scale)
    found = hold_against(before, after)
    if as_json:
        print(json.dumps(as_record(before, after, found), indent=1))
    else:
        print_comparison(before, after, found)
    if check and not found.same:
        raise typer.Exit(3)


def two_folders(folders: list[Path], scale: str) -> tuple[Path, Path]:
    """What to compare: the published results of a scale with one's own, unless folders are named."""
    if len(folders) > 2:
        raise UserError(f"two folders can be compared, and {len(folders)} are named")
    if len(folders) == 2:
        return folders[0], folders[1]
    own = folders[0] if folders else RESULTS / scale
    return PUBLISHED / own.resolve().name, own


def as_record(before: Path, after: Path, found: "Comparison") -> dict[str, object]:
    """A comparison as JSON: counts, every row that is not inside, every claim whose outcome changed."""
    rows = found.rows[~found.rows["status"].isin(["inside", "time"])]
    return {
        "before": str(before),
        "after": str(after),
        "same": found.same,
        "counts": {"rows": len(found.rows), **found.rows["status"].value_counts().to_dict()},
        "rows": json.loads(rows.to_json(orient="records")),
        "claims": found.claims.to_dict("records"),
        "contradictions": found.contradictions.to_dict("records"),
        "only": found.only,
        "left_out": {"inside": found.left_out.inside, "tested": found.left_out.tested},
    }


def print_comparison(before: Path, after: Path, found: "Comparison") -> None:
    say(f"before: {before}\nafter:  {after}")
    for status, title in (
        ("moved", "moved by more than chance"),
        ("differs", "differ, without an interval to test by"),
    ):
        rows = found.rows[found.rows["status"] == status]
        if len(rows):
            shown = table(title, "study", "what", "before", "after")
            for row in rows.head(MOST_ROWS).itertuples():
                shown.add_row(row.study, row.what, row.before, row.after)
            console.print(shown)
        if len(rows) > MOST_ROWS:
            say(f"and {len(rows) - MOST_ROWS} more; --json shows all")
    for claim in found.claims.itertuples():
        say(f"claim {claim.claim} ({claim.kind}): {claim.before}, now {claim.after}")
    for line in found.only:
        say(line)
    moved, outside, inside = (found.count(status) for status in ("moved", "outside", "inside"))
    say(
        f"{moved + outside + inside} rows tested: {inside} inside of their 95 % range, {moved + outside} outside, "
        f"where chance alone puts one in twenty; {moved} moved by more than that"
    )
    if found.left_out.tested:
        share = found.left_out.inside / found.left_out.tested
        say(
            f"of the trainings in {before}, each held against the others, {share:.1%} of {found.left_out.tested} values are "
            "inside: so much the range keeps of its 95 %"
        )
    say(
        f"{found.count('differs')} rows differ without an interval, {found.count('time')} are times of one machine; "
        f"{len(found.claims)} outcomes changed, {len(found.contradictions)} of them from reproduced to not or back"
    )
