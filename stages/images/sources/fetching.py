"""Fetching files without ever hanging: a closed network is a normal place to run this."""

import hashlib
import socket
import threading
import time
import urllib.request
from collections.abc import Callable
from concurrent.futures import Future
from http.client import HTTPException
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from stages.plumbing.progress import Progress

CONNECT_LIMIT = 4  # seconds for a server's name to resolve and its port to answer
ANSWER_LIMIT = 10  # seconds for an answer to begin
PAUSE_LIMIT = 30  # seconds for any pause in a transfer
TRANSFER_LIMIT = 7200  # seconds for a whole file

T = TypeVar("T")


class UnusableError(Exception):
    """Why a file, or a whole route to it, will not do."""


def within(seconds: float, call: Callable[[], T]) -> T:
    """What `call()` returns, or TimeoutError after so many seconds: name resolution has no time limit of its own."""
    future: Future[T] = Future()

    def work() -> None:
        try:
            future.set_result(call())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        return future.result(seconds)
    except TimeoutError as error:
        raise error if future.done() else TimeoutError(f"no answer within {seconds} s") from None


def probe(address: str) -> None:
    """Raise OSError within seconds if the server of this address cannot be reached."""
    host = urlsplit(address)
    # Through a proxy nothing resolves or connects from here: then the first file is the probe.
    if host.scheme not in urllib.request.getproxies() or urllib.request.proxy_bypass(host.hostname):
        port = (host.hostname, host.port or {"http": 80, "https": 443}[host.scheme])
        within(CONNECT_LIMIT, lambda: socket.create_connection(port, CONNECT_LIMIT).close())


def fetch(address: str, file: Path) -> None:
    """Write what lies at `address` to `file`, saying now and then how far it is.

    Raises OSError or UnusableError if it cannot be had, pauses for too long or takes forever.
    """
    probe(address)
    # Some servers turn away Python's own name; torchvision, whose addresses these are, goes by this one.
    request = urllib.request.Request(address, headers={"User-Agent": "pytorch/vision"})
    start = time.monotonic()
    try:
        response = within(ANSWER_LIMIT, lambda: urllib.request.urlopen(request, timeout=PAUSE_LIMIT))
        with response, open(file, "wb") as target:
            total = int(response.headers.get("Content-Length") or 0)
            with Progress(file.name, total, unit="bytes", whole=False) as progress:
                while chunk := response.read1(2**20):
                    target.write(chunk)
                    progress.advance(len(chunk))
                    if time.monotonic() - start > TRANSFER_LIMIT:
                        raise UnusableError(f"not done within {TRANSFER_LIMIT} s")
                if total and target.tell() != total:
                    raise UnusableError(f"broke off after {target.tell():,} of {total:,} bytes")
    except HTTPException as error:
        raise UnusableError(f"broken answer ({error!r})") from None


def md5(file: Path) -> str:
    """The md5 of a file as hexadecimal digits."""
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def one_line(error: Exception) -> str:
    """The error's text, whatever it held, as a single line."""
    return " ".join(str(error).split())
