"""The owner is told what matters, once, and what hangs or fails is never in the way."""

import asyncio
import json
import logging
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest
import time_machine
from pydantic import SecretStr

from pysequence_api.errors import FrozenError, GatewayError, PolicyRefusedError
from pysequence_api.files import read_bytes
from pysequence_api.notify import Notifier, channels, notifier, open_notifier
from pysequence_api.notify.told import FILE_NAME
from pysequence_api.records.attempts import Writer
from pysequence_api.records.audit import Channel, Event, EventType
from pysequence_api.records.callers import Caller, add, remove, revoke, rotate
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.records.names import MAX_NAME_CHARACTERS, known_names
from pysequence_api.settings import NotifyEvent
from tests.approvals import BOT, TOTP_SECRET, apply_rules, approve, code_now
from tests.notify.receiver import TOKEN, Receiver, receiving
from tests.policies import NO_BREAKER, apply_policy
from tests.world import DESTINATION, GRACE_SECONDS, SOURCE, World

pytestmark = [pytest.mark.anyio, pytest.mark.upstream("graphql")]
POLICY = """
[callers.one]
scopes = ["move"]
month_cents = 10000
rules = [{ name = "rent", from = ["a"], to = ["b"], max_cents = 9000 }]
"""
ONE = Caller("one")


@asynccontextmanager
async def telling(world: World, *urls: str, **settings: object) -> AsyncIterator[Notifier]:
    """Tell receivers what happens, as `serve` does."""
    more = {"notify_urls": tuple(map(SecretStr, urls))} | settings
    telling = open_notifier(world.settings.model_copy(update=more), world.gateway.records)
    task = asyncio.create_task(telling.run())
    while not progress(world):  # noqa: ASYNC110 - a thread writes it
        await asyncio.sleep(0.01)
    try:
        yield telling
    finally:
        task.cancel()
        await asyncio.wait([task])


def progress(world: World) -> dict[str, Any]:
    """Read how far each channel is."""
    content = read_bytes(world.files.path / FILE_NAME) or b""
    channels: dict[str, Any] = json.loads(content)["channels"] if content.startswith(b"{") else {}
    return channels


async def begin(world: World, receiver: Receiver) -> None:
    """Have a server tell nothing, and stop."""
    async with telling(world, receiver.url):
        pass
    assert receiver.received == []


async def test_each_event_is_told(world: World) -> None:
    records = world.gateway.records
    with receiving() as receiver:
        await world.transfer(7_700)  # old news
        await receiver.wait_for(lambda: known_names(records))
        async with telling(world, receiver.url, notify_above_cents=5_999):
            add(records, "one")
            apply_policy(world, NO_BREAKER, POLICY)
            await world.transfer(6_000, channel=Channel.CLI)
            await world.transfer(5_999, channel=Channel.CLI)
            for cents in (9_100, 9_200):
                with pytest.raises(PolicyRefusedError):
                    await world.transfer(cents, caller=ONE)
            freeze(records, "laptop lost", "one")
            unfreeze(records, "one")
            attempt_id = await world.lose(channel=Channel.CLI)
            rotate(records, "one")
            revoke(records, "one")
            remove(records, "one")
            await receiver.wait_for(lambda: "one was removed" in receiver.titles)
    assert receiver.titles == [
        "one has a new key",
        "Version 1 of the policy was applied",
        "A transfer above $59.99",
        "A transfer of one was rejected",
        "Transfers of one are frozen",
        "Transfers of one are possible again",
        "The outcome of a transfer is unknown",
        "A key of one was revoked",
        "one has a new key",
        "A key of one was revoked",
        "one was removed",
    ]
    above, rejected = receiver.received[2]["message"], receiver.received[3]["message"]
    assert above.splitlines()[:2] == [f"$60.00 from {SOURCE} to {DESTINATION}", "By the owner (terminal)"]
    assert f"$91.00 from {SOURCE} to {DESTINATION}\nBy one, rule rent\nReason: $91.00 is over" in rejected
    assert "Reason: laptop lost" in receiver.received[4]["message"]
    assert f"Look: pysequence-api transfers status {attempt_id}" in receiver.received[6]["message"]
    assert "://" not in receiver.bodies


async def test_an_approved_transfer_that_a_freeze_stopped_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = world.gateway
    add(gateway.records, BOT.name)
    apply_rules(world)
    gateway.records.write(lambda one: one.set_owner_secrets(totp_secret=TOTP_SECRET, totp_set_at=one.now))
    queued = asyncio.Event()

    async def wait(*_: object, **__: object) -> None:
        queued.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(gateway.client, "prepare_transfer", wait)
    with receiving() as receiver:
        async with telling(world, receiver.url):
            asked = await world.ask(caller=BOT)
            approving = asyncio.create_task(approve(world, asked.attempt_id))
            await queued.wait()
            freeze(gateway.records, "laptop lost")
            with pytest.raises(FrozenError):
                await approving
            await receiver.wait_for(lambda: len(receiver.received) == 3)
    assert receiver.titles[1:] == ["All transfers are frozen", "A transfer that you approved was not sent"]


