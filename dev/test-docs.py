#!/usr/bin/env python3
"""The documentation holds: every request in it is valid, every link leads somewhere.

    test-docs.py ALIGNER

Every fenced `yaml` block of README.md and docs/*.md that is an AlignmentRequest goes through
`aligner validate`. Every relative link of the pages below must point to an existing file of the
repository, and to an existing heading if it names one. Closing line: `docs: N passed, M failed`.
"""
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.parse

ROOT = pathlib.Path(__file__).resolve().parent.parent
DOCS = sorted((ROOT / "docs").glob("*.md"))
LINKED = [ROOT / name for name in ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "dev/README.md")] + DOCS
FENCE = re.compile(r"^(?P<fence>```+|~~~+)[ \t]*(?P<language>[\w-]*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.M | re.S)
LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
outcomes = []


def check(name, passed, detail=""):
    outcomes.append(bool(passed))
    print(f"{'ok    ' if passed else 'FAILED'} {name}{': ' + detail if detail and not passed else ''}")


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def check_requests(page, aligner, folder):
    """The number of requests on the page."""
    text, found = page.read_text(encoding="utf-8"), 0
    for block in FENCE.finditer(text):
        if block["language"] not in ("yaml", "yml") or not re.search(r"^kind: AlignmentRequest\s*$", block["text"], re.M):
            continue
        found += 1
        file = folder / "request.yaml"
        file.write_text(block["text"], encoding="utf-8")
        run = subprocess.run([aligner, "validate", file], capture_output=True, text=True)
        name = f"{page.relative_to(ROOT)} line {line_of(text, block.start())}: the request is valid"
        check(name, run.returncode == 0, run.stderr.strip())
    return found


def without_code(text):
    """Code blanked, lines kept: brackets in it are no links, '#' in it are no headings."""
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])
    return FENCE.sub(blank, text)


def anchors(page):
    """Names of the headings, as GitHub makes them."""
    seen, names = {}, set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", without_code(page.read_text(encoding="utf-8")), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def check_link(page, text, link):
    target, _, anchor = urllib.parse.unquote(link[1]).partition("#")
    file = (page.parent / target).resolve() if target else page
    name = f"{page.relative_to(ROOT)} line {line_of(text, link.start())}: {link[1]}"
    if not file.is_relative_to(ROOT) or not file.exists():
        check(name, False, "no such file in the repository")
    elif anchor and file.suffix == ".md":
        check(name, anchor in anchors(file), "no such heading")
    else:
        check(name, True)


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: test-docs.py ALIGNER")
    aligner = pathlib.Path(sys.argv[1]).resolve()
    if not aligner.is_file():
        sys.exit(f"{aligner} is missing: cargo build --release -p aligner")
    with tempfile.TemporaryDirectory() as folder:
        requests = sum(check_requests(page, aligner, pathlib.Path(folder)) for page in [ROOT / "README.md", *DOCS])
    check("the pages hold requests at all", requests > 0)
    for page in LINKED:
        if not page.is_file():
            check(f"{page.relative_to(ROOT)} exists", False)
            continue
        text = page.read_text(encoding="utf-8")
        # Inline code goes, too; what is left has links in the same places.
        plain = re.sub(r"`[^`\n]*`", lambda match: " " * len(match[0]), without_code(text))
        for link in LINK.finditer(plain):
            if not re.match(r"[a-z][a-z0-9+.-]*:", link[1], re.I):
                check_link(page, plain, link)
    failed = outcomes.count(False)
    print(f"docs: {outcomes.count(True)} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
