//! Requests that were put off: for how long, why, and what ends their wait early.
//!
//! A wait that began because there was no usable answer ends when anything else succeeds, when a
//! sync comes in, or when the app says that the network is back. A wait that began because the
//! access token was refused ends in the same ways, or when the app says that it has another token.
//! What the homeserver has imposed (429) is kept.
//!
//! One request may fail for ever while others succeed. So a success ends the wait of one request at
//! most once a minute.

use super::{
    backoff::{MOST_IMPOSED_MS, REQUEST},
    queue::{QueuedRequest, REQUESTS, Wait, is_due},
};
use crate::{
    exported::PendingRequests,
    store::{Collection, Mark, StoreError, Tx},
};

/// How long a success does not end the wait of the same request again.
const RELEASE_AGAIN_MS: u64 = 60 * 1_000;
/// How many requests are looked at when a wait may end.
const MOST_RELEASED: usize = 1_000;

/// What ends waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// The homeserver has taken something else.
    Success,
    /// The app says that the network is back.
    Network,
    /// The app has another access token, or wants to try again with the one it has.
    Token,
}

/// Set while the homeserver refuses the access token, as far as is known.
const TOKEN_REFUSED: Collection<Mark> = Collection::new("token_refused");

/// Keeps a request for later; gives the delay in milliseconds.
pub(crate) fn put_off(
    tx: &Tx<'_>,
    id: i64,
    mut queued: QueuedRequest,
    now_ms: u64,
    wait: Wait,
    imposed_ms: Option<u64>,
) -> Result<u64, StoreError> {
    let own = REQUEST.delay_ms(queued.failures);
    let after_ms = imposed_ms.map_or(own, |delay| delay.min(MOST_IMPOSED_MS));
    queued.failures = queued.failures.saturating_add(1);
    queued.due_ms = now_ms.saturating_add(after_ms);
    queued.wait = wait;
    REQUESTS.update(tx, id, queued.due_ms, &queued)?;
    Ok(after_ms)
}

/// When a request is due, in milliseconds since 1970, if a user wants to send something that waits
/// for it. Where the access token was refused, the app may have another one by now: then that is
/// soon.
pub(crate) fn due_when_asked(queued: &QueuedRequest, now_ms: u64) -> u64 {
    if is_due(queued, now_ms) {
        return now_ms;
    }
    if queued.wait != Wait::Unauthorized {
        return queued.due_ms;
    }
    let delay_ms = REQUEST.delay_ms(queued.failures.saturating_sub(1));
    let put_off_ms = queued.due_ms.saturating_sub(delay_ms);
    queued.due_ms.min(put_off_ms.saturating_add(REQUEST.first_ms))
}

/// Ends the waits that this ends.
pub(crate) fn release(tx: &Tx<'_>, now_ms: u64, release: Release) -> Result<(), StoreError> {
    for (id, mut queued) in REQUESTS.later(tx, now_ms, MOST_RELEASED)? {
        // A time in the future comes from a clock that has been set back since.
        let rested = queued.released_ms > now_ms
            || now_ms.saturating_sub(queued.released_ms) >= RELEASE_AGAIN_MS;
        let ends = match (queued.wait, release) {
            (Wait::Imposed | Wait::Refused, _) => false,
            (_, Release::Success) => rested,
            (Wait::None | Wait::Unanswered, Release::Network) => true,
            (Wait::Unauthorized, Release::Token) => true,
            (Wait::None | Wait::Unanswered, Release::Token)
            | (Wait::Unauthorized, Release::Network) => false,
        };
        if !ends {
            continue;
        }
        match release {
            Release::Success => queued.released_ms = now_ms,
            Release::Network | Release::Token => queued.failures = 0,
        }
        queued.due_ms = now_ms;
        REQUESTS.update(tx, id, now_ms, &queued)?;
    }
    Ok(())
}

/// Notes that the homeserver refuses the access token; tells whether that is new.
pub(crate) fn note_token_refused(tx: &Tx<'_>) -> Result<bool, StoreError> {
    let known = TOKEN_REFUSED.has(tx, b"", b"")?;
    if !known {
        TOKEN_REFUSED.put(tx, b"", b"", &Mark)?;
    }
    Ok(!known)
}

