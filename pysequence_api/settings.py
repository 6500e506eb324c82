"""Every ``SEQUENCE_*`` variable, once."""

import logging
import os
import re
from collections.abc import Callable, Iterable, Mapping
from difflib import SequenceMatcher, get_close_matches
from enum import StrEnum
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings, EnvSettingsSource, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from pysequence_api.env_files import (
    ENV_FILE,
    PREFIX,
    EnvFile,
    expanded,
    files_read,
    ignored_file,
    read_secrets,
)
from pysequence_api.errors import SettingsError
from pysequence_api.money import MAX_AMOUNT_CENTS

OTP_SECRET_CHARACTERS = 32
"""The length of a new secret of the owner's authenticator: 160 bits."""
MIN_OTP_SECRET_CHARACTERS = 26
"""128 bits, which RFC 4226 demands."""
SHORT_API_KEY_CHARACTERS = 16
"""A shorter key can be guessed."""
PLATFORM_KEY_BEGIN = "sk_"
ONLY_ORGANIZATION = "default"
"""The id of the organization behind a key of the Platform API, which has no ids of organizations."""
OWN_PATHS = {"api", "metrics", "openapi.json", "docs"}
"""How the paths of the server begin. A root path must differ, or it would be unclear whether a proxy removed it."""
ACCOUNT_IDS = ("org_id", "kyc_id")
"""Ids of the real account. The simulated Sequence has its own."""
NAMES_OF_CLIENTS = {"SEQUENCE_API_URL"}
"""Variables that programs which call the server use."""
SYNONYMS = {"LIMIT": "MAX", "LIMITS": "MAX", "DAY": "DAILY", "DOLLARS": "CENTS", "ORGANIZATION": "ORG"}
"""Other words for the parts of our names."""
MIN_WORD_CHARACTERS = 3
MIN_LIKENESS = 0.75
"""Names and words that differ more than this are not taken for each other."""

log = logging.getLogger(__name__)
_LINK = re.compile(r"SEQUENCE_(\w+_)?(SERVICE_(HOST|PORT)(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_\w+)?)")
_LINK_ADDRESS = re.compile(r"(tcp|udp|sctp)://")
_warned: set[Path] = set()
Required = Callable[[Mapping[str, Any]], Iterable[str]]


class NotifyEvent(StrEnum):
    """What the owner can be told about."""

    APPROVAL = "approval"
    FREEZE = "freeze"
    UNKNOWN = "unknown"
    RETURNED = "returned"
    POLICY = "policy"
    KEY = "key"
    OWNER = "owner"
    RECORDS = "records"
    SIGN_IN = "sign_in"
    MONTH = "month"
    REFUSAL = "refusal"


MAX_NOTIFY_URLS = 10

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


def _platform_key(key: SecretStr) -> SecretStr:
    text = _plain_key(key).get_secret_value()
    if not text.startswith(PLATFORM_KEY_BEGIN) or " " in text:
        raise ValueError(f"must be a key of Sequence's Platform API, which begins with {PLATFORM_KEY_BEGIN}")
    return key


def _otp_secret(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip()
    if text.lower().startswith("otpauth://"):
        query = parse_qs(urlsplit(text).query)
        if any(query.get(name, [usual]) != [usual] for name, usual in _OTP_DEFAULTS.items()):
            raise ValueError("must make codes of six digits every 30 seconds, with SHA1")
        text = query.get("secret", [""])[0]
    plain = re.sub(r"[\s-]", "", text).rstrip("=").upper()
    if _BASE32.fullmatch(plain) is None or len(plain) < MIN_OTP_SECRET_CHARACTERS:
        raise ValueError(
            f"must be a secret in base32 of at least {MIN_OTP_SECRET_CHARACTERS} characters, or an otpauth:// address"
        )
    return SecretStr(plain[: len(plain) - (len(plain) % 8 in {1, 3, 6})])


_OTP_DEFAULTS = {"period": "30", "digits": "6", "algorithm": "SHA1"}
_BASE32 = re.compile(r"[A-Z2-7]+")
_HOST = re.compile(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]")


def _host_names(hosts: object) -> object:
    if not isinstance(hosts, str):
        return hosts
    names = tuple(name.strip().lower() for name in hosts.split(","))
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("must be host names like pods.example.net, with commas between them, without ports")
    return names


def _origin(url: str) -> str:
    url = _safe_url(url)
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.path:
        raise ValueError("must be an address like https://owner.example.net, without a path")
    return url.lower()


_BETWEEN_URLS = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9]*://)")
"""A comma can also be part of a URL, so it separates two only where another one begins."""


