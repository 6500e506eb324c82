"""``policy``: what each caller may see and move. Reads and writes the data directory; makes no upstream call."""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from pysequence_api.cli.audit import read_when
from pysequence_api.cli.drawing import NOTHING, Column, name_or_id, print_table, shown_time
from pysequence_api.cli.running import confirm_or_exit
from pysequence_api.cli.terminal import is_terminal, note, print_json, print_line, safe, warn, write
from pysequence_api.errors import InvalidRequestError, NotFoundError, SettingsError
from pysequence_api.money import format_cents
from pysequence_api.records import open_records, read_records
from pysequence_api.records.attempts import Attempt, Reader, Used
from pysequence_api.records.database import Database
from pysequence_api.records.grants import PolicyRow
from pysequence_api.records.names import known_names
from pysequence_api.safeguards.applying import apply_policy, is_in_force, unmatched
from pysequence_api.safeguards.changes import compare
from pysequence_api.safeguards.now import MaxCents, state_now
from pysequence_api.safeguards.policies import current_policy
from pysequence_api.safeguards.policy import MAX_POLICY_CHARACTERS, Policy, PolicyError, parse_policy
from pysequence_api.safeguards.replay import Change, Changed, Replay
from pysequence_api.safeguards.replay import replay as run_again
from pysequence_api.settings import Settings

