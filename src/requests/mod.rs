//! The persistent request queue: what to send, and what for.
//!
//! A request is made once, from ruma's typed request, and kept in the store as method, path and
//! body until its answer is known. A request that was handed out before a crash is handed out again
//! after it, byte for byte and with the same transaction id, so that sending it twice does no harm.
//! What an answer means for a room or the device is decided in `engine::answers`.

mod backoff;
mod purpose;
mod queue;

pub(crate) use self::{
    backoff::{Backoff, MOST_IMPOSED_MS, REQUEST as REQUEST_BACKOFF},
    purpose::{BackupBatch, BackupEntry, CommitPart, HistoryBundle, Purpose},
    queue::{
        BACKUP_SCOPE, DEVICE_SCOPE, QueuedRequest, REQUESTS, due, enqueue, hand_out, ids_of_room,
        is_due, remove, transaction_id,
    },
};