async def test_approvals_and_changes_of_the_owners_secrets_are_told(
    world: World, traveller: time_machine.Traveller
) -> None:
    gateway = world.gateway
    add(gateway.records, BOT.name)
    apply_rules(world)
    with receiving() as receiver:
        await gateway.client.pods()  # whose names the messages use
        await receiver.wait_for(lambda: known_names(gateway.records))
        async with telling(world, receiver.url):
            gateway.owner.set_code(TOTP_SECRET, code_now(world))
            traveller.shift(60)
            gateway.owner.set_password("correct horse battery", code_now(world))
            traveller.shift(60)
            reason = "the rent, see https://evil.example"
            asked = await gateway.transfers.transfer(world.order(), Channel.API, "k", caller=BOT, reason=reason)
            gateway.transfers.stop()
            with pytest.raises(GatewayError):
                await approve(world, asked.attempt_id)
            traveller.shift(60)
            gateway.owner.set_code(TOTP_SECRET, code_now(world), lost=True)
            await receiver.wait_for(lambda: len(receiver.received) == 5)
    assert receiver.titles == [
        "The owner's authenticator was replaced",
        "The owner's password was changed",
        "A transfer waits for your approval",
        "A transfer that you approved was not sent",
        "The owner's authenticator was replaced",
    ]
    waits = receiver.received[2]["message"].splitlines()
    assert waits[:3] == [
        f"$50.00 from {SOURCE} to {DESTINATION}",
        "By bot, rule rent",
        "The caller says: the rent, see https: //evil. example",
    ]
    assert waits[3].startswith("Until 2026-11-23 ")
    assert waits[-1] == f"Look: pysequence-api approvals show {asked.attempt_id}"
    assert ["As lost" in message["message"] for message in receiver.received] == [False, False, False, False, True]


async def test_what_is_not_chosen_is_not_told(world: World) -> None:
    with receiving() as receiver:
        async with telling(world, receiver.url, notify_events=(NotifyEvent.FREEZE,)):
            await world.lose(channel=Channel.CLI)
            await world.transfer(9_000_00, channel=Channel.CLI)
            freeze(world.gateway.records, "x")
            await receiver.wait_for(lambda: receiver.received)
    assert receiver.titles == ["All transfers are frozen"]


async def test_what_the_sandbox_tells_says_so(world: World) -> None:
    with receiving() as receiver:
        async with telling(world, receiver.url, sandbox=True):
            freeze(world.gateway.records, "x")
            await receiver.wait_for(lambda: receiver.received)
    assert receiver.titles == ["Sandbox, no real money: All transfers are frozen"]


async def test_what_happens_between_two_servers_is_told_once(world: World, traveller: time_machine.Traveller) -> None:
    with receiving() as receiver:
        await begin(world, receiver)
        world.fail({"kind": "fail_after_seconds", "seconds": 3600, "reason": "ACCOUNT_CLOSED"}, when="after")
        await world.transfer(4_000)
        traveller.shift(3700)
        await world.follow_up()
        async with telling(world, receiver.url):
            await receiver.wait_for(lambda: receiver.received)
        assert receiver.titles == ["The money of a transfer came back"]
        assert "ACCOUNT CLOSED" in receiver.bodies.replace("_", " ")
        async with telling(world, receiver.url):
            freeze(world.gateway.records, "news")
            await receiver.wait_for(lambda: "All transfers are frozen" in receiver.titles)
    assert receiver.titles == ["The money of a transfer came back", "All transfers are frozen"]


@pytest.mark.parametrize("content", [b"x", b'{"channels": {"json://127.0.0.1": {"seq": 999}}}'])
async def test_a_file_that_does_not_fit_begins_with_what_happens_now(world: World, content: bytes) -> None:
    freeze(world.gateway.records, "old news")
    world.files.damage(FILE_NAME, content)
    with receiving() as receiver:
        async with telling(world, receiver.url):
            await receiver.wait_for(lambda: progress(world)["json://127.0.0.1"]["seq"] == 1)
            unfreeze(world.gateway.records)
            await receiver.wait_for(lambda: receiver.received)
    assert receiver.titles == ["All transfers are possible again"]


