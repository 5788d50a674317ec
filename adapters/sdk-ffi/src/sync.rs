//! The SDK's own sync. A fork of matrix-sdk-ffi has its `SyncService` here.

use std::{pin::pin, time::Duration};

use futures_util::StreamExt as _;
use matrix_sdk::{
    Client, SlidingSync, SlidingSyncList, SlidingSyncMode, ruma::events::StateEventType,
    sliding_sync::Version,
};

use crate::error::ClientError;

/// A connection with all rooms, to-device events and keys.
pub(crate) async fn connection(client: &Client) -> Result<SlidingSync, ClientError> {
    let state = [
        (StateEventType::RoomEncryption, ""),
        (StateEventType::RoomMember, "$LAZY"),
        (StateEventType::RoomMember, "$ME"),
        // Who may take a room over to MLS.
        (StateEventType::RoomPowerLevels, ""),
        (StateEventType::RoomCreate, ""),
    ];
    let list = SlidingSyncList::builder("all")
        .sync_mode(SlidingSyncMode::new_growing(100))
        .timeline_limit(1)
        .required_state(state.map(|(kind, key)| (kind, key.to_owned())).into());
    let sync = client.sliding_sync("all").map_err(ClientError::generic)?;
    let sync = sync.version(Version::Native).add_list(list).with_all_extensions();
    sync.build().await.map_err(ClientError::generic)
}

/// Syncs until the task is aborted.
pub(crate) async fn run(sync: SlidingSync) {
    loop {
        let mut stream = pin!(sync.sync());
        while let Some(Ok(_)) = stream.next().await {}
        // Without a network, and after an error.
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}
