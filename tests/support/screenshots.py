"""The pictures in docs/images: the examples' pages, as Chromium shows them.

    python tests/support/screenshots.py            all of them
    python tests/support/screenshots.py demo       those whose names begin so

Look at them before you commit them. A picture that only differs in what is made up anew each time
(tokens, addresses, times) needs no commit.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from browser import chromium
from playwright.sync_api import Browser, BrowserContext, Page, expect
from run_example import EXAMPLES, Running, running

FOLDER = Path(__file__).resolve().parents[2] / "docs/images"
PASSWORD = "for the picture"
COLOURS = 64  # of a picture, which makes it a third as large
WIDE, MIDDLE, PHONE = 1200, 800, 375
MARGIN = 16
LAPTOP = "Mozilla/5.0 (X11; Linux x86_64; rv:150.0) Gecko/20100101 Firefox/150.0"
MOBILE = (
    "Mozilla/5.0 (Linux; Android 16; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/150.0.0.0 Mobile Safari/537.36"
)

Shot = Callable[[Browser, Running], Iterator[tuple[str, bytes]]]


def context(browser: Browser, width: int = MIDDLE, scheme: Any = "light", **more: Any) -> Any:
    return browser.new_context(
        viewport={"width": width, "height": 400},
        color_scheme=scheme,
        device_scale_factor=1.5,
        reduced_motion="reduce",
        **more,
    )


def visit(browser: BrowserContext, address: str) -> Page:
    page = browser.new_page()
    page.goto(address)
    return page


def log_in(page: Page, name: str = "") -> None:
    if name:
        page.get_by_label("Name").select_option(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("button", name="Log out", exact=True).first).to_be_visible()


def look_away(page: Page) -> None:
    """Nothing has the focus, or the mouse over it."""
    page.evaluate("document.activeElement.blur()")
    page.mouse.move(0, 0)


def whole(page: Page) -> bytes:
    look_away(page)
    return page.screenshot(full_page=True)


def part(page: Page, first: str, last: str) -> bytes:
    """The page from one element to another one, with some of what is around them."""
    look_away(page)
    page.evaluate("scrollTo(0, 0)")
    top, bottom = (page.locator(selector).bounding_box() for selector in (first, last))
    assert top and bottom
    left = max(0, top["x"] - MARGIN)
    clip = {
        "x": left,
        "y": top["y"] - MARGIN,
        "width": top["width"] + 2 * (top["x"] - left),
        "height": bottom["y"] + bottom["height"] - top["y"] + 2 * MARGIN,
    }
    return page.screenshot(full_page=True, clip=clip)  # type: ignore[arg-type]


def demo(browser: Browser, example: Running) -> Iterator[tuple[str, bytes]]:
    address = example.written.partition("Open ")[2].partition(" ")[0]
    with context(browser, WIDE) as device:
        page = visit(device, address)
        page.get_by_role("button", name="Try them all").click()
        expect(page.get_by_role("status")).to_contain_text("3 admitted, 5 refused")
        yield "demo", part(page, ".bar", "#cases")
    for name, width in {"demo-dark": WIDE, "demo-phone": PHONE}.items():
        with context(browser, width, "dark" if width == WIDE else "light") as device:
            page = visit(device, address)
            page.get_by_text("5 minutes", exact=True).click()
            page.get_by_role("button", name="Log in", exact=True).click()
            expect(page.locator("#news")).to_contain_text("Open: ")
            if width == WIDE:
                page.get_by_role("button", name="Revoke me").click()
                expect(page.locator("[data-field=live-http]")).to_be_visible()
            yield name, part(page, "#live", "#live")


def tickets(browser: Browser, example: Running) -> Iterator[tuple[str, bytes]]:
    with context(browser) as device:
        page = visit(device, example.origin)
        log_in(page)
        page.locator("#open").click()
        expect(page.get_by_text("Hello, alice")).to_be_visible()
        page.locator("#again").click()
        expect(page.get_by_text("4001 token_expired")).to_be_visible()
        yield "tickets", whole(page)


def sessions(browser: Browser, example: Running) -> Iterator[tuple[str, bytes]]:
    with (
        context(browser, user_agent=LAPTOP) as laptop,
        context(browser, PHONE, "dark", user_agent=MOBILE) as phone,
    ):
        page, small = (visit(device, example.origin) for device in (laptop, phone))
        for one in (page, small):
            log_in(one, "alice")
        for one in (page, small):
            expect(one.locator("#my-sessions li")).to_have_count(2)
            expect(one.get_by_text("this page")).to_be_visible()
        yield "sessions", whole(page)
        yield "sessions-phone", whole(small)


def model_stream(browser: Browser, example: Running) -> Iterator[tuple[str, bytes]]:
    with context(browser) as device:
        page = visit(device, example.origin)
        log_in(page)
        page.locator("#ask").click()
        expect(page.get_by_text("refused: 401 token_expired")).to_be_visible()
        yield "model_stream", whole(page)


def browser_client(browser: Browser, example: Running) -> Iterator[tuple[str, bytes]]:
    with context(browser) as device:
        page = visit(device, example.origin)
        page.get_by_role("button", name="Log in as alice").click()
        expect(page.get_by_role("status")).to_have_text("connected")
        page.get_by_label("Message").fill("hello")
        page.get_by_role("button", name="Send").click()
        page.get_by_role("button", name="Log out everywhere").click()
        expect(page.get_by_text("4004 token_revoked")).to_be_visible()
        yield "browser", whole(page)


def light(png: bytes) -> bytes:
    """The same picture in fewer colours."""
    from PIL import Image

    smaller = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.quantize(COLOURS, dither=Image.Dither.NONE).save(smaller, "PNG", optimize=True)
    return smaller.getvalue()


SHOTS: dict[str, tuple[Shot, str]] = {
    "demo": (demo, "demo.py"),
    "tickets": (tickets, "tickets.py"),
    "sessions": (sessions, "sessions.py"),
    "model_stream": (model_stream, "model_stream.py"),
    "browser": (browser_client, "browser/app.py"),
}


@contextmanager
def example(path: str) -> Iterator[Running]:
    command, until = [str(EXAMPLES / path)], "Uvicorn running"
    if path == "demo.py":
        command, until = [*command, "--port", "0"], "Ctrl+C ends it"
    with running(*command, until=until, PASSWORD=PASSWORD, LIFETIME="4") as process:
        yield process


def main() -> None:
    parser = argparse.ArgumentParser(description="Makes the pictures in docs/images again.")
    parser.add_argument("name", nargs="?", default="", choices=["", *SHOTS], help="which page")
    name = parser.parse_args().name
    FOLDER.mkdir(exist_ok=True)
    with chromium() as browser:
        for shot, path in (SHOTS[name],) if name else SHOTS.values():
            with example(path) as process:
                for picture, png in shot(browser, process):
                    file = FOLDER / f"{picture}.png"
                    file.write_bytes(light(png))
                    print(f"{file.stat().st_size / 1024:6.0f} KB  {file.name}")


if __name__ == "__main__":
    main()
