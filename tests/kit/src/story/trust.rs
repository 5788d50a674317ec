//! The chapters about who is really there: people compare emojis, the homeserver slips in a device,
//! an identity is made anew, and a recovery key makes a new phone its user's.

use std::{sync::Arc, time::Duration};

use matrix_mls::{
    MemberPolicy, MlsError, Update, UpdateSubscription, Verdict, VerificationState,
    VerificationStatus,
};

use super::{
    Cast, Listener, Stage, StoryError, agree, engine, expect, members, reads, settle, short, talk,
};
use crate::{Client, Heard, ReadEvent};

/// The device that the homeserver makes up.
const GHOST: &str = "GHOST";
/// Bob's new phone.
const SPARE: &str = "SPARE";
/// What the ghost says.
const PLEA: &str = "let me in";
/// How long it tries to get in.
const TRIES: Duration = Duration::from_secs(5);

/// Alice and Bob make identities, and compare emojis.
pub(super) async fn emojis(
    cast: &Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Alice and Bob compare emojis");
    let (alice, laptop, bob) = (&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone);
    alice.make_identity().await?;
    bob.make_identity().await?;
    settle(&cast.inside()).await?;
    let seen = verdict(alice, bob).await?;
    expect("what Alice's phone knows of Bob's", &Verdict::OwnerNotVerified, &seen)?;
    listener
        .line("both make an identity: three keys, by which others know which devices are theirs");

    let seen = verdict(bob, laptop).await?;
    expect("what Bob's phone knows of Alice's laptop", &Verdict::NotSignedByOwner, &seen)?;
    let emojis = compare(alice, laptop).await?;
    settle(&cast.inside()).await?;
    let seen = verdict(bob, laptop).await?;
    expect("what Bob's phone knows of it then", &Verdict::OwnerNotVerified, &seen)?;
    listener.line(&format!("Alice's phone and laptop both show {emojis}: the laptop is signed"));

    let emojis = compare(alice, bob).await?;
    settle(&cast.inside()).await?;
    for (judge, judged) in [(alice, bob), (laptop, bob), (bob, alice), (bob, laptop)] {
        let step = format!("what {} knows of {}", short(judge), short(judged));
        expect(&step, &Verdict::Verified, &verdict(judge, judged).await?)?;
    }
    listener.line(&format!("Alice's and Bob's phones both show {emojis}: they are verified"));
    talk(room, &cast.inside(), "it is you", listener).await?;
    expect(
        "the verdict of Bob's message",
        &Some(Verdict::Verified),
        &last_verdict(alice, room, bob).await?,
    )?;
    Ok(())
}

/// The homeserver logs in as Bob, and lists that device as one of his.
pub(super) async fn ghost(
    stage: Stage<'_>,
    cast: &Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("The homeserver slips in a device of Bob's");
    let (alice, bob) = (&cast.alice_phone, &cast.bob_phone);
    let (alice_hears, _alice_listening) = hears(alice).await?;
    let (bob_hears, _bob_listening) = hears(bob).await?;
    // It has Bob's account, key packages, and every event. It lacks the signature of Bob's keys.
    let mut ghost = stage.log_in("bob", GHOST).await?;
    ghost.set_member_policy(Some(MemberPolicy::AnySigned));
    ghost.restart().await?;
    ghost.settle().await?;
    settle(&cast.inside()).await?;
    let name = format!("{}'s {}", bob.user_id(), GHOST);
    told(&alice_hears, &format!("that Alice is told of {name}"), |update| {
        matches!(update, Update::DeviceRejected { user_id, device_id, code, .. }
            if user_id == bob.user_id() && device_id == GHOST && code == "not_cross_signed")
    })
    .await?;
    told(
        &bob_hears,
        &format!("that Bob is told of {name}"),
        |update| matches!(update, Update::UnsignedOwnDevice { device_id } if device_id == GHOST),
    )
    .await?;
    expect(
        "what Alice's phone knows of it",
        &Verdict::NotSignedByOwner,
        &verdict(alice, &ghost).await?,
    )?;
    listener.line(&format!("Alice is told: {name} is not signed by its owner; Bob is asked"));

    // Whatever comes of it: what the others do is looked at.
    let _ = tokio::time::timeout(TRIES, ghost.send_text(room, PLEA)).await;
    settle(&cast.inside()).await?;
    let secret = "not for the ghost";
    for client in [alice, bob] {
        client.settle().await?;
        client.send_text(room, secret).await?;
        client.settle().await?;
        let inside = members(client, room).await?;
        let inside = inside.contains(&short(&ghost));
        expect(&format!("whether the ghost is in {}'s group", short(client)), &false, &inside)?;
    }
    settle(&cast.inside()).await?;
    for client in cast.inside() {
        reads(client, room, &[secret]).await?;
    }
    ghost.settle().await?;
    let mut opened = texts(&ghost, room).await?;
    opened.retain(|text| text != PLEA);
    expect("what the ghost opens, given every event of the room", &Vec::<String>::new(), &opened)?;
    listener
        .line("it tries to get in, and nobody seals to it: given every event, it opens nothing");
    ghost.log_out().await?;
    settle(&cast.inside()).await?;
    agree(&cast.inside(), room).await?;
    Ok(())
}

