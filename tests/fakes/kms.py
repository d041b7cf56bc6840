"""Key services on this machine: AWS KMS, Cloud KMS and transit, as honest as the real ones.

Each checks who asks (signature, token), seals under a key that it never shows, authenticates the
context, and refuses what was changed. `seen` has the actions that were asked for.
"""

from __future__ import annotations

import base64
import contextlib
import datetime
import hashlib
import hmac
import http.server
import json
import os
import threading
import time
import urllib.parse
from collections.abc import Generator
from typing import Any, ClassVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"
ACCESS_KEY = "AKIAEXAMPLE"
SECRET_KEY = "secret/of+aws/0123456789abcdefghij"
RESOURCE = "projects/p/locations/global/keyRings/r/cryptoKeys/headgate"
ACCOUNT = "headgate@p.iam.gserviceaccount.com"
TRANSIT_TOKEN = "hvs.0123456789abcdefghijklmnopqrstuv"
TRANSIT_KEY = "transit/headgate"
BEARER = "ya29.0123456789abcdefghijklmnopqrstuv"


class KmsRefusalError(Exception):
    """Answer with a status other than 200."""

    def __init__(self, status: int, body: dict[str, Any]) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


class KeyServices:
    """Serve all three key services on one port."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.url = ""
        self.changed: dict[str, Any] = {}
        """Fields by which each answer is falsified."""
        self.status: int | None = None
        """Answer everything with this."""
        self._cipher = AESGCM(os.urandom(32))
        self._account_key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def seal(self, plaintext: str, context: bytes) -> bytes:
        nonce = os.urandom(12)
        return nonce + self._cipher.encrypt(nonce, base64.b64decode(plaintext), context)

    def open(self, ciphertext: bytes, context: bytes) -> str | None:
        with contextlib.suppress(InvalidTag, ValueError):
            opened = self._cipher.decrypt(ciphertext[:12], ciphertext[12:], context)
            return base64.b64encode(opened).decode()
        return None

    def account_file(self) -> dict[str, str]:
        """Return the key file of a service account, as Google issues it."""
        pem = self._account_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        return {
            "type": "service_account",
            "client_email": ACCOUNT,
            "private_key_id": "1",
            "private_key": pem.decode(),
            "token_uri": f"{self.url}/token",
        }

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if self.status is not None:
            raise KmsRefusalError(self.status, {})
        if path == "/token":
            return self.issue(urllib.parse.parse_qs(body.decode()))
        if "x-amz-target" in headers:
            return self.aws(headers, body)
        if "x-vault-token" in headers:
            return self.transit(path, headers, json.loads(body))
        return self.gcp(path, headers, json.loads(body))

    def aws(self, headers: dict[str, str], body: bytes) -> dict[str, Any]:
        if not is_signed(headers, body):
            raise KmsRefusalError(
                400, {"__type": "InvalidSignatureException", "message": SECRET_KEY}
            )
        asked = json.loads(body)
        if asked["KeyId"] != ARN:
            raise KmsRefusalError(400, {"__type": "NotFoundException"})
        context = json.dumps(asked["EncryptionContext"], sort_keys=True).encode()
        action = headers["x-amz-target"].removeprefix("TrentService.")
        self.seen.append(f"aws {action}")
        if action == "Encrypt":
            sealed = self.seal(asked["Plaintext"], context)
            return {"CiphertextBlob": base64.b64encode(sealed).decode(), "KeyId": ARN}
        opened = self.open(base64.b64decode(asked["CiphertextBlob"]), context)
        if opened is None:
            raise KmsRefusalError(400, {"__type": "InvalidCiphertextException"})
        return {"Plaintext": opened, "KeyId": ARN}

    def issue(self, form: dict[str, list[str]]) -> dict[str, Any]:
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        signed, _, signature = form["assertion"][0].rpartition(".")
        head, claims = (json.loads(decode(part)) for part in signed.split("."))
        public = self._account_key.public_key()
        public.verify(decode(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        assert head["alg"] == "RS256"
        valid = claims["iat"] - 60 <= time.time() < claims["exp"] <= claims["iat"] + 3600
        wanted = (claims["iss"], claims["aud"]) == (ACCOUNT, f"{self.url}/token")
        if not (valid and wanted and claims["scope"].endswith("/cloudkms")):
            raise KmsRefusalError(400, {"error": "invalid_grant"})
        self.seen.append("gcp token")
        return {"access_token": BEARER, "expires_in": 3599, "token_type": "Bearer"}

    def gcp(self, path: str, headers: dict[str, str], asked: dict[str, str]) -> dict[str, Any]:
        if headers.get("authorization") != f"Bearer {BEARER}":
            raise KmsRefusalError(401, {"error": {"status": "UNAUTHENTICATED", "message": BEARER}})
        name, _, verb = path.removeprefix("/v1/").rpartition(":")
        if name != RESOURCE:
            raise KmsRefusalError(404, {"error": {"status": "NOT_FOUND"}})
        context = base64.b64decode(asked["additionalAuthenticatedData"])
        self.seen.append(f"gcp {verb}")
        if verb == "encrypt":
            sealed = self.seal(asked["plaintext"], context)
            return {"name": name, "ciphertext": base64.b64encode(sealed).decode()}
        opened = self.open(base64.b64decode(asked["ciphertext"]), context)
        if opened is None:
            raise KmsRefusalError(400, {"error": {"status": "INVALID_ARGUMENT"}})
        return {"plaintext": opened}

    def transit(self, path: str, headers: dict[str, str], asked: dict[str, str]) -> dict[str, Any]:
        if headers["x-vault-token"] != TRANSIT_TOKEN:
            raise KmsRefusalError(403, {"errors": ["permission denied"]})
        context = base64.b64decode(asked["associated_data"])
        self.seen.append(f"transit {path}")
        if path == "/v1/transit/encrypt/headgate":
            sealed = base64.b64encode(self.seal(asked["plaintext"], context)).decode()
            return {"data": {"ciphertext": f"vault:v1:{sealed}", "key_version": 1}}
        if path != "/v1/transit/decrypt/headgate":
            raise KmsRefusalError(404, {"errors": []})
        text = asked["ciphertext"].removeprefix("vault:v1:")
        opened = self.open(base64.b64decode(text), context)
        if opened is None:
            raise KmsRefusalError(400, {"errors": ["cipher: message authentication failed"]})
        return {"data": {"plaintext": opened}}


def is_signed(headers: dict[str, str], body: bytes) -> bool:
    """Verify Signature Version 4 by AWS's description, without the code under test."""
    scheme, _, rest = headers.get("authorization", "").partition(" ")
    fields = dict(part.strip().split("=", 1) for part in rest.split(",") if "=" in part)
    access_key, day, region, service, end = fields.get("Credential", "////").split("/")
    stamp = headers.get("x-amz-date", "19700101T000000Z")
    at = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.UTC)
    is_late = abs(at.timestamp() - time.time()) > 300
    names = fields.get("SignedHeaders", "")
    if access_key != ACCESS_KEY or is_late or not {"host", "x-amz-date"} <= set(names.split(";")):
        return False
    lines = [f"{name}:{headers.get(name, '').strip()}" for name in names.split(";")]
    hashed = hashlib.sha256(body).hexdigest()
    canonical = "\n".join(["POST", "/", "", *lines, "", names, hashed])
    scope = "/".join([day, region, service, end])
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    key = f"AWS4{SECRET_KEY}".encode()
    for part in (day, region, service, end):
        key = hmac.new(key, part.encode(), "sha256").digest()
    text = "\n".join([scheme, stamp, scope, digest])
    wanted = hmac.new(key, text.encode(), "sha256").hexdigest()
    right_place = (region, service, end, day) == ("eu-central-1", "kms", "aws4_request", stamp[:8])
    return right_place and hmac.compare_digest(wanted, fields.get("Signature", ""))


def decode(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


class _Handler(http.server.BaseHTTPRequestHandler):
    services: ClassVar[KeyServices]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            status, answer = 200, self.services.answer(self.path, headers, body)
        except KmsRefusalError as refusal:
            status, answer = refusal.status, refusal.body
        self.reply(status, answer)

    def do_GET(self) -> None:
        path = "/computeMetadata/v1/instance/service-accounts/default/token"
        assert (self.path, self.headers["metadata-flavor"]) == (path, "Google")
        self.services.seen.append("gcp machine")
        self.reply(200, {"access_token": BEARER, "expires_in": 3599})

    def reply(self, status: int, answer: dict[str, Any]) -> None:
        encoded = json.dumps({**answer, **self.services.changed}).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def running_key_services() -> Generator[KeyServices]:
    """Run all three on a port of this machine."""
    made = KeyServices()

    class Own(_Handler):
        services = made

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Own) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
