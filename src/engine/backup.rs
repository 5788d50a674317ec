//! The engine's side of key backup: each of the app's wishes as a turn, and restores portion by
//! portion.

use ruma::OwnedRoomId;

use super::{core::Engine, error::EngineError};
use crate::{
    backup::{self, ActiveKey, Counts, Restore, Scope},
    epochs::graph,
    exported::BackupState,
    history::archive,
    sessions::{self, BackupKey, FailureCounts, Kept, PassphraseInfo, SessionArray, SessionError},
};

/// How many sessions of a file are taken in one turn, and how many epochs are read for one in one
/// transaction.
const PORTION: usize = 64;

impl Engine {
    /// Takes what restores have fetched, a turn a portion.
    pub(super) fn go_on_restoring(&self) -> Result<(), EngineError> {
        // Looked at without the lock first: nearly always there is none.
        if self.read(backup::under_way)?.is_empty() {
            return Ok(());
        }
        // The rest is taken after the engine was resumed.
        while !self.is_suspended() && self.turn(|turn| Ok(backup::restore_next_portion(turn)?))? {}
        Ok(())
    }

    /// How the backup stands.
    pub(crate) fn backup_state(&self) -> Result<BackupState, EngineError> {
        Ok(self.read(backup::state)?)
    }

    /// Asks the homeserver which backup there is.
    pub(crate) fn look_for_backup(&self) -> Result<(), EngineError> {
        self.turn(|turn| Ok(backup::request_version(turn)?))
    }

    /// Makes a backup.
    pub(crate) fn create_backup(
        &self,
        key: BackupKey,
        passphrase: PassphraseInfo,
        replace: bool,
    ) -> Result<(), EngineError> {
        self.turn(|turn| Ok(backup::create(turn, key, passphrase, replace)?))
    }

    /// Goes on with the backup there is.
    pub(crate) fn enable_backup(&self, key: BackupKey) -> Result<(), EngineError> {
        self.turn(|turn| Ok(backup::enable(turn, key)?))
    }

    /// Writes to the backup no longer.
    pub(crate) fn disable_backup(&self) -> Result<(), EngineError> {
        self.turn(|turn| Ok(backup::disable(turn)?))
    }

    /// Deletes the backup.
    pub(crate) fn delete_backup(&self) -> Result<(), EngineError> {
        self.turn(|turn| Ok(backup::delete(turn)?))
    }

    /// How much is backed up.
    pub(crate) fn backup_counts(&self) -> Result<Counts, EngineError> {
        Ok(self.read(backup::counts)?)
    }

    /// The enabled backup's recovery key.
    pub(crate) fn recovery_key(&self) -> Result<Option<ActiveKey>, EngineError> {
        Ok(self.read(backup::recovery_key)?)
    }

    /// Begins a restore.
    pub(crate) fn restore(&self, key: Option<BackupKey>, scope: Scope) -> Result<u64, EngineError> {
        self.turn(|turn| Ok(backup::start_restore(turn, key, scope)?))
    }

    /// Stops a restore.
    pub(crate) fn cancel_restore(&self, id: u64) -> Result<bool, EngineError> {
        self.turn(|turn| Ok(backup::cancel_restore(turn, id)?))
    }

    /// The restores under way.
    pub(crate) fn restores(&self) -> Result<Vec<Restore>, EngineError> {
        Ok(self.read(backup::under_way)?)
    }

    /// Writes a file with the epochs of these rooms, or of all.
    pub(crate) fn export_history(
        &self,
        rooms: Option<Vec<OwnedRoomId>>,
        passphrase: &str,
    ) -> Result<String, EngineError> {
        let rooms = match rooms {
            Some(rooms) => rooms,
            None => self.read(archive::rooms)?,
        };
        // A part a transaction: while one lasts, the log cannot be cut.
        let mut array = SessionArray::default();
        for room in rooms {
            let epochs = self.read(|tx| graph::readable(tx, &room))?;
            for portion in epochs.chunks(PORTION) {
                self.read(|tx| array.add(tx, &room, portion))?;
            }
        }
        // Stretching the passphrase takes long; others read meanwhile.
        Ok(sessions::seal_file(&self.opener.crypto, &array.to_json(), passphrase)?)
    }

    /// Takes what a file holds: how many epochs became readable, and what was wrong with others.
    pub(crate) fn import_history(
        &self,
        text: &str,
        passphrase: &str,
    ) -> Result<(u64, FailureCounts), EngineError> {
        let mut sessions =
            sessions::import_file(&self.opener.crypto, text, passphrase)?.into_iter().peekable();
        let (mut epochs, mut failures) = (0, FailureCounts::new());
        while sessions.peek().is_some() {
            let portion: Vec<_> = sessions.by_ref().take(PORTION).collect();
            self.turn(|turn| {
                for session in portion {
                    let taken = session.and_then(|(room, session)| {
                        Ok((backup::keep_session(turn, &room, session)?, room))
                    });
                    match taken {
                        Ok((Kept::NewEpoch(id), room)) => {
                            epochs += 1;
                            backup::note_epoch(turn, &room, id)?;
                        }
                        Ok(_) => {}
                        Err(SessionError::Store(error)) => return Err(error.into()),
                        Err(error) => *failures.entry(error.code().to_owned()).or_default() += 1,
                    }
                }
                Ok(())
            })?;
        }
        Ok((epochs, failures))
    }
}
