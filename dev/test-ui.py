#!/usr/bin/env python3
"""Follows requests on the gateway's pages with a headless browser; started by dev/test-ui.sh.

`ui/looks.py` measures how a page looks, `ui/cluster.py` plays the operator, `ui/provider.py` has people sign in,
`ui/browser.py` is the browser.
"""
import argparse
import json
import sys
import time
import urllib.request
from pathlib import Path

import looks
import prefix
from browser import Browser
from cluster import TIME, Cluster, condition, drawing
from provider import Provider

# What a first view may cost.
MOST_BYTES, MOST_SECONDS = 100_000, 1.0
QUALITY = {"depthResidualBefore": 0.0891, "depthResidualAfter": 0.0092, "overlap": 1.0, "jacobianMin": 0.67, "jacobianMax": 2.79,
           "foldedCells": 0, "inverseJacobianMin": 0.56, "inverseFoldedCells": 0, "inverseConsistencyMeanMm": 0.0031,
           "inverseConsistencyMaxMm": 0.051, "displacementMeanMm": 0.487, "displacementMaxMm": 1.47,
           "landmarkMeanBeforeMm": 0.683, "landmarkMeanAfterMm": 0.182}
VIEWER = "https://neuroglancer.example.org/#!%7B%7D"
passed = failed = 0


def check(what, good, detail=""):
    global passed, failed
    passed, failed = passed + bool(good), failed + (not good)
    print(f"{'ok    ' if good else 'FAIL  '} {what} {'' if good else detail}", flush=True)


def wrong_nothing(what, found):
    check(what, not found, found)


