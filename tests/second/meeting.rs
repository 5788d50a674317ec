//! The run: a scenario has a name and a reason, and says how it went.

use std::future::Future;

use matrix_mls_kit::{Client, Homeserver, Result, eyre, together::phone_of};

use crate::client::Second;

/// Runs a scenario, says how it went and why it is there, and fails with its error.
pub async fn scenario(name: &str, reason: &str, steps: impl Future<Output = Result>) -> Result {
    let outcome = steps.await;
    match &outcome {
        Ok(()) => println!("pass  {name}: {reason}"),
        Err(error) => println!("FAIL  {name}: {reason}\n      {error}"),
    }
    outcome
}

/// That something holds, or a sentence of what does not.
pub fn holds(is: bool, what: impl FnOnce() -> String) -> Result {
    if is { Ok(()) } else { Err(eyre!("this does not hold: {}", what())) }
}

/// A device of each implementation and the room that they are in.
pub struct Meeting {
    pub homeserver: Homeserver,
    /// The library's.
    pub alice: Client,
    /// The second implementation's.
    pub second: Second,
    pub room: String,
}

impl Meeting {
    /// Alice's library makes the room, its group, and adds the second device.
    pub async fn of_alice() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let alice = phone_of(&homeserver, "alice").await?;
        let mut second = Second::register(&homeserver, "second").await?;
        let room = alice.create_room(&[]).await?;
        alice.invite(&room, &second.device.0).await?;
        second.join(&room).await?;
        alice.settle().await?;
        alice.enable(&room, Default::default()).await?;
        alice.send_text(&room, "from alice").await?;
        second.settle().await?;
        Ok(Self { homeserver, alice, second, room })
    }

    /// The second device makes the room, its group, and adds Alice's library.
    pub async fn of_second() -> Result<Self> {
        let homeserver = Homeserver::embedded()?;
        let alice = phone_of(&homeserver, "alice").await?;
        let mut second = Second::register(&homeserver, "second").await?;
        let room = second.create_room(&[alice.user_id()]).await?;
        alice.join(&room).await?;
        second.settle().await?;
        second.begin(&room).await?;
        second.say(&room, "from second").await?;
        alice.settle().await?;
        Ok(Self { homeserver, alice, second, room })
    }

    /// All take in what came, some rounds of it.
    pub async fn quiet(&mut self) -> Result {
        for _ in 0..3 {
            self.second.settle().await?;
            self.alice.settle().await?;
        }
        Ok(())
    }

    /// Both say something, both read it, and both are on one head.
    pub async fn both_talk(&mut self) -> Result {
        for round in ["one", "two"] {
            let (a, b) = (format!("alice {round}"), format!("second {round}"));
            self.alice.send_text(&self.room, &a).await?;
            self.second.settle().await?;
            self.second.say(&self.room, &b).await?;
            self.quiet().await?;
            self.reads(&a).await?;
            self.reads(&b).await?;
            let known = self.second.room(&self.room)?;
            let said = known.was_said_by(self.alice.user_id(), &a);
            holds(said, || format!("{a} is alice's"))?;
        }
        self.on_one_head().await
    }

    /// Both read a text.
    pub async fn reads(&mut self, text: &str) -> Result {
        let room = self.second.room(&self.room)?;
        let read = room.texts().contains(&text);
        holds(read, || {
            format!("the second device reads {text}: {:?} {:?}", room.texts(), room.refused)
        })?;
        let read = matrix_mls_kit::together::texts(&self.alice, &self.room).await;
        holds(read.iter().any(|read| read == text), || {
            format!("the library reads {text}: {read:?}")
        })
    }

    /// Both are on one head.
    pub async fn on_one_head(&mut self) -> Result {
        let library = self.alice.head(&self.room).await?.id;
        let second = hex::encode(self.second.head(&self.room)?);
        holds(library == second, || format!("one head: the library's is {library}, here {second}"))
    }
}
