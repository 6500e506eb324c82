"""Sessions of the owner's page, and the tokens of its forms.

A session is a signed cookie, so it survives a restart of the server. Signing out everywhere ends all sessions, because
the number of their generation is part of the signature.
"""

import hashlib
import hmac
import re
import secrets
from collections import OrderedDict
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto

from pysequence_api.clock import from_micros, to_micros
from pysequence_api.gateway import Gateway

SESSION = timedelta(hours=12)
MAX_USED_FORMS = 10_000
"""How many used forms are remembered. Only the owner, signed in, can add one."""
_COOKIE = re.compile(r"(?P<at>[0-9]{1,18})\.(?P<id>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})")
_TOKEN = re.compile(r"(?P<id>[0-9a-f]{32})\.(?P<mac>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Session:
    """A browser in which the owner signed in.

    Attributes:
        id: of this session.
        key: signs what belongs to the session.
    """

    id: str
    key: bytes

    def new_token(self) -> str:
        """Make the token of a form."""
        form_id = secrets.token_hex(16)
        return f"{form_id}.{_mac(self.key, 'form', self.id, form_id)}"


class Sent(Enum):
    """Whether a form is sent for the first time, again, or does not belong to the session."""

    NOW = auto()
    BEFORE = auto()
    ELSEWHERE = auto()


class Sessions:
    """The sessions of the page, and the forms that were sent in them.

    Args:
        gateway: has the secret of the sessions in its records.
    """

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._used_forms: OrderedDict[str, None] = OrderedDict()

    def begin(self) -> str:
        """Begin a session, and return its cookie. This blocks."""
        owner = self._gateway.owner.session()
        at, session_id = str(to_micros(self._gateway.records.now())), secrets.token_hex(16)
        return f"{at}.{session_id}.{_mac(owner.secret, 'session', str(owner.generation), at, session_id)}"

    def find(self, cookie: str | None) -> Session | None:
        """Return the session of a cookie; ``None`` if it is invalid, expired, or signed out."""
        match = _COOKIE.fullmatch(cookie or "")
        if match is None:
            return None
        owner, now = self._gateway.records.read(lambda reader: (reader.owner_secrets(), reader.now))
        if owner.session_secret is None:
            return None
        right = _mac(owner.session_secret, "session", str(owner.session_generation), match["at"], match["id"])
        is_current = timedelta(0) <= now - from_micros(int(match["at"])) < SESSION
        return (
            Session(match["id"], owner.session_secret)
            if hmac.compare_digest(right, match["mac"]) and is_current
            else None
        )

    def take(self, session: Session, token: str) -> Sent:
        """Use the token of a form. It is valid once, and only in its session."""
        match = _TOKEN.fullmatch(token)
        if match is None or not hmac.compare_digest(_mac(session.key, "form", session.id, match["id"]), match["mac"]):
            return Sent.ELSEWHERE
        if match["id"] in self._used_forms:
            return Sent.BEFORE
        self._used_forms[match["id"]] = None
        if len(self._used_forms) > MAX_USED_FORMS:
            self._used_forms.popitem(last=False)
        return Sent.NOW


def _mac(key: bytes, *parts: str) -> str:
    return hmac.new(key, " ".join(parts).encode(), hashlib.sha256).hexdigest()
