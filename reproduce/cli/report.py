"""`report`: the result files of a scale joined again."""

from reproduce.cli import options
from reproduce.cli.summary import folder_of, print_summary
from reproduce.paths import RESULTS


def report(scale: options.Scale = "embedded", results: options.Results = RESULTS) -> None:
    """Join the result files of a scale into its report again.

    Writes report.html, report.md and claims.csv, and computes nothing.

    Example: python -m reproduce report --scale subset
    """
    from reproduce.report import page

    folder = folder_of(scale, results)
    page.write(folder)
    print_summary(folder)
