"""What the policy grants. The server reports these findings at every start."""

from collections.abc import Iterator
from pathlib import Path

from pysequence_api.doctor.finding import Finding, ok, problem, warning
from pysequence_api.env_files import read_trusted
from pysequence_api.errors import SafeguardsUnavailableError, SettingsError
from pysequence_api.money import format_cents
from pysequence_api.records import read_records
from pysequence_api.records.attempts import DEFAULT_CALLER, Reader
from pysequence_api.records.database import Database
from pysequence_api.safeguards.applying import is_file_applied, unmatched
from pysequence_api.safeguards.now import MaxCents, frozen_for
from pysequence_api.safeguards.policies import current_policy
from pysequence_api.safeguards.policy import ANY, Caller, Policy
from pysequence_api.settings import Settings, variable

NAME = "policy"
APPLY = "pysequence-api policy apply FILE"


def check_policy(settings: Settings) -> Iterator[Finding]:
    """Say which callers there are, which of them are frozen or expired, and what `default` is granted."""
    if not settings.data_directory.exists():
        yield ok(NAME, _without_policy(settings, MaxCents.of(settings)))
        return
    records = read_records(settings.data_directory)
    try:
        yield from check_policy_of(records, settings)
        if settings.policy_file is not None:
            yield from _check_file(records, settings.policy_file)
    finally:
        records.close()


def _check_file(records: Database, path: Path) -> Iterator[Finding]:
    subject = "policy file"
    try:
        text = read_trusted(path)
    except SettingsError as error:
        yield problem(subject, str(error), "Until then, `serve` does not start.", SettingsError)
        return
    if records.read(lambda reader: is_file_applied(reader, text)):
        yield ok(subject, f"{path}, as a start last applied it")
    else:
        said = f"{path} was changed since a start last applied it; the next one does"
        yield warning(subject, said, f"pysequence-api policy check {path}")


def check_policy_of(records: Database, settings: Settings) -> Iterator[Finding]:
    """Do the same for records that are open."""
    yield from records.read(lambda reader: [*_findings(reader, settings)])


def _findings(reader: Reader, settings: Settings) -> Iterator[Finding]:
    current = current_policy(reader)
    limits = MaxCents.of(settings).lowered_by(reader.recorded_limits())
    if current is None:
        yield ok(NAME, _without_policy(settings, limits))
        return
    row = reader.policy(current.version)
    if row is None or row.text is None:
        said = f"the text of version {current.version} is unknown since a restore, so it grants nothing"
        yield problem(NAME, said, APPLY, SafeguardsUnavailableError)
        return
    callers = ", ".join(_caller(reader, current.policy, name) for name in current.policy.callers) or "no callers"
    granted = _granted(current.policy.caller(DEFAULT_CALLER))
    yield ok(NAME, f"version {current.version}; callers: {callers}; {DEFAULT_CALLER} is granted {granted}")
    if settings.owner_totp is None and reader.owner_secrets().totp_secret is None and _asks(current.policy):
        said = "a rule asks for your approval, and you have no authenticator, so you can approve nothing"
        yield warning(NAME, said, "pysequence-api owner setup")
    for text in unmatched(current.policy, reader, reader.now, has_default=False):
        said, _, fix = text.partition(". ")
        yield warning(NAME, said.removesuffix("."), fix or APPLY)


def _without_policy(settings: Settings, limits: MaxCents) -> str:
    if settings.api_key is None:
        return "none; callers may only read their own attempts and limits"
    most = f"{format_cents(limits.per_transfer)} per transfer and {format_cents(limits.per_day)} per day"
    return f"none; {DEFAULT_CALLER} ({variable('api_key')}) may read everything, and move up to {most}"


def _caller(reader: Reader, policy: Policy, name: str) -> str:
    states = []
    if frozen_for(reader, name) is not None:
        states.append("frozen")
    if policy.caller(name).is_expired(reader.now):
        states.append("expired")
    return f"{name} ({', '.join(states)})" if states else name


def _asks(policy: Policy) -> bool:
    return any(rule.approve_above_cents is not None for caller in policy.callers.values() for rule in caller.rules)


def _granted(caller: Caller) -> str:
    if not caller.scopes:
        return "nothing"
    parts = [", ".join(caller.scopes)]
    if caller.reads:
        parts.append("all accounts to read" if caller.reads == (ANY,) else f"{len(caller.reads)} accounts to read")
    if caller.rules:
        most = format_cents(max(rule.max_cents for rule in caller.rules))
        rules = "1 rule" if len(caller.rules) == 1 else f"{len(caller.rules)} rules"
        parts.append(f"{rules} with at most {most} per transfer")
    if caller.day_cents is not None:
        parts.append(f"{format_cents(caller.day_cents)} per day")
    return ", ".join(parts)
