//! The chapters in which the group forks: two commits at once, and two sides that do not hear each
//! other.

use super::{
    Cast, Listener, Stage, StoryError, agree, expect, members, reads, settle, short, talk,
};

/// Two devices add the same person at the same moment.
pub(super) async fn at_once(
    cast: &Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Carol comes back, and two devices add her at once");
    cast.alice_phone.invite(room, cast.carol_phone.user_id()).await?;
    cast.carol_phone.join(room).await?;
    let adders = [&cast.alice_phone, &cast.bob_phone];
    settle(&adders).await?;
    let before = cast.alice_phone.epochs(room).await?.len();
    // Step by step, so that neither hears of the other's commit before it makes its own.
    let mut ready = false;
    while !ready {
        ready = true;
        for client in adders {
            ready &= client.prepare_one_step(room).await?;
        }
    }
    let (one, other) = (adders[0].head(room).await?, adders[1].head(room).await?);
    expect("two epochs of one number", &one.epoch, &other.epoch)?;
    expect("whether they are the same", &false, &(one.id == other.id))?;
    listener.line(&format!("epoch {} exists twice: the group has forked", one.epoch));
    let said = ["on Alice's branch", "on Bob's branch"];
    for (client, text) in adders.iter().zip(said) {
        client.send_text(room, text).await?;
    }
    settle(&cast.everyone()).await?;
    let head = agree(&cast.everyone(), room).await?;
    expect("whether one of the two won", &true, &[one.id, other.id].contains(&head.id))?;
    let after = cast.alice_phone.epochs(room).await?.len();
    expect("commits for it", &2, &(after - before))?;
    listener.line("everyone goes on with the same one, and no further commit was needed");
    for client in cast.everyone() {
        reads(client, room, &said).await?;
    }
    listener.line("what was said on either branch is read by all five, Carol too");
    talk(room, &cast.everyone(), "together again", listener).await
}

/// Alice and Bob do not hear each other for a while, and both change who is in the group.
pub(super) async fn cut_off(
    stage: Stage<'_>,
    cast: &mut Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Alice and Bob do not hear each other for a while");
    let dave = stage.register("dave", "PHONE").await?;
    dave.settle().await?;
    cast.alice_phone.invite(room, dave.user_id()).await?;
    dave.join(room).await?;
    settle(&[&cast.alice_phone]).await?;
    // Where its sync left something out, it asks for that before anything else.
    cast.alice_phone.prepare_one_step(room).await?;
    // What Alice's phone does from here on it does without having heard of anything else.
    let bobs_tablet = cast.bob_tablet.device_id().to_owned();
    cast.bob_phone.delete_devices(&[bobs_tablet.as_str()]).await?;
    settle(&[&cast.bob_phone]).await?;
    cast.bob_phone.send_text(room, "without my tablet").await?;
    listener.line(&format!("{} adds Dave and removes Bob's tablet", short(&cast.bob_phone)));

    cast.alice_phone.prepare(room).await?;
    cast.alice_phone.rotate_keys(room).await?;
    cast.alice_phone.prepare(room).await?;
    cast.alice_phone.send_text(room, "with Dave").await?;
    listener.line(&format!(
        "{} adds Dave and renews its keys, two commits beside Bob's one",
        short(&cast.alice_phone)
    ));
    let (longer, shorter) = (cast.alice_phone.head(room).await?, cast.bob_phone.head(room).await?);
    expect("how much longer Alice's branch is", &1, &(longer.epoch - shorter.epoch))?;

    let left = [&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone, &cast.carol_phone, &dave];
    settle(&left).await?;
    let agreed = agree(&left, room).await?;
    expect("whether the longer branch won", &longer.id, &agreed.id)?;
    listener.line("they hear each other again, and all go on with the longer branch");
    talk(room, &left, "heard you", listener).await?;
    let merged = agree(&left, room).await?;
    let history = cast.alice_phone.epochs(room).await?;
    let merge = history.iter().find(|epoch| epoch.resolves.contains(&shorter.id));
    expect("whether a commit supersedes the other branch", &true, &merge.is_some())?;
    let merge_number = merge.map(|epoch| epoch.epoch);
    expect("the merging commit's epoch", &Some(longer.epoch + 1), &merge_number)?;
    let names = members(&cast.alice_phone, room).await?;
    expect("the group", &5, &names.len())?;
    expect("its head", &merged.epoch, &(longer.epoch + 2))?;
    listener.line(&format!("one commit merges them: the group is {}", names.join(", ")));
    listener.line("Dave's first message renews the keys that he came with");
    for client in &left[..4] {
        reads(client, room, &["without my tablet", "with Dave"]).await?;
    }
    listener.line("and both sides' messages are read by everyone who was in both");
    cast.dave_phone = Some(dave);
    Ok(())
}
