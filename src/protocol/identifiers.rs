//! The names of MSC2883 on the wire: one form written, both read.

use openmls_traits::types::Ciphersuite;

/// The prefix of names before the MSC is accepted, which is the one written.
const UNSTABLE: &str = "org.matrix.msc2883.v1.dmls.";
/// The prefix of names after it.
const STABLE: &str = "m.dmls.v1.";
/// What early drafts of the MSC called the Welcome's.
const EARLY: &str = "m.mls.v1.";

/// The suites this library uses, with their names in Matrix.
const SUITES: &[(Ciphersuite, &str)] = &[(
    Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519,
    "dhkemx25519-aes128gcm-sha256-ed25519",
)];

/// A suite's name in Matrix.
fn suite_name(suite: Ciphersuite) -> &'static str {
    // A device's suite is chosen from the table, so the fallback is never met.
    SUITES.iter().find(|(known, _)| *known == suite).map_or("unknown", |(_, name)| name)
}

fn suite_after(text: &str, prefixes: &[&str], middle: &str) -> Option<Ciphersuite> {
    let name =
        prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)?.strip_prefix(middle))?;
    SUITES.iter().find(|(_, known)| *known == name).map(|(suite, _)| *suite)
}

/// The algorithm of a room that uses this suite.
pub(crate) fn room_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}{}", suite_name(suite))
}

/// The suite that a room's algorithm names, if it is one of ours.
pub(crate) fn suite_of_room_algorithm(algorithm: &str) -> Option<Ciphersuite> {
    suite_after(algorithm, &[UNSTABLE, STABLE], "")
}

/// The algorithm of a Welcome.
pub(crate) fn welcome_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}welcome.{}", suite_name(suite))
}

/// The suite that a Welcome's algorithm names, if it is one of ours.
pub(crate) fn suite_of_welcome_algorithm(algorithm: &str) -> Option<Ciphersuite> {
    suite_after(algorithm, &[UNSTABLE, STABLE, EARLY], "welcome.")
}

/// The algorithm under which key packages are one-time keys.
pub(crate) fn key_package_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}key_package.{}", suite_name(suite))
}

/// Whether a one-time key algorithm is that of key packages of this suite.
pub(crate) fn is_key_package_algorithm(algorithm: &str, suite: Ciphersuite) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "key_package.") == Some(suite)
}

/// The key id of a device's MLS credential in its `device_keys`.
pub(crate) fn credential_key_id(device_id: &str) -> String {
    format!("{UNSTABLE}credential.ed25519:{device_id}")
}

/// All key ids under which a device's MLS credential may stand.
pub(crate) fn credential_key_ids(device_id: &str) -> [String; 2] {
    [UNSTABLE, STABLE].map(|prefix| format!("{prefix}credential.ed25519:{device_id}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SUITE: Ciphersuite = Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519;

    #[test]
    fn what_is_written_is_read_and_so_is_the_other_form() {
        let name = "dhkemx25519-aes128gcm-sha256-ed25519";
        assert_eq!(room_algorithm(SUITE), format!("org.matrix.msc2883.v1.dmls.{name}"));
        assert_eq!(suite_of_room_algorithm(&room_algorithm(SUITE)), Some(SUITE));
        assert_eq!(suite_of_room_algorithm(&format!("m.dmls.v1.{name}")), Some(SUITE));
        assert_eq!(suite_of_welcome_algorithm(&welcome_algorithm(SUITE)), Some(SUITE));
        for prefix in ["m.dmls.v1.", "m.mls.v1."] {
            let welcome = format!("{prefix}welcome.{name}");
            assert_eq!(suite_of_welcome_algorithm(&welcome), Some(SUITE));
        }
        assert!(is_key_package_algorithm(&key_package_algorithm(SUITE), SUITE));
        assert!(credential_key_ids("D").contains(&credential_key_id("D")));
    }

    #[test]
    fn others_are_not_ours() {
        for algorithm in
            ["", "m.megolm.v1.aes-sha2", "m.dmls.v1.", "m.dmls.v1.x", "m.dmls.v1.welcome.x"]
        {
            assert_eq!(suite_of_room_algorithm(algorithm), None);
            assert_eq!(suite_of_welcome_algorithm(algorithm), None);
        }
    }
}
