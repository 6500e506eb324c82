"""A small client of the sandbox for tests."""

from dataclasses import dataclass
from typing import Any

import anyio
import httpx

from pysequence_api.sandbox import KYC_ID, ORGANIZATION_ID, Sandbox
from pysequence_api.sandbox.household import HOLDERS
from tests.sandbox.published import ACTIVITY_LOG_TRANSFERS, CREATE_PAYMENT, SELECT_SOURCE_AND_DESTINATION

IDS = {holder.name: holder.id for holder in HOLDERS.values()}


@dataclass
class Caller:
    """Calls a sandbox through any httpx client."""

    client: httpx.AsyncClient
    access_token: str
    refresh_token: str
    ids: dict[str, str]

    @classmethod
    def signed_in(cls, client: httpx.AsyncClient, sandbox: Sandbox) -> "Caller":
        tokens = sandbox.issue_tokens()
        return cls(client, tokens.access_token, tokens.refresh_token, IDS)

    async def post(self, operation: str, query: str, **options: Any) -> httpx.Response:
        return await self.client.post(
            "/api/graphql",
            json={"query": query, "variables": options.pop("variables", {}), "operationName": operation},
            headers={"authorization": f"Bearer {self.access_token}"},
            **options,
        )

    async def data(self, operation: str, query: str, **variables: Any) -> Any:
        response = await self.post(operation, query, variables=variables)
        assert response.status_code == 200, response.text
        assert "errors" not in response.json(), response.text
        return response.json()["data"]

    async def message(self, operation: str, query: str, **variables: Any) -> str:
        """Send a request that must fail with one GraphQL error, and return its message."""
        response = await self.post(operation, query, variables=variables)
        body = response.json()
        assert (response.status_code, body["data"]) == (200, None)
        (error,) = body["errors"]
        assert list(error) == ["message"]
        return str(error["message"])

    def payment(self, source: str = "Emergency Fund", destination: str = "Rent", **more: Any) -> dict[str, Any]:
        """Return the variables of a payment between two parties, given by name."""
        return {
            "id": KYC_ID,
            "source": {"id": self.ids.get(source, source), "type": more.pop("source_type", "POD")},
            "destination": {"id": self.ids.get(destination, destination), "type": more.pop("destination_type", "POD")},
            "amount": 12_345,
            **more,
        }

    async def pay(self, *args: str, **more: Any) -> Any:
        """Send a payment and return ``createPayment``."""
        data = await self.data("CreatePayment", CREATE_PAYMENT, **self.payment(*args, **more))
        return data["forKYC"]["createPayment"]

    async def send_payment(self, **options: Any) -> httpx.Response:
        return await self.post("CreatePayment", CREATE_PAYMENT, variables=self.payment(), **options)

    async def activity(self, first: int = 100, after: str = "", **only: Any) -> Any:
        data = await self.data(
            "ActivityLogV2Transfers",
            ACTIVITY_LOG_TRANSFERS,
            organizationId=ORGANIZATION_ID,
            transferFilter=only,
            first=first,
            after=after,
        )
        return data["organization"]["transferReferences"]

    async def nodes(self, **only: Any) -> list[Any]:
        return [edge["node"] for edge in (await self.activity(**only))["edges"]]

    async def moved(self) -> list[Any]:
        response = await self.client.get("/sandbox/transfers")
        transfers: list[Any] = response.json()["transfers"]
        return transfers

    async def wait_until_moved(self, count: int) -> None:
        """Wait until this many payments have moved money."""
        with anyio.fail_after(10):
            while len(await self.moved()) < count:  # noqa: ASYNC110 - another process can move it
                await anyio.sleep(0.01)

    async def arm(self, **fault: Any) -> None:
        response = await self.client.post("/sandbox/faults", json=fault)
        assert response.status_code == 200, response.text

    async def balances(self) -> dict[str, int]:
        """Return all balances in cents, by name."""
        data = await self.data("SelectSourceAndDestination", SELECT_SOURCE_AND_DESTINATION)
        found = {}
        for membership in data["me"]["memberships"]:
            for kind in ("pods", "ports", "accounts"):
                for one in membership["organization"][kind]:
                    balance = (one["metadata"] or {}).get("balance")
                    if balance:
                        found[one["name"]] = balance["cents"]
        return found
