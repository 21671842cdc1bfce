"""The fenced blocks of the documentation, and what a test does with each.

A comment above a block says what its language does not:

    <!-- test: cluster -->            commands that run on the test cluster, with real pods
    <!-- test: api -->                commands that run against an API server without nodes
    <!-- test: file NAME -->          written to NAME, for commands further down the page
    <!-- test: same as PATH -->       equal to a file of the repository
    <!-- test: values -->             values of the chart
    <!-- test: sources -->            each line is the source of an image
    <!-- test: rules -->              rules for Prometheus
    <!-- test: old body -->           `to_request` of Python, fed with the body of an old request
    <!-- test: not run: REASON -->    cannot run here

`<!-- test: page not run: REASON -->` speaks for all blocks of commands on its page. Without a comment, commands
run on this machine, and YAML must be an object that the API server takes.
"""
import dataclasses
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FENCE = re.compile(r"^(?P<fence>```+|~~~+)[ \t]*(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.M | re.S)
COMMENT = re.compile(r"<!-- test: (?P<words>(?:(?!-->).)+?) -->\n\Z", re.S)
PAGE = re.compile(r"<!-- test: page not run: ((?:(?!-->).)+?) -->", re.S)
COMMANDS = ("console", "sh", "bash", "shell")
SHOWN = ("", "text", "latex")
KINDS = ("cluster", "api", "values", "sources", "rules", "old body", "file", "same as", "not run")


@dataclasses.dataclass(frozen=True)
class Block:
    """One block: `kind` is how it is tested, `argument` belongs to the kind."""

    page: pathlib.Path
    line: int
    language: str
    text: str
    kind: str
    argument: str

    @property
    def place(self):
        return f"{self.page.relative_to(ROOT)} line {self.line}"


def pages():
    """Every page that may hold blocks."""
    names = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "dev/README.md"]
    patterns = ["docs/*.md", "docs/reference/*.md", "deploy/**/*.md", "charts/**/*.md", "examples/**/*.md"]
    found = [ROOT / name for name in names]
    for pattern in patterns:
        found += sorted(ROOT.glob(pattern))
    return found


def kind_of(comment, page_comment, language, text):
    """(kind, argument) of a block."""
    if comment:
        words = " ".join(comment["words"].split())
        for kind in KINDS:
            if words == kind or words.startswith((kind + " ", kind + ": ")):
                return kind, words[len(kind) :].lstrip(": ")
        return "unknown", words
    if language in COMMANDS:
        if page_comment:
            return "not run", " ".join(page_comment[1].split())
        return ("targets" if all(line.startswith("make ") for line in text.splitlines()) else "local"), ""
    if language in ("yaml", "yml"):
        return ("request" if re.search(r"^kind: (Alignment|DepthMap)Request\s*$", text, re.M) else "manifest"), ""
    return ("shown" if language in SHOWN else "unknown"), language


def blocks(page):
    text = page.read_text(encoding="utf-8")
    page_comment = PAGE.search(text)
    for match in FENCE.finditer(text):
        comment = COMMENT.search(text, 0, match.start())
        kind, argument = kind_of(comment, page_comment, match["language"], match["text"])
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, match["language"], match["text"], kind, argument)
