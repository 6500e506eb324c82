"""The world of these tests: the program as processes, signing in at a simulated Sequence served over HTTP.

The sandbox runs in the event loop of the test, so processes are started asynchronously here. After each test, a search
for leaked secrets covers all output and every file.
"""

import asyncio
import json
import os
import re
import shutil
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pyotp
import pytest

from pysequence_api.cli import app, running
from pysequence_api.errors import SignInError
from pysequence_api.sandbox import CLIENT_ID, EMAIL, KYC_ID, ORGANIZATION_ID, PASSWORD, TOTP_SECRET, Sandbox
from pysequence_api.sandbox.auth import TokenSettings
from pysequence_api.sandbox.login import SignIns
from pysequence_api.sequence.sign_in.chromium import find_chromium
from pysequence_api.sequence.sign_in.service import SignIn
from pysequence_api.settings import Settings
from tests.cli.commands import RUNNER
from tests.sign_in.browser import SharedBrowser
from tests.starter import python
from tests.world import DataDirectory, World, serving, urls_of, world_settings

PROGRAM = "from pysequence_api.cli import main; main()"
API_KEY = "an-Api-Key-that-must-not-be-anywhere"
WRONG_PASSWORD = "not-The-Right-one-either"
RUN_TIMEOUT_SECONDS = 60
LIGHT_CHROMIUM = shutil.which("chromium-headless-shell")
"""The same browser without what a window needs. It starts in half the time. Tests of a window set another one."""
JWT = re.compile(rb"eyJ[\w-]{10,}")


def has_chromium() -> bool:
    try:
        find_chromium(None)
    except SignInError:
        return False
    return True


def light_chromium() -> Path:
    """Return the Chromium that starts fastest."""
    return find_chromium(None if LIGHT_CHROMIUM is None else Path(LIGHT_CHROMIUM))


