"""``init``: asks for what is needed, tries it, and writes the user's own configuration file."""

import getpass
import os
import re
import secrets
import sys
from collections.abc import Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import anyio
import typer
from pydantic import SecretStr, ValidationError

from pysequence_api.cli.program import DECLINED
from pysequence_api.cli.running import Interrupts, can_ask, confirm, run
from pysequence_api.cli.terminal import ask, note, print_line, warn
from pysequence_api.cli.upstream import open_with_status
from pysequence_api.env_files import expanded, quoted_value, user_data_directory, user_file
from pysequence_api.errors import GatewayError, InvalidRequestError, SettingsError
from pysequence_api.files import replace_atomically
from pysequence_api.models import Accounts
from pysequence_api.money import MAX_AMOUNT_CENTS, format_cents, parse_dollars
from pysequence_api.records import read_records
from pysequence_api.settings import SHORT_API_KEY_CHARACTERS, Settings, variable

KEY_BYTES = 32
HEADER = (
    "# Settings of pysequence-api, written by `pysequence-api init`. Keep this file private: it opens your account.\n"
)
CREDENTIALS = ("email", "password", "totp")
ONLY_SIGN_IN = {
    "kyc_id",
    "auth0_client_id",
    "graphql_url",
    "auth_url",
    "app_url",
    "chromium",
    "sign_in_step_seconds",
    "request_interval_seconds",
    "request_jitter_seconds",
}
"""What the Platform API does not need."""
ONLY_PLATFORM = {"platform_url"}
LIMITS = {"max_transfer_cents": "Per-transfer limit in dollars", "max_daily_transfer_cents": "Daily limit in dollars"}
Values = dict[str, Any]
"""The fields of the settings that the file gets."""
Known = tuple[dict[str, str], bool]
"""The ids of the account, each with a description, and whether it has no others."""
SHOWN_PODS = 3


def init(
    data_dir: Annotated[Path | None, typer.Option(help="Directory for the data files. (SEQUENCE_DATA_DIR)")] = None,
    max_transfer: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Per-transfer limit, like 125.00.", show_default=False)
    ] = None,
    max_daily: Annotated[
        str | None, typer.Option(metavar="DOLLARS", help="Daily limit, like 500.00.", show_default=False)
    ] = None,
    org_id: Annotated[str | None, typer.Option(help="Organization id. (SEQUENCE_ORG_ID)")] = None,
    kyc_id: Annotated[str | None, typer.Option(help="KYC id. (SEQUENCE_KYC_ID)")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file without asking.")] = False,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Ask nothing: use the options, what is set, and the proposals.")
    ] = False,
) -> None:
    """Write your settings to a file of your own.

    Asks for a key of Sequence's Platform API (recommended) or how to sign in, for the limits and for the data
    directory, tries this with a read, and creates an API key for your programs. Writes to pysequence-api/env in
    $XDG_CONFIG_HOME (~/.config), readable only by you. Every command reads that file. SEQUENCE_* variables that are set
    already are proposed. With --yes, secrets come from them: SEQUENCE_PLATFORM_KEY; or SEQUENCE_EMAIL,
    SEQUENCE_PASSWORD and SEQUENCE_TOTP; or SEQUENCE_ACCESS_TOKEN.

    \b
    Example:
      pysequence-api init
      SEQUENCE_PLATFORM_KEY=sk_... pysequence-api init --yes --max-transfer 125.00 --max-daily 500.00
    """
    path = user_file()
    if path is None:
        raise SettingsError("This user has no home directory. Set XDG_CONFIG_HOME to an absolute path.")
    if not yes and not can_ask():
        raise InvalidRequestError(
            "Not a terminal; set the SEQUENCE_* variables and pass --yes to be asked nothing. Nothing was written."
        )
    present = Settings.load()
    if present.sandbox:
        raise InvalidRequestError(f"The sandbox needs no settings. Unset {variable('sandbox')} for the real account.")
    limits = {"max_transfer_cents": max_transfer, "max_daily_transfer_cents": max_daily}
    given = {name: _cents(f"--{name.removesuffix('_cents')}", text) for name, text in limits.items() if text}
    _check_overwriting(path, overwrite=overwrite, yes=yes)
    answers: _Answers = _Unattended(present) if yes else _Person(present)
    way = answers.way()
    values = _set_values(present, way)
    values["data_dir"] = answers.directory(data_dir or _proposed_directory(present))
    accounts = _tried_sign_in(answers, way, values)
    if way is not _Way.PLATFORM:
        values |= answers.ids(accounts, org_id, kyc_id)
    elif org_id is not None:
        values["org_id"] = org_id
    values |= answers.limits(given)
    values["api_key"] = _key(present)
    values.setdefault("server_host", "127.0.0.1")
    _write(path, _checked(values))
    _say_how_to_start(path, values)