/// Bob makes his identity anew, or his homeserver does: Alice cannot tell, and is asked.
pub(super) async fn changed(
    cast: &Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Bob's identity is another");
    let (alice, laptop, bob) = (&cast.alice_phone, &cast.alice_laptop, &cast.bob_phone);
    let (alice_hears, _alice_listening) = hears(alice).await?;
    bob.reset_identity().await?;
    settle(&cast.inside()).await?;
    told(
        &alice_hears,
        "that Alice is told of Bob's identity",
        |update| matches!(update, Update::IdentityChanged { user_id } if user_id == bob.user_id()),
    )
    .await?;
    for client in [alice, laptop] {
        let step = format!("who stops what {} sends", short(client));
        expect(&step, &Some(vec![bob.user_id().to_owned()]), &stopped(client, room).await?)?;
    }
    let seen = last_verdict(alice, room, bob).await?;
    expect("the verdict of Bob's old message", &Some(Verdict::OwnerChanged), &seen)?;
    listener.line("Alice, who had verified him, is told, and her devices send nothing to him");

    // Others have never verified Bob: they are told, and go on.
    cast.carol_phone.send_text(room, "is Bob still Bob?").await?;
    settle(&cast.inside()).await?;
    reads(alice, room, &["is Bob still Bob?"]).await?;
    listener.line("Carol, who had not, goes on, and Alice reads what the others say");

    let machine = alice.machine()?;
    let identity = machine.user_identity(bob.user_id().to_owned()).await;
    let identity = identity.map_err(|error| engine(alice, "looking at Bob", error))?;
    let key = identity.map(|identity| identity.master_key).unwrap_or_default();
    let accepted = machine.accept_identity(bob.user_id().to_owned(), key).await;
    accepted.map_err(|error| engine(alice, "accepting Bob's identity", error))?;
    alice.settle().await?;
    alice.send_text(room, "Bob says that it was him").await?;
    settle(&cast.inside()).await?;
    reads(bob, room, &["Bob says that it was him"]).await?;
    let seen = verdict(alice, bob).await?;
    expect("what Alice's phone knows of Bob's then", &Verdict::OwnerNotVerified, &seen)?;
    expect("whether her laptop still stops", &true, &stopped(laptop, room).await?.is_some())?;
    listener
        .line("she asks Bob and accepts it: her phone sends again, and shows him as unverified");

    let emojis = compare(alice, bob).await?;
    settle(&cast.inside()).await?;
    expect("whether her laptop still stops", &None, &stopped(laptop, room).await?)?;
    for (judge, judged) in [(alice, bob), (laptop, bob), (bob, alice)] {
        let step = format!("what {} knows of {}", short(judge), short(judged));
        expect(&step, &Verdict::Verified, &verdict(judge, judged).await?)?;
    }
    listener.line(&format!("they compare {emojis}: he is verified again, on her laptop as well"));
    talk(room, &cast.inside(), "it is still you", listener).await
}

