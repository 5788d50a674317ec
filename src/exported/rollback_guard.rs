//! The count that an app keeps outside the store.

/// Keeps one number outside the store's file, where bringing an older copy of the file back does not
/// reach: in the Keychain, or sealed by the Android Keystore.
///
/// A machine that is opened with a guard counts up before it uses new keys. An older copy of the
/// store has a lower number than the guard: the machine then seals nothing with what the copy holds,
/// and joins its rooms' groups anew. Each device's store needs a guard of its own. What a guard
/// throws is logged: without its answer the machine does what it does without a guard.
///
/// The machine calls its guard while it works, so a guard must not call the machine.
#[uniffi::export(with_foreign)]
pub trait RollbackGuard: Send + Sync {
    /// The number that was stored last; nothing if none was stored, or it cannot be read now.
    fn load(&self) -> Option<u64>;

    /// Stores a number, so that it survives a restart. Called once in 32 messages of a room in the
    /// long run, and once a message where messages are read once.
    fn store(&self, count: u64);
}