needs_chromium = pytest.mark.skipif(
    not has_chromium(), reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


@dataclass
class Result:
    """The result of a command."""

    code: int
    out: str
    err: str

    @property
    def status(self) -> dict[str, Any]:
        """What `auth status --json` printed."""
        document: dict[str, Any] = json.loads(self.out)
        return document


@dataclass
class Server:
    """A running `serve`."""

    process: asyncio.subprocess.Process
    url: str


@dataclass
class SequenceClock:
    """The clock of the simulated Sequence, which a test can set."""

    ahead_seconds: float = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead_seconds


@dataclass
class SignInWorld(World):
    """A `World` whose program runs as processes that are told everything by environment variables."""

    url: str = ""
    clock: SequenceClock = field(default_factory=SequenceClock)
    written: list[bytes] = field(default_factory=list)
    """Everything that processes wrote to standard output and standard error."""
    secrets: set[str] = field(
        default_factory=lambda: {PASSWORD, WRONG_PASSWORD, TOTP_SECRET, TOTP_SECRET[4:28], API_KEY}
    )

    def variables(self, **changes: str | None) -> dict[str, str]:
        """Return the settings of the program: the usual ones, and where this sandbox is."""
        values: dict[str, str | None] = {
            **urls_of(self.url),
            "email": EMAIL,
            "password": PASSWORD,
            "totp": TOTP_SECRET,
            "org_id": ORGANIZATION_ID,
            "kyc_id": KYC_ID,
            "auth0_client_id": CLIENT_ID,
            "api_key": API_KEY,
            "data_dir": str(self.files.path),
            "request_interval_seconds": "0",
            "request_jitter_seconds": "0",
            "sign_in_step_seconds": "10",
            "chromium": LIGHT_CHROMIUM,
        }
        return {name: value for name, value in (values | changes).items() if value is not None}

    async def run(self, *arguments: str, stdin: str = "", **changes: str | None) -> Result:
        """Run a command to its end."""
        process = await self.start(*arguments, **changes)
        with anyio.fail_after(RUN_TIMEOUT_SECONDS):
            out, err = await process.communicate(stdin.encode())
        self.written += [out, err]
        return Result(process.returncode or 0, out.decode(), err.decode())

    async def call(self, *arguments: str, stdin: str = "", **changes: str | None) -> Result:
        """Run a command in a thread of this process, which costs less."""
        settings = {f"SEQUENCE_{name.upper()}": value for name, value in self.variables(**changes).items()}
        run = partial(RUNNER.invoke, app, arguments, input=stdin, env=settings)
        with pytest.MonkeyPatch.context() as patch, anyio.fail_after(RUN_TIMEOUT_SECONDS):
            patch.setattr(running, "SIGNALS", ())  # only the main thread gets them
            ended = await anyio.to_thread.run_sync(run)
        self.written += [ended.stdout_bytes, ended.stderr_bytes]
        return Result(ended.exit_code, ended.stdout, ended.stderr)

    async def start(self, *arguments: str, **changes: str | None) -> asyncio.subprocess.Process:
        """Start a command."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
        environment |= {f"SEQUENCE_{name.upper()}": value for name, value in self.variables(**changes).items()}
        return await asyncio.create_subprocess_exec(
            *(*python(), "-c", PROGRAM, *arguments),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.files.path,
        )

    @asynccontextmanager
    async def running_server(self, *arguments: str, **changes: str | None) -> AsyncIterator[Server]:
        """Run `serve` until this is left."""
        process = await self.start(
            *arguments, "serve", server_host="127.0.0.1", server_port=str(free_port()), **changes
        )
        assert process.stdout is not None
        try:
            with anyio.fail_after(RUN_TIMEOUT_SECONDS):
                line = await process.stdout.readline()
            address = re.search(rb"http://[\d.:]+", line)
            if address is None:
                _, err = await process.communicate()
                raise AssertionError(err.decode())
            yield Server(process, address[0].decode())
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            with anyio.fail_after(RUN_TIMEOUT_SECONDS):
                self.written += await process.communicate()

    @asynccontextmanager
    async def signing_in(self, **changes: Any) -> AsyncIterator[SignIn]:
        """Sign in within this process."""
        debug_directory = changes.pop("debug_directory", None)
        settings = Settings.load(**self.variables(**changes))
        sign_in = SignIn.open(settings, self.files.path, debug_directory)
        try:
            yield sign_in
        finally:
            await sign_in.aclose()

    def change_sandbox(self, **changes: Any) -> None:
        """Change the tokens and logins of the sandbox."""
        self.sandbox.settings = TokenSettings(**changes)

    def sign_ins(self) -> SignIns:
        """Return the numbers of logins that the sandbox counted."""
        return self.sandbox.login.read()

    def cache_tokens(self, *, lifetime_seconds: int = 0, refresh: bool = False, **changes: Any) -> dict[str, Any]:
        """Put new tokens into the token cache, expired and without a refresh token if not told otherwise."""
        tokens = super().cache_tokens(lifetime_seconds=lifetime_seconds, **changes)
        self.secrets |= {tokens["access_token"], tokens["refresh_token"]}
        if not refresh:
            tokens["refresh_token"] = None
            self.files.damage(".tokens.json", json.dumps(tokens).encode())
        return tokens

    def cache(self) -> dict[str, Any]:
        """Read the token cache."""
        tokens: dict[str, Any] = self.files.read_json(".tokens.json")
        return tokens

    def record(self) -> dict[str, Any]:
        """Read the record of logins."""
        record: dict[str, Any] = self.files.read_json(".sign-in.json")
        return record

    def let_time_pass(self, seconds: float) -> None:
        """Make the last login older."""
        changed = self.record() | {"attempted_at": self.record()["attempted_at"] - seconds}
        self.files.damage(".sign-in.json", json.dumps(changed).encode())

    def let_time_pass_since_saved(self, seconds: float) -> None:
        """Make the stored tokens older."""
        record, cache = self.record(), self.cache()
        record["got"]["saved_at"] -= seconds
        cache["expires_at"] -= seconds
        self.files.damage(".sign-in.json", json.dumps(record).encode())
        self.files.damage(".tokens.json", json.dumps(cache).encode())

    def leaks(self) -> list[str]:
        """List the secrets found anywhere but in the token cache."""
        places = {path.name: path.read_bytes() for path in self.files.path.rglob("*") if path.is_file()}
        tokens = places.pop(".tokens.json", None)
        if tokens is not None and tokens.startswith(b"{"):
            self.secrets |= {value for value in json.loads(tokens).values() if isinstance(value, str)}
        places["output"] = b"".join(self.written)
        wanted = [secret.encode() for secret in self.secrets]
        return [
            f"{place}: {secret[:12]!r}"
            for place, content in places.items()
            for secret in (*wanted, *JWT.findall(content))
            if secret in content
        ]


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def current_code(period_seconds: int = 30) -> str:
    """Return the six digits that an authenticator shows now."""
    return pyotp.TOTP(TOTP_SECRET, interval=period_seconds).now()


async def until(condition: Callable[[], bool], timeout_seconds: float = 30) -> None:
    """Wait for a condition that another process brings about."""
    with anyio.fail_after(timeout_seconds):
        while not condition():  # noqa: ASYNC110 - there is no event
            await anyio.sleep(0.02)


@pytest.fixture(scope="session")
def browser() -> Iterator[SharedBrowser]:
    """One Chromium for all tests of a worker that sign in within its process."""
    browser = SharedBrowser(light_chromium())
    with browser.running():
        yield browser


@pytest.fixture
async def world(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[SignInWorld]:
    """A new world. After the test, no secret may be anywhere but in the token cache."""
    caplog.set_level("DEBUG", "pysequence_api")
    directory = tmp_path / "data"
    directory.mkdir()
    clock = SequenceClock()
    sandbox = Sandbox(tmp_path / "sandbox.db", clock=clock)
    async with serving(sandbox) as url:
        settings = world_settings(directory, sandbox)
        world = SignInWorld(sandbox, settings, DataDirectory(directory), url=url, clock=clock)
        yield world
        world.written.append(caplog.text.encode())
        assert world.leaks() == []
    await sandbox.aclose()
