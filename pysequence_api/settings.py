"""Every ``SEQUENCE_*`` variable, once."""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, TypeAdapter, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    NoDecode,
    SecretsSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from pysequence_api.errors import SettingsError
from pysequence_api.money import MAX_AMOUNT_CENTS

PREFIX = "SEQUENCE_"
SECRETS_DIRECTORY = Path("/run/secrets")
SHORT_API_KEY_CHARACTERS = 16
"""A key under this length gets a warning at every start."""
OWN_PATHS = {"api", "metrics", "openapi.json", "docs"}
"""How the paths of the server begin. A root path must differ, or it would be unclear whether a proxy removed it."""


SANDBOX_DEFAULTS: dict[str, Any] = {
    "api_key": "sandbox",
    "server_host": "127.0.0.1",
    "request_interval_seconds": 0.0,
    "request_jitter_seconds": 0.0,
}


def is_loopback(host: str) -> bool:
    """Say whether a host name or address can only be this machine."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _safe_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ValueError("must be an address like https://app.getsequence.io") from None
    if parts.username is not None or parts.password is not None:
        raise ValueError("must not hold a user name or a password")
    if not host or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(host))):
        raise ValueError(
            "must begin with https:// (http:// only to this machine), or credentials could be read on the way"
        )
    if parts.query or parts.fragment:
        raise ValueError("must not hold a query or a fragment")
    return url.rstrip("/")


def _plain_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if text != text.strip() or not (text.isascii() and text.isprintable()):
        raise ValueError("must be printable ASCII without spaces around it, because it travels in a header")
    return key


_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def _host_names(hosts: object) -> object:
    if not isinstance(hosts, str):
        return hosts
    names = tuple(name.strip().lower() for name in hosts.split(","))
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("must be host names like pods.example.net, with commas between them, without ports")
    return names


def _safe_root_path(path: str) -> str:
    segments = path.removesuffix("/").split("/")[1:]
    if not path.startswith("/") or not all(re.fullmatch(r"[A-Za-z0-9._~-]+", name) for name in segments):
        raise ValueError("must be a path like /sequence")
    if {".", ".."} & set(segments):
        raise ValueError("must not contain . or .. as a part")
    if segments and segments[0] in OWN_PATHS:
        raise ValueError(f"must not begin with /{segments[0]}, where the server's own paths begin")
    return path.removesuffix("/")


HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names)]
RootPath = Annotated[str, AfterValidator(_safe_root_path)]
SafeUrl = Annotated[str, AfterValidator(_safe_url)]


class Settings(BaseSettings):
    """What the environment, ``.env`` and ``/run/secrets`` say, in this order of precedence.

    A field ``name`` is the variable ``SEQUENCE_NAME``. An empty value counts as unset.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=".env",
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
        validate_default=False,
    )

    # The door.
    api_key: Annotated[SecretStr, AfterValidator(_plain_key)] | None = Field(
        None, description="The key that programs send as X-API-Key."
    )
    server_host: str = Field("0.0.0.0", description="The address that the server binds.")
    server_port: int = Field(8720, ge=1, le=65535, description="The port that the server binds.")

    allowed_hosts: HostNames = Field(
        (), description="The host names, comma-separated, that the server answers to; without any, to every name."
    )
    root_path: RootPath = Field(
        "", description="The path, such as /sequence, under which a proxy in front offers the server."
    )
    log_format: Literal["json", "text"] | None = Field(
        None, description="The form of a server's log: json or text; text on a terminal and json elsewhere if not set."
    )

    # The safeguards.
    max_transfer_cents: int = Field(1_000_000, ge=0, le=MAX_AMOUNT_CENTS, description="Per-transfer limit in cents.")
    max_daily_transfer_cents: int = Field(
        2_500_000, ge=0, le=10**15, description="Daily limit in cents, over all transfers of a UTC day."
    )
    max_transfer_attempts_per_minute: int = Field(
        60, ge=1, le=10_000, description="Transfers that may be asked for in a minute; beyond it 429."
    )
    data_dir: Path = Field(Path(), description="Directory for the data files; created if missing.")

    # The account at Sequence.
    email: str | None = Field(None, description="Login email for GetSequence.")
    password: SecretStr | None = Field(None, description="Login password.")
    totp: SecretStr | None = Field(
        None, description="Secret of the authenticator (base32 or otpauth://), or the current six digits."
    )
    org_id: str | None = Field(None, description="Organization id, the default of routes that need one.")
    kyc_id: str | None = Field(None, description="KYC application id, the default for transfers.")
    auth0_client_id: str | None = Field(None, description="Auth0 client id, needed to refresh a token.")
    access_token: SecretStr | None = Field(
        None, description="An access token got elsewhere; goes before the token cache."
    )

    # The way to Sequence.
    graphql_url: SafeUrl = Field("https://app.getsequence.io/api/graphql", description="Where GraphQL requests go.")
    auth_url: SafeUrl = Field("https://auth.getsequence.io", description="Where tokens are refreshed.")
    app_url: SafeUrl = Field("https://app.getsequence.io", description="The web application, for the login.")
    chromium: Path | None = Field(None, description="Chromium for the login; without it, an installed one is found.")
    sign_in_step_seconds: float = Field(
        30.0, gt=0, le=300, allow_inf_nan=False, description="One step of a login in the browser, a page for example."
    )
    request_interval_seconds: float = Field(
        1.5,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Least distance of two requests to Sequence, start to start.",
    )
    request_jitter_seconds: float = Field(
        2.0, ge=0, le=3600, allow_inf_nan=False, description="A random part, up to this, on top of the interval."
    )
    request_timeout_seconds: float = Field(
        20.0, gt=0, le=600, allow_inf_nan=False, description="One request to Sequence in all; keep it under 30."
    )
    reconcile_grace_seconds: float = Field(
        600.0,
        gt=0,
        le=86_400,
        allow_inf_nan=False,
        description=(
            "How long after it was sent a transfer that is not in the activity counts as not executed. It must be"
            " longer than Sequence may take to show a transfer, or one that moved would be forgotten."
        ),
    )
    sandbox: bool = Field(False, description="Use the simulated Sequence, on a data directory of its own.")

    @model_validator(mode="before")
    @classmethod
    def _complete(cls, values: dict[str, Any]) -> dict[str, Any]:
        return _with_sandbox_defaults(_without_blanks(values))

    @model_validator(mode="after")
    def _grace_is_long_enough(self) -> Self:
        if self.reconcile_grace_seconds < 2 * self.request_timeout_seconds:
            raise PydanticCustomError(
                "grace",
                "must be at least twice SEQUENCE_REQUEST_TIMEOUT_SECONDS, or the request could still be on its way",
            )
        return self

    @property
    def data_directory(self) -> Path:
        """Where the data files are. The sandbox has its own, so that nothing pretended gets into a real trail."""
        return self.data_dir / "sandbox" if self.sandbox else self.data_dir

    @classmethod
    def load(cls, *, required: Iterable[str] = (), **overrides: Any) -> Self:
        """Read the settings.

        Args:
            required: names of fields that the caller cannot do without.
            overrides: values that go before all sources; ``None`` overrides nothing.

        Returns:
            The settings, with everything that is required.

        Raises:
            SettingsError: with all that is missing or wrong in one message, and no value in it.
        """
        given = {name: value for name, value in overrides.items() if value is not None}
        secrets = SECRETS_DIRECTORY if SECRETS_DIRECTORY.is_dir() else None
        sources = (
            SecretsSettingsSource(cls, secrets),
            DotEnvSettingsSource(cls),
            EnvSettingsSource(cls),
        )
        try:
            values: dict[str, Any] = {}
            for source in sources:
                values |= source()
        except (SourceError, OSError, UnicodeDecodeError) as error:
            raise SettingsError(
                f"The settings cannot be read: {type(error).__name__} in .env or {SECRETS_DIRECTORY}."
            ) from error
        values |= given
        problems = []
        settings = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems = [_describe(cls, detail["loc"], detail["msg"]) for detail in error.errors(include_url=False)]
        completed = _with_sandbox_defaults(_without_blanks(values))
        problems += [
            f"{variable(name)} is not set. {cls.model_fields[name].description}"
            for name in required
            if name not in completed
        ]
        if settings is None or problems:
            raise SettingsError("\n  ".join(["The settings cannot be used:", *problems]))
        return settings