def _urls(urls: object) -> object:
    if not isinstance(urls, str):
        return urls
    found = _BETWEEN_URLS.split(urls.strip(", \t\r\n"))
    if len(found) > MAX_NOTIFY_URLS:
        raise ValueError(f"must be at most {MAX_NOTIFY_URLS} URLs")
    return tuple(map(SecretStr, found))


def _notify_events(events: object) -> object:
    if not isinstance(events, str):
        return events
    names = [name.strip().lower() for name in events.split(",") if name.strip()]
    if not set(names) <= {*NotifyEvent, "all", "none"} or ({"all", "none"} & set(names) and len(names) > 1):
        raise ValueError(f"must be all, none, or some of these with commas between them: {', '.join(NotifyEvent)}")
    chosen = {"all": [*NotifyEvent], "none": []}.get(names[0], names) if names else []
    return tuple(NotifyEvent(name) for name in chosen)


def _safe_root_path(path: str) -> str:
    segments = path.removesuffix("/").split("/")[1:]
    if (path and not path.startswith("/")) or not all(re.fullmatch(r"[A-Za-z0-9._~-]+", name) for name in segments):
        raise ValueError("must be a path like /sequence")
    if {".", ".."} & set(segments):
        raise ValueError("must not contain . or .. as a part")
    if segments and segments[0] in OWN_PATHS:
        raise ValueError(f"must not begin with /{segments[0]}, where the server's own paths begin")
    return path.removesuffix("/")


def _without_tilde(path: Path) -> Path:
    try:
        return expanded(path)
    except SettingsError:
        raise ValueError("begins with ~, but that home directory is unknown") from None


HostNames = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_host_names)]
NotifyUrls = Annotated[tuple[SecretStr, ...], NoDecode, BeforeValidator(_urls)]
NotifyEvents = Annotated[tuple[NotifyEvent, ...], NoDecode, BeforeValidator(_notify_events)]
RootPath = Annotated[str, AfterValidator(_safe_root_path)]
SafeUrl = Annotated[str, AfterValidator(_safe_url)]
Origin = Annotated[str, AfterValidator(_origin)]
ExpandedPath = Annotated[Path, AfterValidator(_without_tilde)]


