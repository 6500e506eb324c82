"""A small client of the Platform API of the sandbox, for tests."""

import itertools
from dataclasses import dataclass
from typing import Any

import httpx

from pysequence_api.sandbox import PLATFORM_KEY, PLATFORM_PATH
from pysequence_api.sandbox.household import ORGANIZATIONS

IDS = {holder.name: holder.id for holder in ORGANIZATIONS[0].holders}
_numbers = itertools.count(1)


@dataclass
class PlatformCaller:
    """Calls the Platform API with one key, through any httpx client."""

    client: httpx.AsyncClient
    key: str = PLATFORM_KEY

    @property
    def ids(self) -> dict[str, str]:
        """The accounts of the first organization, by name."""
        return IDS

    async def with_key(self, **permissions: Any) -> "PlatformCaller":
        """Return a caller with a new key."""
        response = await self.client.post("/sandbox/platform-keys", json=permissions)
        assert response.status_code == 200, response.text
        return PlatformCaller(self.client, response.json()["key"])

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"authorization": f"Bearer {self.key}", **options.pop("headers", {})}
        return await self.client.request(method, f"{PLATFORM_PATH}{path}", headers=headers, **options)

    async def get(self, path: str, **params: Any) -> Any:
        """Return the data of a successful request."""
        response = await self.send("GET", path, params=params)
        assert response.status_code == 200, response.text
        body = response.json()
        assert list(body) == ["data", "requestId"]
        return body["data"]

    async def items(self, path: str, **params: Any) -> list[Any]:
        """Return the items of one page."""
        found: list[Any] = (await self.get(path, **params))["items"]
        return found

    async def error(self, method: str, path: str, **options: Any) -> tuple[int, str]:
        """Return the status and the code of a request that must fail."""
        return read_error(await self.send(method, path, **options))

    def order(self, source: str = "Emergency Fund", destination: str = "Rent", **more: Any) -> dict[str, Any]:
        """Return the body of a transfer between two accounts, given by name."""
        parties = {
            "sourceAccountId": self.ids.get(source, source),
            "destinationAccountId": self.ids.get(destination, destination),
        }
        return {**parties, "amountInCents": 12_345, **more}

    async def post(self, *parties: str, key: str | None = None, **more: Any) -> httpx.Response:
        """Send a transfer, with a new idempotency key unless one is given."""
        headers = {"idempotency-key": f"test-{next(_numbers)}" if key is None else key}
        options = {"timeout": more.pop("timeout")} if "timeout" in more else {}
        return await self.send("POST", "/transfers", headers=headers, json=self.order(*parties, **more), **options)

    async def transfer(self, *parties: str, **more: Any) -> Any:
        """Send a transfer and return its data."""
        response = await self.post(*parties, **more)
        assert response.status_code == 201, response.text
        return response.json()["data"]

    async def refusal(self, *parties: str, **more: Any) -> tuple[int, str]:
        """Send a transfer that must fail, and return the status and the code."""
        return read_error(await self.post(*parties, **more))

    async def moved(self) -> list[Any]:
        """Return what really moved."""
        found: list[Any] = (await self.client.get("/sandbox/transfers")).json()["transfers"]
        return found

    async def balance(self, name: str) -> Any:
        return (await self.get(f"/accounts/{self.ids[name]}"))["balance"]["balanceInCents"]

    async def arm(self, **fault: Any) -> None:
        response = await self.client.post("/sandbox/faults", json=fault)
        assert response.status_code == 200, response.text


def read_error(response: httpx.Response) -> tuple[int, str]:
    """Return the status and the code of an error, whose envelope is checked."""
    body = response.json()
    assert list(body) == ["error"], body
    assert list(body["error"]) == ["code", "message"]
    assert body["error"]["message"]
    return response.status_code, body["error"]["code"]
