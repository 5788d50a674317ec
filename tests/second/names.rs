//! The names of docs/spec/1-identifiers.md, and group ids.

/// The algorithm of a room.
pub const ROOM: &str = "org.matrix.msc2883.v1.dmls.dhkemx25519-aes128gcm-sha256-ed25519";
/// That of a Welcome.
pub const WELCOME: &str = "org.matrix.msc2883.v1.dmls.welcome.dhkemx25519-aes128gcm-sha256-ed25519";
/// That of a key package.
pub const KEY_PACKAGE: &str =
    "org.matrix.msc2883.v1.dmls.key_package.dhkemx25519-aes128gcm-sha256-ed25519";
/// A credential's key in `device_keys`, before the device id.
pub const CREDENTIAL: &str = "org.matrix.msc2883.v1.dmls.credential.ed25519";
/// The state that starts a room anew.
pub const RESTART: &str = "org.matrix.msc2883.v1.dmls.restart";
/// That of an offer of history.
pub const HISTORY: &str = "org.matrix.msc2883.v1.dmls.history.dhkemx25519-aes128gcm-sha256-ed25519";
/// The algorithm of a backup.
pub const BACKUP: &str = "org.matrix.msc4038.v0.aes-hmac-sha2";
/// The extension that binds a leaf to a device.
pub const BINDING: u16 = 0xFB43;

/// The same name in its stable form (I1).
pub fn stable(name: &str) -> String {
    name.replacen("org.matrix.msc2883.v1.dmls.", "m.dmls.v1.", 1)
}

/// Whether this is that name in one of its forms (I1).
pub fn is(found: &str, name: &str) -> bool {
    let of_mls = || stable(name).replacen("m.dmls.v1.", "m.mls.v1.", 1);
    found == name || found == stable(name) || (name == WELCOME && found == of_mls())
}

/// The id of a restarted group.
pub fn group_id(room: &str, number: u64, random: [u8; 16]) -> Vec<u8> {
    [room.as_bytes(), &[0], &number.to_be_bytes(), &random].concat()
}

/// Which group of the room this id names: 0 is the first (I4).
pub fn group_number(room: &str, id: &[u8]) -> Option<u64> {
    let rest = id.strip_prefix(room.as_bytes())?;
    if rest.is_empty() {
        return Some(0);
    }
    let number: [u8; 8] = rest.get(1..9)?.try_into().ok()?;
    let number = u64::from_be_bytes(number);
    (rest[0] == 0 && rest.len() == 25 && number > 0).then_some(number)
}
