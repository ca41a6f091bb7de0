"""A real Chromium without a window for the tests, led by the DevTools protocol over two pipes.

with Browser() as browser:
    page = browser.open(path, width=390, height=844, dark=True)
    page.value("document.title")
    page.messages        # what the console said, and errors that nobody caught
    page.requests        # addresses that were asked for
    page.picture(path)   # a PNG
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-extensions",
    "--disable-background-networking", "--disable-component-update", "--disable-default-apps",
    "--disable-sync", "--metrics-recording-only", "--mute-audio", "--no-first-run", "--hide-scrollbars",
    "--no-default-browser-check", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 60.0


def program() -> str | None:
    """Return the path of a Chromium, or None."""
    return next((found for name in NAMES if (found := shutil.which(name))), None)


def need_chromium() -> None:
    """Skip where there is no Chromium; with LFADSRM_REQUIRE_TOOLS=1 that is a failure."""
    if program() is not None:
        return
    if os.environ.get("LFADSRM_REQUIRE_TOOLS") == "1":
        pytest.fail("chromium is not installed, and LFADSRM_REQUIRE_TOOLS=1 asks for it")
    pytest.skip("chromium is not installed: apt-get install chromium")


class Browser:
    """One process of Chromium, with a profile of its own."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="chromium-"))
        to_it, self._send = os.pipe()
        self._receive, from_it = os.pipe()
        # it reads descriptor 3 and writes descriptor 4
        shell = f'exec "$0" "$@" 3<&{to_it} 4>&{from_it}'
        words = [str(program()), *FLAGS, f"--user-data-dir={self.folder}", "about:blank"]
        self._log = (self.folder / "log").open("wb")
        self.process = subprocess.Popen(
            ["bash", "-c", shell, *words],
            pass_fds=(to_it, from_it),
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
            env={**os.environ, "HOME": str(self.folder)},
        )
        os.close(to_it)
        os.close(from_it)
        self._buffer = b""
        self._count = 0
        self.events: list[dict[str, Any]] = []

    def __enter__(self) -> Browser:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it with all its processes, and remove its profile."""
        for number in (self._send, self._receive):
            os.close(number)
        with contextlib.suppress(subprocess.TimeoutExpired):  # it ends when its pipe does
            self.process.wait(5)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    # ---------------------------------------------------------------- the protocol

    def ask(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and return its answer; events that come in between are kept."""
        self._count += 1
        message: dict[str, Any] = {"id": self._count, "method": method, "params": params}
        if session is not None:
            message["sessionId"] = session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._send, data) :]
        while True:
            found = self._next()
            if found.get("id") == message["id"]:
                assert "error" not in found, f"{method}: {found['error']}"
                result: dict[str, Any] = found["result"]
                return result
            self.events.append(found)

    def wait_for(self, method: str, session: str) -> None:
        """Return once there was such an event."""
        while True:
            for k, event in enumerate(self.events):
                if event.get("method") == method and event.get("sessionId") == session:
                    del self.events[k]
                    return
            self.events.append(self._next())

    def _next(self) -> dict[str, Any]:
        end = time.monotonic() + PATIENCE_S
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._receive], [], [], max(0.0, end - time.monotonic()))
            more = os.read(self._receive, 1 << 20) if ready else b""
            if not more:
                log = (self.folder / "log").read_text(errors="replace")[-2000:]
                raise AssertionError(f"chromium {'has ended' if ready else 'does not answer'}:\n{log}")
            self._buffer += more
        text, _, self._buffer = self._buffer.partition(b"\0")
        found: dict[str, Any] = json.loads(text)
        return found

    # ---------------------------------------------------------------- pages

    def open(
        self,
        path: Path,
        *,
        width: int = 1280,
        height: int = 900,
        dark: bool = False,
        script: bool = True,
        after: str = "",
    ) -> Page:
        """Open a file in a tab of its own, and wait until it is loaded; `after` is the part behind the #."""
        target = self.ask("Target.createTarget", url="about:blank")["targetId"]
        session = self.ask("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, target, session)
        for domain in ("Page", "Runtime", "Log", "Network"):
            page.ask(f"{domain}.enable")
        page.ask("Performance.enable", timeDomain="threadTicks")
        page.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        page.ask("Emulation.setScriptExecutionDisabled", value=not script)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        page.ask("Emulation.setEmulatedMedia", features=features)
        page.ask("Page.navigate", url=path.absolute().as_uri() + (f"#{after}" if after else ""))
        self.wait_for("Page.loadEventFired", session)
        return page


class Page:
    """A tab."""

    def __init__(self, browser: Browser, target: str, session: str) -> None:
        self.browser, self.target, self.session = browser, target, session

    def ask(self, method: str, **params: Any) -> dict[str, Any]:
        return self.browser.ask(method, self.session, **params)

    def value(self, expression: str) -> Any:
        """Return what an expression of JavaScript is, once it is known; an error in it is one here."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def until(self, expression: str) -> None:
        """Wait until an expression is true."""
        self.value(
            f"(async () => {{ for (let k = 0; k < 500 && !({expression}); k++) "
            "await new Promise(r => setTimeout(r, 10)); })()"
        )
        assert self.value(f"!!({expression})"), expression

    def _events(self, *methods: str) -> list[dict[str, Any]]:
        self.value("0")  # what was said before this answer has arrived
        return [
            event["params"]
            for event in self.browser.events
            if event.get("sessionId") == self.session and event.get("method") in methods
        ]

    @property
    def messages(self) -> list[str]:
        found = self._events("Runtime.consoleAPICalled", "Runtime.exceptionThrown", "Log.entryAdded")
        return [json.dumps(event) for event in found]

    @property
    def requests(self) -> list[str]:
        """Addresses, but for the page itself."""
        every = [event["request"]["url"] for event in self._events("Network.requestWillBeSent")]
        return every[1:]

    def press(self, *keys: str) -> None:
        """Press keys, one after the other: "Tab", "Enter", "a"."""
        codes = {"Tab": 9, "Enter": 13, " ": 32}
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            about = {"key": key, "code": key, "windowsVirtualKeyCode": codes.get(key, 0)}
            self.ask("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
            self.ask("Input.dispatchKeyEvent", type="keyUp", **about)

    def click(self, x: float, y: float, *, move_only: bool = False) -> None:
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
        for kind in () if move_only else ("mousePressed", "mouseReleased"):
            self.ask("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def picture(self, path: Path, *, whole: bool = False) -> None:
        data = self.ask("Page.captureScreenshot", format="png", captureBeyondViewport=whole)["data"]
        path.write_bytes(base64.b64decode(data))

    def close(self) -> None:
        self.browser.ask("Target.closeTarget", targetId=self.target)


def texts(page: Page, selector: str) -> Sequence[str]:
    """Return the texts of all elements that are not hidden."""
    found: list[str] = page.value(
        f"[...document.querySelectorAll({json.dumps(selector)})].filter(e => e.offsetParent !== null)"
        ".map(e => e.textContent.trim())"
    )
    return found
