//! Cutting a Welcome for many devices into one for each.
//!
//! OpenMLS makes one Welcome for all who are added. Each device needs only its own secrets, so a
//! Welcome that is cut does not grow with the number of those added (docs/protocol.md, "A room").

use std::collections::HashMap;

use tls_codec::{
    Deserialize as _, Serialize as _, TlsDeserialize, TlsSerialize, TlsSize, VLByteVec,
};

use crate::failure::Failure;

/// An MLSMessage with a Welcome (RFC 9420, sections 6 and 12.4.3.1), as far as it has to be looked
/// into.
#[derive(TlsSerialize, TlsDeserialize, TlsSize)]
struct Parts {
    version: u16,
    wire_format: u16,
    cipher_suite: u16,
    secrets: Vec<Secrets>,
    encrypted_group_info: VLByteVec,
}

/// What one new member needs.
#[derive(Debug, Clone, TlsSerialize, TlsDeserialize, TlsSize)]
struct Secrets {
    new_member: VLByteVec,
    kem_output: VLByteVec,
    ciphertext: VLByteVec,
}

/// Cuts a Welcome for many into one for each of these key packages, in their order.
pub(crate) fn split_welcome(
    welcome: &[u8],
    references: &[serde_bytes::ByteBuf],
) -> Result<Vec<Vec<u8>>, Failure> {
    let bad = |error: &dyn std::fmt::Display| Failure::defect("split_welcome", error);
    let mut parts = Parts::tls_deserialize_exact(welcome).map_err(|error| bad(&error))?;
    let secrets: HashMap<Vec<u8>, Secrets> = std::mem::take(&mut parts.secrets)
        .into_iter()
        .map(|secrets| (secrets.new_member.as_slice().to_vec(), secrets))
        .collect();
    references
        .iter()
        .map(|reference| {
            let own = secrets.get(reference.as_slice());
            parts.secrets = vec![own.ok_or_else(|| bad(&"it lacks a new member"))?.clone()];
            parts.tls_serialize_detached().map_err(|error| bad(&error))
        })
        .collect()
}
