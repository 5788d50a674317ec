//! The persistent request queue: what to send, and what for.
//!
//! A request is made once, from ruma's typed request, and kept in the store as method, path and
//! body until its answer is known. A request that was handed out before a crash is handed out again
//! after it, byte for byte and with the same transaction id, so that sending it twice does no harm.
//! What an answer means for a room or the device is decided in `engine::answers`. How long a
//! request that was put off waits, and what ends its wait, is in `waits`; how long refused work
//! rests before it is planned again, in `pauses`. `unmarked` notices an app that never says what
//! became of them.

mod backoff;
mod pauses;
mod purpose;
mod queue;
mod unmarked;
mod waits;

pub(crate) use self::{
    backoff::{Backoff, REQUEST as REQUEST_BACKOFF},
    pauses::{PausedWork, end_pause, is_paused, pause},
    purpose::{
        BackupBatch, BackupEntry, CommitPart, EncryptionPlace, GivenTree, HistoryBundle, Purpose,
        UploadedSignature,
    },
    queue::{
        BACKUP_SCOPE, DEVICE_SCOPE, QueuedRequest, REQUESTS, Wait, due, enqueue, enqueue_json,
        hand_out, ids_of_room, is_due, remove, transaction_id,
    },
    unmarked::Unmarked,
    waits::{
        Release, due_when_asked, note_token_refused, note_token_works, pending, put_off, release,
    },
};