/// Notes that the homeserver takes the access token, or that there is another one.
pub(crate) fn note_token_works(tx: &Tx<'_>) -> Result<(), StoreError> {
    if TOKEN_REFUSED.has(tx, b"", b"")? {
        TOKEN_REFUSED.delete(tx, b"", b"")?;
    }
    Ok(())
}

/// What is in the queue.
pub(crate) fn pending(tx: &Tx<'_>, now_ms: u64) -> Result<PendingRequests, StoreError> {
    let due = REQUESTS.count_due(tx, now_ms)?;
    let next = REQUESTS.later(tx, now_ms, 1)?.pop();
    Ok(PendingRequests {
        due,
        put_off: REQUESTS.count(tx)?.saturating_sub(due),
        retry_after_ms: next.map(|(_, queued)| queued.due_ms.saturating_sub(now_ms)),
        unauthorized: TOKEN_REFUSED.has(tx, b"", b"")?,
    })
}

#[cfg(test)]
mod tests {
    use ruma::api::client::backup::get_latest_backup_info;

    use super::*;
    use crate::{
        failure::Failure,
        requests::{BACKUP_SCOPE, Purpose, enqueue},
        store::{Store, StoreKeyMaterial},
    };

    type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

    const NOW_MS: u64 = 1_700_000_000_000;

    /// A store with one request that has been put off so many times.
    fn waiting(wait: Wait, failures: u32) -> Outcome<(tempfile::TempDir, Store, i64)> {
        let directory = tempfile::tempdir()?;
        let store = Store::open(directory.path(), StoreKeyMaterial::None)?;
        let id = store.write(|tx| {
            let request = get_latest_backup_info::v3::Request::new();
            let id = enqueue(tx, BACKUP_SCOPE, NOW_MS, Purpose::BackupVersion, request)?;
            for _ in 0..failures {
                let queued = REQUESTS.get(tx, id)?.ok_or(StoreError::Missing)?;
                put_off(tx, id, queued, NOW_MS, wait, None)?;
            }
            Ok::<_, Failure>(id)
        })?;
        Ok((directory, store, id))
    }

    #[test]
    fn what_ends_which_wait() -> Outcome {
        use Release::{Network, Success, Token};
        for (wait, ends) in [
            (Wait::None, &[Success, Network][..]),
            (Wait::Unanswered, &[Success, Network]),
            (Wait::Unauthorized, &[Success, Token]),
            (Wait::Imposed, &[]),
            (Wait::Refused, &[]),
        ] {
            for cause in [Success, Network, Token] {
                let (_directory, store, _) = waiting(wait, 3)?;
                let pending = store.write(|tx| {
                    release(tx, NOW_MS + 1_000, cause)?;
                    pending(tx, NOW_MS + 1_000)
                })?;
                let expected = ends.contains(&cause);
                assert_eq!(pending.due == 1, expected, "{wait:?} by {cause:?}: {pending:?}");
                let left = (!expected).then_some(3_000);
                assert_eq!(pending.retry_after_ms, left, "{wait:?} by {cause:?}");
            }
        }
        Ok(())
    }

    #[test]
    fn a_request_that_always_fails_is_sent_once_a_minute_however_much_else_succeeds() -> Outcome {
        let (_directory, store, id) = waiting(Wait::Unanswered, 12)?;
        let mut tries = 0;
        for second in 0..600 {
            let now_ms = NOW_MS + second * 1_000;
            store.write(|tx| {
                release(tx, now_ms, Release::Success)?;
                if let Some((_, queued)) = REQUESTS.due(tx, now_ms, 1)?.pop() {
                    tries += 1;
                    put_off(tx, id, queued, now_ms, Wait::Unanswered, None)?;
                }
                Ok::<_, StoreError>(())
            })?;
        }
        assert_eq!(tries, 10);
        Ok(())
    }

    #[test]
    fn a_refused_token_is_news_once() -> Outcome {
        let (_directory, store, _) = waiting(Wait::Unauthorized, 1)?;
        store.write(|tx| {
            assert!(note_token_refused(tx)?);
            assert!(!note_token_refused(tx)?);
            assert!(pending(tx, NOW_MS)?.unauthorized);
            note_token_works(tx)?;
            assert!(!pending(tx, NOW_MS)?.unauthorized);
            assert!(note_token_refused(tx)?);
            Ok::<_, StoreError>(())
        })?;
        Ok(())
    }
}
