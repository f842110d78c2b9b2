"""HTTP with the rules of this project: HTTPS unless the host is this machine, a token for one origin only.

Redirects are followed here, one request at a time, so that each target is checked before anything is sent to it.
Proxies come from the environment, as urllib reads it; this machine itself is never asked through one.
"""

import http.client
import ipaddress
import re
import ssl
import time
import urllib.request
from collections.abc import Callable
from typing import Any
from urllib.error import URLError
from urllib.parse import SplitResult, urljoin, urlsplit

import edgellama

from ..errors import EdgellamaError

TIMEOUT_SECONDS = 30.0
MOST_REDIRECTS = 8
MOST_RETRIES = 5
FIRST_WAIT_SECONDS = 0.5
LONGEST_WAIT_SECONDS = 60.0
_REDIRECTS = (301, 302, 303, 307, 308)
_BUSY = (408, 429, 500, 502, 503, 504)

Response = Any  # an http.client.HTTPResponse; urllib adds fields to it


class NetworkError(OSError):
    """The network or the server failed, whatever the user typed: the command line exits with 1.

    `passing`: trying again may help, after `wait_seconds` if the server named a time.
    """

    def __init__(self, sentence: str, passing: bool = False, wait_seconds: float | None = None):
        super().__init__(sentence)
        self.passing, self.wait_seconds = passing, wait_seconds


class StatusError(NetworkError):
    """An answer other than success; `status` is its number."""

    def __init__(self, sentence: str, status: int, passing: bool, wait_seconds: float | None):
        super().__init__(sentence, passing, wait_seconds)
        self.status = status


class Patience:
    """Waits between tries, longer each time, and raises when there were too many without success between them."""

    def __init__(self) -> None:
        self.failures = 0

    def renew(self) -> None:
        """Call it when a try got somewhere."""
        self.failures = 0

    def wait(self, error: NetworkError) -> None:
        """Sleep before the next try, or raise the error if no further try makes sense."""
        seconds = FIRST_WAIT_SECONDS * 2**self.failures if error.wait_seconds is None else error.wait_seconds
        self.failures += 1
        if not error.passing or self.failures > MOST_RETRIES:
            raise error
        if seconds > LONGEST_WAIT_SECONDS:
            raise NetworkError(f"{error} (it asks to wait {seconds:.0f} seconds)") from error
        time.sleep(seconds)


def retried(action: Callable[[], Any]) -> Any:
    """What `action` returns, tried again while its errors are passing ones."""
    patience = Patience()
    while True:
        try:
            return action()
        except NetworkError as error:
            patience.wait(error)