class _Way(Enum):
    """The ways to Sequence, each with what a person types to choose it."""

    PLATFORM = "1"
    LOGIN = "2"
    TOKEN = "3"


class _Unattended:
    """Answers with what is set, and with the proposals.

    Args:
        present: what is set already.
    """

    can_repeat = False

    def __init__(self, present: Settings) -> None:
        self._present = present

    def directory(self, proposed: Path) -> Path:
        """Return the data directory."""
        return expanded(proposed).absolute()

    def way(self) -> _Way:
        """Return the way that is set."""
        if self._present.uses_platform:
            return _Way.PLATFORM
        return _Way.LOGIN if self._present.access_token is None else _Way.TOKEN

    def sign_in(self, way: _Way) -> Values:
        """Return the credentials.

        Raises:
            SettingsError: some are missing.
        """
        if way is _Way.PLATFORM:
            return {"platform_key": self._present.platform_key}
        if way is _Way.TOKEN:
            return {"access_token": self._present.access_token}
        missing = [variable(name) for name in CREDENTIALS if getattr(self._present, name) is None]
        if missing:
            needed = f"Set {variable('platform_key')}; or {', '.join(missing)}; or {variable('access_token')}"
            raise SettingsError(f"There is no way to Sequence. {needed}. Nothing was written.")
        return {name: getattr(self._present, name) for name in CREDENTIALS}

    def ids(self, accounts: Accounts | None, org_id: str | None, kyc_id: str | None) -> Values:
        """Return the organization id and the KYC id.

        Raises:
            SettingsError: one of several must be chosen, or one is not the account's.
        """
        return {
            "org_id": self._id("org_id", org_id, *_known_organizations(accounts)),
            "kyc_id": self._id("kyc_id", kyc_id, *_known_kyc(accounts)),
        }

    def limits(self, given: Values) -> Values:
        """Return both limits in cents."""
        return {name: given.get(name, getattr(self._present, name)) for name in LIMITS}

    def _id(self, name: str, given: str | None, known: dict[str, str], is_complete: bool) -> str | None:
        chosen = given or getattr(self._present, name) or (next(iter(known)) if len(known) == 1 else None)
        if chosen not in known and is_complete:
            option = f"--{name.replace('_', '-')}"
            raise SettingsError(f"Pass {option} with one of: {', '.join(known) or 'none'}. Nothing was written.")
        return chosen


