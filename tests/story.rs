//! The story that the demo tells (create, add, talk, rotate, remove, restart), on both homeservers.

use matrix_mls_kit::{
    Homeserver,
    story::{Silence, tell},
};

#[tokio::test]
async fn the_story_is_as_told_on_the_embedded_homeserver() {
    let homeserver = Homeserver::embedded().unwrap();
    tell(&homeserver, "", &mut Silence).await.unwrap();
}

#[tokio::test]
async fn the_story_is_as_told_on_synapse() {
    let homeserver = Homeserver::shared_synapse().await.unwrap();
    tell(&homeserver, "", &mut Silence).await.unwrap();
}