async def test_a_late_transfer_is_told(world: World, traveller: time_machine.Traveller) -> None:
    with receiving() as receiver:
        await begin(world, receiver)
        world.fail({"kind": "invisible_seconds", "seconds": 3600}, "close", when="after")
        task = asyncio.create_task(world.transfer())
        await asyncio.wait([task])
        traveller.shift(GRACE_SECONDS + 1)
        await world.follow_up()
        traveller.shift(3600)
        await world.follow_up()
        assert task.exception() is not None
        async with telling(world, receiver.url):
            await receiver.wait_for(lambda: len(receiver.received) == 3)
    assert receiver.titles == [
        "The outcome of a transfer is unknown",
        "A transfer appeared at Sequence late",
        "All transfers are frozen",
    ]


async def test_most_of_a_month_is_told_once(world: World) -> None:
    add(world.gateway.records, "one")
    apply_policy(world, NO_BREAKER, POLICY)
    with receiving() as receiver:
        async with telling(world, receiver.url):
            await world.transfer(7_999, caller=ONE)
            await world.transfer(100, caller=ONE)
            await world.transfer(200, caller=ONE)
            await receiver.wait_for(lambda: receiver.received)
        async with telling(world, receiver.url):
            await world.transfer(300, caller=ONE)
            freeze(world.gateway.records, "news")
            await receiver.wait_for(lambda: len(receiver.received) == 2)
    [title, _] = receiver.titles
    assert title.startswith("one has used 8")
    assert "of $100.00 for this UTC month" in receiver.bodies


async def test_the_first_refusal_in_an_hour_is_told(world: World, traveller: time_machine.Traveller) -> None:
    add(world.gateway.records, "one")
    apply_policy(world, NO_BREAKER, POLICY)

    async def refuse(cents: int) -> None:
        with pytest.raises(PolicyRefusedError):
            await world.transfer(cents, caller=ONE)

    with receiving() as receiver:
        await begin(world, receiver)
        await refuse(9_001)
        traveller.shift(timedelta(minutes=40))
        await refuse(9_002)
        with pytest.raises(PolicyRefusedError):
            await world.transfer(1, caller=ONE, source="Groceries")  # another code
        traveller.shift(timedelta(minutes=21))
        await refuse(9_003)
        async with telling(world, receiver.url):
            await receiver.wait_for(lambda: len(receiver.received) == 3)
    assert "$90.02" not in receiver.bodies


async def test_text_from_others_is_one_short_line_without_markup(world: World) -> None:
    reason = "pay\nnow: [here](https://evil.example) @everyone `x` *y* or psq-approve.com/5.00 " + "z" * 500
    with receiving() as receiver, receiving() as with_html:
        async with telling(world, receiver.url, f"{with_html.url}&format=html"):
            freeze(world.gateway.records, reason)
            await receiver.wait_for(lambda: receiver.received and with_html.received)
    assert "&apos;x&apos;" in with_html.bodies
    [line] = [line for line in receiver.bodies.splitlines() if line.startswith("Reason")]
    assert line.startswith(
        "Reason: pay now: (here)(https: //evil. example) at everyone 'x' y or psq-approve. com/5.00 z"
    )
    assert len(line) <= len("Reason: ") + MAX_NAME_CHARACTERS
    assert receiver.received[0]["type"] == "info"


async def test_a_receiver_that_hangs_delays_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notifier, "STOP_SECONDS", 0.1)
    with receiving(hangs=True) as hanging, receiving() as receiver:
        async with telling(world, hanging.url + "&rto=60", receiver.url):
            freeze(world.gateway.records, "x", "default")
            unfreeze(world.gateway.records, "default")
            await receiver.wait_for(lambda: len(receiver.received) == 2)
            await hanging.wait_for(lambda: hanging.received)
            started = time.monotonic()
            await world.transfer()
            assert time.monotonic() - started < 2
            stopping = time.monotonic()
        assert time.monotonic() - stopping < 2
        assert len(hanging.received) == 1
        told = progress(world)
        assert {name: progress["lost"] for name, progress in told.items()} == {
            "json://127.0.0.1": 1,
            "json://127.0.0.1 (2)": 0,
        }
        hanging.release()
        async with telling(world, hanging.url, receiver.url):
            await hanging.wait_for(lambda: len(hanging.received) == 2)
    assert len(receiver.received) == 2
    assert [title.rpartition(") ")[2] for title in hanging.titles] == ["are frozen", "are possible again"]
    assert "(1 message before this one was not delivered, or may not have been.)" in hanging.bodies


async def test_a_timeout_is_not_tried_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "SEND_SECONDS", 0.1)
    with receiving(hangs=True) as hanging:
        async with telling(world, hanging.url):
            freeze(world.gateway.records, "x")
            await hanging.wait_for(lambda: progress(world)["json://127.0.0.1"]["lost"])
            hanging.release()
            unfreeze(world.gateway.records)
            await hanging.wait_for(lambda: len(hanging.received) == 2)
    assert hanging.titles == ["All transfers are frozen", "All transfers are possible again"]