/// Bob types his recovery key on a new phone: it is trusted, and has its history.
pub(super) async fn recovered(
    stage: Stage<'_>,
    cast: &Cast,
    room: &str,
    listener: &mut dyn Listener,
) -> Result<(), StoryError> {
    listener.chapter("Bob types his recovery key on a new phone");
    let (alice, bob) = (&cast.alice_phone, &cast.bob_phone);
    bob.back_up_history().await?;
    let written_down = bob.store_secrets().await?;
    talk(room, &cast.inside(), "before the new phone", listener).await?;
    let conversation = texts(bob, room).await?;
    listener.line("his identity's keys and his backup's are stored, sealed with one recovery key");

    let new = stage.log_in("bob", SPARE).await?;
    new.settle().await?;
    settle(&cast.inside()).await?;
    expect(
        "what Alice's phone knows of the new one",
        &Verdict::NotSignedByOwner,
        &verdict(alice, &new).await?,
    )?;
    alice.send_text(room, "who is that?").await?;
    settle(&cast.inside()).await?;
    let inside = members(alice, room).await?.contains(&short(&new));
    expect("whether the new phone is in the group", &false, &inside)?;
    expect("how many messages it reads", &0, &texts(&new, room).await?.len())?;
    listener.line("the new phone knows his password: it is nobody's device, and gets nothing");

    let epochs = new.recover(&written_down).await?;
    let everyone: Vec<&Client> = cast.inside().into_iter().chain([&new]).collect();
    settle(&everyone).await?;
    let read = texts(&new, room).await?;
    expect("what it reads", &conversation, &read[..conversation.len().min(read.len())].to_vec())?;
    expect(
        "what Alice's phone knows of it then",
        &Verdict::Verified,
        &verdict(alice, &new).await?,
    )?;
    let seen = new.machine()?.user_identity(alice.user_id().to_owned()).await;
    let seen = seen.map_err(|error| engine(&new, "looking at Alice", error))?;
    expect(
        "whether it knows that Bob has verified Alice",
        &Some(VerificationStatus::Verified),
        &seen.map(|identity| identity.verification),
    )?;
    listener.line(&format!(
        "he types the key, once: it is signed by his identity, whom Alice has verified, knows whom \
         he has verified, and reads {} messages of {epochs} epochs",
        conversation.len()
    ));
    talk(room, &everyone, "two phones", listener).await?;
    let seen = last_verdict(alice, room, &new).await?;
    expect("the verdict of its message", &Some(Verdict::Verified), &seen)?;
    new.log_out().await?;
    settle(&cast.inside()).await
}

/// Two devices show the same emojis, and both sides say so; gives the emojis.
async fn compare(one: &Client, other: &Client) -> Result<String, StoryError> {
    let (emojis, sides) = one.compare_emojis(other).await?;
    for (side, client) in sides.iter().zip([one, other]) {
        let info = side.info().await.map_err(|error| engine(client, "comparing", error))?;
        let done = matches!(info.state, VerificationState::Done { .. });
        expect(&format!("whether {} is done: {:?}", short(client), info.state), &true, &done)?;
    }
    Ok(emojis.join(" "))
}

/// What a device knows of another.
async fn verdict(judge: &Client, judged: &Client) -> Result<Verdict, StoryError> {
    let (user, device) = (judged.user_id().to_owned(), judged.device_id().to_owned());
    let verdict = judge.machine()?.device_verdict(user, device).await;
    verdict.map_err(|error| engine(judge, "looking at a device", error))
}

/// The verdict of the last message of a sender's that a device reads.
async fn last_verdict(
    reader: &Client,
    room: &str,
    sender: &Client,
) -> Result<Option<Verdict>, StoryError> {
    let read = reader.read(room).await?;
    let mut messages = read.iter().rev().filter_map(|event| event.message.as_ref().ok());
    let of_sender = messages.find(|message| {
        message.sender_user_id == sender.user_id() && message.sender_device_id == sender.device_id()
    });
    Ok(of_sender.map(|message| message.verdict))
}

/// The users for whose changed identity a device sends nothing, if it is so.
async fn stopped(client: &Client, room: &str) -> Result<Option<Vec<String>>, StoryError> {
    client.settle().await?;
    // By sliding sync a device first asks who is in the room.
    let Err(error) = client.prepare(room).await else { return Ok(None) };
    match error.of_engine() {
        Some(MlsError::UntrustedMembers { user_ids, details })
            if details.code == "identity_changed" =>
        {
            Ok(Some(user_ids.clone()))
        }
        _ => Err(error.into()),
    }
}

async fn texts(client: &Client, room: &str) -> Result<Vec<String>, StoryError> {
    Ok(client.read(room).await?.iter().filter_map(ReadEvent::text).collect())
}

async fn hears(client: &Client) -> Result<(Arc<Heard>, Arc<UpdateSubscription>), StoryError> {
    Heard::of(client).await.map_err(|error| not_as_told("listening", &error))
}

async fn told(
    heard: &Heard,
    step: &str,
    is_it: impl Fn(&Update) -> bool,
) -> Result<(), StoryError> {
    heard.wait_for(is_it).await.map(drop).map_err(|error| not_as_told(step, &error))
}

fn not_as_told(step: &str, error: &eyre::Report) -> StoryError {
    StoryError::NotAsTold {
        step: step.to_owned(),
        expected: "to hear of it".to_owned(),
        seen: error.to_string(),
    }
}
