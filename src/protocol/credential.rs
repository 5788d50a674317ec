//! The identity inside a device's MLS credential.
//!
//! The credential is a BasicCredential (RFC 9420, section 5.3) whose identity is the TLS struct
//! `{opaque user_id<V>; opaque device_id<V>}`. The parts carry their lengths, because Matrix ids
//! may contain any separator.

use ruma::{OwnedDeviceId, UserId};
use tls_codec::{Deserialize, Serialize, VLBytes};

use super::device_name::DeviceName;

/// Why an identity names no Matrix device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the credential does not name a Matrix user and device")]
pub(crate) struct CredentialError;

/// The identity of a device.
pub(crate) fn encode(device: &DeviceName) -> Vec<u8> {
    [device.user_id.as_bytes(), device.device_id.as_bytes()]
        .into_iter()
        // Ids from Matrix have at most 255 bytes, which any length prefix can express.
        .flat_map(|part| VLBytes::new(part.to_vec()).tls_serialize_detached().unwrap_or_default())
        .collect()
}

/// The device that an identity names.
pub(crate) fn parse(identity: &[u8]) -> Result<DeviceName, CredentialError> {
    let mut rest = identity;
    let mut text = || {
        let bytes = VLBytes::tls_deserialize(&mut rest).map_err(|_| CredentialError)?;
        String::from_utf8(bytes.as_slice().to_vec()).map_err(|_| CredentialError)
    };
    let (user, device) = (text()?, text()?);
    if !rest.is_empty() || device.is_empty() {
        return Err(CredentialError);
    }
    let user = UserId::parse(&user).map_err(|_| CredentialError)?;
    Ok(DeviceName::new(user, OwnedDeviceId::from(device)))
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    #[test]
    fn any_id_survives_the_round_trip() {
        for device in ["PHONE", "a|b", "ключ 🔑", "{\"\\"] {
            let name = DeviceName::new(owned_user_id!("@al|ice:example.org"), device.into());
            assert_eq!(parse(&encode(&name)), Ok(name));
        }
    }

    #[test]
    fn what_names_no_device_is_refused() {
        let good = encode(&DeviceName::new(owned_user_id!("@a:b"), "D".into()));
        for end in 0..good.len() {
            assert_eq!(parse(&good[..end]), Err(CredentialError), "cut at {end}");
        }
        let longer = [&good[..], b"x"].concat();
        assert_eq!(parse(&longer), Err(CredentialError));
        assert_eq!(parse(b"\x04@a:b\x00"), Err(CredentialError), "an empty device id");
        assert_eq!(parse(b"\x01a\x01D"), Err(CredentialError), "no user id");
        assert_eq!(parse(b"\x02\xff\xff\x01D"), Err(CredentialError), "no UTF-8");
    }
}
