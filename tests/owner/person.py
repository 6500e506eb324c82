"""The owner's page as a person uses it, without a browser: opens pages, fills in their forms, and sends them."""

import base64
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from html.parser import HTMLParser

import httpx
import pyotp
import time_machine

from pysequence_api.gateway import Gateway
from pysequence_api.owner import create_app

PASSWORD = "a-password-of-the-owner"
SECRET = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"
ORIGIN = "https://owner.example.net"
STEP_SECONDS = 30


def set_up_owner(gateway: Gateway) -> None:
    """Give the page a password, with a hash that costs little, and the secret of an authenticator."""
    salt = b"sixteen bytes ok"
    digest = hashlib.scrypt(PASSWORD.encode(), salt=salt, n=2, r=8, p=1, dklen=32)
    texts = [base64.b64encode(one).decode() for one in (salt, digest)]
    hashed = "$".join(["scrypt", "2", "8", "1", *texts])
    gateway.records.write(
        lambda writer: writer.set_owner_secrets(
            totp_secret=SECRET, totp_set_at=writer.now, password_hash=hashed, password_set_at=writer.now
        )
    )


@dataclass
class Form:
    """A form of a page."""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)


class _Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given["action"], given["method"]))
        elif tag in {"input", "select"} and given.get("name"):
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "a":
            self.links.append(given["href"])


def forms_of(page: httpx.Response) -> list[Form]:
    """List the forms of a page."""
    parser = _Parser()
    parser.feed(page.text)
    return parser.forms


def links_of(page: httpx.Response) -> list[str]:
    """List where the links of a page lead."""
    parser = _Parser()
    parser.feed(page.text)
    return parser.links


@dataclass
class Person:
    """The owner with a browser and an authenticator."""

    client: httpx.AsyncClient
    traveller: time_machine.Traveller

    def new_code(self) -> str:
        """Wait for the next code of the authenticator."""
        self.traveller.shift(STEP_SECONDS)
        return pyotp.TOTP(SECRET).now()

    async def open(self, path: str = "/") -> httpx.Response:
        """Open a page."""
        return await self.client.get(path)

    async def send(self, page: httpx.Response, action: str, **fields: str) -> httpx.Response:
        """Fill in the form of a page with this action, and send it, as a browser does."""
        (form,) = [one for one in forms_of(page) if one.action == action]
        return await self.post(form, **fields)

    async def post(self, form: Form, **fields: str) -> httpx.Response:
        """Send a form."""
        return await self.client.post(form.action, data=form.fields | fields, headers={"Origin": ORIGIN})

    async def sign_in(self, password: str = PASSWORD, code: str | None = None) -> httpx.Response:
        """Sign in."""
        page = await self.open("/sign-in")
        return await self.send(page, "/sign-in", password=password, code=self.new_code() if code is None else code)


@asynccontextmanager
async def browsing(gateway: Gateway, traveller: time_machine.Traveller) -> AsyncIterator[Person]:
    """Open a browser without cookies."""
    transport = httpx.ASGITransport(create_app(gateway))
    async with httpx.AsyncClient(transport=transport, base_url=ORIGIN) as client:
        yield Person(client, traveller)
