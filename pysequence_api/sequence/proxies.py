"""The proxy of a URL, from the variables ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``.

httpx rejects every request if it cannot understand one entry of ``NO_PROXY``, for example ``fd00::/8``. Here such an
entry matches nothing but itself.
"""

from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from pysequence_api.errors import SettingsError


def proxy_for(url: str) -> str | None:
    """Return the URL of the proxy; ``None`` to connect directly. Plain http stays on this machine and never uses one.

    Raises:
        SettingsError: the variable does not hold the URL of a proxy.
    """
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get("https") or proxies.get("all")
    if parts.scheme != "https" or not proxy or _is_direct(parts.hostname or "", proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if not _has_host(proxy):
        raise SettingsError("The variable HTTPS_PROXY or ALL_PROXY is not the URL of a proxy. Correct or unset it.")
    return proxy


def _has_host(url: str) -> bool:
    try:
        return bool(urlsplit(url).hostname)
    except ValueError:
        return False


def _is_direct(host: str, no_proxy: str) -> bool:
    entries = [entry.strip() for entry in no_proxy.split(",")]
    return bool(proxy_bypass(host)) or any(_matches(host, entry) for entry in entries if entry)


def _matches(host: str, entry: str) -> bool:
    """Match what the standard library does not: ``*``, ``*.example.com``, URLs and networks."""
    if entry == "*":
        return True
    if "://" in entry:
        entry = entry.partition("://")[2]
    if entry.startswith("*."):
        return host.endswith(entry[1:].lower())
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        return host == entry.lower()
