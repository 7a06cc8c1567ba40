"""Headless Chromium for browser tests, where the machine has one, and a line as slow as one likes."""

import asyncio
import shutil
import threading
import time
from contextlib import contextmanager

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: chromium)")
PATIENCE = 150_000.0
"""Milliseconds for anything to appear: software rendering on a busy machine is slow."""
FLAGS = [
    "--no-sandbox",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--ignore-gpu-blocklist",
]


@contextmanager
def browser():
    """A browser without a screen and without a graphics card."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, headless=True, args=FLAGS)
        try:
            yield chromium
        finally:
            chromium.close()


class Tab:
    """A page, what it complained of, and what it asked of the network."""

    def __init__(self, chromium, *, offline=False, size=(820, 480)):
        context = chromium.new_context(
            viewport={"width": size[0], "height": size[1]}, offline=offline, device_scale_factor=1
        )
        context.set_default_timeout(PATIENCE)
        self.page = context.new_page()
        self.complaints, self.requests = [], []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))

    def _hear(self, message):
        if message.type == "error":
            self.complaints.append(message.text)

    def open(self, url):
        self.page.goto(url, timeout=PATIENCE)
        return self

    def status(self):
        """The rows of the table that says how things stand."""
        rows = self.page.evaluate(
            "[...document.querySelectorAll('table tr')].map(r => [...r.cells].map(c => c.innerText))"
        )
        return {row[0]: row[1] for row in rows if len(row) == 2}

    def step(self):
        """Episode and step that the page shows; (0, -1) before it shows any."""
        text = self.status().get("episode")
        if not text:
            return (0, -1)
        episode, _, rest = text.partition(" (")
        return int(episode), int(rest.rpartition(" ")[2])

    def wait(self, condition, what, seconds=PATIENCE / 1000):
        """Wait until ``condition()`` is true."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if condition():
                return
            self.page.wait_for_timeout(100)
        raise AssertionError(f"{what} did not come about; the page says {self.status()}")

    def close(self):
        self.page.context.close()


class SlowLine:
    """A relay to a port of this machine that lets so many bytes per second through to the client."""

    def __init__(self, port, bytes_per_second):
        self.target, self.rate = port, bytes_per_second
        self.carried = 0
        self.port = 0
        self._ready, self._loop = threading.Event(), asyncio.new_event_loop()
        threading.Thread(target=self._run, daemon=True).start()
        self._ready.wait(10)

    def _run(self):
        asyncio.set_event_loop(self._loop)
        serving = asyncio.start_server(self._serve, "127.0.0.1", 0, limit=4096)
        server = self._loop.run_until_complete(serving)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()

    async def _serve(self, reader, writer):
        there, back = await asyncio.open_connection("127.0.0.1", self.target, limit=4096)
        await asyncio.gather(
            self._pass(reader, back, None), self._pass(there, writer, self.rate), return_exceptions=True
        )

    async def _pass(self, reader, writer, rate):
        try:
            while data := await reader.read(2048):
                writer.write(data)
                await writer.drain()
                if rate is not None:
                    self.carried += len(data)
                    await asyncio.sleep(len(data) / rate)
        finally:
            writer.close()

    def close(self):
        self._loop.call_soon_threadsafe(self._loop.stop)
