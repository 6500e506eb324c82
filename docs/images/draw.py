"""Takes the pictures in this directory, of the owner's page: `just pictures`. It needs a Chromium.

A browser opens the page of a `serve --sandbox` on a new data directory, which has agents and a transfer that waits.
"""

import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from pysequence_api.demo import PASSWORD
from pysequence_api.sequence.sign_in.chromium import ARGUMENTS, find_chromium

HERE = Path(__file__).parent
PHONE, DESKTOP = (390, 844), (1280, 820)


def free_port() -> int:
    """Find a port for the server, whose page is on the next one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


def sign_in(browser: Browser, url: str, size: tuple[int, int], scheme: str) -> Page:
    """Open a window, and sign in as everybody can."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if scheme == "dark" else "light"
    )
    page = context.new_page()
    page.goto(url)
    while (code := re.search(r"code is (\d{6})", page.inner_text(".demo"))) is None:
        page.wait_for_timeout(1000)  # every code works once
        page.reload()
    page.fill("#password", PASSWORD)
    page.fill("#code", code[1])
    page.click("text=Sign in")
    page.wait_for_selector("nav")
    return page


def take(browser: Browser, url: str) -> None:
    """Take the pictures."""
    phone = sign_in(browser, url, PHONE, "light")
    phone.screenshot(path=HERE / "overview-phone.png")
    phone.click("text=Review")
    phone.wait_for_selector("text=Approve and send")
    phone.screenshot(path=HERE / "approve-phone.png")
    sign_in(browser, url, DESKTOP, "dark").screenshot(path=HERE / "overview-desktop.png")


def main() -> None:
    """Start the sandbox, and take the pictures."""
    port = free_port()
    command = [sys.executable, "-m", "pysequence_api", "serve", "--sandbox", "--port", str(port)]
    with tempfile.TemporaryDirectory() as directory, sync_playwright() as playwright:
        environment = {"PATH": "/usr/bin:/bin", "SEQUENCE_DATA_DIR": directory, "HOME": directory}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            for line in server.stdout:
                if line.startswith("Press Ctrl-C"):
                    break
            browser = playwright.chromium.launch(executable_path=find_chromium(None), args=ARGUMENTS)
            take(browser, f"http://127.0.0.1:{port + 1}")
            browser.close()
            server.terminate()


if __name__ == "__main__":
    main()
