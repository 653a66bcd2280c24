#!/usr/bin/env python3
"""Opens a report in a headless browser, as a reader on a desk, a phone and paper would, and says what is wrong with it.

    scripts/check_report.py checkpoints/fsq-vs-vq/report.html SCREENSHOTS

Fails on a message in the browser's console, on a request for anything but the file itself, and on a page that is wider
than its window. Leaves desk.png, phone.png and paper.pdf in the folder SCREENSHOTS.

Needs the Python package playwright and a Chromium: the one in PATH, else playwright's own (`playwright install chromium`).
"""

import pathlib
import shutil
import sys

from playwright.sync_api import sync_playwright

WIDTHS = {"desk": 1280, "phone": 390}


def check(browser, page_uri, folder):
    """Yields what is wrong, one sentence each."""
    for name, width in WIDTHS.items():
        page = browser.new_page(viewport={"width": width, "height": 900})
        messages, requests = [], []
        page.on("console", lambda message: messages.append(message.text))
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto(page_uri, wait_until="networkidle")
        yield from (f"{name}: the console says {message}" for message in messages)
        yield from (
            f"{name}: the page asks for {url[:100]}" for url in requests if url != page_uri and not url.startswith("data:")
        )
        scrolled = page.evaluate("document.documentElement.scrollWidth")
        if scrolled > width:
            yield f"{name}: the page is {scrolled} pixels wide"
        page.screenshot(path=folder / f"{name}.png", full_page=True)
        if name == "desk":
            page.pdf(path=folder / "paper.pdf", format="A4", prefer_css_page_size=True)
        page.close()


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    report, folder = pathlib.Path(sys.argv[1]).resolve(strict=True), pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"))
        wrong = list(check(browser, report.as_uri(), folder))
        browser.close()
    sys.exit("\n".join(wrong) or 0)


if __name__ == "__main__":
    main()
