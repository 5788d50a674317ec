//! The engine's side of key backup: each of the app's wishes as a turn, and restores portion by portion.

use ruma::OwnedRoomId;

use super::Engine;
use crate::{
    backup::{self, BackupKey, Failures, Mode, PassphraseInfo, Restore, Scope, State},
    error::MlsError,
    group::timeline,
    history::archive,
};

/// How many sessions of a file are taken in one turn.
const PORTION: usize = 64;

impl Engine {
    /// Takes what restores have fetched, a turn a portion.
    pub(super) fn go_on_restoring(&self) -> Result<(), MlsError> {
        // Looked at without the lock first: nearly always there is none.
        if self.read(|tx| Ok(backup::under_way(tx)?.is_empty()))? {
            return Ok(());
        }
        while self.turn(backup::step)? {}
        Ok(())
    }

    /// Writes what was only remembered, before the engine goes.
    pub(crate) fn write_bindings(&self) -> Result<(), MlsError> {
        if self.opener.readers.bindings.waiting() > 0 {
            self.turn(|_| Ok(()))?;
        }
        Ok(())
    }

    /// How the backup stands.
    pub(crate) fn backup_state(&self) -> Result<State, MlsError> {
        self.read(|tx| Ok(backup::state(tx)?))
    }

    /// Asks the homeserver which backup there is.
    pub(crate) fn look_for_backup(&self) -> Result<(), MlsError> {
        self.turn(backup::look)
    }

    /// Makes a backup.
    pub(crate) fn create_backup(
        &self,
        key: BackupKey,
        passphrase: PassphraseInfo,
        replace: bool,
    ) -> Result<(), MlsError> {
        self.turn(|turn| backup::create(turn, key, passphrase, replace))
    }

    /// Goes on with the backup there is.
    pub(crate) fn enable_backup(&self, key: BackupKey) -> Result<(), MlsError> {
        self.turn(|turn| backup::enable(turn, key))
    }

    /// Writes to the backup no longer.
    pub(crate) fn disable_backup(&self) -> Result<(), MlsError> {
        self.turn(backup::disable)
    }

    /// Deletes the backup.
    pub(crate) fn delete_backup(&self) -> Result<(), MlsError> {
        self.turn(backup::delete)
    }

    /// How much is backed up: epochs in it, epochs to come, sessions on the homeserver.
    pub(crate) fn backup_counts(&self) -> Result<(u64, u64, Option<u64>), MlsError> {
        self.read(|tx| Ok(backup::counts(tx)?))
    }

    /// The enabled backup's recovery key.
    pub(crate) fn recovery_key(
        &self,
    ) -> Result<Option<(BackupKey, PassphraseInfo, Mode)>, MlsError> {
        self.read(|tx| Ok(backup::recovery_key(tx)?))
    }

    /// Begins a restore.
    pub(crate) fn restore(&self, key: Option<BackupKey>, scope: Scope) -> Result<u64, MlsError> {
        self.turn(|turn| backup::restore(turn, key, scope))
    }

    /// Stops a restore.
    pub(crate) fn cancel_restore(&self, id: u64) -> Result<bool, MlsError> {
        self.turn(|turn| backup::cancel_restore(turn, id))
    }

    /// The restores under way.
    pub(crate) fn restores(&self) -> Result<Vec<Restore>, MlsError> {
        self.read(|tx| Ok(backup::under_way(tx)?))
    }

    /// Writes a file with the epochs of these rooms, or of all.
    pub(crate) fn export_history(
        &self,
        rooms: Option<Vec<OwnedRoomId>>,
        passphrase: &str,
    ) -> Result<String, MlsError> {
        let contents = self.read(|tx| {
            let rooms = match rooms {
                Some(rooms) => rooms,
                None => archive::rooms(tx)?,
            };
            Ok(backup::file_contents(tx, &rooms)?)
        })?;
        // Others read meanwhile.
        Ok(backup::seal_file(&self.opener.crypto, &contents, passphrase)?)
    }

    /// Takes what a file holds: how many epochs became readable, and what was wrong with others.
    pub(crate) fn import_history(
        &self,
        text: &str,
        passphrase: &str,
    ) -> Result<(u64, Failures), MlsError> {
        let mut sessions =
            backup::import_file(&self.opener.crypto, text, passphrase)?.into_iter().peekable();
        let (mut epochs, mut failures) = (0, Failures::new());
        while sessions.peek().is_some() {
            let portion: Vec<_> = sessions.by_ref().take(PORTION).collect();
            self.turn(|turn| {
                for session in portion {
                    match session
                        .and_then(|(room, session)| Ok((session.take(turn.tx, &room)?, room)))
                    {
                        Ok((backup::Taken::NewEpoch(id), room)) => {
                            epochs += 1;
                            backup::note_epoch(turn, &room, id)?;
                            timeline::stir(turn, &room)?;
                        }
                        Ok(_) => {}
                        Err(backup::SessionError::Store(error)) => return Err(error.into()),
                        Err(error) => *failures.entry(error.code().to_owned()).or_default() += 1,
                    }
                }
                Ok(())
            })?;
        }
        Ok((epochs, failures))
    }
}
