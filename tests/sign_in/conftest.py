"""A simulated Sequence to sign in at over HTTP, the program as processes beside it, and a search for what leaked."""

import asyncio
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import anyio
import pyotp
import pytest

from pysequence_api.errors import SignInError
from pysequence_api.sandbox import CLIENT_ID, EMAIL, KYC_ID, ORGANIZATION_ID, PASSWORD, TOTP_SECRET, Sandbox, serve
from pysequence_api.sandbox.auth import TokenSettings
from pysequence_api.sandbox.faults import Fault
from pysequence_api.sandbox.login import SignIns
from pysequence_api.sequence.sign_in.chromium import find_chromium
from pysequence_api.sequence.sign_in.service import SignIn
from pysequence_api.settings import Settings

PROGRAM = "from pysequence_api.cli import main; main()"
API_KEY = "an-Api-Key-that-must-not-be-anywhere"
WRONG_PASSWORD = "not-The-Right-one-either"
RUN_TIMEOUT_SECONDS = 60
LIGHT_CHROMIUM = shutil.which("chromium-headless-shell")
"""The same browser without what a window needs; it starts in half the time. What needs a window names another."""
JWT = re.compile(rb"eyJ[\w-]{10,}")


def is_there_a_chromium() -> bool:
    try:
        find_chromium(None)
    except SignInError:
        return False
    return True


needs_chromium = pytest.mark.skipif(
    not is_there_a_chromium(), reason="no Chromium on this machine (Debian: apt-get install chromium)"
)


@dataclass
class Ended:
    """A process that has ended."""

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
    """`serve`, listening."""

    process: asyncio.subprocess.Process
    url: str


@dataclass
class Stage:
    """One simulated Sequence, and one data directory of the program."""

    sandbox: Sandbox
    url: str
    directory: Path
    written: list[bytes] = field(default_factory=list)
    """Everything that processes have written to standard output and standard error."""
    secrets: set[str] = field(
        default_factory=lambda: {PASSWORD, WRONG_PASSWORD, TOTP_SECRET, TOTP_SECRET[4:28], API_KEY}
    )

    def variables(self, **changes: str | None) -> dict[str, str]:
        """What the program is told: the seed's variables, and where this simulation is."""
        values: dict[str, str | None] = {
            "email": EMAIL,
            "password": PASSWORD,
            "totp": TOTP_SECRET,
            "org_id": ORGANIZATION_ID,
            "kyc_id": KYC_ID,
            "auth0_client_id": CLIENT_ID,
            "api_key": API_KEY,
            "data_dir": str(self.directory),
            "graphql_url": f"{self.url}/api/graphql",
            "auth_url": self.url,
            "app_url": self.url,
            "request_interval_seconds": "0",
            "request_jitter_seconds": "0",
            "sign_in_step_seconds": "10",
            "chromium": LIGHT_CHROMIUM,
        }
        return {name: value for name, value in (values | changes).items() if value is not None}

    async def run(self, *arguments: str, stdin: str = "", **changes: str | None) -> Ended:
        """Run a command to its end."""
        process = await self.start(*arguments, **changes)
        with anyio.fail_after(RUN_TIMEOUT_SECONDS):
            out, err = await process.communicate(stdin.encode())
        self.written += [out, err]
        return Ended(process.returncode or 0, out.decode(), err.decode())

    async def start(self, *arguments: str, **changes: str | None) -> asyncio.subprocess.Process:
        """Start a command."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("SEQUENCE_")}
        environment |= {f"SEQUENCE_{name.upper()}": value for name, value in self.variables(**changes).items()}
        return await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-c", PROGRAM, *arguments),
            env=environment,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.directory,
        )

    @asynccontextmanager
    async def serving(self, *arguments: str, **changes: str | None) -> AsyncIterator[Server]:
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
        sign_in = SignIn.open(settings, self.directory, debug_directory)
        try:
            yield sign_in
        finally:
            await sign_in.aclose()

    def settings(self, **changes: Any) -> None:
        """Change what tokens and logins of the simulation are like."""
        self.sandbox.settings = TokenSettings(**changes)

    def arm(self, operation: str, what: Any, **more: Any) -> None:
        """Have something fail at the next request."""
        self.sandbox.faults.arm([Fault.model_validate({"operation": operation, "what": what} | more)])

    def sign_ins(self) -> SignIns:
        """What the simulation counted."""
        return self.sandbox.login.read()

    def count(self, operation: str) -> int:
        """How many requests of an operation arrived."""
        return sum(one.operation == operation for one in self.sandbox.journal.read().requests)

    def write_cache(self, *, lifetime_seconds: int = 0, refresh: bool = False) -> dict[str, Any]:
        """Put tokens into the data directory."""
        issued = self.sandbox.issue_tokens(lifetime_seconds)
        tokens = {
            "access_token": issued.access_token,
            "refresh_token": issued.refresh_token if refresh else None,
            "expires_at": time.time() + 86_400,
        }
        (self.directory / ".tokens.json").write_text(json.dumps(tokens))
        self.secrets |= {issued.access_token, issued.refresh_token}
        return tokens

    def cache(self) -> dict[str, Any]:
        """The tokens in the data directory."""
        tokens: dict[str, Any] = json.loads((self.directory / ".tokens.json").read_text())
        return tokens

    def record(self) -> dict[str, Any]:
        """What is remembered of logins."""
        record: dict[str, Any] = json.loads((self.directory / ".sign-in.json").read_text())
        return record

    def let_time_pass(self, seconds: float) -> None:
        """Make the last attempt older."""
        path = self.directory / ".sign-in.json"
        path.write_text(json.dumps(self.record() | {"attempted_at": self.record()["attempted_at"] - seconds}))

    def leaks(self) -> list[str]:
        """Where a secret stands that must not."""
        places = {path.name: path.read_bytes() for path in self.directory.rglob("*") if path.is_file()}
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
    """Find a port that is free now."""
    import socket  # noqa: PLC0415

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def current_code(period_seconds: int = 30) -> str:
    """The six digits that an authenticator would show."""
    return pyotp.TOTP(TOTP_SECRET, interval=period_seconds).now()


async def until(is_so: Callable[[], bool], timeout_seconds: float = 30) -> None:
    """Wait until something is so that another process brings about."""
    with anyio.fail_after(timeout_seconds):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await anyio.sleep(0.02)


@pytest.fixture
async def stage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Stage]:
    """A fresh one; afterwards, no secret may stand anywhere but in the token cache."""
    caplog.set_level("DEBUG", "pysequence_api")
    directory = tmp_path / "data"
    directory.mkdir()
    sandbox = Sandbox(tmp_path / "sandbox.db")
    ready: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(sandbox, port=0, on_ready=ready.set_result))
    stage = Stage(sandbox, await ready, directory)
    try:
        yield stage
        stage.written.append(caplog.text.encode())
        assert stage.leaks() == []
    finally:
        task.cancel()
        await asyncio.wait([task])
