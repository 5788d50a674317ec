//! How long to wait after a failure: twice as long after each further one, up to a bound.

/// A delay that doubles with each failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Backoff {
    /// The delay after the first failure, in milliseconds.
    pub(crate) first_ms: u64,
    /// The longest delay, in milliseconds.
    pub(crate) most_ms: u64,
}

/// The delays of requests that the homeserver did not answer or put off.
pub(crate) const REQUEST: Backoff = Backoff { first_ms: 1_000, most_ms: 5 * 60 * 1_000 };

/// The longest delay that a homeserver can impose, in milliseconds. No request is put off for
/// longer.
pub(crate) const MOST_IMPOSED_MS: u64 = 60 * 60 * 1_000;
/// The delays of work that the homeserver has refused: it may change its mind, but not soon.
pub(super) const REFUSED: Backoff = Backoff { first_ms: 60 * 1_000, most_ms: 6 * 60 * 60 * 1_000 };

impl Backoff {
    /// The delay after a failure that `failures` others came before, in milliseconds.
    pub(crate) fn delay_ms(self, failures: u32) -> u64 {
        self.first_ms.saturating_mul(1 << failures.min(16)).min(self.most_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_and_end() {
        assert_eq!(REQUEST.delay_ms(0), 1_000);
        assert_eq!(REQUEST.delay_ms(3), 8_000);
        assert_eq!(REQUEST.delay_ms(u32::MAX), REQUEST.most_ms);
    }
}
