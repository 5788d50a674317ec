//! An MLS room whose users are on two servers: the link between these is cut, both sides commit and
//! send, and when it is healed all is as if nothing had been. What each cut came to is printed as a
//! table.

use std::time::{Duration, Instant};

use matrix_mls::RoomSettings;
use matrix_mls_kit::{
    Client, Federation, Homeserver, Result,
    parted::{Ledger, Parting, Whoever, Withheld, converge, epochs, table},
    peer::ALGORITHM,
    together::{log_in, newcomer, phone_of},
};
use serde_json::json;

/// More than any timeline of a sync holds, and more than a server fetches of another by itself.
const MANY: usize = 130;

/// Alice's devices are on one server, Bob's on the other.
struct Cast {
    alice: Vec<Client>,
    bob: Vec<Client>,
    room: String,
    ledger: Ledger,
    partings: Vec<Parting>,
}

async fn register(server: &Homeserver, name: &str) -> Result<Vec<Client>> {
    Ok(vec![phone_of(server, name).await?, log_in(server, name, "LAPTOP").await?])
}

impl Cast {
    async fn gather(federation: &Federation) -> Result<Self> {
        let alice = register(&federation.a, "anna").await?;
        let bob = register(&federation.b, "ben").await?;
        let room = alice[0]
            .create_room_from(json!({
                "preset": "private_chat", "invite": [bob[0].user_id()],
                "creation_content": { "encryption": { "algorithm": ALGORITHM } },
                "power_level_content_override": { "users": { bob[0].user_id(): 50 } },
            }))
            .await?;
        bob[0].join(&room).await?;
        alice[0].settle().await?;
        alice[0].enable(&room, RoomSettings::default()).await?;
        let ledger = Ledger::new(&room);
        Ok(Self { alice, bob, room, ledger, partings: Vec::new() })
    }

    /// Everybody who is in the room.
    fn everybody<'a>(&'a self, guest: Option<&'a Client>) -> Vec<&'a Client> {
        self.alice.iter().chain(&self.bob).chain(guest).collect()
    }

    /// One member says something, after which all is right; then the others do in turn, until
    /// nobody has keys to renew.
    async fn talk(&mut self, guest: Option<&Client>) -> Result {
        let room = self.room.clone();
        self.say_who_is_here(guest, Withheld::Nothing).await?;
        loop {
            let known = self.known(guest).await?;
            for client in self.alice.iter().chain(&self.bob).chain(guest) {
                self.ledger.say(client, &format!("{} is here", client.name())).await?;
            }
            converge(&self.everybody(guest), &room, Whoever::Target).await?;
            if self.known(guest).await? == known {
                return Ok(());
            }
        }
    }

    async fn say_who_is_here(&mut self, guest: Option<&Client>, withheld: Withheld) -> Result {
        self.ledger.say_unheard(&self.alice[0], "Who is here?", withheld).await?;
        converge(&self.everybody(guest), &self.room, Whoever::Target).await?;
        Ok(())
    }

    async fn check(&self, guest: Option<&Client>, gone: &[&Client]) -> Result {
        self.ledger.check(&self.everybody(guest), gone).await
    }

    async fn known(&self, guest: Option<&Client>) -> Result<usize> {
        Ok(epochs(&self.everybody(guest), &self.room).await?.len())
    }
}

/// One cut: what happens while it lasts, and who is in the room after it, beside Alice and Bob.
struct Cut<'a> {
    what: &'static str,
    began: (usize, usize),
    federation: &'a Federation,
}

impl<'a> Cut<'a> {
    async fn begin(
        federation: &'a Federation,
        cast: &Cast,
        guest: Option<&Client>,
        what: &'static str,
    ) -> Result<Self> {
        println!("cut: {what}");
        let began = (cast.ledger.len(), cast.known(guest).await?);
        federation.cut().await;
        Ok(Self { what, began, federation })
    }

    /// Heals the link, has all agree and talk, and checks everything. Where a commit is withheld
    /// from one side they can agree only after another.
    async fn end(self, cast: &mut Cast, gone: &[&Client], withheld: Withheld) -> Result {
        let (room, guest) = (cast.room.clone(), None);
        let everybody: Vec<&Client> =
            cast.everybody(guest).into_iter().chain(gone.iter().copied()).collect();
        let at_heal = epochs(&everybody, &room).await?.len();
        let messages = cast.ledger.len() - self.began.0;
        let began = Instant::now();
        self.federation.heal().await?;
        if withheld == Withheld::Commit {
            for client in gone {
                hear_of_leaving(&cast.alice, &room, client.user_id()).await?;
            }
            cast.say_who_is_here(guest, withheld).await?;
        } else {
            converge(&cast.everybody(guest), &room, Whoever::Anybody).await?;
        }
        let to_one_head = began.elapsed();
        for client in gone {
            client.settle().await?;
        }
        cast.talk(guest).await?;
        let parting = Parting {
            what: self.what,
            messages,
            commits: at_heal - self.began.1,
            commits_to_converge: cast.known(guest).await?.saturating_sub(at_heal),
            to_one_head,
        };
        // One for the members. A device that could not follow joins by itself, or is let in and
        // renews the keys that it was let in with.
        let most = 1 + 2 * cast.everybody(guest).len();
        assert!(parting.commits_to_converge <= most, "{parting:?}");
        cast.partings.push(parting);
        cast.check(guest, gone).await
    }
}

