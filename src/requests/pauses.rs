//! Pauses of work that the homeserver has refused and that has to be planned again all the same.
//!
//! The refused request is over and the app is told. The same work is planned again after a pause,
//! which doubles with each further refusal, up to six hours. A success ends it.

use serde::{Deserialize, Serialize};

use super::backoff::REFUSED;
use crate::store::{Collection, StoreError, Tx};

/// Work that pauses after a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PausedWork {
    /// Asking which keys the homeserver has for this device.
    CheckKeys,
    /// Uploading this device's keys.
    UploadKeys,
    /// Uploading epochs into the backup.
    BackUp,
    /// Uploading the signature of this device's user.
    SignDevice,
}

impl PausedWork {
    /// The key of its row.
    fn key(self) -> &'static [u8] {
        match self {
            Self::CheckKeys => b"check keys",
            Self::UploadKeys => b"upload keys",
            Self::BackUp => b"back up",
            Self::SignDevice => b"sign device",
        }
    }
}

/// A pause, and how many refusals came before it without a success.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Pause {
    refusals: u32,
    until_ms: u64,
}

const PAUSES: Collection<Pause> = Collection::new("refusal_pause");

/// Whether this work has to wait.
pub(crate) fn is_paused(tx: &Tx<'_>, work: PausedWork, now_ms: u64) -> Result<bool, StoreError> {
    let Some(pause) = PAUSES.get(tx, b"", work.key())? else { return Ok(false) };
    // A time further ahead than any pause comes from a clock that has been set back since.
    Ok(pause.until_ms > now_ms && pause.until_ms <= now_ms.saturating_add(REFUSED.most_ms))
}

/// The homeserver has refused this work. The first `free` refusals in a row cost no pause.
pub(crate) fn pause(
    tx: &Tx<'_>,
    work: PausedWork,
    now_ms: u64,
    free: u32,
) -> Result<(), StoreError> {
    let mut pause = PAUSES.get(tx, b"", work.key())?.unwrap_or_default();
    if let Some(earlier) = pause.refusals.checked_sub(free) {
        pause.until_ms = now_ms.saturating_add(REFUSED.delay_ms(earlier));
    }
    pause.refusals = pause.refusals.saturating_add(1);
    PAUSES.put(tx, b"", work.key(), &pause)
}

/// The homeserver has taken this work.
pub(crate) fn end_pause(tx: &Tx<'_>, work: PausedWork) -> Result<(), StoreError> {
    PAUSES.delete(tx, b"", work.key()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Store, StoreKeyMaterial};

    #[test]
    fn pauses_grow_are_bounded_and_end_with_a_success() -> Result<(), Box<dyn std::error::Error>> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let work = PausedWork::UploadKeys;
        store.write(|tx| {
            let mut now_ms = 1_000_000;
            let mut last = 0;
            for _ in 0..20 {
                pause(tx, work, now_ms, 0)?;
                let began = now_ms;
                while is_paused(tx, work, now_ms)? {
                    now_ms += 30_000;
                }
                assert!(now_ms - began >= last.min(REFUSED.most_ms), "{}", now_ms - began);
                assert!(now_ms - began <= REFUSED.most_ms + 30_000);
                last = now_ms - began;
            }
            pause(tx, work, now_ms, 0)?;
            assert!(is_paused(tx, work, now_ms)?);
            assert!(!is_paused(tx, work, 5)?, "a clock that was set back pauses nothing for years");
            end_pause(tx, work)?;
            assert!(!is_paused(tx, work, now_ms)?);
            pause(tx, work, now_ms, 1)?;
            assert!(!is_paused(tx, work, now_ms)?, "the first was free");
            pause(tx, work, now_ms, 1)?;
            assert!(is_paused(tx, work, now_ms)?);
            Ok::<_, StoreError>(())
        })?;
        Ok(())
    }
}