def check_url(url: str, what: str) -> SplitResult:
    """The parts of an HTTPS URL, or of an HTTP one on this machine. Raises EdgellamaError without quoting secrets."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise EdgellamaError(f"{what} is no URL") from None
    if not host or parts.scheme not in ("https", "http") or any(letter <= " " or letter > "~" for letter in url):
        raise EdgellamaError(f"{what} must be an https:// URL")
    if parts.username is not None or parts.password is not None:
        raise EdgellamaError(f"{what} must hold no user name or password")
    if parts.scheme == "http" and not is_loopback(host):
        raise EdgellamaError(f"{what} must be an https:// URL: plain http:// is for this machine only, not for {host}")
    return parts


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine, whatever a name server says."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def origin(parts: SplitResult) -> tuple[str, str | None, int]:
    """Scheme, host and port: what a token belongs to."""
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}[parts.scheme]


class _Proxies(urllib.request.ProxyHandler):
    def proxy_open(self, req: urllib.request.Request, proxy: str, type: str) -> Response | None:
        host = urlsplit(req.full_url).hostname or ""
        return None if is_loopback(host) else super().proxy_open(req, proxy, type)


class Web:
    """GET requests for one endpoint and wherever it redirects to."""

    def __init__(self, endpoint: str, token: str | None = None):
        self.endpoint = check_url(endpoint, "the endpoint")
        if self.endpoint.query or self.endpoint.fragment:
            raise EdgellamaError("the endpoint must end with a host or a path")
        self._token = token
        self._opener = urllib.request.OpenerDirector()  # without handlers for redirects, errors, files and FTP
        for handler in (_Proxies(), urllib.request.HTTPHandler(), urllib.request.HTTPSHandler()):
            self._opener.add_handler(handler)

    def get(self, url: str, headers: dict[str, str] | None = None) -> Response:
        """The open answer, 200 or 206, to a GET of a URL on the endpoint. Raises NetworkError."""
        with_token = self._token is not None
        for _ in range(MOST_REDIRECTS):
            parts = urlsplit(url)
            # Once another origin was asked, what it says is not the endpoint's word: the token stays out.
            with_token = with_token and origin(parts) == origin(self.endpoint)
            response = self._send(url, headers or {}, with_token)
            if response.status not in _REDIRECTS:
                return self._checked(response)
            location = response.headers.get("Location", "")
            response.close()
            url = self._target(url, location)
        raise NetworkError(f"{self.endpoint.hostname} redirects more than {MOST_REDIRECTS} times")

    def _target(self, url: str, location: str) -> str:
        """Where a redirect leads, proved to be as safe as the endpoint."""
        try:
            target = urljoin(url, location)
            parts = check_url(target, "its target")
        except (EdgellamaError, ValueError) as error:
            raise NetworkError(f"{urlsplit(url).hostname} redirects to where nobody may go: {error}") from None
        if parts.scheme == "http" and self.endpoint.scheme == "https":
            raise NetworkError(f"{urlsplit(url).hostname} redirects from https:// to http://, which is refused")
        return target

    def _send(self, url: str, headers: dict[str, str], with_token: bool) -> Response:
        host = urlsplit(url).hostname
        headers = {"User-Agent": f"edgellama/{edgellama.__version__}", "Accept-Encoding": "identity"} | headers
        request = urllib.request.Request(url, headers=headers)
        if with_token:
            request.add_unredirected_header("Authorization", f"Bearer {self._token}")
        try:
            return self._opener.open(request, timeout=TIMEOUT_SECONDS)
        except URLError as error:
            raise _unreachable(host, error.reason) from None
        except (
            OSError,
            http.client.HTTPException,
            ValueError,
        ) as error:  # ValueError: a host that no name server takes
            raise _unreachable(host, error) from None

    def _checked(self, response: Response) -> Response:
        if response.status in (200, 206):
            if response.headers.get("Content-Encoding", "identity") != "identity":
                response.close()
                raise NetworkError(f"{self.endpoint.hostname} sends the file in an encoding that nobody asked for")
            return response
        status, wait_seconds = response.status, _wait_seconds(response.headers.get("Retry-After"))
        response.close()
        host = urlsplit(response.url).hostname
        raise StatusError(f"{host} answers with status {status}", status, status in _BUSY, wait_seconds)


def read_some(response: Response, most_bytes: int, host: str | None) -> bytes:
    """The next bytes of an answer, none at its end. Raises a passing NetworkError when the connection breaks."""
    try:
        return response.read(most_bytes)
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise _unreachable(host, error) from None


def _unreachable(host: str | None, reason: object) -> NetworkError:
    if isinstance(reason, ssl.SSLCertVerificationError):
        return NetworkError(f"the certificate of {host} is not valid: {reason.verify_message}")
    if isinstance(reason, TimeoutError):
        return NetworkError(f"{host} does not answer", passing=True)
    # Other exceptions may quote a URL, which may hold a signature.
    text = (reason.strerror or str(reason)) if isinstance(reason, OSError) else type(reason).__name__
    return NetworkError(f"the connection to {host} failed: {text}", passing=True)


def _wait_seconds(text: str | None) -> float | None:
    """Retry-After in seconds; its other form, a date, counts as not given."""
    return float(text) if text and re.fullmatch(r"[0-9]{1,9}", text) else None
