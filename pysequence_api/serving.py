"""From settings to a server that listens, and back to nothing."""

import logging
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial

import anyio
import anyio.to_thread

from pysequence_api.api.app import create_app
from pysequence_api.errors import NotAuthorizedError, SafeguardsUnavailableError, SequenceError, SignInError
from pysequence_api.gateway import Gateway, open_gateway, open_records
from pysequence_api.settings import SHORT_API_KEY_CHARACTERS, Settings, unknown_variables, variable
from pysequence_api.web.listening import Server, bind

REQUIRED_SETTINGS = ("api_key", "org_id", "kyc_id")
REQUIRED_SANDBOX_SETTINGS = ("api_key",)
"""The sandbox has an organization and a KYC id of its own."""

log = logging.getLogger(__name__)


async def serve(settings: Settings, *, on_ready: Callable[[Gateway, str], None]) -> None:
    """Serve until a signal says to leave. Then finish what runs, wait for transfers, and return.

    Args:
        settings: with everything in `REQUIRED_SETTINGS`, or in `REQUIRED_SANDBOX_SETTINGS`.
        on_ready: called with the gateway and the server's address once connections are accepted.

    Raises:
        SettingsError: the data directory cannot be used, or the address cannot be listened on.
        SignInError: there is no access token, and none can be had.
        NotAuthorizedError: Sequence takes no token that there is.
    """
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(open_gateway(settings))
        app = create_app(gateway)
        _warn_of_short_key(gateway.settings)
        _warn_of_unknown_variables()
        await _sign_in(gateway)
        host, port = gateway.settings.server_host, gateway.settings.server_port
        listener = bind(host, port)
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        server = Server(app, on_listening=partial(on_ready, gateway, url))
        with server.leaving_on_signals():
            try:
                async with anyio.create_task_group() as background:
                    background.start_soon(_verify_trail, gateway)
                    background.start_soon(gateway.follow_up.run_for_ever)
                    background.start_soon(gateway.client.stay_signed_in)
                    await server.serve(sockets=[listener])
                    background.cancel_scope.cancel()
            finally:
                # Inside of the signals: a second one must not end the waiting for transfers.
                await stack.aclose()
                log.info("stopped; no transfer is on its way")


async def _verify_trail(gateway: Gateway) -> None:
    """Have the audit trail prove itself once, so that a line that was changed does not stay unseen.

    Without the lock, which a long trail would hold too long: what is appended meanwhile is no harm to the proof.
    """
    try:
        found = await anyio.to_thread.run_sync(open_records(gateway.settings).audit.verify)
    except (OSError, SafeguardsUnavailableError) as error:
        log.error("the audit trail cannot be verified: %s", error)
        return
    if not found.intact:
        log.error("the audit trail is not what was written: line %s %s", found.line, found.problem)


async def _sign_in(gateway: Gateway) -> None:
    """See that Sequence takes the token, by the smallest read. It also tells the safeguards Sequence's time."""
    try:
        await gateway.client.activity_summary()
    except (SignInError, NotAuthorizedError):
        raise
    except SequenceError as error:
        # An outage there is no reason to be away here: it may be over before the first caller comes.
        log.warning("Sequence did not answer at the start, which goes on without it: %s", error)


def _warn_of_unknown_variables() -> None:
    for name, meant in unknown_variables().items():
        log.warning("%s is no setting, and sets nothing.%s", name, f" Is {meant} meant?" if meant else "")


def _warn_of_short_key(settings: Settings) -> None:
    key = settings.api_key
    if key is not None and not settings.sandbox and len(key.get_secret_value()) < SHORT_API_KEY_CHARACTERS:
        log.warning(
            "%s has fewer than %d characters, so that it can be guessed. Set a longer one.",
            variable("api_key"),
            SHORT_API_KEY_CHARACTERS,
        )