class _Person:
    """Asks a person.

    Args:
        present: what is set already, which is proposed.
    """

    can_repeat = True

    def __init__(self, present: Settings) -> None:
        self._present = present

    def directory(self, proposed: Path) -> Path:
        """Ask for the data directory."""
        return expanded(Path(_ask("Data directory", str(proposed)))).absolute()

    def way(self) -> _Way:
        """Ask for the way to Sequence."""
        present = self._present
        note("How should the gateway reach your account?")
        note("  1  a key of Sequence's Platform API (recommended: it can do only what you allow it, and never expires)")
        note("  2  email, password and the secret of your authenticator (it signs in as you, in a browser)")
        note("  3  an access token (until the token expires)")
        has_login = present.email is not None or present.password is not None
        proposal = _Way.LOGIN if has_login else _Way.PLATFORM
        proposal = proposal if present.access_token is None else _Way.TOKEN
        proposal = _Way.PLATFORM if present.uses_platform else proposal
        return _Way(_ask_for("Reach it with", [way.value for way in _Way], proposal.value))

    def sign_in(self, way: _Way) -> Values:
        """Ask for the credentials."""
        present = self._present
        if way is _Way.PLATFORM:
            note("Create a key in Sequence's dashboard: Settings, API Keys. Let it read accounts and transfers, and")
            note("move money between the accounts that your programs may use.")
            key = _ask_secret("Key (sk_...)", present.platform_key).get_secret_value()
            return {"platform_key": SecretStr(key.strip())}
        if way is _Way.TOKEN:
            token = _ask_secret("Access token", present.access_token).get_secret_value()
            return {"access_token": SecretStr(token.strip())}
        return {
            "email": _ask("Email", present.email or "", required=True),
            "password": _ask_secret("Password", present.password),
            "totp": _ask_authenticator_secret(present.totp),
            "auth0_client_id": _ask(
                "Auth0 client id, to renew tokens without a login (optional)", present.auth0_client_id or ""
            ),
        }

    def ids(self, accounts: Accounts | None, org_id: str | None, kyc_id: str | None) -> Values:
        """Ask for the organization id and the KYC id; propose the account's."""
        asked = (
            ("org_id", org_id, "Organization id", _known_organizations(accounts)),
            ("kyc_id", kyc_id, "KYC id", _known_kyc(accounts)),
        )
        return {name: self._asked_id(name, given, question, *known) for name, given, question, known in asked}

    def limits(self, given: Values) -> Values:
        """Ask for both limits."""
        return {
            name: given[name] if name in given else _ask_cents(question, getattr(self._present, name))
            for name, question in LIMITS.items()
        }

    def _asked_id(
        self, name: str, given: str | None, question: str, known: dict[str, str], is_complete: bool
    ) -> str | None:
        present = given or getattr(self._present, name)
        if present is not None and is_complete and present not in known:
            warn(f"{variable(name)} {present!r} does not belong to this account.")
            present = None
        for number, (identifier, described) in enumerate(known.items(), 1):
            note(f"  {number}  {identifier}  {described}".rstrip())
        proposal = present or next(iter(known), "")
        if not is_complete:
            return _ask(question, proposal) or None
        numbers = {str(number): identifier for number, identifier in enumerate(known, 1)}
        answer = _ask_for(question, (*known, *numbers), proposal)
        return numbers.get(answer, answer)


_Answers = _Unattended | _Person


def _known_organizations(accounts: Accounts | None) -> Known:
    if accounts is None:
        return {}, False
    known = {}
    for organization_id in accounts.organization_ids:
        names = [pod.name or "unnamed" for pod in accounts.pods if pod.organization_id == organization_id]
        known[organization_id] = f"{len(names)} pods: {', '.join(names[:SHOWN_PODS])}"
    return known, accounts.complete


def _known_kyc(accounts: Accounts | None) -> Known:
    known = None if accounts is None else accounts.kyc_ids
    return dict.fromkeys(known or (), ""), known is not None


def _check_overwriting(path: Path, *, overwrite: bool, yes: bool) -> None:
    if overwrite or not os.path.lexists(path):
        return
    if yes:
        raise InvalidRequestError(f"{path} exists. Pass --overwrite to replace it. Nothing was written.")
    if not anyio.run(confirm, f"{path} exists. Replace it? What is set in it is proposed."):
        note("Nothing was written.")
        raise typer.Exit(DECLINED)


def _set_values(present: Settings, way: _Way) -> Values:
    """Return what is set already, without credentials, which are asked for, and what is for the other way only."""
    left_out = {*CREDENTIALS, "access_token", "platform_key", "upstream"}
    left_out |= ONLY_SIGN_IN if way is _Way.PLATFORM else ONLY_PLATFORM
    fields = Settings.model_fields
    set_values = {name: getattr(present, name) for name in present.model_fields_set if name not in left_out}
    values = {name: value for name, value in set_values.items() if value != fields[name].default}
    if way is not _Way.PLATFORM and present.platform_key is not None:
        values["upstream"] = "graphql"  # or the key would win
    return values


def _proposed_directory(present: Settings) -> Path:
    """Return the data directory that is set or in use, else one that does not depend on the current directory."""
    is_in_use = "data_dir" in present.model_fields_set or not read_records(present.data_directory).is_new
    proposed = present.data_dir if is_in_use else user_data_directory()
    return (proposed or present.data_dir).absolute()


def _tried_sign_in(answers: _Answers, way: _Way, values: Values) -> Accounts | None:
    """Add the credentials to the values, and read the account with them; ``None`` if a person does without."""
    while True:
        found = answers.sign_in(way)
        trial = values | {name: value for name, value in found.items() if value}
        try:
            note("Reading the account to try this...")
            accounts = run(partial(_read, _checked(trial)), if_interrupted="Nothing was written.")
        except GatewayError as error:
            if not answers.can_repeat:
                raise
            warn(str(error))
        else:
            values |= trial
            note(f"It works: {len(accounts.pods)} pods.")
            return accounts
        if anyio.run(confirm, "Enter it again?"):
            continue
        if not anyio.run(confirm, "Write the file anyway, untried?"):
            note("Nothing was written.")
            raise typer.Exit(DECLINED)
        values |= trial
        return None


