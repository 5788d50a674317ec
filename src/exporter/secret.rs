//! Exporting a secret of an epoch.

use ruma::RoomId;
use zeroize::Zeroizing;

use super::{
    error::ExportError,
    label,
    limits::{LONGEST, LONGEST_CONTEXT, SHORTEST},
    watch,
};
use crate::{
    epochs::{EpochRecord, Status, graph},
    failure::Failure,
    history::restored,
    messages::ready_head,
    mls::load_group,
    protocol::EpochId,
    room,
    turn::Turn,
};

/// What is to be exported.
pub(crate) struct Wanted<'a> {
    pub(crate) label: &'a str,
    pub(crate) context: &'a [u8],
    pub(crate) length: usize,
}

/// A secret, and the epoch that it is of.
pub(crate) struct Exported {
    pub(crate) secret: Zeroizing<Vec<u8>>,
    pub(crate) number: u64,
    pub(crate) epoch: EpochId,
}

impl Wanted<'_> {
    fn check(&self) -> Result<(), ExportError> {
        label::check(self.label)?;
        if !(SHORTEST..=LONGEST).contains(&self.length) {
            return Err(ExportError::BadLength);
        }
        if self.context.len() > LONGEST_CONTEXT {
            return Err(ExportError::BadContext);
        }
        Ok(())
    }
}

/// Exports from the epoch that a message would be sealed in now: all who could read that have the
/// same secret.
pub(crate) fn of_head(
    turn: &Turn<'_>,
    room: &RoomId,
    wanted: &Wanted<'_>,
) -> Result<Exported, ExportError> {
    wanted.check()?;
    let head = ready_head(turn.tx, room)?;
    let exported = export(turn, room, &head, wanted)?;
    watch::note(turn.tx, room, head.id)?;
    Ok(exported)
}

/// Exports from an epoch that another device has named: to take in what that device sends.
pub(crate) fn of_epoch(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &str,
    wanted: &Wanted<'_>,
) -> Result<Exported, ExportError> {
    wanted.check()?;
    let epoch = EpochId::from_hex(epoch).ok_or(ExportError::BadEpochId)?;
    let known = room::load(turn.tx, room)?;
    // Whoever has left has nothing to take in, whatever is still in the store.
    if known.standing.head().is_none() {
        return Err(known.outside().into());
    }
    let own = graph::find(turn.tx, room, epoch)?.filter(|own| own.status == Status::Accepted);
    let Some(own) = own else {
        return Err(match restored::find(turn.tx, room, epoch)? {
            Some(_) => ExportError::RestoredEpoch,
            None => ExportError::UnknownEpoch,
        });
    };
    if !own.full || own.distrusted {
        return Err(ExportError::NotKept);
    }
    export(turn, room, &own, wanted)
}

fn export(
    turn: &Turn<'_>,
    room: &RoomId,
    epoch: &EpochRecord,
    wanted: &Wanted<'_>,
) -> Result<Exported, ExportError> {
    if epoch.distrusted {
        return Err(ExportError::NotKept);
    }
    let group = load_group(&turn.provider(epoch.namespace), room, epoch.group)?;
    let secret = group
        .export_secret(turn.crypto, wanted.label, wanted.context, wanted.length)
        .map_err(|error| Failure::defect("exporter", error))?;
    Ok(Exported { secret: Zeroizing::new(secret), number: epoch.number, epoch: epoch.id })
}
