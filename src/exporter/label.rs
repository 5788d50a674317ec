//! Which labels an app may use.
//!
//! This library exports secrets for its own ends, such as the key of shared history. Whoever could
//! export with such a label would have the key. So all names below the prefixes of the MSC are
//! refused, those that no version uses yet among them.

use super::{error::ExportError, limits::LONGEST_LABEL};
use crate::protocol::identifiers::PREFIXES;

/// Refuses a label that is not for apps.
pub(super) fn check(label: &str) -> Result<(), ExportError> {
    if label.is_empty() || label.len() > LONGEST_LABEL {
        return Err(ExportError::BadLabel);
    }
    // Nobody should have to think about names that differ in nothing but their case.
    let lower = label.to_ascii_lowercase();
    match PREFIXES.into_iter().find(|prefix| lower.starts_with(prefix)) {
        Some(prefix) => Err(ExportError::ReservedLabel(prefix)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_below_the_prefixes_of_the_msc_are_refused() {
        for label in ["org.matrix.msc4143.media", "org.example.call", "m.rtc", "x", "M"] {
            assert_eq!(check(label), Ok(()), "{label}");
        }
        for label in [
            "org.matrix.msc2883.v1.dmls.history",
            "org.matrix.msc2883.v2",
            "ORG.matrix.MSC2883.v1.dmls.history",
            "m.dmls.v1.x",
            "m.mls.v1.",
        ] {
            assert!(matches!(check(label), Err(ExportError::ReservedLabel(_))), "{label}");
        }
        assert_eq!(check(""), Err(ExportError::BadLabel));
        assert_eq!(check(&"a".repeat(256)), Err(ExportError::BadLabel));
        assert_eq!(check(&"a".repeat(255)), Ok(()));
    }

    #[test]
    fn the_label_of_shared_history_is_reserved() {
        assert!(matches!(
            check(crate::protocol::identifiers::HISTORY_LABEL),
            Err(ExportError::ReservedLabel(_))
        ));
    }
}
