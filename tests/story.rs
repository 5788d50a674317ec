//! The story that the demo tells (create, add, talk, rotate, remove, restart; a ghost device, a
//! changed identity, a recovered phone), on both homeservers, with apps that sync by `/v3/sync` and
//! with apps that sync as Element X does.

use matrix_mls_kit::{
    Homeserver, Result, SyncBy,
    story::{Silence, Stage, tell},
};

/// One event a room, as in Element X's list of rooms.
const SLIDING: SyncBy = SyncBy::Sliding { timeline_limit: 1 };

#[tokio::test]
async fn the_story_is_as_told_on_the_embedded_homeserver() -> Result {
    let homeserver = Homeserver::embedded()?;
    tell(Stage { homeserver: &homeserver, tag: "", sync_by: SyncBy::Tokens }, &mut Silence).await?;
    Ok(())
}

#[tokio::test]
async fn the_story_is_as_told_on_synapse() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    tell(Stage { homeserver: &homeserver, tag: "", sync_by: SyncBy::Tokens }, &mut Silence).await?;
    Ok(())
}

#[tokio::test]
async fn the_story_is_as_told_by_sliding_sync_on_the_embedded_homeserver() -> Result {
    let homeserver = Homeserver::embedded()?;
    tell(Stage { homeserver: &homeserver, tag: "", sync_by: SLIDING }, &mut Silence).await?;
    Ok(())
}

#[tokio::test]
async fn the_story_is_as_told_by_sliding_sync_on_synapse() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    let stage = Stage { homeserver: &homeserver, tag: "-slides", sync_by: SLIDING };
    tell(stage, &mut Silence).await?;
    Ok(())
}
