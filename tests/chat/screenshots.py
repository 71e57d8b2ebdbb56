"""Take the pictures of the chat for the documentation, from the real page.

python -m tests.chat.screenshots    writes docs/assets/chat-<width>-<theme>.png and docs/assets/chat.webp
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from ..servers import running
from .person import Person
from .site import Site

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ASSETS = Path(__file__).parents[2] / "docs" / "assets"
SIZES = {360: 740, 800: 900, 1600: 1000}
WIDTH, HEIGHT, CAPTION = 1000, 560, 40
SECONDS_A_FRAME = 0.16
TALK = ["Tea for four in the garden", "A plan for the week", "Show me a table", "Show me some code"]


def take_pictures(browser: Browser, url: str) -> None:
    """A talk at three widths, in both themes."""
    for theme in ("light", "dark"):
        context = browser.new_context(color_scheme=theme, locale="en-GB", reduced_motion="reduce")
        ada = Person(context, url)
        ada.page.set_viewport_size({"width": 1100, "height": 800})
        for text in TALK:
            if text != TALK[-1]:
                ada.page.click("#new")
            ada.ask(text)
        ada.page.mouse.move(0, 0)
        for width, height in SIZES.items():
            ada.page.set_viewport_size({"width": width, "height": height})
            if width == max(SIZES):
                ada.page.click("#open-panel")
                ada.page.wait_for_selector("#facts dd")
            ada.page.evaluate("document.activeElement.blur()")
            ada.page.wait_for_timeout(400)
            picture = Image.open(io.BytesIO(ada.page.screenshot()))
            few = picture.convert("RGB").quantize(128, dither=Image.Dither.NONE)
            few.save(ASSETS / f"chat-{width}-{theme}.png", optimize=True)
        context.close()


class Film:
    """Frames of one tab or of two, side by side, with a caption below."""

    def __init__(self, browser: Browser, url: str) -> None:
        context = browser.new_context(color_scheme="light", locale="en-GB")
        self.tabs = [Person(context, url)]
        self.caption = ""
        self._frames: list[Image.Image] = []
        self._until: list[float] = []
        self._font = ImageFont.load_default(17)
        self.fit()

    def fit(self) -> None:
        """Give each tab its part of the picture."""
        for tab in self.tabs:
            tab.page.set_viewport_size({"width": WIDTH // len(self.tabs), "height": HEIGHT})

    def second_tab(self) -> Person:
        self.tabs.append(self.tabs[0].another_tab())
        self.fit()
        return self.tabs[1]

    def take(self) -> None:
        """Take a frame."""
        frame = Image.new("RGB", (WIDTH, HEIGHT + CAPTION), "#24262a")
        for place, tab in enumerate(self.tabs):
            picture = Image.open(io.BytesIO(tab.page.screenshot()))
            frame.paste(picture.convert("RGB"), (place * (WIDTH // len(self.tabs)), 0))
        draw = ImageDraw.Draw(frame)
        if len(self.tabs) == 2:
            draw.line([(WIDTH // 2, 0), (WIDTH // 2, HEIGHT)], "#24262a", 3)
        draw.text((WIDTH // 2, HEIGHT + CAPTION // 2), self.caption, "#ffffff", self._font, "mm")
        self._frames.append(frame)
        self._until.append(time.monotonic())

    def run(self, seconds: float, caption: str | None = None) -> None:
        """Take frames for a while."""
        self.caption = self.caption if caption is None else caption
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Take frames until something is so."""
        while True:
            begun = time.monotonic()
            self.take()
            if is_so():
                return
            self.tabs[0].page.wait_for_timeout(max(10, (begun + SECONDS_A_FRAME - time.monotonic()) * 1000))

    def type(self, text: str) -> None:
        """Write a text, some letters a frame, and send it."""
        page = self.tabs[0].page
        page.focus("#text")
        for place in range(0, len(text), 3):
            page.keyboard.type(text[place : place + 3])
            self.take()
        page.keyboard.press("Enter")

    def save(self, path: Path) -> None:
        shown = [round((then - now) * 1000) for now, then in zip(self._until, self._until[1:], strict=False)]
        lengths = [min(max(each, 60), 400) for each in [*shown, 400]]
        lengths[-1] = 2500
        first, *others = self._frames
        options = {"quality": 55, "method": 6, "minimize_size": True, "loop": 0}
        first.save(path, save_all=True, append_images=others, duration=lengths, **options)


def take_film(browser: Browser, site: Site) -> None:
    """A reply, a reload in its middle, a second tab, a server that is killed and started again."""
    film = Film(browser, site.url)
    film.run(0.8, "Say something")
    film.type("Count to 150")
    film.run(1.2, "The reply comes word by word")
    film.caption = "Reload in the middle: the reply goes on"
    film.tabs[0].reload()
    film.run(1.2)
    second = film.second_tab()
    film.run(1.2, "A second tab follows")
    film.until(lambda: all(tab.is_idle for tab in film.tabs))
    site.kill()
    film.caption = "The server is killed: go on writing"
    film.type("My name is Ada")
    film.until(lambda: "cannot be reached" in film.tabs[0].banner and "cannot be reached" in second.banner)
    film.run(1.2)
    site.start()
    film.caption = "The server is back: what waited is sent, once"
    film.until(lambda: len(film.tabs[0].messages()) == 4 and film.tabs[0].is_idle and second.is_idle)
    film.run(0.4)
    film.save(ASSETS / "chat.webp")


def main() -> None:
    """Take all pictures."""
    from playwright.sync_api import sync_playwright

    program = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as playwright, running("valkey") as valkey, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        site = Site(valkey, Path(folder), seconds_a_word=0.04)
        try:
            take_pictures(browser, site.url)
            take_film(browser, site)
        finally:
            site.close()
            browser.close()
    for path in sorted(ASSETS.glob("chat*")):
        print(f"{path.stat().st_size / 1024:6.0f} KB  {path.name}")


if __name__ == "__main__":
    main()