class Scene:
    """The browser, the gateway and the cluster, and what several parts of the test do with them."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.gateway = arguments.gateway
        self.cluster = Cluster(arguments.kubectl)
        self.browser = Browser(arguments.browser, arguments.work / "profile")
        self.proxy = prefix.Proxy(arguments.plain, "/below/here")
        self.tokens = {name: (arguments.work / name).read_text().strip() for name in ("scientist", "colleague")}

    def document(self, name, **changes):
        service = {"baseUrl": self.arguments.images}
        source = {"imageService": {**service, "name": "patch_image"}}
        labels = {"imageService": {**service, "name": "patch_segmentation"}}
        spec = {"template": "example", "patch": {"images": [{"name": "patch", "source": source}],
                                                 "depth": {"segmentation": {"source": labels}}},
                "placement": {"space": "viewer", "matrix": [[1, 0, 0, 5], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]},
                "output": {"destination": {"imageService": service}, "artifacts": ["images", "depth"]}}
        return {"kind": "AlignmentRequest", "metadata": {"name": name}, "spec": {**spec, **changes}}

    def depth_map(self, name):
        service = {"baseUrl": self.arguments.images}
        spec = {"segmentation": {"source": {"imageService": {**service, "name": "patch_segmentation"}}},
                "output": {"destination": {"imageService": service}, "artifacts": ["depth"]}}
        return {"kind": "DepthMapRequest", "metadata": {"name": name}, "spec": spec}

    def make(self, document, who="scientist"):
        """The identifier of a request that a program makes."""
        headers = {"Authorization": f"Bearer {self.tokens[who]}", "Image-Service-Token": "images", "Content-Type": "application/json"}
        call = urllib.request.Request(f"{self.gateway}/v1/requests", json.dumps(document).encode(), headers, method="POST")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(call, timeout=30) as answer:
            return json.load(answer)["id"]

    def page(self, name):
        self.browser.open(f"{self.gateway}/ui/requests/{name}")
        return self.browser.wait("!document.querySelector('#request').hidden")

    def text(self, selector):
        return self.browser.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''")

    def says(self, selector, words, patience=15):
        selector, words = json.dumps(selector), json.dumps(words)
        return self.browser.wait(f"document.querySelector({selector})?.innerText.includes({words})", patience)

    def sign_in(self, who):
        self.browser.open(f"{self.gateway}/ui/")
        self.browser.wait("!document.querySelector('#sign-in').hidden")
        self.browser.click("#token")
        self.browser.write(self.tokens[who])
        self.browser.key("Enter")
        return self.browser.wait("!document.querySelector('#own').hidden")

    def fill(self, selector, text):
        self.browser.run(f"document.querySelector({json.dumps(selector)}).value = ''")
        self.browser.click(selector)
        self.browser.write(text)

    def provoked(self, *refusals):
        """Takes away what the browser says of refusals that the test has provoked."""
        words = [f"status of {word} " if isinstance(word, int) else word for word in refusals]
        self.browser.errors = [e for e in self.browser.errors if not any(word in e for word in words)]

    def look(self, name):
        """All that can be measured, in both schemes and at three sizes, with pictures."""
        browser = self.browser
        for scheme in ("light", "dark"):
            browser.scheme(scheme)
            browser.size(1200)
            wrong_nothing(f"{name}: every text stands out, {scheme}", looks.contrast(browser))
            browser.picture(self.arguments.pictures / f"{name}-{scheme}.png")
        browser.scheme("light")
        wrong_nothing(f"{name}: every control has a name", looks.nameless(browser))
        wrong_nothing(f"{name}: the keyboard reaches every control", looks.unreached(browser))
        wrong_nothing(f"{name}: landmarks and headings", looks.landmarks(browser))
        browser.size(320, 700)
        # A drawing follows its place in the next frame.
        time.sleep(0.2)
        wrong_nothing(f"{name}: no scrolling sideways at 320 pixels", looks.too_wide(browser, 320))
        wrong_nothing(f"{name}: controls are large enough to touch", looks.small_targets(browser))
        browser.picture(self.arguments.pictures / f"{name}-phone.png")
        browser.send("Page.setFontSizes", fontSizes={"standard": 32})
        browser.size(640)
        time.sleep(0.2)
        wrong_nothing(f"{name}: nor with letters of twice the size", looks.too_wide(browser, 640))
        browser.send("Page.setFontSizes", fontSizes={"standard": 16})
        browser.size(1200)


def controls(scene):
    """That what is looked for would be found."""
    browser = scene.browser
    browser.open("data:text/html,<body style='color:%23aaa;width:2000px'>" + "<p>grey</p>" * 12 + "<button></button><a href='/'>x</a>"
                 "<img src='http://elsewhere.invalid/x.png'>")
    check("a page that asks another host is caught", "elsewhere.invalid" in browser.hosts(), browser.hosts())
    check("pale text is caught", looks.contrast(browser))
    check("a button without a name is caught", looks.nameless(browser))
    check("a wide page is caught", looks.too_wide(browser, 320))
    check("a small target is caught", looks.small_targets(browser))
    browser.asked, browser.errors = [], []


def first_view(scene):
    browser = scene.browser
    browser.bytes = 0
    browser.open(f"{scene.gateway}/ui")
    browser.wait("!document.querySelector('#sign-in').hidden")
    check("/ui leads to the list", browser.run("location.pathname") == "/ui/")
    paint = browser.run("performance.getEntriesByName('first-contentful-paint')[0].startTime") / 1000
    done = browser.run("performance.now()") / 1000
    check("the first view is light", 5_000 < browser.bytes <= MOST_BYTES, browser.bytes)
    check("the first view is there at once", paint <= MOST_SECONDS, f"{paint} s")
    print(f"       first view: {browser.bytes} bytes, painted after {paint:.2f} s, complete before {done:.2f} s")


def signing_in(scene):
    browser = scene.browser
    check("the page says whose token it wants", scene.says("#sign-in-how", "cluster"))
    scene.look("sign-in")
    browser.click("#token")
    browser.write("wrong")
    browser.key("Enter")
    check("a wrong token is refused with the server's words", scene.says("#problem", "another audience"), scene.text("#problem"))
    check("and asked for again", browser.wait("!document.querySelector('#sign-in').hidden && document.querySelector('#own').hidden"))
    check("and forgotten", browser.run("sessionStorage.length") == 0)
    scene.provoked(401)
    check("a token lets in", scene.sign_in("scientist"))
    check("nobody has requests at first", browser.wait("!document.querySelector('#empty').hidden"))
    check("the token is nowhere else", browser.run("localStorage.length === 0 && document.cookie === '' && !location.href.includes('ey')"))


def asking(scene):
    """Makes a request by hand; gives its identifier."""
    browser = scene.browser
    scene.fill("#document", "{no")
    browser.click("#new-form .main")
    check("what is no JSON is not sent", scene.says("#new-errors", "no JSON"))
    bad = scene.document("bad")
    bad["spec"]["placement"]["matrix"] = [[0, 0, 0, 0]] * 3 + [[0, 0, 0, 1]]
    scene.fill("#document", json.dumps(bad))
    browser.click("#new-form .main")
    check("a violation is shown with its field", scene.says("#new-errors code", "spec.placement.matrix"), scene.text("#new-errors"))
    scene.provoked(422)
    scene.look("new")
    scene.fill("#document", json.dumps(scene.document("hoc1 <b>bold</b>")))
    scene.fill("#image-token", "images")
    browser.click("#new-form .main")
    moved = browser.wait("location.pathname.startsWith('/ui/requests/')")
    check("a good one leads to its page", moved, scene.text("#new-errors"))
    browser.wait("!document.querySelector('#request').hidden")
    check("its name is text, whatever is in it", scene.text("#name") == "hoc1 <b>bold</b>", scene.text("#name"))
    return browser.run("location.pathname.split('/').at(-1)")


def running(scene, name):
    browser, cluster = scene.browser, scene.cluster
    check("it waits", scene.says("#phase", "Pending"))
    browser.run("""window.marker = true; window.announced = [];
        new MutationObserver(() => announced.push(document.querySelector('#status').textContent))
          .observe(document.querySelector('#status'), {childList: true, characterData: true, subtree: true})""")
    cluster.progress(name, stage="load", percent=2)
    check("it runs, and the page knows", scene.says("#phase", "Running"))
    for step in range(1, 13):
        level, iteration = divmod(step - 1, 4)
        cluster.progress(name, stage="register", percent=30 + step, level=level, iteration=iteration + 1,
                         metric=0.09 / (1 + step / 3), etaSeconds=120 - step)
    check("the percentage is live", scene.says("#percent", "42 %"), scene.text("#percent"))
    check("so is the stage", scene.says("[aria-current=step]", "Register"))
    check("the time left is in words", scene.says("#left", "about 2 minutes left"), scene.text("#left"))
    check("six stages are named", browser.run("document.querySelectorAll('#stages li').length") == 6)
    lines = browser.run("document.querySelectorAll('#curve polyline').length")
    check("the curve has a line for each level", lines == 3, lines)
    label = browser.run("document.querySelector('#curve svg').getAttribute('aria-label')")
    check("and words", "3 levels" in label and "%" in label, label)
    check("and a table", browser.run("document.querySelectorAll('#curve-table tr').length") == 3)
    check("all without loading the page again", browser.run("window.marker"))
    announced = browser.run("window.announced")
    check("the phase is announced, not each percentage", announced == ["Alignment: Running"], announced)
    scene.look("running")


def interrupted(scene, name):
    """Through a proxy that breaks off."""
    browser, cluster = scene.browser, scene.cluster
    browser.open(f"{scene.proxy.address}/ui/requests/{name}")
    scene.says("#percent", "42 %")
    scene.proxy.cut()
    check("a lost connection is told", scene.says("#lost", "Trying again"), scene.text("#lost"))
    scene.proxy.mend()
    cluster.progress(name, stage="quality", percent=90)
    check("and goes on by itself", scene.says("#percent", "90 %") and browser.wait("document.querySelector('#lost').hidden"))
    cluster.progress(name, stage="write", percent=95)
    check("by events, too", scene.says("#percent", "95 %"))
    scene.provoked("ERR_")
    scene.page(name)
    browser.run("window.marker = true")


def succeeded(scene, name):
    browser, cluster = scene.browser, scene.cluster
    files = {f"{when}-{plane}.png": drawing(shift) for plane in range(3) for when, shift in (("before", 14), ("after", 0))}
    cluster.pictures(name, files)
    artifacts = [{"name": "patch-transformed-0a1b2c3d", "kind": "image", "sha256": "9f" * 32, "bytes": 48_123_456,
                  "neuroglancerUrl": f"precomputed://{scene.arguments.images}/patch-transformed-0a1b2c3d"}]
    result = {"artifacts": artifacts, "quality": QUALITY, "warnings": ["the cortex is only 5 voxels thick"],
              "viewerUrl": VIEWER, "location": {"baseUrl": "javascript:alert(1)"}}
    cluster.status(name, phase="Succeeded", completionTime="2026-01-01T10:03:00Z", progress=None, result=result,
                   conditions=[condition("Progressing", "False", "Succeeded", "The result is written.")])
    check("it has succeeded, without loading the page again", scene.says("#phase", "Succeeded") and browser.run("window.marker"))
    check("the depth difference is in words", "0.92 %" in scene.text("#figures") and "8.9 %" in scene.text("#figures"), scene.text("#figures"))
    check("what is unusual is marked by a word", scene.text("#figures").count("look closer") == 1, scene.text("#figures"))
    check("every figure has its own name, too", browser.run("document.querySelectorAll('#raw dt').length") == len(QUALITY))
    check("the warning is shown", "5 voxels" in scene.text("#warnings"))
    check("the file has size and digest", "48.1 MB" in scene.text("#artifacts") and "9f" * 32 in scene.text("#artifacts"))
    check("the view in Neuroglancer is a link", browser.run("document.querySelector('#viewer a').href") == VIEWER)
    check("what is no address of the web is none", browser.run("[...document.links].every((a) => /^https?:/.test(a.href))"))
    there = browser.wait("document.images.length > 2 && [...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    check("the pictures are there", there)

    def clip():
        return browser.run("getComputedStyle(document.querySelector('.frame .after')).clipPath")
    middle = clip()
    browser.run("document.querySelector('#split').focus()")
    for _ in range(20):
        browser.key("ArrowRight")
    moved = clip()
    check("the slider moves the border by the keyboard", "70%" in moved and moved != middle, (middle, moved))
    words = browser.run("document.querySelector('#split').getAttribute('aria-valuetext')")
    check("and says where it is", words.startswith("70 %"), words)
    browser.run("document.querySelector('[name=plane]').focus()")
    browser.key("ArrowRight")
    source = browser.run("document.querySelector('.frame .after').src")
    check("another plane is chosen by the keyboard", source.endswith("after-1.png"), source)
    browser.wait("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    scene.look("succeeded")
    browser.click("#course summary")
    check("the table of the curve opens", browser.run("document.querySelector('#curve-table').checkVisibility()"))


def unsuccessful(scene):
    name = scene.make(scene.document("far away"))
    scene.cluster.status(name, phase="Failed", startTime=TIME, completionTime="2026-01-01T10:03:00Z",
                         failure={"reason": "ImageNotFound", "message": "the image service lists no image named `x`", "retryable": False},
                         conditions=[condition("Progressing", "False", "ImageNotFound", "the image service lists no image")])
    scene.page(name)
    check("a failure has its reason and its message", scene.says("#failure", "ImageNotFound") and "no image named" in scene.text("#failure"))
    helps = scene.browser.run("document.querySelector('#failure h3 + p')?.innerText ?? ''")
    check("and what helps", len(helps) > 20, helps)
    scene.look("failed")
    return name


def depth_map(scene):
    name = scene.make(scene.depth_map("depth alone"))
    kind = "DepthMapRequest"
    scene.cluster.progress(name, kind, stage="depth", percent=40)
    scene.page(name)
    check("a depth map has three stages", scene.says("[aria-current=step]", "Depth")
          and scene.browser.run("document.querySelectorAll('#stages li').length") == 3)
    scene.cluster.pictures(name, {f"depth-{plane}.png": drawing(4) for plane in range(3)}, "DepthMapRequest")
    depth = {"source": "segmentation", "cortexVoxels": 123456, "meanValidity": 0.87, "medianThicknessMm": 2.41}
    scene.cluster.status(name, kind, phase="Succeeded", completionTime="2026-01-01T10:03:00Z", progress=None,
                         result={"artifacts": [], "depth": depth, "location": {"claimName": "results", "path": "a"}})
    check("its thickness is shown", scene.says("#figures", "2.4 mm"), scene.text("#figures"))
    check("and its pictures, without a slider", scene.browser.wait("document.querySelector('.frame .depth')")
          and scene.browser.run("!document.querySelector('#split').checkVisibility()"))
    scene.browser.wait("[...document.images].every((i) => i.complete && i.naturalWidth > 0)")
    scene.look("depth-map")


def listing(scene, names):
    browser = scene.browser
    name = scene.make(scene.document("runs"))
    scene.cluster.progress(name, stage="load", percent=2)
    browser.open(f"{scene.gateway}/ui/")
    check("the list has all of them", browser.wait(f"document.querySelectorAll('#requests li').length === {names}"))
    phases = browser.run("[...document.querySelectorAll('#requests .phase')].map((p) => [p.innerText, p.querySelector('svg') !== null])")
    check("each phase is a word and an icon", all(word and drawn for word, drawn in phases), phases)
    scene.make(scene.document("another"))
    check("a new one appears by itself", scene.says("#requests", "another"))
    browser.run("document.querySelector('#requests a').focus()")
    scene.cluster.progress(name, stage="depth", percent=20)
    check("and moves on", scene.says("#requests", "20 % · Depth"))
    check("the focus stays where it is", browser.run("document.activeElement === document.querySelector('#requests a')"))
    scene.look("list")
    for number in range(20):
        scene.make(scene.document(f"many {number}"))
    browser.wait("!document.querySelector('#pages').hidden")
    browser.click("#older")
    check("older ones are on another page", scene.says("#requests", "hoc1"), scene.text("#requests"))
    browser.click("#newer")
    check("and the way back", scene.says("#requests", "many 19"))
    return name


def ending(scene, name):
    """Cancelling and deleting, by the owner and by somebody else."""
    browser = scene.browser
    scene.page(name)
    browser.click("#cancel")
    check("cancelling is asked about first", browser.wait("document.querySelector('#confirm').open"))
    browser.picture(scene.arguments.pictures / "dialog.png")
    wrong_nothing("the question has names", looks.nameless(browser))
    browser.key("Escape")
    check("escape keeps it", browser.wait("!document.querySelector('#confirm').open")
          and not scene.cluster.get(name)["spec"].get("cancel"))
    browser.click("#cancel")
    browser.click("#confirm-yes")
    for _ in range(100):
        if scene.cluster.get(name)["spec"].get("cancel"):
            break
        time.sleep(0.1)
    check("yes cancels it", scene.cluster.get(name)["spec"].get("cancel") is True, scene.text("#problem"))
    scene.cluster.status(name, phase="Cancelled", completionTime="2026-01-01T10:03:00Z", progress=None)
    check("which the page then shows", scene.says("#phase", "Cancelled"))
    check("it cannot be cancelled again", browser.run("!document.querySelector('#cancel').checkVisibility()"))
    scene.look("cancelled")
    other = scene.make(scene.document("somebody else's"), "colleague")
    scene.page(other)
    browser.click("#delete")
    browser.click("#confirm-yes")
    check("the refusal of the server is shown", scene.says("#problem", "somebody else"), scene.text("#problem"))
    check("and the request stays", scene.cluster.there(other))
    scene.provoked(403)
    scene.page(name)
    browser.click("#delete")
    browser.click("#confirm-yes")
    check("deleting one's own is told", scene.says("#problem", "has been deleted"), scene.text("#problem"))
    check("and done", not scene.cluster.there(name))
    scene.page(other)
    scene.cluster.run("delete", "alignmentrequests.voluba.ebrains.eu", other)
    check("one that somebody deletes meanwhile is told, too", scene.says("#problem", "has been deleted"), scene.text("#problem"))


def strangers(scene, name):
    """Without a token, without a request, without callers, below a prefix."""
    browser = scene.browser
    browser.open(f"{scene.gateway}/ui/")
    browser.wait("!document.querySelector('#sign-out').hidden")
    browser.click("#sign-out")
    check("signing out forgets the token", browser.wait("!document.querySelector('#sign-in').hidden")
          and browser.run("sessionStorage.length") == 0 and scene.text("#requests") == "")
    check("a page needs no token", scene.page(name))
    check("without one there is nothing to cancel or delete",
          browser.run("['#cancel', '#delete'].every((s) => !document.querySelector(s).checkVisibility())"))
    browser.open(f"{scene.gateway}/ui/requests/019b7a60-1c00-7e1c-8a5e-3f1f6d3c9b11")
    check("an unknown request is told", scene.says("#problem", "no such request"), scene.text("#problem"))
    scene.provoked(404)
    scene.look("unknown")
    below = scene.proxy.address
    browser.open(f"{below}/ui/")
    check("without callers, the page says that there are no lists", browser.wait("document.querySelector('#nobody').checkVisibility()"))
    scene.look("nobody")
    scene.fill("#identifier", "not one")
    browser.key("Enter")
    check("what is no identifier is told", scene.says("#open-error", "five groups"))
    scene.fill("#identifier", name)
    browser.key("Enter")
    check("an identifier leads to its page, also below a prefix", browser.wait("!document.querySelector('#request').hidden")
          and browser.run("location.href") == f"{below}/ui/requests/{name}")
    links = browser.run("[...document.querySelectorAll('header a, #json')].map((a) => a.href)")
    check("its links stay below the prefix", all(link.startswith(below) for link in links), links)
    pictures = browser.wait("document.querySelector('.frame img')?.naturalWidth > 0")
    check("so do its pictures", pictures)


def provided(scene):
    """Signing in at a provider: first it is not there, then it is."""
    browser, page = scene.browser, f"{scene.arguments.signed}/ui/"
    browser.open(page)
    browser.wait("!document.querySelector('#sign-in').hidden")
    check("as long as nobody has heard the provider, a token is pasted",
          browser.run("document.querySelector('#ask').hidden && document.querySelector('#token').checkVisibility()"))
    provider = Provider(scene.arguments.provider, page)
    for _ in range(30):
        browser.open(page)
        browser.wait("!document.querySelector('#sign-in').hidden")
        if browser.run("!document.querySelector('#ask').hidden"):
            break
        time.sleep(1)
    check("then one signs in there, and may still paste", browser.run("document.querySelector('#ask').checkVisibility()")
          and scene.text("#ask") == f"Sign in at 127.0.0.1:{scene.arguments.provider}"
          and browser.run("!document.querySelector('#token').checkVisibility()"), scene.text("#sign-in"))
    scene.look("sign-in-there")
    provider.denies = True
    browser.click("#ask")
    check("who is turned away is told", scene.says("#problem", "Not you."), scene.text("#problem"))
    check("and asked again", browser.wait("document.querySelector('#ask').checkVisibility()"))
    provider.denies = False
    browser.open(f"{page}?code=x&state=y")
    check("an answer that nobody asked for does not count", scene.says("#problem", "belongs to no sign-in"), scene.text("#problem"))
    check("and does not stay in the address", browser.run("location.search") == "")
    # The code is not exchanged: the test asked by itself.
    check("nothing was exchanged so far", provider.asked == [], provider.asked)

    def signs_in():
        browser.wait("document.querySelector('#ask').checkVisibility()")
        browser.click("#ask")
        return browser.wait("!document.querySelector('#own').hidden")
    check("one click signs in", signs_in(), scene.text("#problem"))
    check("the provider was asked as it wants to be", provider.asked == ["authorization_code"] and not provider.wrong, provider.wrong)
    check("no code stays in the address", browser.run("location.href") == page)
    check("nor anything outside this tab", browser.run("localStorage.length === 0 && document.cookie === ''"))
    browser.open(page)
    check("a page that is loaded again stays signed in", browser.wait("!document.querySelector('#own').hidden") and len(provider.asked) == 1)
    provider.lifetime = 21
    browser.click("#sign-out")
    check("a token of 21 seconds does, too", signs_in() and provider.asked[1:] == ["authorization_code"], provider.asked)
    end = time.monotonic() + 30
    while "refresh_token" not in provider.asked and time.monotonic() < end:
        browser.open(page)
        time.sleep(0.5)
    check("and is exchanged before its time is over", "refresh_token" in provider.asked and browser.wait("!document.querySelector('#own').hidden")
          and browser.run("document.querySelector('#problem').hidden"), provider.asked)
    provider.refresh.clear()
    # The gateway takes clocks for right that differ by half a minute.
    end = time.monotonic() + 90
    while not browser.run("document.querySelector('#ask').checkVisibility()") and time.monotonic() < end:
        time.sleep(1)
        browser.open(page)
        browser.wait("!document.querySelector('#own').hidden || !document.querySelector('#sign-in').hidden")
        time.sleep(0.5)
    check("once the provider has enough, one signs in again", "expired" in scene.text("#problem"), scene.text("#problem"))
    scene.provoked(400, 401)
    provider.lifetime = 300
    signs_in()
    browser.click("#sign-out")
    check("signing out forgets everything", browser.wait("!document.querySelector('#sign-in').hidden") and browser.run("sessionStorage.length") == 0)


def main():
    parser = argparse.ArgumentParser()
    for name in ("browser", "kubectl", "gateway", "plain", "signed", "images"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("work", "pictures"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--provider", type=int, required=True)
    scene = Scene(parser.parse_args())
    browser = scene.browser
    ended = False
    try:
        controls(scene)
        first_view(scene)
        signing_in(scene)
        name = asking(scene)
        running(scene, name)
        interrupted(scene, name)
        succeeded(scene, name)
        unsuccessful(scene)
        depth_map(scene)
        newest = listing(scene, 4)
        ending(scene, newest)
        strangers(scene, name)
        provided(scene)
        ended = True
    finally:
        check("every part has run", ended)
        hosts = {host for host in browser.hosts() if not host.startswith("127.0.0.1:")}
        wrong_nothing("no other host was asked for anything", hosts)
        wrong_nothing("nothing went wrong in the browser's console", browser.errors)
        browser.close()
        print(f"ui: {passed} passed, {failed} failed")
    sys.exit(failed > 0)


main()