async def _read(settings: Settings, _: Interrupts) -> Accounts:
    async with open_with_status(settings) as gateway:
        return await gateway.client.accounts(balances=False)


def _checked(values: Values) -> Settings:
    # Not `load`: the environment must not fill in what the file will not have.
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        names = sorted({variable(str(each["loc"][0])) for each in error.errors(include_url=False) if each["loc"]})
        raise SettingsError(f"{', '.join(names) or 'A value'} is not valid.") from None


def _key(present: Settings) -> SecretStr:
    key = present.api_key
    is_long = key is not None and len(key.get_secret_value()) >= SHORT_API_KEY_CHARACTERS
    return key if key is not None and is_long else SecretStr(secrets.token_urlsafe(KEY_BYTES))


def _write(path: Path, settings: Settings) -> None:
    lines = [
        f"{variable(name)}={quoted_value(_text(getattr(settings, name)))}\n"
        for name in Settings.model_fields
        if name in settings.model_fields_set and getattr(settings, name) is not None
    ]
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        replace_atomically(path, (HEADER + "".join(lines)).encode())
    except OSError as error:
        raise SettingsError(f"{path} cannot be written ({error.strerror}).") from error


def _text(value: Any) -> str:
    if isinstance(value, SecretStr):
        return value.get_secret_value()
    if isinstance(value, tuple):
        return ",".join(map(_text, value)) or "none"  # of the settings, only a choice of events can be empty
    return str(value)


def _say_how_to_start(path: Path, values: Values) -> None:
    print_line(f"Wrote {path}. Every command reads it.")
    stronger = sorted(name for name in os.environ if name in {variable(field) for field in values})
    if stronger:
        note(f"Set in the environment, too, which takes precedence: {', '.join(stronger)}.")
    if values.get("access_token"):
        note("The access token cannot be renewed. When it has expired, run `pysequence-api init` again.")
    note(f"Programs send the key in the header X-API-Key. It is in the file as {variable('api_key')}.")
    note("Check everything:  pysequence-api doctor")
    note("Show your pods:    pysequence-api pods")
    note("Start the server:  pysequence-api serve")
    note("Limit programs:    pysequence-api help policy")


def _ask(question: str, proposal: str = "", *, required: bool = False) -> str:
    while True:
        ask(f"{question} [{proposal}]:" if proposal else f"{question}:")
        line = sys.stdin.readline()
        if not line:
            raise InvalidRequestError("The input ended. Nothing was written.")
        answer = line.strip() or proposal
        if answer or not required:
            return answer


def _ask_for(question: str, allowed: Sequence[str], proposal: str) -> str:
    while True:
        answer = _ask(question, proposal)
        if answer in allowed:
            return answer
        note(f"Answer with one of: {', '.join(allowed)}")


def _ask_secret(question: str, present: SecretStr | None) -> SecretStr:
    keep = ", empty to keep the present one" if present is not None else ""
    while True:
        try:
            answer = getpass.getpass(f"{question} (hidden{keep}): ", stream=sys.stderr)
        except EOFError:
            raise InvalidRequestError("The input ended. Nothing was written.") from None
        if answer.strip():
            return SecretStr(answer)
        if present is not None:
            return present


def _ask_authenticator_secret(present: SecretStr | None) -> SecretStr:
    while True:
        secret = _ask_secret("Authenticator secret (base32 or otpauth://)", present)
        if not re.fullmatch(r"\s*\d{6}\s*", secret.get_secret_value(), re.ASCII):
            return secret
        note("These are the current six digits, which work once. Enter the secret that makes them.")
        present = None


def _ask_cents(question: str, proposal_cents: int) -> int:
    while True:
        try:
            return _cents(question, _ask(question, format_cents(proposal_cents)))
        except InvalidRequestError as error:
            note(str(error))


def _cents(name: str, text: str) -> int:
    try:
        cents = parse_dollars(text)
    except ValueError:
        raise InvalidRequestError(f"{name}: {text!r} is not an amount with cents. Write it like 125.00.") from None
    if cents > MAX_AMOUNT_CENTS:
        raise InvalidRequestError(f"{name} can be at most {format_cents(MAX_AMOUNT_CENTS)}.")
    return cents
