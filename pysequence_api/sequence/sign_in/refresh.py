"""Trading a refresh token for new tokens (upstream-graphql, Signing in)."""

import json

from pysequence_api.errors import SequenceError, SignInError, SignInRefusedError
from pysequence_api.sequence.sign_in.claims import is_number
from pysequence_api.sequence.sign_in.token_cache import DEFAULT_LIFE_SECONDS, Tokens, is_sendable, read_object
from pysequence_api.sequence.transport import HttpEndpoint
from pysequence_api.text import plain_text


async def refresh(endpoint: HttpEndpoint, client_id: str | None, refresh_token: str) -> Tokens:
    """Get new tokens with a refresh token.

    Args:
        endpoint: the way to the token endpoint.
        client_id: the Auth0 client id.
        refresh_token: stays good if no new one comes.

    Raises:
        SignInRefusedError: the refresh token, or the lack of a client id, leads nowhere.
        SignInError: the way there failed; the refresh token is kept.
    """
    if client_id is None:
        raise SignInRefusedError(
            "The access token has run out, and SEQUENCE_AUTH0_CLIENT_ID is not set, which is needed to refresh it."
        )
    form = {"grant_type": "refresh_token", "client_id": client_id, "refresh_token": refresh_token}
    try:
        answer = await endpoint.post(
            "the token refresh",
            headers={"content-type": "application/json", "accept": "application/json"},
            content=json.dumps(form).encode(),
            with_error_body=True,
        )
    except SequenceError as error:
        raise SignInError(f"The access token could not be refreshed; the refresh token is kept. {error}") from error
    body = read_object(answer.body)
    if 400 <= answer.status < 500 and answer.status != 429:
        reason = body.get("error_description") or body.get("error")
        text = plain_text(reason, secrets=[refresh_token]) if isinstance(reason, str) else f"HTTP {answer.status}"
        raise SignInRefusedError(f"The sign-in service refused to refresh the access token: {text}. Sign in again.")
    if answer.status >= 300:
        raise SignInError(
            f"The access token could not be refreshed; the refresh token is kept. The sign-in service answered"
            f" HTTP {answer.status}. Try again later.",
            retry_after_seconds=answer.retry_after_seconds,
        )
    return _read_grant(body, refresh_token)


def _read_grant(body: dict[str, object], old_refresh_token: str) -> Tokens:
    access_token = body.get("access_token")
    if not is_sendable(access_token):
        raise SignInError("The sign-in service answered without an access token; the refresh token is kept.")
    refresh_token = body.get("refresh_token")
    life_seconds = body.get("expires_in")
    return Tokens.granted(
        access_token,
        refresh_token if isinstance(refresh_token, str) and refresh_token else old_refresh_token,
        float(life_seconds) if is_number(life_seconds) else DEFAULT_LIFE_SECONDS,
    )
