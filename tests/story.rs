//! The story that the demo tells (create, add, talk, rotate, remove, restart), on both homeservers.

use matrix_mls_kit::{
    Homeserver, Result,
    story::{Silence, tell},
};

#[tokio::test]
async fn the_story_is_as_told_on_the_embedded_homeserver() -> Result {
    let homeserver = Homeserver::embedded()?;
    tell(&homeserver, "", &mut Silence).await?;
    Ok(())
}

#[tokio::test]
async fn the_story_is_as_told_on_synapse() -> Result {
    let homeserver = Homeserver::shared_synapse().await?;
    tell(&homeserver, "", &mut Silence).await?;
    Ok(())
}
