"""Why kafka-python does not get into a cluster: it logs that, tries again, and tells of a timeout only."""

from __future__ import annotations

import logging
import re
import socket
from typing import Any

from kafka.errors import (
    AuthorizationError,
    IllegalSaslStateError,
    KafkaConfigurationError,
    KafkaTimeoutError,
    RequestTimedOutError,
    SaslAuthenticationFailedError,
    UnsupportedSaslMechanismError,
)
from kafka.net.transport import KafkaSSLTransport, KafkaTCPTransport

HANDSHAKE_SECONDS = 8.0
_LOGGER = "kafka"
_DENIALS = (
    *(AuthorizationError, SaslAuthenticationFailedError),
    *(IllegalSaslStateError, UnsupportedSaslMechanismError),
    # The options themselves: unknown, incomplete, or naming a file that cannot be read.
    *(KafkaConfigurationError, ValueError, FileNotFoundError, PermissionError),
)
# A connection that ends in the middle of it may be of a broker that starts or stops.
_TLS_REFUSED = re.compile(r"\[(?:SSL|X509)\b(?!: UNEXPECTED_EOF)")

# The client library logs every failed attempt; the error that we raise says it once.
logging.getLogger(_LOGGER).addHandler(logging.NullHandler())


def _keep_last_bytes(transport: Any) -> None:
    """Let the client read what comes with the end of a connection: its 3.0.12 throws that away.

    A broker says why it denies somebody, and hangs up at once.
    """
    receive = transport._sock_recv

    def received(self: Any) -> tuple[bytes, Exception | None]:
        data, error = receive(self)
        return data, None if data else error

    transport._sock_recv = received


def _end_handshakes() -> None:
    """Give a TLS handshake an end in time: the client waits for ever for a listener that says nothing."""
    shake_hands = KafkaSSLTransport.handshake

    async def handshake(self: Any) -> None:
        timer = self._net.call_later(HANDSHAKE_SECONDS, lambda: self._sock.shutdown(socket.SHUT_RDWR))
        try:
            await shake_hands(self)
        finally:
            self._net.cancel(timer)

    KafkaSSLTransport.handshake = handshake


_keep_last_bytes(KafkaTCPTransport)
_keep_last_bytes(KafkaSSLTransport)
_end_handshakes()


class Failures(logging.Handler):
    """While it is entered, keeps why an attempt to connect failed: a denial, else the last failure."""

    reason: Exception | None = None

    def __enter__(self) -> Failures:
        logging.getLogger(_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Take the exception of what the client logs."""
        for part in record.args or ():
            if isinstance(part, Exception) and not isinstance(part, KafkaTimeoutError):
                # The last attempt may just be cut off by the end of the time for all of them.
                is_cut_off = isinstance(part, RequestTimedOutError)
                if self.reason is None or not (is_cut_off or is_denial(self.reason)):
                    self.reason = part


def is_denial(error: Exception) -> bool:
    """Whether the cluster, TLS or the client itself refuses these options: trying again is of no use."""
    return isinstance(error, _DENIALS) or bool(_TLS_REFUSED.search(str(error)))


def said(error: Exception) -> str:
    """What went wrong, without the client's own prefixes."""
    told = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return re.sub(r"^(?:\[Error \d+\] )?(?:(\w+Error): )+(?=.)", "", told)
