//! The names of MSC2883 on the wire. One form is written, both are read.

use openmls_traits::types::Ciphersuite;
use serde::{Deserialize, Serialize};

/// The prefix of names until the MSC is accepted. It is the one that is written.
const UNSTABLE: &str = "org.matrix.msc2883.v1.dmls.";
/// The prefix of names once the MSC is accepted.
const STABLE: &str = "m.dmls.v1.";
/// The prefix of the Welcome's algorithm in early drafts of the MSC.
const EARLY: &str = "m.mls.v1.";

/// The prefixes of all names of the MSC, of whatever version and in lower case. What apps name
/// themselves begins with none of them.
pub(crate) const PREFIXES: [&str; 3] = ["org.matrix.msc2883.", "m.dmls.", "m.mls."];

/// The label with which the key of shared history is exported from an epoch.
pub(crate) const HISTORY_LABEL: &str = "org.matrix.msc2883.v1.dmls.history";

/// The algorithm of secrets that one device of a user hands to another.
pub(crate) const SECRETS_ALGORITHM: &str = "org.matrix.msc2883.v1.dmls.secrets";

/// The suites that this library takes part in. A name of another suite is treated as unknown.
/// Adding a suite means that devices can differ in their suite, and every reader of a name then has
/// to distinguish them.
const SUPPORTED: &[Ciphersuite] = &[Ciphersuite::MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519];

/// A suite's name in Matrix: its name in RFC 9420 (section 17.1) in lower case, without `MLS_` and
/// the security level, with hyphens.
fn suite_name(suite: Ciphersuite) -> &'static str {
    use Ciphersuite::*;
    match suite {
        MLS_128_DHKEMX25519_AES128GCM_SHA256_Ed25519 => "dhkemx25519-aes128gcm-sha256-ed25519",
        MLS_128_DHKEMP256_AES128GCM_SHA256_P256 => "dhkemp256-aes128gcm-sha256-p256",
        MLS_128_DHKEMX25519_CHACHA20POLY1305_SHA256_Ed25519 => {
            "dhkemx25519-chacha20poly1305-sha256-ed25519"
        }
        MLS_256_DHKEMX448_AES256GCM_SHA512_Ed448 => "dhkemx448-aes256gcm-sha512-ed448",
        MLS_256_DHKEMP521_AES256GCM_SHA512_P521 => "dhkemp521-aes256gcm-sha512-p521",
        MLS_256_DHKEMX448_CHACHA20POLY1305_SHA512_Ed448 => {
            "dhkemx448-chacha20poly1305-sha512-ed448"
        }
        MLS_256_DHKEMP384_AES256GCM_SHA384_P384 => "dhkemp384-aes256gcm-sha384-p384",
    }
}

/// The suite among these that a name ends with, after one of the prefixes and `middle`.
fn suite_after(
    text: &str,
    prefixes: &[&str],
    middle: &str,
    among: &[Ciphersuite],
) -> Option<Ciphersuite> {
    let name =
        prefixes.iter().find_map(|prefix| text.strip_prefix(prefix)?.strip_prefix(middle))?;
    among.iter().copied().find(|suite| suite_name(*suite) == name)
}

/// The algorithm of a room that uses this suite.
pub(crate) fn room_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}{}", suite_name(suite))
}

/// The suite that a room's algorithm names, if this library supports it.
pub(crate) fn suite_of_room_algorithm(algorithm: &str) -> Option<Ciphersuite> {
    suite_after(algorithm, &[UNSTABLE, STABLE], "", SUPPORTED)
}

/// Whether an algorithm is that of MLS rooms of a supported suite.
pub(crate) fn is_room_algorithm(algorithm: &str) -> bool {
    suite_of_room_algorithm(algorithm).is_some()
}

/// The algorithm of a Welcome.
pub(crate) fn welcome_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}welcome.{}", suite_name(suite))
}

/// The suite that a Welcome's algorithm names, if this library supports it.
pub(crate) fn suite_of_welcome_algorithm(algorithm: &str) -> Option<Ciphersuite> {
    suite_after(algorithm, &[UNSTABLE, STABLE, EARLY], "welcome.", SUPPORTED)
}

/// The algorithm of an offer of history.
pub(crate) fn history_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}history.{}", suite_name(suite))
}

/// Whether an algorithm is that of an offer of history.
pub(crate) fn is_history_algorithm(algorithm: &str) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "history.", SUPPORTED).is_some()
}

