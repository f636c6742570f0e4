"""A certificate authority of a test's own, and a certificate of it for this machine."""

import datetime
import ipaddress
from pathlib import Path
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


class Certificates(NamedTuple):
    """Paths of PEM files."""

    authority: str  # what a client has to trust
    certificate: str  # of the server, for 127.0.0.1 and localhost
    key: str


def make_certificates(folder: Path) -> Certificates:
    """Make them, for a day."""
    authority_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "CA of a test")])
    authority = _signed(
        authority_name, authority_name, authority_key, authority_key, x509.BasicConstraints(ca=True, path_length=None)
    )
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    server = _signed(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")]), authority_name, key, authority_key, names
    )
    paths = Certificates(*(str(folder / name) for name in ("ca.pem", "server.pem", "server.key")))
    Path(paths.authority).write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    Path(paths.certificate).write_bytes(server.public_bytes(serialization.Encoding.PEM))
    Path(paths.key).touch(mode=0o600)
    Path(paths.key).write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return paths


def _signed(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    by: ec.EllipticCurvePrivateKey,
    extension: x509.ExtensionType,
) -> x509.Certificate:
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    return builder.sign(by, hashes.SHA256())
