"""What can be measured of a page: contrast, names of controls, order of the keyboard, width, targets.

Each function gives a list of what is wrong; an empty one is good.
"""
import time

# Text on its ground, as computed: every visible text, and the placeholders.
CONTRAST = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const over = (top, below) => [0, 1, 2].map((i) => top[i] * top[3] + below[i] * (1 - top[3])).concat(1);
  const ground = (element) => {
    const layers = [];
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0) layers.push(colour);
      if (colour[3] === 1) break;
    }
    return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
  };
  const light = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const ratio = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
  const found = [];
  const judge = (element, colour, text) => {
    const below = ground(element), value = ratio(over(parse(colour), below), below);
    found.push([value, text.trim().slice(0, 40), colour]);
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data;
    if (!text.trim() || !element.checkVisibility({visibilityProperty: true, opacityProperty: true})) continue;
    if (element.closest('noscript, script')) continue;
    const style = getComputedStyle(element);
    judge(element, element instanceof SVGElement ? style.fill : style.color, text);
  }
  for (const element of document.querySelectorAll('[placeholder]')) {
    if (element.checkVisibility()) judge(element, getComputedStyle(element, '::placeholder').color, element.placeholder);
  }
  return found;
})()"""

# Elements that the keyboard must reach; of radio buttons the chosen one stands for all.
REACHABLE = """[...document.querySelectorAll('a[href], button, input, textarea, select, summary')].filter((e) =>
  !e.disabled && e.checkVisibility() && (e.type !== 'radio' || e.checked))"""

TARGETS = """(() => {
  const small = [];
  for (const element of REACHABLE) {
    // A link within a sentence is as high as its line.
    if (element.matches('p a:not(.button)')) continue;
    const box = (element.type === 'radio' ? element.parentElement : element).getBoundingClientRect();
    // The link to skip is out of sight until it has the focus.
    if (box.bottom > 0 && (box.height < 44 || box.width < 24)) small.push(`${element.outerHTML.slice(0, 80)}: ${box.width} x ${box.height}`);
  }
  return small;
})()""".replace("REACHABLE", REACHABLE)

FOCUSED = """(() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  const shown = (x) => x && getComputedStyle(x).outlineStyle !== 'none' && parseFloat(getComputedStyle(x).outlineWidth) >= 2;
  return {index: REACHABLE.indexOf(e), seen: Boolean(shown(e) || shown(e.nextElementSibling)), what: e.outerHTML.slice(0, 80)};
})()""".replace("REACHABLE", "(" + REACHABLE + ")")

CONTROLS = {"button", "link", "textbox", "slider", "radio", "progressbar", "checkbox", "combobox", "dialog",
            "alertdialog", "DisclosureTriangle", "image", "img", "group", "radiogroup", "navigation"}


def contrast(browser, least=4.5):
    texts = browser.run(CONTRAST)
    assert len(texts) > 3, texts
    return [text for text in texts if text[0] < least]


def nameless(browser):
    nodes = browser.send("Accessibility.getFullAXTree")["nodes"]
    roles = [(node.get("role", {}).get("value"), node.get("name", {}).get("value"), node["nodeId"])
             for node in nodes if not node.get("ignored")]
    assert any(role in CONTROLS for role, *_ in roles), roles
    # A group around a disclosure has its name from the summary within.
    return [entry for entry in roles if entry[0] in CONTROLS - {"group"} and not (entry[1] or "").strip()]


def unreached(browser):
    """Presses Tab until the focus has gone round. What the keyboard does not reach, or where nothing shows that it did."""
    wanted = browser.run(f"{REACHABLE}.map((e) => e.outerHTML.slice(0, 80))")
    # From the first one on: the link to skip.
    browser.run("document.querySelector('.skip').focus()")
    browser.key("Tab", shift=True)
    found, unseen = [], []
    for _ in range(len(wanted) + 5):
        browser.key("Tab")
        at = browser.run(FOCUSED)
        if at and not at["seen"]:  # a page that is being drawn again may mark it a moment later
            time.sleep(0.2)
            at = browser.run(FOCUSED)
        if at is None or at["index"] in found:
            break
        found.append(at["index"])
        if not at["seen"]:
            unseen.append(f"no mark of the focus: {at['what']}")
    missing = [what for index, what in enumerate(wanted) if index not in found]
    # As on the page, from the top.
    if found != sorted(found):
        unseen.append(f"another order than on the page: {found}")
    return missing + unseen


def too_wide(browser, width):
    """Elements that stick out to the right, if the page can be scrolled sideways."""
    if browser.run("document.scrollingElement.scrollWidth") <= width:
        return []
    return browser.run(f"""[...document.querySelectorAll('body *')].filter((e) => e.getBoundingClientRect().right > {width})
        .map((e) => e.outerHTML.slice(0, 80))""") or ["the page"]


def small_targets(browser):
    return browser.run(TARGETS)


def landmarks(browser):
    """The parts of a page that a screen reader jumps to, and headings without gaps between their levels."""
    wrong = browser.run("""['header', 'main', 'footer', 'nav', 'h1', '[lang]', '.skip'].filter((s) =>
        document.querySelectorAll(s).length !== 1 || (s === '[lang]' && !document.documentElement.lang))""")
    levels = browser.run("""[...document.querySelectorAll('h1, h2, h3')].filter((e) => e.checkVisibility()).map((e) => Number(e.tagName[1]))""")
    jumps = [pair for pair in zip(levels, levels[1:]) if pair[1] > pair[0] + 1]
    return wrong + jumps + ([] if levels and levels[0] == 1 else ["the first heading is no h1"])
