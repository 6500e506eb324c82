"""``getsequenceioapiclient`` 0.1.2 from PyPI, which is not ours, against the simulated Platform API.

It speaks an older interface of Sequence: ``POST /accounts`` with the header ``x-sequence-access-token``, a list in
``data.accounts``, types such as ``Income Source``, and balances in dollars. The Platform API has none of these. So what
can be checked is that such a client gets the answer of a path that does not exist, and reads nothing wrong out of ours.
A later version that speaks the Platform API makes these tests fail; it can then be tested in earnest.
"""

import httpx
import pytest

from pysequence_api.sandbox import PLATFORM_KEY, PLATFORM_PATH
from tests.sandbox.conftest import over_tcp
from tests.sandbox.platform_caller import PlatformCaller

pytestmark = pytest.mark.anyio


async def test_its_call_is_not_one_of_the_platform_api(base_url: str) -> None:
    import aiohttp  # noqa: PLC0415 - few tests need it, and each process that runs tests collects all of them
    from GetSequenceIoApiClient import SequenceApiClient, SequenceApiError  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:
        client = SequenceApiClient(session, PLATFORM_KEY)
        client.base_url = base_url + PLATFORM_PATH
        with pytest.raises(SequenceApiError, match="failed with status 404"):
            await client.async_get_accounts()
        assert not await client.async_test_connection()
        async with session.get(f"{base_url}/sandbox/requests") as response:
            journal = await response.text()
    (first, _) = httpx.Response(200, text=journal).json()["requests"]
    assert (first["method"], first["path"], first["operation"]) == ("POST", f"{PLATFORM_PATH}/accounts", None)
    assert first["status"] == 404
    assert PLATFORM_KEY not in journal


async def test_it_finds_no_accounts_in_the_answers_of_the_platform_api(base_url: str) -> None:
    import aiohttp  # noqa: PLC0415
    from GetSequenceIoApiClient import SequenceApiClient  # noqa: PLC0415

    async with over_tcp(base_url) as ours, aiohttp.ClientSession() as session:
        body = (await PlatformCaller(ours).send("GET", "/accounts")).json()
        client = SequenceApiClient(session, PLATFORM_KEY)
        assert body["data"]["items"]
        assert client.get_pod_accounts(body) == client.get_income_source_accounts(body) == []
        assert client.get_external_accounts(body) == []
        assert client.get_total_balance(body) == 0
