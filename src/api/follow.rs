//! `MlsFollower`: one message that a reader follows commits for. Thin, like `machine`.

use std::sync::Arc;

use super::{error::MlsError, event::DecryptedMessage, logging::log_unread, slot::blocking};
use crate::{
    engine::{Follow, Step},
    exported::OutgoingRequest,
};

/// What a follower needs next.
#[derive(uniffi::Enum)]
pub enum FollowStep {
    /// Send these requests, and pass each answer to
    /// [`MlsFollower::mark_request_as_sent`]. Then ask again.
    Send {
        /// The requests. Each of them reads something of the room.
        requests: Vec<OutgoingRequest>,
    },
    /// The message was read.
    Read {
        /// The message.
        message: DecryptedMessage,
    },
}

/// One message that a reader reads by following commits in memory.
///
/// Call [`next_step`](Self::next_step) until it gives the message or fails. A follower writes
/// nothing into the store and uses up no key of it. Suspending the reader suspends it, too.
///
/// It is made for a process with little time and memory, and bounded: 25 seconds from its
/// beginning, 60 answers of at most 3 MB each and 16 MB together, 1,000 commits, and rooms of some
/// 2,500 devices.
#[derive(uniffi::Object)]
pub struct MlsFollower {
    follow: Arc<Follow>,
}

impl MlsFollower {
    pub(super) fn new(follow: Follow) -> Arc<Self> {
        Arc::new(Self { follow: Arc::new(follow) })
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsFollower {
    /// What is to be done next: requests to be sent, or the message.
    ///
    /// Fails like [`MlsReader::decrypt`](crate::MlsReader::decrypt) where the message cannot be
    /// read. Fails with `UnknownEpoch` where its epoch is not reached: `"unknown_epoch"` if the
    /// homeserver does not have what leads there, `"follow_too_far"` and `"follow_too_large"` if a
    /// bound was reached, and `"follow_no_answer"` if requests stayed without an answer. The
    /// machine may read the message all the same, when it syncs.
    pub async fn next_step(&self) -> Result<FollowStep, MlsError> {
        let follow = self.follow.clone();
        let step = blocking(move || Ok(follow.next()?)).await?;
        Ok(match step {
            Step::Send(requests) => FollowStep::Send { requests },
            Step::Read(message) => FollowStep::Read { message: (*message).into() },
        })
    }

    /// Takes in the answer to a request: the HTTP status, whatever it is, and the body.
    ///
    /// Status 0 stands for no answer at all. An id that was answered before is accepted and changes
    /// nothing. Fails with `InvalidInput` (`"bad_request_id"`) if `id` is not that of a request
    /// that this follower has handed out, and with `UnknownEpoch` where the answers take too much
    /// space.
    pub async fn mark_request_as_sent(
        &self,
        id: String,
        status: u16,
        body: Vec<u8>,
    ) -> Result<(), MlsError> {
        let follow = self.follow.clone();
        let unread = blocking(move || Ok(follow.answered(&id, status, &body)?)).await?;
        log_unread(unread);
        Ok(())
    }
}
