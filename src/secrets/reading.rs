//! Reading what is in secret storage: the default key, its description, and the secrets.
//!
//! Everything is read before anything is done, in one request each. What was read counts for the
//! work that it was read for; the next work reads anew.

use super::{
    error::SecretsError,
    format::{DEFAULT_KEY, SECRETS, Secret, key_type},
    record::{Task, WORK, Work, fail, note_key, path, tell_state},
    recover, write,
};
use crate::{
    devices,
    requests::{self, DEVICE_SCOPE, Purpose, REQUESTS},
    signing,
    store::StoreError,
    turn::Turn,
};

/// The longest event that is read, in bytes: a secret is sealed under some keys.
const LONGEST: usize = 64 * 1024;

/// Begins something.
pub(crate) fn begin(turn: &Turn<'_>, task: Task) -> Result<(), SecretsError> {
    signing::must_be_alone(turn)?;
    if let Some(work) = WORK.get(turn.tx, b"", b"")? {
        return match (work.task, task) {
            (Task::Look, Task::Look) => Ok(()),
            // To look is no more than what is done first in any case.
            (Task::Look, task) => start(turn, task),
            _ => Err(SecretsError::Busy),
        };
    }
    start(turn, task)
}

fn start(turn: &Turn<'_>, task: Task) -> Result<(), SecretsError> {
    let own = turn.identity.name().user_id;
    match &task {
        Task::Look => {}
        Task::Store { .. } => write::check(turn)?,
        // The secrets are compared with what is published now.
        Task::Recover { .. } => {
            signing::follow(turn)?;
            devices::mark_outdated(turn.tx, [&*own])?;
        }
    }
    drop_requests(turn)?;
    let work = Work { task, found: Default::default(), to_write: Vec::new() };
    WORK.put(turn.tx, b"", b"", &work)?;
    tell_state(turn)?;
    go_on(turn)
}

/// Takes requests that belong to earlier work out of the queue.
fn drop_requests(turn: &Turn<'_>) -> Result<(), StoreError> {
    for (id, queued) in REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)? {
        if matches!(queued.purpose, Purpose::ReadSecret { .. } | Purpose::WriteSecret { .. }) {
            requests::remove(turn.tx, id)?;
        }
    }
    Ok(())
}

/// The homeserver has answered with an event, or has none.
pub(crate) fn answered(
    turn: &Turn<'_>,
    kind: &str,
    body: Option<&[u8]>,
) -> Result<(), SecretsError> {
    let Some(mut work) = WORK.get(turn.tx, b"", b"")? else { return Ok(()) };
    let text =
        body.filter(|body| body.len() <= LONGEST).and_then(|body| std::str::from_utf8(body).ok());
    work.found.insert(kind.to_owned(), text.map(str::to_owned));
    WORK.put(turn.tx, b"", b"", &work)?;
    go_on(turn)
}

/// The homeserver refuses to give or to take an event.
pub(crate) fn refused(turn: &Turn<'_>, code: &str, reason: &str) -> Result<(), SecretsError> {
    if WORK.has(turn.tx, b"", b"")? {
        drop_requests(turn)?;
        fail(turn, code, reason)?;
    }
    Ok(())
}

/// Asks for what is to be read next; where all is read, does what it was read for.
pub(crate) fn go_on(turn: &Turn<'_>) -> Result<(), SecretsError> {
    let Some(work) = WORK.get(turn.tx, b"", b"")? else { return Ok(()) };
    if !work.to_write.is_empty() {
        return Ok(());
    }
    let mut wanted = vec![DEFAULT_KEY.to_owned()];
    wanted.extend(work.default_key_id().map(|id| key_type(&id)));
    if let Task::Store { .. } | Task::Recover { .. } = work.task {
        wanted.extend(SECRETS.iter().map(|secret| Secret::name(*secret).to_owned()));
    }
    wanted.retain(|kind| !work.found.contains_key(kind));
    if !wanted.is_empty() {
        return Ok(ask(turn, wanted)?);
    }
    note_key(turn, &work)?;
    match work.task.clone() {
        Task::Look => {
            WORK.delete(turn.tx, b"", b"")?;
            Ok(tell_state(turn)?)
        }
        Task::Recover { key, with_history } => recover::recover(turn, &work, &key, with_history),
        Task::Store { key, passphrase, replace } => {
            write::store(turn, work, &key, &passphrase, replace)
        }
    }
}

/// Queues a question for each of these events that is not asked for yet.
fn ask(turn: &Turn<'_>, mut wanted: Vec<String>) -> Result<(), StoreError> {
    for (_, queued) in REQUESTS.in_scope(turn.tx, DEVICE_SCOPE)? {
        if let Purpose::ReadSecret { kind } = &queued.purpose {
            wanted.retain(|wanted| wanted != kind);
        }
    }
    for kind in wanted {
        let path = path(turn, &kind);
        let purpose = Purpose::ReadSecret { kind };
        let line = ("GET", &*path);
        requests::enqueue_json(turn.tx, DEVICE_SCOPE, turn.now_ms, purpose, line, Vec::new())?;
    }
    Ok(())
}
