"""Certificates for one control plane: a CA for everybody, one for the front proxy, and a key that signs tokens."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_LIFE = dt.timedelta(days=7)
FRONT_PROXY_NAME = "front-proxy-client"


@dataclass(frozen=True, slots=True)
class Authority:
    """A certificate authority that writes what it signs into its folder."""

    folder: Path
    name: str
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def create(cls, folder: Path, name: str) -> Authority:
        """A new self-signed authority, written as `NAME.crt` (its key stays in memory)."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            _builder(subject, subject, key.public_key(), key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs=True), critical=True)
        )
        certificate = builder.sign(key, hashes.SHA256())
        authority = cls(folder, name, key, certificate)
        (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        return authority

    def issue(self, file: str, common_name: str, *, organization: str = "", hosts: tuple[str, ...] = ()) -> None:
        """Write `FILE.crt` and `FILE.key`: a server certificate when it has hosts, else a client's."""
        key = ec.generate_private_key(ec.SECP256R1())
        names = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
        if organization:
            names.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
        purpose = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(x509.Name(names), self.certificate.subject, key.public_key(), self.key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        )
        if hosts:
            builder = builder.add_extension(
                x509.SubjectAlternativeName([_host(host) for host in hosts]), critical=False
            )
        certificate = builder.sign(self.key, hashes.SHA256())
        (self.folder / f"{file}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        _write_key(self.folder / f"{file}.key", key)


def write_certificates(folder: Path) -> None:
    """Everything that the control plane needs, as PEM files.

    `ca.crt`; `server`, `admin`, `controllers`, `metrics` (.crt and .key); `front-proxy-ca.crt`, `front-proxy` (.crt and
    .key); `service-account.key` and `service-account.pub`. Elliptic keys: made in a millisecond each.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ca = Authority.create(folder, "ca")
    ca.issue("server", "kube-apiserver", hosts=("127.0.0.1", "localhost", "kubernetes.default.svc", "10.0.0.1"))
    ca.issue("metrics", "metrics-server", hosts=("metrics-server.kube-system.svc", "localhost", "127.0.0.1"))
    ca.issue("admin", "admin", organization="system:masters")
    ca.issue("controllers", "system:kube-controller-manager", organization="system:masters")
    Authority.create(folder, "front-proxy-ca").issue("front-proxy", FRONT_PROXY_NAME)
    signer = ec.generate_private_key(ec.SECP256R1())
    _write_key(folder / "service-account.key", signer)
    public = signer.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    (folder / "service-account.pub").write_bytes(public)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, issuer_public: ec.EllipticCurvePublicKey
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_public), critical=False)
    )


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write_key(path: Path, key: ec.EllipticCurvePrivateKey) -> None:
    path.touch(mode=0o600)
    path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