STANDARD_INPUT = "-"
TRIED_SPAN = timedelta(days=30)
BUDGET_SPAN = timedelta(days=32)
"""What was requested earlier can be in no window of the first attempt that is tried, unless it is open."""
MAX_CHANGED_SHOWN = 20
CHANGED = 1
VERSION_COLUMNS = (
    Column("Version", right=True),
    Column("Applied", whole=True),
    Column("From", whole=True),
    Column("SHA-256", is_id=True),
)
TOTAL_COLUMNS = (
    Column("Result", whole=True),
    Column("Code", whole=True),
    Column("Transfers", right=True),
    Column("Amount", right=True),
)
CHANGED_COLUMNS = (
    Column("Requested", whole=True),
    Column("Caller", whole=True),
    Column("Amount", right=True),
    Column("From"),
    Column("To"),
    Column("Result", whole=True),
    Column("Code", whole=True),
)
File = Annotated[str, typer.Argument(metavar="FILE", help="The policy, a TOML document; - is standard input.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


@dataclass(frozen=True, slots=True)
class Trial:
    """A policy from a file, and what it would change.

    Attributes:
        row: the version in force; ``None`` if there is none.
        changes: from that version, in lines.
        replayed: what it would have decided.
        warnings: tables without a caller, and callers without a table.
    """

    policy: Policy
    row: PolicyRow | None
    changes: list[str]
    replayed: Replay
    warnings: list[str]

    def as_json(self) -> dict[str, Any]:
        """Return the trial for programs."""
        return {"changes": self.changes, "warnings": self.warnings, "replay": replay_as_json(self.replayed)}


def check(file: File, as_json: AsJson = False) -> None:
    """Check a policy, and store nothing.

    Reports everything that is wrong, each with its path in the document.

    \b
    Example:
      pysequence-api policy check policy.toml

    \b
    Exit codes:
      0  it can be applied
      2  it cannot
    """
    settings = Settings.load()
    text = _read_file(file)
    try:
        trial = _try(settings, text)
    except PolicyError as error:
        if as_json:
            problems = [{"path": one.path, "text": one.text} for one in error.problems]
            print_json({"valid": False, "problems": problems, "warnings": []})
        raise
    if as_json:
        print_json({"valid": True, "problems": [], "warnings": trial.warnings})
        return
    _print_warnings(trial.warnings)
    callers = ", ".join(trial.policy.callers) or "no callers"
    print_line(f"The policy can be applied. It has {callers}.")


def apply(
    file: File,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Skip the confirmation. Required in scripts.")] = False,
    as_json: AsJson = False,
) -> None:
    """Apply a policy, after a confirmation.

    Checks it, shows what changes, and what it would have decided about the transfers of the last 30 days. Then stores
    it as a new version, which holds from the next request on, in every process. What it no longer allows and still
    waits is released.

    \b
    Example:
      pysequence-api policy apply policy.toml
      pysequence-api policy apply - --yes < policy.toml
    """
    settings = Settings.load()
    if file == STANDARD_INPUT and not yes:
        raise InvalidRequestError("A policy from standard input cannot be confirmed there. Add --yes.")
    text = _read_file(file)
    trial = _try(settings, text)
    records = open_records(settings.data_directory)
    version = None if trial.row is None else trial.row.version
    if records.read(lambda reader: is_in_force(reader, text)):
        if as_json:
            print_json({"version": version, "applied": False} | trial.as_json())
        else:
            _print_warnings(trial.warnings)
            print_line(f"This is version {version} of the policy, which is in force. Nothing was stored.")
        return
    _note_changes(trial)
    _note_replay(trial.replayed)
    _print_warnings(trial.warnings)
    confirm_or_exit("Apply this policy?", yes=yes)
    new = apply_policy(records, text, _limits(settings, records), after=version)
    if as_json:
        print_json({"version": new, "applied": True} | trial.as_json())
    else:
        print_line(f"Applied: version {new} of the policy. It holds from the next request on, in every process.")


def show(
    version: Annotated[int | None, typer.Option(metavar="N", help="This version, not the one in force.", min=1)] = None,
    as_json: AsJson = False,
) -> None:
    """Print the policy in force, or another version.

    Prints the text exactly as it was applied.

    \b
    Example:
      pysequence-api policy show > policy.toml
      pysequence-api policy show --version 1
    """
    row = read_records(Settings.load().data_directory).read(lambda reader: reader.policy(version))
    if row is None:
        raise NotFoundError("There is no policy." if version is None else f"There is no version {version}.")
    if as_json:
        print_json(_row_as_json(row) | {"text": row.text})
        return
    if row.text is None:
        raise NotFoundError(
            f"The text of version {row.version} is unknown, because the records were restored from the audit trail. Its"
            f" SHA-256 is {row.sha256.hex()}. It grants nothing. Apply the policy again."
        )
    write(sys.stdout, _safe_lines(row.text) if is_terminal(sys.stdout) else row.text)


def history(as_json: AsJson = False) -> None:
    """List the versions of the policy.

    The last one is in force. A version is never changed or removed.

    \b
    Example:
      pysequence-api policy history
    """
    rows = read_records(Settings.load().data_directory).read(lambda reader: reader.policies())
    if as_json:
        print_json([_row_as_json(row) for row in rows])
    elif rows:
        print_table(VERSION_COLUMNS, [_version_row(row) for row in rows])
    else:
        print_line("There is no policy. Apply one: pysequence-api policy apply FILE")


def replay(
    file: File,
    since: Annotated[
        str, typer.Option(metavar="TIME", help="Since 2026-11-23, 2026-11-23T12:00Z, 12h or 30d ago.")
    ] = "30d",
    fail_on_change: Annotated[
        bool, typer.Option("--fail-on-change", help="Exit with 1 if it decides differently about a transfer.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run recorded transfers through another policy.

    Shows which of them it would have decided differently. Its limits count what it lets through itself, and nothing
    else. Nothing is stored.

    \b
    Example:
      pysequence-api policy replay policy.toml
      pysequence-api policy replay policy.toml --since 7d --fail-on-change

    \b
    Exit codes:
      0  it was run
      1  with --fail-on-change: it decides differently about a transfer
      2  the policy cannot be used
    """
    settings = Settings.load()
    replayed = _try(settings, _read_file(file), read_when(since)).replayed
    if as_json:
        print_json(replay_as_json(replayed))
    else:
        print_table(TOTAL_COLUMNS, [*_total_rows(replayed)])
        if replayed.changed:
            print_line()
            names = known_names(read_records(settings.data_directory))
            print_table(CHANGED_COLUMNS, [_changed_row(one, names) for one in replayed.changed[-MAX_CHANGED_SHOWN:]])
        if len(replayed.changed) > MAX_CHANGED_SHOWN:
            note(f"These are the last {MAX_CHANGED_SHOWN} of {len(replayed.changed)} that change. --json has all.")
    if fail_on_change and replayed.changed:
        raise typer.Exit(CHANGED)


def attempts_for(reader: Reader, since: datetime) -> list[Attempt]:
    """List the attempts that decide about transfers since a time: with all that still counts then, oldest first."""
    found = reader.attempts_counted_since(since - BUDGET_SPAN) + reader.attempts_since(since - BUDGET_SPAN)
    return sorted({one.id: one for one in found}.values(), key=lambda one: one.created_at)


def as_they_are(records: Database, attempts: list[Attempt]) -> list[Attempt]:
    """Return attempts with their states as they are now: those of a process that died are over."""
    overdue = records.read(lambda reader: reader.overdue_approvals())
    return [replace(one, state=state_now(one, records.owners, overdue)) for one in attempts]


def replay_as_json(replayed: Replay) -> dict[str, Any]:
    """Return a replay for programs."""
    return {
        "totals": {change.value: _used_as_json(used) for change, used in replayed.totals.items()},
        "by_code": [
            {"change": change.value, "code": code} | _used_as_json(used)
            for (change, code), used in replayed.by_code.items()
        ],
        "not_judged": _used_as_json(replayed.not_judged),
        "changed": [
            {
                "attempt_id": one.attempt.id,
                "created_at": one.attempt.created_at.isoformat(),
                "caller": one.attempt.caller,
                "amount_cents": one.attempt.amount_cents,
                "source_id": one.attempt.source_id,
                "destination_id": one.attempt.destination_id,
                "change": one.change.value,
                "code": one.code,
            }
            for one in replayed.changed
        ],
    }


def _try(settings: Settings, text: str, since: datetime | None = None) -> Trial:
    """Check a policy, and run what was recorded since then, or in the last 30 days, through it."""
    records = read_records(settings.data_directory)
    limits, now = _limits(settings, records), datetime.now(UTC)
    policy = parse_policy(text, limits)
    since = since or now - TRIED_SPAN

    def ask(reader: Reader) -> tuple[PolicyRow | None, Policy | None, list[Attempt], list[str]]:
        row, current = reader.policy(), current_policy(reader)
        warnings = unmatched(policy, reader, now, has_default=settings.api_key is not None)
        return row, None if current is None else current.policy, attempts_for(reader, since), warnings

    row, current, attempts, warnings = records.read(ask)
    asked = records.read(lambda reader: reader.asked_attempts())
    replayed = run_again(as_they_are(records, attempts), policy, limits, since=since, asked=asked)
    return Trial(policy, row, compare(current, policy), replayed, warnings)


def _limits(settings: Settings, records: Database) -> MaxCents:
    return MaxCents.of(settings).lowered_by(records.read(lambda reader: reader.recorded_limits()))


def _read_file(name: str) -> str:
    most_bytes = 4 * MAX_POLICY_CHARACTERS + 1
    try:
        if name == STANDARD_INPUT:
            content = sys.stdin.buffer.read(most_bytes)
        else:
            with Path(name).open("rb") as file:
                content = file.read(most_bytes)
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise SettingsError(f"The policy in {name} is not UTF-8 text.") from None
    except OSError as error:
        raise SettingsError(f"The policy in {name} cannot be read ({error.strerror}).") from error


# What a person sees.


def _note_changes(trial: Trial) -> None:
    if trial.row is None:
        note("There is no policy yet. With one, `default` may do only what [callers.default] grants.")
        note("What the policy has:")
    else:
        note(f"What changes from version {trial.row.version}:" if trial.changes else "Only the text changes.")
    for line in trial.changes:
        note(f"  {line}")


def _note_replay(replayed: Replay) -> None:
    if not any(used.count for used in replayed.totals.values()):
        note("There are no transfers of the last 30 days to try it on.")
        return
    note("What it would have decided about the transfers of the last 30 days:")
    for result, code, count, amount in _total_rows(replayed):
        of = f" ({code})" if code != NOTHING else ""
        note(f"  {result}{of}: {count}, {amount}")


def _print_warnings(warnings: list[str]) -> None:
    for one in warnings:
        warn(one)


def _total_rows(replayed: Replay) -> Iterator[tuple[str, ...]]:
    yield _total_row(Change.SAME, NOTHING, replayed.totals[Change.SAME])
    for (change, code), used in sorted(replayed.by_code.items()):
        yield _total_row(change, code, used)
    if replayed.not_judged.count:
        yield _total_row("not judged", NOTHING, replayed.not_judged)


def _total_row(change: str, code: str, used: Used) -> tuple[str, ...]:
    return change.replace("_", " "), code, f"{used.count:,}", format_cents(used.cents)


def _changed_row(one: Changed, names: Mapping[str, str]) -> tuple[str, ...]:
    attempt = one.attempt
    return (
        shown_time(attempt.created_at),
        attempt.caller,
        format_cents(attempt.amount_cents),
        name_or_id(attempt.source_id, names),
        name_or_id(attempt.destination_id, names),
        one.change.value.replace("_", " "),
        one.code,
    )


def _version_row(row: PolicyRow) -> tuple[str, ...]:
    source = "SEQUENCE_POLICY_FILE" if row.from_file else "policy apply"
    lost = " (text unknown)" if row.text is None else ""
    return str(row.version), shown_time(row.applied_at), f"{source}{lost}", row.sha256.hex()


def _row_as_json(row: PolicyRow) -> dict[str, Any]:
    return {
        "version": row.version,
        "applied_at": row.applied_at.isoformat(),
        "sha256": row.sha256.hex(),
        "from_file": row.from_file,
        "text_known": row.text is not None,
    }


def _used_as_json(used: Used) -> dict[str, int]:
    return {"count": used.count, "amount_cents": used.cents}


def _safe_lines(text: str) -> str:
    # Comments may hold any character; a terminal must not obey them.
    return "".join("\t".join(map(safe, line.split("\t"))) + "\n" for line in text.splitlines())