class Settings(BaseSettings):
    """Every setting. A field ``name`` is the variable ``SEQUENCE_NAME``. Create it with `load`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, extra="ignore", frozen=True, hide_input_in_errors=True, validate_default=False
    )

    # The server.
    api_key: Annotated[SecretStr, AfterValidator(_plain_key)] | None = Field(
        None, description="The key that programs send as X-API-Key."
    )
    server_host: str = Field("0.0.0.0", description="The address that the server binds.")
    server_port: int = Field(8720, ge=1, le=65535, description="The port that the server binds.")
    server_socket: ExpandedPath | None = Field(
        None, description="The Unix socket that the server listens on, instead of an address and a port."
    )
    tls_certificate: ExpandedPath | None = Field(
        None, description="File with the server's TLS certificate and its chain, in PEM format."
    )
    tls_key: ExpandedPath | None = Field(None, description="File with the key of the TLS certificate, in PEM format.")
    allowed_hosts: HostNames = Field(
        (), description="The host names, comma-separated, that the server answers to; without any, to every name."
    )
    root_path: RootPath = Field(
        "", description="The path, such as /sequence, under which a proxy in front offers the server."
    )
    log_format: Literal["json", "text"] | None = Field(
        None, description="The form of a server's log: json or text; text on a terminal and json elsewhere if not set."
    )

    # The owner's page.
    owner_port: int | None = Field(
        None, ge=0, le=65535, description="The port of the owner's page. Without it, or with 0, there is no page."
    )
    owner_host: str = Field("127.0.0.1", description="The address of the owner's page; others need TLS.")
    owner_proxy: Origin | None = Field(
        None, description="The https:// address under which a proxy offers the owner's page."
    )

    # The safeguards.
    max_transfer_cents: int = Field(1_000_000, ge=0, le=MAX_AMOUNT_CENTS, description="Per-transfer limit in cents.")
    max_daily_transfer_cents: int = Field(
        2_500_000, ge=0, le=10**15, description="Daily limit in cents, over all transfers of a UTC day."
    )
    max_transfer_attempts_per_minute: int = Field(
        60,
        ge=1,
        le=10_000,
        description="Transfers, and as many previews, that each caller may ask for in a minute; beyond it 429.",
    )
    policy_file: ExpandedPath | None = Field(
        None, description="File with the policy; the start of the server applies it if it was changed."
    )
    data_dir: ExpandedPath = Field(Path(), description="Directory for the data files; created if missing.")

    # Telling the owner, and asking the owner.
    notify_urls: NotifyUrls = Field(
        (), description="Where messages to you go: Apprise URLs, with commas or spaces between them."
    )
    notify_events: NotifyEvents = Field(
        tuple(NotifyEvent), description="Events that get a message: all, none, or some with commas between them."
    )
    notify_above_cents: int | None = Field(
        None, ge=0, le=MAX_AMOUNT_CENTS, description="Transfers of more than this many cents get a message, too."
    )
    owner_totp: Annotated[SecretStr, AfterValidator(_otp_secret)] | None = Field(
        None,
        description=(
            "Secret of the owner's own authenticator (base32 or otpauth://), for approvals; without it, the one of"
            " `owner setup`."
        ),
    )

    # The account at Sequence.
    platform_key: Annotated[SecretStr, AfterValidator(_platform_key)] | None = Field(
        None, description="Key of Sequence's Platform API (sk_...). It replaces the login and all ids."
    )
    upstream: Literal["graphql", "platform"] | None = Field(
        None, description="The API of Sequence to use: platform if there is a key for it, else graphql, if not set."
    )
    email: str | None = Field(None, description="Login email for GetSequence. SEQUENCE_ACCESS_TOKEN replaces it.")
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
    platform_url: SafeUrl = Field(
        "https://api.getsequence.io/platform/v1", description="Where requests of the Platform API go."
    )
    graphql_url: SafeUrl = Field("https://app.getsequence.io/api/graphql", description="Where GraphQL requests go.")
    auth_url: SafeUrl = Field("https://auth.getsequence.io", description="Where tokens are refreshed.")
    app_url: SafeUrl = Field("https://app.getsequence.io", description="The web application, for the login.")
    chromium: ExpandedPath | None = Field(None, description="Chromium for the login; by default an installed one.")
    sign_in_step_seconds: float = Field(
        30.0, gt=0, le=300, allow_inf_nan=False, description="One step of a login in the browser, a page for example."
    )
    request_interval_seconds: float = Field(
        1.5,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="Least distance of two requests to Sequence, start to start (GraphQL only).",
    )
    request_jitter_seconds: float = Field(
        2.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description="A random part, up to this, on top of the interval (GraphQL only).",
    )
    request_timeout_seconds: float = Field(
        20.0, gt=0, le=600, allow_inf_nan=False, description="One request to Sequence in all; keep it under 30."
    )
    read_max_age_seconds: float = Field(
        10.0,
        ge=0,
        le=3600,
        allow_inf_nan=False,
        description=(
            "An answer of Sequence that is younger than this answers a read again, of any caller or command, unless it"
            " has Cache-Control: no-cache or --fresh, or a transfer came between. 0 always asks Sequence."
        ),
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
        return SANDBOX_DEFAULTS | values if is_sandbox(values) else values

    @model_validator(mode="after")
    def _grace_is_long_enough(self) -> Self:
        if self.reconcile_grace_seconds < 2 * self.request_timeout_seconds:
            raise PydanticCustomError(
                "reconcile_grace_seconds",
                "must be at least twice SEQUENCE_REQUEST_TIMEOUT_SECONDS, or the request could still be on its way",
            )
        return self

    @model_validator(mode="after")
    def _tls_is_complete(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            missing, present = ("tls_certificate", "tls_key")[:: 1 if self.tls_certificate is None else -1]
            raise PydanticCustomError(missing, f"is not set, but {PREFIX}{present.upper()} is; set both, or neither")
        if self.tls_key is not None and self.server_socket is not None:
            raise PydanticCustomError("server_socket", "needs no TLS; unset it, or the certificate and its key")
        return self

    @model_validator(mode="after")
    def _page_is_safe(self) -> Self:
        if not self.has_page:
            return self
        if not (is_loopback(self.owner_host) or self.tls_key is not None or self.owner_proxy is not None):
            raise PydanticCustomError(
                "owner_host",
                "needs TLS, because a browser keeps the session over https only: set SEQUENCE_TLS_CERTIFICATE and"
                " SEQUENCE_TLS_KEY, or SEQUENCE_OWNER_PROXY if a proxy in front has TLS",
            )
        if self.owner_port == self.server_port and self.server_socket is None:
            raise PydanticCustomError("owner_port", "must not be the port of the server, SEQUENCE_SERVER_PORT")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read nothing but the given values; `load` puts them together."""
        return (init_settings,)

    @model_validator(mode="after")
    def _platform_has_a_key(self) -> Self:
        if self.upstream == "platform" and self.platform_key is None and not self.sandbox:
            raise PydanticCustomError("platform_key", "is not set, but SEQUENCE_UPSTREAM is platform")
        return self

    @property
    def has_page(self) -> bool:
        """Whether the server offers the owner's page."""
        return bool(self.owner_port)

    @property
    def uses_platform(self) -> bool:
        """Whether Sequence is reached through its Platform API."""
        return is_platform({"upstream": self.upstream, "platform_key": self.platform_key})

    @property
    def upstream_url(self) -> str:
        """Where requests to Sequence go."""
        return self.platform_url if self.uses_platform else self.graphql_url

    @property
    def default_organization_id(self) -> str | None:
        """The organization of routes that name none."""
        return self.org_id or (ONLY_ORGANIZATION if self.uses_platform else None)

    @property
    def data_directory(self) -> Path:
        """Where the data files are. The sandbox has its own, so that nothing pretended gets into a real trail."""
        return self.data_dir / "sandbox" if self.sandbox else self.data_dir

    @classmethod
    def load(cls, **overrides: Any) -> Self:
        """Read the settings from the environment, the named file, the user's file and ``/run/secrets``.

        The environment takes precedence over the named file, and so on in this order. An empty value counts as unset.

        Args:
            overrides: values that take precedence over all sources; ``None`` overrides nothing.

        Raises:
            SettingsError: with all that is wrong in one message, and no value in it.
        """
        warn_about_ignored_file()
        return cls._load(lambda _: (), overrides, reject_misspelled=False)

    @classmethod
    def load_strictly(cls, required: Required = lambda _: (), /, **overrides: Any) -> Self:
        """Read the settings as `load` does, for what can move money: a misspelled limit would be no limit.

        If they can be used, the caller calls `warn_about_ignored_file` after warnings that matter more.

        Args:
            required: returns the names of the fields that must be set, given those that are.
            overrides: see `load`.

        Raises:
            SettingsError: with all that is missing, misspelled or wrong in one message, and no value in it.
        """
        return cls._load(required, overrides, reject_misspelled=True)

    @classmethod
    def _load(cls, required: Required, overrides: Mapping[str, Any], *, reject_misspelled: bool) -> Self:
        values = _merged(files_read(), overrides)
        problems = _misspelled() if reject_misspelled else []
        settings = None
        try:
            settings = cls.model_validate(values)
        except ValidationError as error:
            problems += [
                _describe(cls, str((detail["loc"] or (detail["type"],))[0]), detail["msg"])
                for detail in error.errors(include_url=False)
            ]
        completed = SANDBOX_DEFAULTS | values if is_sandbox(values) else values
        missing = [name for name in required(completed) if name not in completed]
        problems += [f"{variable(name)} is not set. {cls.model_fields[name].description}" for name in missing]
        if "org_id" in missing or "kyc_id" in missing:
            problems.append(
                f"{variable('platform_key')}, a key of Sequence's Platform API, replaces all but the API key."
            )
        if missing:
            problems.append("To be asked for all of them: pysequence-api init")
        if settings is None or problems:
            warn_about_ignored_file()
            raise SettingsError("\n  ".join(["The settings cannot be used:", *problems]))
        return settings


