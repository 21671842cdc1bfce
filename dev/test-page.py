#!/usr/bin/env python3
"""test-page.py BROWSER PAGE DEPTH_PAGE WORK: looks at the pages of the aligner with a headless browser.

Once as it is, and once with each of the other kinds of pictures chosen. A request of the page to the
network would show in the browser's own log, as that of a control page must.
"""
import json
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

BROWSER, (PAGE, DEPTH_PAGE, WORK) = sys.argv[1], map(Path, sys.argv[2:])
# Colours of the lines of the template and of the patch.
TEMPLATE, PATCH = (0, 200, 255), (255, 176, 0)
# Of the lines of depth, from the pial surface to the white matter.
DEPTH = (0, 114, 255), (0, 190, 190), (240, 228, 66), (240, 150, 30), (230, 50, 40)
passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok    ' if good else 'FAILED'} {what} {'' if good else detail}")


def look(page, name):
    """Screenshot of a page, rows x columns x RGB, and every address that it asked for."""
    picture, log = WORK / f"{name}.png", WORK / f"{name}.json"
    subprocess.run(
        [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run",
         "--host-resolver-rules=MAP * ~NOTFOUND", f"--user-data-dir={WORK / 'profile'}",
         "--window-size=1300,2600", f"--log-net-log={log}", f"--screenshot={picture}", page.as_uri()],
        check=True, timeout=120, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return np.asarray(Image.open(picture).convert("RGB")).astype(int), addresses(log.read_text())


def addresses(text):
    """Addresses other than of files and of data that a page asked for, from the browser's log of its
    network stack. What the browser asks for its own sake has no origin there."""
    found = set()
    for event in json.loads(text)["events"]:
        parameters = event.get("params", {})
        url = urlsplit(str(parameters.get("url", "")))
        if url.scheme not in ("", "file", "data", "blob") and parameters.get("initiator", "not an origin") != "not an origin":
            found.add(url.geturl())
    return found


def count(picture, colour, reach=12):
    return int((abs(picture - colour) <= reach).all(axis=2).sum())


def choose(kind):
    """The page with another radio button chosen in the file: it has no script to click it."""
    text = PAGE.read_text()
    chosen = text.replace('id="show-after" checked', 'id="show-after"').replace(f'id="show-{kind}"', f'id="show-{kind}" checked', 1)
    check(f"the choice was changed: {kind}", chosen.count(" checked>") == 1 and f'id="show-{kind}" checked' in chosen)
    other = WORK / f"{kind}.html"
    other.write_text(chosen)
    seen, asked = look(other, kind)
    check(f"nothing is asked of the network for the pictures: {kind}", not asked, asked)
    return seen


def main():
    control = WORK / "control.html"
    control.write_text('<img src="http://elsewhere.invalid/x.png">')
    _, asked = look(control, "control")
    check("a page that asks the network is caught", asked == {"http://elsewhere.invalid/x.png"}, asked)

    seen, asked = look(PAGE, "after")
    after = count(seen, TEMPLATE)
    check("the template's lines are seen", after > 1000, after)
    red, blue = seen[..., 0], seen[..., 2]
    reds, blues = ((red > blue + 30) & (red > 150)).sum(), ((blue > red + 30) & (blue > 150)).sum()
    check("the map of the Jacobian is seen", reds > 5000 and blues > 5000, (reds, blues))
    check("nothing is asked of the network", not asked, asked)
    seen_before = choose("before")
    # Before the registration the template's lines leave more of the patch's uncovered.
    patch, patch_before = count(seen, PATCH), count(seen_before, PATCH)
    check("before, more of the patch's lines lie bare", patch_before > 1.2 * patch, (patch_before, patch))
    tiles = choose("tiles")
    dark, bright = count(tiles, (0, 0, 0), reach=3), count(tiles, (255, 255, 255), reach=3)
    check("on the checkerboard, depth goes from black to white", dark > 5000 and bright > 5000, (dark, bright))
    # The keys of both colours stay.
    lines = count(tiles, TEMPLATE), count(tiles, PATCH)
    check("no lines lie on the checkerboard", max(lines) < 300, lines)
    seen, asked = look(DEPTH_PAGE, "depth")
    check("nothing is asked of the network for the page of the depth", not asked, asked)
    lines = [count(seen, colour) for colour in DEPTH]
    check("the lines of five depths are seen", min(lines) > 300, lines)
    green, red = count(seen, (40, 150, 70)), count(seen, (200, 30, 40), reach=40)
    check("known and unknown depth is seen", green > 5000 and red > 100, (green, red))
    print(f"page: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
