"""Sphinx's configuration: the pages of this folder and the API reference from the docstrings. `make docs`"""

import re
import sys
import textwrap
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from xdnn import __version__

project = "xdnn and reproduce"
author = "the reproduce maintainers"
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_heading_anchors = 3

html_theme = "furo"
html_title = f"xdnn and reproduce {release}"
html_copy_source = False
smartquotes = False  # a prime is part of a name
html_show_sphinx = False

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# --- docstrings ---
# They are written to be read in the code: a star is a star, and indented or aligned lines are a formula or a table.

SECTION = re.compile(r"(Args|Attributes|Returns|Yields|Raises):$")
LITERAL = re.compile(r"(``.+?``)", re.DOTALL)


def as_restructured_text(docstring: str) -> str:
    """A docstring whose plain characters are escaped, with formulas and tables as literal blocks."""
    out: list[str] = []
    item: int | None = None  # indentation of a section's items; None outside of sections
    for paragraph in re.split(r"\n\s*\n", docstring):
        lines = paragraph.strip("\n").split("\n")
        first = indent(lines[0])
        if SECTION.match(lines[0]):
            item = indent(lines[1])
        elif item is not None and first == 0:
            item = None
        if item is None:
            is_plain = not first and not any(map(indent, lines))
            out.append("\n".join(map(escaped, lines)) if is_plain else literal(lines, 0))
        elif first > item:
            out.append(literal(lines, item + 4))
        else:  # what continues an item is aligned with its words, and how far does not matter
            out.append("\n".join(" " * min(indent(line), item + 4) + escaped(line.lstrip()) for line in lines))
    return "\n\n".join(out)


def literal(lines: list[str], margin: int) -> str:
    return " " * margin + "::\n\n" + textwrap.indent(textwrap.dedent("\n".join(lines)), " " * (margin + 4))


def indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def escaped(line: str) -> str:
    parts = LITERAL.split(line)
    return "".join(part if number % 2 else re.sub(r"([*|`\\]|_\b)", r"\\\1", part) for number, part in enumerate(parts))


def on_docstring(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    lines[:] = [*as_restructured_text("\n".join(lines)).split("\n"), ""]


def setup(app: Sphinx) -> None:
    app.connect("autodoc-process-docstring", on_docstring, priority=400)  # before napoleon reads it