def unknown_variables() -> dict[str, str | None]:
    """Find variables that begin as ours do and set nothing, each with the one that it resembles.

    Raises:
        SettingsError: a file cannot be read, or not be trusted.
    """
    known = {variable(name) for name in Settings.model_fields} | NAMES_OF_CLIENTS | {ENV_FILE}
    given = {name: text for file in files_read() for name, text in file.values.items()} | dict(os.environ)
    names = {name.upper(): text for name, text in _without_blanks(given).items() if name.upper().startswith(PREFIX)}
    return {
        name: _resembled(name) for name, text in sorted(names.items()) if name not in known and not _is_link(name, text)
    }


def warn_about_ignored_file() -> None:
    """Say once that a ``.env`` in the current directory is not read."""
    path = ignored_file()
    if path is not None and path not in _warned:
        _warned.add(path)
        log.warning("%s is not read. To read it, use --env-file .env", path)


def variable(name: str) -> str:
    """Return the name of the variable that sets a field."""
    return PREFIX + name.upper()


def _misspelled() -> list[str]:
    meant = {name: known for name, known in unknown_variables().items() if known is not None}
    return [f"{name} is not a setting. Did you mean {known}? Rename it or unset it." for name, known in meant.items()]


def _resembled(name: str) -> str | None:
    """Return the variable that a name resembles most: by its words, or by its letters."""
    known = {field: _words(variable(field)) for field in Settings.model_fields}
    words = _corrected(_words(name), set().union(*known.values()))
    # All names have the prefix in common, so it says nothing.
    likeness = {field: SequenceMatcher(None, name.removeprefix(PREFIX), field.upper()).ratio() for field in known}
    shortened = [field for field in known if words and words <= known[field]]
    if shortened:
        # Of the server and the owner's page, the server is meant more often.
        order = {field: (len(known[field]), field.startswith("owner_"), -likeness[field]) for field in shortened}
        return variable(min(shortened, key=lambda field: order[field]))
    lengthened = [field for field in known if known[field] and known[field] <= words]
    if lengthened:
        return variable(max(lengthened, key=lambda field: (len(known[field]), likeness[field])))
    nearest = max(likeness, key=lambda field: likeness[field])
    return variable(nearest) if likeness[nearest] >= MIN_LIKENESS else None


