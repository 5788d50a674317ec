//! What an app is told of a verification.

/// One of the 64 emojis of the specification.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct SasEmoji {
    /// Its number in the specification's table, 0 to 63, by which an app finds a translation.
    pub number: u8,
    /// The emoji.
    pub symbol: String,
    /// Its English name.
    pub description: String,
}

/// How far a verification has come.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
#[non_exhaustive]
pub enum VerificationState {
    /// One side has asked. If that was the other side, the user decides: `Verification::accept` or
    /// `cancel`. Otherwise the other side's answer is waited for.
    Requested,
    /// Both sides want it. Either may begin: `Verification::start_sas`.
    Ready,
    /// The two devices agree on keys. Nothing is to be done.
    Started,
    /// The user compares what both devices show: `Verification::confirm`, or `mismatch`.
    Comparing {
        /// Seven emojis; empty if one of the two apps has none.
        emojis: Vec<SasEmoji>,
        /// Three numbers from 1000 to 9191.
        decimals: Vec<u16>,
    },
    /// The user has confirmed here, and the other side has not yet.
    Confirmed,
    /// Both have confirmed, and the keys are right.
    Done {
        /// The other user's master key, or this user's own, if the other device has vouched for it;
        /// an Ed25519 public key in unpadded base64.
        master_key: Option<String>,
        /// Whether this device has signed it, or the other device of this user, with a cross-signing
        /// key. Otherwise this device has no private key for that, and others learn nothing of the
        /// verification.
        is_signed: bool,
    },
    /// It is over without a result.
    Cancelled {
        /// Why, for programs: a code of the specification, such as `"m.user"`, `"m.timeout"`,
        /// `"m.accepted"` (another device goes on), `"m.mismatched_sas"` or `"m.key_mismatch"`; or
        /// `"no_device"` if the homeserver lists no device that could be asked, and `"refused"` if
        /// an event cannot be sent, as the homeserver or the room does not let it.
        code: String,
        /// Why, as a sentence for a log. It may be the other side's.
        reason: String,
        /// Whether this device has ended it.
        by_this_device: bool,
    },
}
