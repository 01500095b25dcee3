"""Certificates and the authorities that sign them, made afresh."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from ipaddress import ip_address

from attrs import frozen
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import X509, PKey
from twisted.internet.ssl import CertificateOptions


@frozen(eq=False)
class Issued:
    """A certificate, its key, and who signed it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    signer: Issued | None

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def options(self, *chain: Issued) -> CertificateOptions:
        """What a server needs to show it, and those that it shows beside it."""
        return CertificateOptions(
            privateKey=PKey.from_cryptography_key(self.key),
            certificate=X509.from_cryptography(self.certificate),
            extraCertChain=[X509.from_cryptography(each.certificate) for each in chain],
        )


def issue(host: str | None, signer: Issued | None = None) -> Issued:
    """A certificate for a host, or an authority's; without a signer it signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    words = f"{host or 'authority'} {x509.random_serial_number()}"[:60]
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, words)])
    now = datetime.now(timezone.utc)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(signer.certificate.subject if signer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([_name(host)]), critical=False)
    return Issued(builder.sign(signer.key if signer else key, hashes.SHA256()), key, signer)


def _name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ip_address(host))
    except ValueError:
        return x509.DNSName(host)
