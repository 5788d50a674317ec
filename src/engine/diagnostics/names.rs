//! The short names that stand for ids in a report.

use sha2::{Digest as _, Sha256};

use crate::protocol::DeviceName;

/// The short name of an id: the first ten digits in hex of its SHA-256. It says nothing of an id
/// that is not known, and who knows the id finds it in the report.
pub(super) fn short(id: &str) -> String {
    let mut digits = hex::encode(Sha256::digest(id.as_bytes()));
    digits.truncate(10);
    digits
}

/// The short name of a device: that of `user_id|device_id`, because user ids alone could be
/// guessed.
pub(super) fn short_device(device: &DeviceName) -> String {
    short(&device.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_what_other_tools_make_of_the_id() {
        // printf %s '!room:example.org' | sha256sum | cut -c1-10
        assert_eq!(short("!room:example.org"), SHORT);
        assert_ne!(short("!room:example.org"), short("!room:example.com"));
    }

    const SHORT: &str = "03cbb71e7e";
}
