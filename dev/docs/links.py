"""Links of the documentation: to files of the repository, to headings of its pages."""
import re
import urllib.parse

from blocks import FENCE, ROOT

LINK = re.compile(r"!?\[(?:[^\[\]]|\[[^\]]*\])*\]\(\s*<?([^)\s>]+)>?[^)]*\)")


def without_code(text):
    """Code blanked, lines kept: brackets in it are no links, '#' in it are no headings."""
    return FENCE.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def anchors(page):
    """Names of the headings, as GitHub and mdBook make them."""
    seen, names = {}, set()
    for heading in re.findall(r"^#{1,6}[ \t]+(.+?)[ \t]*#*$", without_code(page.read_text(encoding="utf-8")), re.M):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = seen[name] = seen.get(name, -1) + 1
        names.add(f"{name}-{count}" if count else name)
    return names


def links(page):
    """(line, target, mistake or None) of each link that is none to another site."""
    # Inline code goes, too; what is left has links in the same places.
    plain = re.sub(r"`[^`\n]*`", lambda match: " " * len(match[0]), without_code(page.read_text(encoding="utf-8")))
    for link in LINK.finditer(plain):
        if re.match(r"[a-z][a-z0-9+.-]*:", link[1], re.I):
            continue
        target, _, anchor = urllib.parse.unquote(link[1]).partition("#")
        file = (page.parent / target).resolve() if target else page
        mistake = None
        if not file.is_relative_to(ROOT) or not file.exists():
            mistake = "no such file in the repository"
        elif anchor and file.suffix == ".md" and anchor not in anchors(file):
            mistake = "no such heading"
        yield plain.count("\n", 0, link.start()) + 1, link[1], mistake
