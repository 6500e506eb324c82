"""The listener of the owner's page, beside the one for programs."""

import socket
import ssl
from dataclasses import dataclass

from pysequence_api.gateway import Gateway
from pysequence_api.http_server import HttpServer
from pysequence_api.owner.app import create_app
from pysequence_api.owner.pages import Showcase
from pysequence_api.web.listening import bind_page, create_server


@dataclass(frozen=True, slots=True)
class PageServer:
    """The server of the page."""

    server: HttpServer
    listener: socket.socket

    @classmethod
    def open(cls, gateway: Gateway, tls: ssl.SSLContext | None, showcase: Showcase | None) -> "PageServer":
        """Listen, for `serve`.

        Raises:
            SettingsError: the address cannot be used.
        """
        listener = bind_page(gateway.settings)
        server = create_server(create_app(gateway, showcase), listener, tls, takes_signals=False)
        return cls(server, listener)

    async def serve(self) -> None:
        """Serve until `stop`."""
        await self.server.serve(sockets=[self.listener])

    def stop(self) -> None:
        """Finish the running requests, and accept no new ones."""
        self.server.should_exit = True