def _words(name: str) -> set[str]:
    words = name.removeprefix(PREFIX).split("_")
    return {SYNONYMS.get(word, word) for word in words if len(word) >= MIN_WORD_CHARACTERS and word != "PER"}


def _corrected(words: set[str], known: set[str]) -> set[str]:
    return {next(iter(get_close_matches(word, known, 1, MIN_LIKENESS)), word) for word in words}


def _is_link(name: str, text: str) -> bool:
    """Check whether a variable is one that Kubernetes sets for a service named ``sequence``, or Docker for a link."""
    return _LINK.fullmatch(name) is not None or (name.endswith("_PORT") and _LINK_ADDRESS.match(text) is not None)


def _merged(files: Iterable[EnvFile], overrides: Mapping[str, Any]) -> dict[str, Any]:
    in_files = _values_of(read_secrets(map(variable, Settings.model_fields)))
    for file in reversed([*files]):
        in_files |= _values_of(file.values)
    given = _without_blanks(EnvSettingsSource(Settings)()) | _without_blanks(overrides)
    if is_sandbox(in_files | given):
        in_files = {name: text for name, text in in_files.items() if name not in ACCOUNT_IDS}
    return in_files | given


def _values_of(source: Mapping[str, str]) -> dict[str, str]:
    """Return the values of our fields."""
    found = {name.upper(): text for name, text in _without_blanks(source).items()}
    return {field: found[variable(field)] for field in Settings.model_fields if variable(field) in found}


def _without_blanks(values: Mapping[str, Any]) -> dict[str, Any]:
    blank = {name for name, value in values.items() if isinstance(value, str) and not value.strip()}
    return {name: value for name, value in values.items() if name not in blank and value is not None}


def is_sandbox(values: Mapping[str, Any]) -> bool:
    """Check whether the values of fields, not yet validated, select the simulated Sequence."""
    try:
        return TypeAdapter(bool).validate_python(values.get("sandbox", False))
    except ValidationError:
        return False  # the validation of the field reports it


def is_platform(values: Mapping[str, Any]) -> bool:
    """Check whether the values of fields, not yet validated, select the Platform API."""
    upstream = values.get("upstream")
    return upstream == "platform" if upstream is not None else values.get("platform_key") is not None


def _describe(model: type[Settings], name: str, message: str) -> str:
    text = message.removeprefix("Value error, ").removeprefix("Input should be ")
    if text != message and message.startswith("Input"):
        text = f"should be {text}"
    return f"{variable(name)} {text}. {model.model_fields[name].description}"
