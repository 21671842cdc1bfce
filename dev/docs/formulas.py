#!/usr/bin/env python3
"""formulas.py PAGE...: replaces the LaTeX blocks of pages by MathML, which browsers show as formulas."""
import pathlib
import re
import sys

from latex2mathml.converter import convert

BLOCK = re.compile(r"^```latex\n(.*?)^```$", re.M | re.S)

for name in sys.argv[1:]:
    page = pathlib.Path(name)
    text = page.read_text(encoding="utf-8")
    # One line: a blank one would end the HTML for a reader of Markdown.
    formula = lambda match: " ".join(convert(match[1].strip(), display="block").split())
    page.write_text(BLOCK.sub(formula, text), encoding="utf-8")
