//! A certificate for the federation port. Whoever connects does not check it: TLS is only there
//! because Synapse speaks to other servers through nothing else.

use std::{
    path::Path,
    process::{Command, Stdio},
};

use crate::KitError;

/// Makes a key and a certificate in the directory that is its argument, with the library that
/// Synapse itself needs.
const MAKE: &str = r#"
import datetime, pathlib, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
directory = pathlib.Path(sys.argv[1])
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
day = datetime.timedelta(days=1)
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    .serial_number(x509.random_serial_number()).not_valid_before(now - day).not_valid_after(now + day)
    .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    .sign(key, hashes.SHA256())
)
pem = serialization.Encoding.PEM
(directory / "tls.key").write_bytes(key.private_bytes(
    pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
(directory / "tls.crt").write_bytes(certificate.public_bytes(pem))
"#;

/// Writes `tls.key` and `tls.crt` into `directory`.
pub(super) fn make(python: &Path, directory: &Path) -> Result<(), KitError> {
    let what = "making a certificate with Synapse's Python";
    let made = Command::new(python)
        .args(["-c", MAKE])
        .arg(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(KitError::io(what))?;
    if made.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&made.stderr);
    Err(KitError::Setup(format!("{what} failed with {}: {said}", made.status)))
}
