"""`notify test`, `doctor`, the settings, and a server as a process of its own."""

import json
import sys
import time
from pathlib import Path

import pytest

from pysequence_api.errors import SettingsError
from pysequence_api.notify import open_channels
from pysequence_api.records import open_records
from pysequence_api.records.control import freeze, unfreeze
from pysequence_api.sandbox import Sandbox
from pysequence_api.settings import NotifyEvent, Settings
from tests.api.server import served_sandbox, start_server
from tests.cli.commands import call
from tests.notify.receiver import TOKEN, receiving


@pytest.fixture(autouse=True)
def _sandbox(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run the commands in the sandbox."""
    monkeypatch.setenv("SEQUENCE_SANDBOX", "1")
    monkeypatch.setenv("SEQUENCE_DATA_DIR", str(tmp_path))


def test_notify_test_says_what_worked(monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as receiver, receiving(status=500) as failing:
        monkeypatch.setenv("SEQUENCE_NOTIFY_URLS", receiver.url)
        assert call("notify", "test").stdout == "json://127.0.0.1: sent\n"
        monkeypatch.setenv("SEQUENCE_NOTIFY_URLS", f"{receiver.url}, {failing.url}")
        result = call("--debug", "notify", "test", code=1)
    assert result.stdout == "json://127.0.0.1: sent\njson://127.0.0.1 (2): failed\n"
    assert receiver.titles == ["A test of pysequence-api"] * 2
    assert len(failing.received) == 2
    assert TOKEN not in result.output


def test_notify_test_without_a_url_is_2() -> None:
    assert "SEQUENCE_NOTIFY_URLS is not set" in call("notify", "test", code=2).stderr


@pytest.mark.parametrize("url", [f"bogus://{TOKEN}", f"tgram://{TOKEN}", TOKEN])
def test_a_url_that_cannot_be_used_is_2_and_stays_secret(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SEQUENCE_NOTIFY_URLS", f"json://localhost {url}" if "://" in url else url)
    for command in (("notify", "test"), ("serve",)):
        result = call(*command, code=2)
        assert "Apprise cannot use URL" in result.stderr
        assert TOKEN not in result.output
    found = {each["name"]: each for each in json.loads(call("doctor", "--json", code=2).stdout)["findings"]}
    assert found["notifications"]["level"] == "problem"
    assert TOKEN not in json.dumps(found)


def test_doctor_names_the_channels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SEQUENCE_NOTIFY_URLS", f"json://user:{TOKEN}@127.0.0.1/")
    monkeypatch.setenv("SEQUENCE_NOTIFY_EVENTS", "freeze, unknown")
    found = {each["name"]: each for each in json.loads(call("doctor", "--json").stdout)["findings"]}
    assert found["notifications"]["said"].startswith("through json://127.0.0.1; events: freeze, unknown")


def test_without_apprise_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "apprise", None)
    with pytest.raises(SettingsError, match="pip install apprise"):
        open_channels(Settings.load(notify_urls="json://localhost").notify_urls)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("ntfy://my-secret-topic", "ntfy://"),
        ("ntfys://user:pw@ntfy.example.net/topic", "ntfys://ntfy.example.net"),
        ("tgram://123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw/12345", "tgram://"),
        ("pbul://o.aaaaaaaaaaaaaaaa", "pbul://"),
        ("mailto://me:secret@example.net", "mailto://example.net"),
    ],
)
def test_only_a_host_is_shown_of_a_url(url: str, name: str) -> None:
    assert [channel.name for channel in open_channels(Settings.load(notify_urls=url).notify_urls)] == [name]


def test_commas_in_a_url_separate_nothing() -> None:
    urls = Settings.load(notify_urls=" mailto://me:x@a.net?to=b@b.net,c@c.net,\n json://a json://b ,").notify_urls
    assert [url.get_secret_value() for url in urls] == [
        "mailto://me:x@a.net?to=b@b.net,c@c.net",
        "json://a",
        "json://b",
    ]


def test_events_are_names_or_all_or_none() -> None:
    assert Settings.load().notify_events == Settings.load(notify_events="all").notify_events == tuple(NotifyEvent)
    assert Settings.load(notify_events="none").notify_events == ()
    assert Settings.load(notify_events="Freeze , month").notify_events == (NotifyEvent.FREEZE, NotifyEvent.MONTH)
    for wrong in ("freeze,nonsense", "all,freeze"):
        with pytest.raises(SettingsError, match=r"SEQUENCE_NOTIFY_EVENTS must be all, none, or some of these"):
            Settings.load(notify_events=wrong)


@pytest.mark.waits
@pytest.mark.anyio
async def test_a_server_tells_and_stops_though_a_receiver_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SEQUENCE_SANDBOX")
    sandbox = Sandbox(tmp_path / "sequence.sqlite")
    records = open_records(tmp_path)
    freeze(records, "x")
    unfreeze(records)
    records.close()
    trail = tmp_path / ".audit.jsonl"
    trail.write_bytes(trail.read_bytes().replace(b'"x"', b'"y"'))
    files = [tmp_path / name for name in (".notify.json", ".records.db", ".records.db-wal")]
    with receiving() as receiver, receiving(hangs=True) as hanging:
        variables = {"NOTIFY_URLS": f"{receiver.url} {hanging.url}&rto=60", "NOTIFY_EVENTS": "freeze,records,sign_in"}
        async with served_sandbox(sandbox) as sequence:
            variables |= sequence | {"ACCESS_TOKEN": sandbox.issue_tokens(1800).access_token}
            async with start_server(tmp_path, **variables) as server:
                await receiver.wait_for(lambda: len(receiver.received) == 2 and hanging.received and files[0].exists())
                freeze(open_records(tmp_path), "laptop lost")
                await receiver.wait_for(lambda: len(receiver.received) == 3)
                stopping = time.monotonic()
                assert await server.stop() == 0
                assert time.monotonic() - stopping < 10
        await sandbox.aclose()
    assert TOKEN not in server.log() + "".join(path.read_text(errors="replace") for path in files if path.exists())
    damaged, sign_in = "The records are damaged or were changed", "Signing in to Sequence needs you"
    assert sorted(receiver.titles) == ["All transfers are frozen", sign_in, damaged]
    assert "notifications go to json://127.0.0.1, json://127.0.0.1 (2)" in server.log()