def unknown_variables() -> dict[str, str | None]:
    """Find variables that begin as ours do and set nothing, each with the one that may be meant.

    Raises:
        SettingsError: ``.env`` cannot be read.
    """
    try:
        given = {**DotEnvSettingsSource(Settings).env_vars, **EnvSettingsSource(Settings).env_vars}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"The settings cannot be read: {type(error).__name__} in .env.") from error
    known = {variable(name) for name in Settings.model_fields}
    names = sorted(name.upper() for name in given if name.upper().startswith(PREFIX))
    return {name: next(iter(get_close_matches(name, known)), None) for name in names if name not in known}


def variable(name: str) -> str:
    """Give the name of the variable that sets a field."""
    return PREFIX + name.upper()


def _without_blanks(values: dict[str, Any]) -> dict[str, Any]:
    # The sources drop what is empty; a secret file with only a line break, or spaces, is as empty.
    return {name: value for name, value in values.items() if not (isinstance(value, str) and not value.strip())}


def _with_sandbox_defaults(values: dict[str, Any]) -> dict[str, Any]:
    try:
        sandbox = TypeAdapter(bool).validate_python(values.get("sandbox", False))
    except ValidationError:
        sandbox = False  # the field's own validation reports it
    return SANDBOX_DEFAULTS | values if sandbox else values


def _describe(model: type[Settings], location: tuple[int | str, ...], message: str) -> str:
    name = str(location[0]) if location else "reconcile_grace_seconds"
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if text != message and message.startswith("Input"):
        text = f"should be {text}"
    return f"{variable(name)} {text}. {model.model_fields[name].description}"