/// Waits until a client's server knows that a user is in the room.
async fn meets(client: &Client, room: &str, user_id: &str) -> Result {
    let path = format!("/_matrix/client/v3/rooms/{room}/joined_members");
    let began = Instant::now();
    while client.http().get(&path).await?["joined"].get(user_id).is_none() {
        assert!(began.elapsed() < Duration::from_secs(20), "{user_id} is not seen to join");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Syncs until these have heard that a user is out of the room. A server shows an event once all
/// that came before it is stored, so the first sync need not.
async fn hear_of_leaving(clients: &[Client], room: &str, user_id: &str) -> Result {
    for client in clients {
        let began = Instant::now();
        let mut heard = false;
        while !heard {
            assert!(began.elapsed() < Duration::from_secs(20), "{user_id} is not seen to leave");
            let synced = client.sync_for(Duration::from_millis(500)).await?;
            let of_room = &synced.response["rooms"]["join"][room];
            let events = |part: &str| of_room[part]["events"].as_array().cloned();
            let mut events = ["state", "timeline"].into_iter().filter_map(events).flatten();
            heard = events.any(|event| {
                event["state_key"] == user_id && event["content"]["membership"] == "leave"
            });
        }
    }
    Ok(())
}

async fn invite(cast: &Cast, by: &Client, server: &Homeserver, name: &str) -> Result<Client> {
    let guest = newcomer(server, name, by, &cast.room).await?;
    for client in cast.everybody(None) {
        meets(client, &cast.room, guest.user_id()).await?;
        client.settle().await?;
    }
    Ok(guest)
}

pub async fn rooms_get_over_cuts(federation: &Federation) -> Result {
    let mut cast = Cast::gather(federation).await?;
    cast.talk(None).await?;
    cast.check(None, &[]).await?;
    members_change_on_both_sides(federation, &mut cast).await?;
    a_removed_user_goes_on(federation, &mut cast, "dora", false).await?;
    much_is_said(federation, &mut cast).await?;
    a_removed_user_goes_on(federation, &mut cast, "eve", true).await?;
    println!("{}", table(&cast.partings));
    Ok(())
}

/// One side adds a device of its own, the other removes a user of its own, and both renew their
/// keys.
async fn members_change_on_both_sides(federation: &Federation, cast: &mut Cast) -> Result {
    let carol = invite(cast, &cast.alice[0], &federation.b, "carla").await?;
    cast.talk(Some(&carol)).await?;
    let cut = Cut::begin(federation, cast, Some(&carol), "members change on both sides").await?;
    let tablet = log_in(&federation.a, "anna", "TABLET").await?;
    cast.alice.push(tablet);
    cast.bob[0].kick(&cast.room, carol.user_id()).await?;
    hear_of_leaving(&cast.bob, &cast.room, carol.user_id()).await?;
    let (alice, bob) = (&cast.alice, &cast.bob);
    for client in alice.iter().chain(bob).chain([&carol]) {
        client.settle().await?;
    }
    cast.ledger.removed(&[&bob[0], &bob[1]], &[&carol]);
    for number in 0..4 {
        for client in [&alice[number % 2], &bob[number % 2]] {
            if number == 2 {
                client.rotate_keys(&cast.room).await?;
            }
            cast.ledger.say(client, &format!("{} says {number}", client.name())).await?;
        }
        for client in alice.iter().chain(bob) {
            client.settle().await?;
        }
    }
    cut.end(cast, &[&carol], Withheld::Nothing).await
}

/// Bob removes a user on Alice's server, who cannot hear of it, and goes on.
async fn a_removed_user_goes_on(
    federation: &Federation,
    cast: &mut Cast,
    name: &str,
    commits: bool,
) -> Result {
    let dora = invite(cast, &cast.alice[0], &federation.a, name).await?;
    cast.talk(Some(&dora)).await?;
    let what = match commits {
        false => "one side removes a user who goes on talking on the other",
        true => "one side removes a user who goes on committing on the other",
    };
    let cut = Cut::begin(federation, cast, Some(&dora), what).await?;
    cast.bob[0].kick(&cast.room, dora.user_id()).await?;
    let (alice, bob) = (&cast.alice, &cast.bob);
    hear_of_leaving(bob, &cast.room, dora.user_id()).await?;
    cast.ledger.removed(&[&bob[0], &bob[1]], &[&dora]);
    let mut withheld = Withheld::Nothing;
    for number in 0..3 {
        cast.ledger.say(&bob[number % 2], &format!("{name} is out {number}")).await?;
        bob[(number + 1) % 2].settle().await?;
        if commits && number == 1 {
            dora.rotate_keys(&cast.room).await?;
            withheld = Withheld::Commit;
        }
        cast.ledger
            .say_unheard(&dora, &format!("{name} is still in {number}"), Withheld::Message)
            .await?;
        for client in alice {
            client.settle().await?;
        }
        let text = format!("with {name} {number}");
        cast.ledger.say_unheard(&alice[number % 2], &text, withheld).await?;
        dora.settle().await?;
    }
    cut.end(cast, &[&dora], withheld).await
}

/// So much happens on both sides that no timeline holds it, and no server fetches it by itself.
async fn much_is_said(federation: &Federation, cast: &mut Cast) -> Result {
    let cut = Cut::begin(federation, cast, None, "more is said than a sync brings").await?;
    let (alice, bob) = (&cast.alice, &cast.bob);
    for number in 0..MANY {
        let client = &alice[number % 2];
        if number % 30 == 20 {
            client.rotate_keys(&cast.room).await?;
        }
        if number % 15 == 5 {
            alice[(number + 1) % 2].settle().await?;
        }
        cast.ledger.say(client, &format!("one of many {number}")).await?;
    }
    for number in 0..3 {
        bob[number % 2].rotate_keys(&cast.room).await?;
        cast.ledger.say(&bob[number % 2], &format!("one of few {number}")).await?;
        bob[(number + 1) % 2].settle().await?;
    }
    cut.end(cast, &[], Withheld::Nothing).await
}