async def test_a_failure_is_tried_once_more(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with receiving(status=500) as receiver:
        async with telling(world, receiver.url):
            freeze(world.gateway.records, "x")
            await receiver.wait_for(lambda: len(receiver.received) == 2)
            receiver.status = 200
            await receiver.wait_for(lambda: "was not delivered (failed)" in caplog.text or len(receiver.received) > 2)
            unfreeze(world.gateway.records)
            await receiver.wait_for(lambda: "All transfers are possible again" in receiver.titles)
    assert receiver.titles[:2] == ["All transfers are frozen"] * 2
    assert len(receiver.received) == 3
    assert "not delivered" in receiver.received[2]["message"]


async def test_a_refused_connection_loses_a_message_and_says_so_later(world: World) -> None:
    with receiving() as receiver:
        port = receiver.port
        await begin(world, receiver)
    url = receiver.url
    async with telling(world, url):
        freeze(world.gateway.records, "x")
        await receiver.wait_for(lambda: progress(world)["json://127.0.0.1"]["lost"])
    with socket.socket() as listener:  # the port is free again
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
    with receiving() as receiver:
        async with telling(world, receiver.url):
            unfreeze(world.gateway.records)
            await receiver.wait_for(lambda: receiver.received)
    assert receiver.titles == ["All transfers are possible again"]
    assert "(1 message before this one was not delivered" in receiver.bodies


async def test_a_burst_is_summed_up(world: World) -> None:
    def add_events(writer: Writer) -> None:
        for number in range(1000):
            event_type = EventType.FROZEN if number % 2 == 0 else EventType.UNFROZEN
            writer.add_event(Event(timestamp=writer.now, event_type=event_type, reason="x"))

    with receiving(hangs=True) as receiver:
        async with telling(world, receiver.url):
            world.gateway.records.write(add_events)
            await receiver.wait_for(lambda: receiver.received)
            receiver.release()
            await receiver.wait_for(lambda: progress(world)["json://127.0.0.1"]["seq"] == 1000)
    summed_up = [int(title.split()[0]) for title in receiver.titles if title.endswith("more messages")]
    assert len(receiver.received) - len(summed_up) + sum(summed_up) == 1000
    assert len(receiver.received) <= 1000 / notifier.BATCH_EVENTS * (notifier.MAX_WAITING + 1) + 1
    assert "x All transfers are frozen" in receiver.bodies


async def test_a_problem_is_told_until_it_is_over(world: World) -> None:
    with receiving() as receiver:
        async with telling(world, receiver.url) as telling_owner:
            telling_owner.report(NotifyEvent.RECORDS, ".audit.jsonl was cut off: 12 bytes are missing")
            await receiver.wait_for(lambda: receiver.received)
        async with telling(world, receiver.url) as telling_owner:
            telling_owner.report(NotifyEvent.RECORDS, ".audit.jsonl was cut off: 13 bytes are missing")
            telling_owner.report(NotifyEvent.SIGN_IN, "No login before 12:00")
            await receiver.wait_for(lambda: len(receiver.received) == 2)
            telling_owner.report(NotifyEvent.RECORDS, None)
            await receiver.wait_for(lambda: "records" not in world.files.read_json(FILE_NAME)["problems"])
            telling_owner.report(NotifyEvent.RECORDS, "it is missing")
            await receiver.wait_for(lambda: len(receiver.received) == 3)
    damaged, waits = "The records are damaged or were changed", "Signing in to Sequence needs you"
    assert receiver.titles == [damaged, waits, damaged]


async def test_one_of_two_servers_tells(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with receiving() as receiver:
        async with telling(world, receiver.url), telling(world, receiver.url):
            await receiver.wait_for(lambda: "another server on this data directory" in caplog.text)
            freeze(world.gateway.records, "x")
            await receiver.wait_for(lambda: receiver.received)
            unfreeze(world.gateway.records)
            await receiver.wait_for(lambda: len(receiver.received) > 1)
    assert receiver.titles == ["All transfers are frozen", "All transfers are possible again"]


async def test_nothing_of_a_url_gets_into_the_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.NOTSET)
    with receiving(status=500) as failing, receiving() as receiver, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        refused = f"json://user:{TOKEN}@127.0.0.1:{closed.getsockname()[1]}/{TOKEN}"
        async with telling(world, failing.url, refused, receiver.url):
            freeze(world.gateway.records, "x")
            await receiver.wait_for(lambda: caplog.text.count("was not delivered (failed)") == 2)
    assert TOKEN not in caplog.text
    assert TOKEN not in repr(world.settings.model_copy(update={"notify_urls": (SecretStr(receiver.url),)}))
    assert TOKEN not in (world.files.path / FILE_NAME).read_text()
    assert TOKEN not in json.dumps(receiver.received)
