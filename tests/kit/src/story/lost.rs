//! The chapters in which a device loses something: its newest state, or all of it.

use super::{
    Cast, Listener, Stage, StoryError, agree, expect, members, reads, settle, short, talk,
};

/// A phone's backup brings an older copy of the store back.
pub(super) async fn restored(
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Bob's phone is restored from a backup");
    let backup = cast.bob_phone.back_up().await?;
    cast.bob_phone.send_text(room, "after the backup").await?;
    let others = [&cast.alice_phone, &cast.alice_laptop, &cast.carol_phone];
    settle(&others).await?;
    cast.bob_phone.restore_backup(&backup).await?;
    let handle = cast.bob_phone.room(room).await?;
    let refused = handle.encrypt("m.room.message".into(), "{}".into()).await.is_err();
    drop(handle);
    expect("whether the restored store refuses to encrypt", &true, &refused)?;
    listener.line("its store is an older copy: it seals nothing with keys it has used before");
    cast.bob_phone.send_text(room, "and here again").await?;
    let everyone = cast.inside();
    settle(&everyone).await?;
    let head = agree(&everyone, room).await?;
    expect("whether it joined by itself", &true, &head.is_external)?;
    listener.line(&format!("it takes its place anew, by itself, in epoch {}", head.epoch));
    for client in &everyone[..4] {
        reads(client, room, &["after the backup", "and here again"]).await?;
    }
    talk(room, &everyone, "repaired", listener).await
}

/// A device loses its database: its user logs in anew, and joins with nobody online.
pub(super) async fn everything(
    stage: Stage<'_>,
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Carol's phone loses its database, with nobody else online");
    let lost = cast.carol_phone.device_id().to_owned();
    let anew = stage.log_in("carol", "REPLACEMENT").await?;
    anew.delete_devices(&[lost.as_str()]).await?;
    anew.settle().await?;
    anew.join_externally(room).await?;
    anew.settle().await?;
    let epoch = anew.head(room).await?;
    expect("whether it joined by itself", &true, &epoch.is_external)?;
    listener.line(&format!("{} joins from the public group state in the timeline", short(&anew)));
    anew.send_text(room, "a new phone").await?;
    let names = members(&anew, room).await?;
    expect(
        "whether the lost device is gone",
        &false,
        &names.contains(&"carol's phone".to_owned()),
    )?;
    listener.line("its first commit removes the lost device, and it talks");
    cast.carol_phone = anew;
    let everyone = cast.inside();
    settle(&everyone).await?;
    for client in &everyone {
        reads(client, room, &["a new phone"]).await?;
    }
    talk(room, &everyone, "all is well", listener).await
}
