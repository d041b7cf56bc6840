"""Ports that fail before any HTTP: U1 to U3."""

from __future__ import annotations

import socket
import ssl
import tempfile
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

FILLERS = 4
"""Connections that fill a backlog of 0; the kernel accepts one or two more than it is told."""


class ClosedPort:
    """Hold a port without listening on it, so that connections are refused (U1)."""

    def __init__(self, host: str) -> None:
        self._socket = socket.socket()
        self._socket.bind((host, 0))
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        self._socket.close()


class BlackholePort:
    """Hold a port with a full backlog, so that the kernel leaves a SYN unanswered (U2)."""

    def __init__(self, host: str) -> None:
        self._listener = socket.socket()
        self._listener.bind((host, 0))
        self._listener.listen(0)
        self.port: int = self._listener.getsockname()[1]
        # Accepted by nobody, they keep the queue full, so that the next SYN is dropped.
        self._fillers = [socket.socket() for _ in range(FILLERS)]
        for filler in self._fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect((host, self.port))

    def close(self) -> None:
        for each in (*self._fillers, self._listener):
            each.close()


def make_self_signed() -> ssl.SSLContext:
    """Make a certificate that no authority has signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "fault.line")])
    now = datetime(2020, 1, 1, tzinfo=UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + timedelta(days=36_500))
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM) + key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "pair.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path)
    return context