/// The algorithm of a request for history.
pub(crate) fn history_request_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}history_request.{}", suite_name(suite))
}

/// Whether an algorithm is that of a request for history.
pub(crate) fn is_history_request_algorithm(algorithm: &str) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "history_request.", SUPPORTED).is_some()
}

/// The algorithm of a request for a ratchet tree.
pub(crate) fn tree_request_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}tree_request.{}", suite_name(suite))
}

/// Whether an algorithm is that of a request for a ratchet tree.
pub(crate) fn is_tree_request_algorithm(algorithm: &str) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "tree_request.", SUPPORTED).is_some()
}

/// The algorithm of an offer of a ratchet tree.
pub(crate) fn tree_algorithm(suite: Ciphersuite) -> String {
    format!("{UNSTABLE}tree.{}", suite_name(suite))
}

/// Whether an algorithm is that of an offer of a ratchet tree.
pub(crate) fn is_tree_algorithm(algorithm: &str) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "tree.", SUPPORTED).is_some()
}

/// The types of the state event that starts a room's group anew: the one that is written, and the
/// other that is read.
pub(crate) const RESTART_TYPES: [&str; 2] =
    ["org.matrix.msc2883.v1.dmls.restart", "m.dmls.v1.restart"];

/// Whether a state event of this type starts a room's group anew.
pub(crate) fn is_restart(event_type: &str) -> bool {
    RESTART_TYPES.contains(&event_type)
}

/// What a binding says that it is (`binding`).
pub(crate) const BINDING_TYPE: &str = "org.matrix.msc2883.v1.dmls.binding";

/// The two names that key packages may have on a homeserver. A claim asks for one of them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum KeyPackageName {
    /// The one until the MSC is accepted. Devices of this library publish under it.
    #[default]
    Unstable,
    /// The one once the MSC is accepted.
    Stable,
}

/// The algorithm under which key packages are published as one-time keys.
pub(crate) fn key_package_algorithm(suite: Ciphersuite) -> String {
    claimed_algorithm(suite, KeyPackageName::Unstable)
}

/// The algorithm under which key packages of this name are claimed.
pub(crate) fn claimed_algorithm(suite: Ciphersuite, name: KeyPackageName) -> String {
    let prefix = match name {
        KeyPackageName::Unstable => UNSTABLE,
        KeyPackageName::Stable => STABLE,
    };
    format!("{prefix}key_package.{}", suite_name(suite))
}

/// Whether a one-time key algorithm is that of key packages of this suite.
pub(crate) fn is_key_package_algorithm(algorithm: &str, suite: Ciphersuite) -> bool {
    suite_after(algorithm, &[UNSTABLE, STABLE], "key_package.", &[suite]).is_some()
}

/// The key id of a device's MLS credential in its `device_keys`.
pub(crate) fn credential_key_id(device_id: &str) -> String {
    format!("{UNSTABLE}credential.ed25519:{device_id}")
}

/// All key ids that a device's MLS credential may have.
pub(crate) fn credential_key_ids(device_id: &str) -> [String; 2] {
    [UNSTABLE, STABLE].map(|prefix| format!("{prefix}credential.ed25519:{device_id}"))
}

#[cfg(test)]
mod tests {
    use std::error::Error;

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
        let stable = claimed_algorithm(SUITE, KeyPackageName::Stable);
        assert_eq!(stable, format!("m.dmls.v1.key_package.{name}"));
        assert!(is_key_package_algorithm(&stable, SUITE));
        assert!(credential_key_ids("D").contains(&credential_key_id("D")));
    }

    #[test]
    fn every_suite_has_names_of_its_own() -> Result<(), Box<dyn Error>> {
        let suites = (1..=7_u16).map(Ciphersuite::try_from).collect::<Result<Vec<_>, _>>()?;
        for suite in &suites {
            let room = room_algorithm(*suite);
            assert_eq!(suite_after(&room, &[UNSTABLE], "", &suites), Some(*suite));
            let ours = SUPPORTED.contains(suite).then_some(*suite);
            assert_eq!(suite_of_room_algorithm(&room), ours);
            assert_eq!(suite_of_welcome_algorithm(&welcome_algorithm(*suite)), ours);
            for other in &suites {
                let package = key_package_algorithm(*suite);
                assert_eq!(is_key_package_algorithm(&package, *other), suite == other);
            }
        }
        Ok(())
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
