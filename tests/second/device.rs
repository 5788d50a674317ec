//! The second implementation as a program: a client under test of the conformance run
//! (docs/spec/8-conformance.md). `second URL DIRECTORY USER DEVICE`, then steps on its standard
//! input. It keeps nothing in the directory but a mark that it was there: a device whose store is
//! gone may not go on (D6).

#![deny(unsafe_code)]
#![expect(dead_code, reason = "the scenarios beside this file use the rest")]

mod backup;
mod client;
mod crypto;
mod devices;
mod events;
mod head;
mod mls;
mod names;
mod opening;
mod room;
mod speaking;
mod taking;
mod wire;

use std::{io::Write as _, path::Path, process::ExitCode};

use matrix_mls_kit::{Homeserver, OrMissing as _, Result, bail};

use crate::{backup::BackupKey, client::Second, head::Device};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = tokio::runtime::Runtime::new()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(listen(&arguments)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("second: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what standard input says, until it ends or says `quit`.
async fn listen(arguments: &[String]) -> Result {
    let [url, directory, user, device] = arguments else {
        bail!("usage: second URL DIRECTORY USER DEVICE");
    };
    let homeserver = Homeserver::at(url);
    let mark = Path::new(directory).join("logged-in");
    let mut second = None;
    for line in std::io::stdin().lines() {
        let line = line?;
        let outcome = match (&*line, &mut second) {
            ("quit", _) => break,
            ("log-in", _) if mark.exists() => {
                println!("left-out this client keeps nothing on disk");
                std::io::stdout().flush()?;
                continue;
            }
            ("log-in", second) => match Second::log_in(&homeserver, user, device).await {
                Ok(new) => {
                    std::fs::write(&mark, "")?;
                    *second = Some(new);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            (step, Some(second)) => second.step(step).await,
            (_, None) => Err(matrix_mls_kit::eyre!("log-in comes first")),
        };
        match outcome {
            Ok(()) => println!("ok"),
            Err(error) => println!("failed {}", error.to_string().replace('\n', " ")),
        }
        std::io::stdout().flush()?;
    }
    Ok(())
}

/// `@user:server|DEVICE`.
fn name(device: &Device) -> String {
    format!("{}|{}", device.0, device.1)
}

impl Second {
    async fn step(&mut self, step: &str) -> Result {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        match word {
            "settle" => self.settle_all().await,
            "create-room" => {
                let invited: Vec<&str> = rest.split(' ').filter(|user| !user.is_empty()).collect();
                println!("room {}", self.create_room(&invited).await?);
                Ok(())
            }
            "enable" => self.begin(rest).await,
            "join" => self.join(rest).await,
            "rotate" => self.renew(rest).await.map(drop),
            "send" => {
                let (room, text) = rest.split_once(' ').or_missing("text")?;
                self.come_in(room).await?;
                self.say(room, text).await.map(drop)
            }
            "look" => self.look(rest).await,
            "read" => self.read(rest),
            "back-up" => {
                println!("key {}", self.back_up().await?.text()?);
                Ok(())
            }
            "restore" => {
                println!("restored {}", self.restore(&BackupKey::parse(rest)?).await?);
                Ok(())
            }
            _ => bail!("there is no step {word}"),
        }
    }

    /// Syncs, and takes the history that it was offered.
    async fn settle_all(&mut self) -> Result {
        self.settle().await?;
        for (sender, offer) in std::mem::take(&mut self.offers) {
            let room = offer.room_id.clone();
            if let Err(error) = self.take_offer(&sender, &offer).await
                && let Ok(room) = self.room(&room)
            {
                room.refuse("an offer", &error);
            }
        }
        Ok(())
    }

    /// Joins the group by itself where it is in none, was put out, the room was started anew, or
    /// has gone on where this device cannot follow (E14).
    async fn come_in(&mut self, room: &str) -> Result {
        self.settle().await?;
        let user = self.device.0.clone();
        let known = self.room(room)?;
        if !known.is_mls || !known.joined.contains(&user) {
            bail!("there is no group in {room} that {user} may be in");
        }
        let is_in = match self.head(room) {
            Ok(head) => {
                let known = self.room(room)?;
                let waits = |of: &str| known.unsettled.iter().any(|event| event.event_id == of);
                !known.is_left(head)
                    && !known.claims_ahead_of(head).iter().any(|(event, _)| waits(event))
                    && self.is_up_to_date(room, head)?
            }
            Err(_) => false,
        };
        if is_in { Ok(()) } else { self.join_externally(room).await }
    }

    /// Prints the head, its members and what can be read.
    async fn look(&mut self, room: &str) -> Result {
        self.settle_all().await?;
        let head = self.head(room)?;
        let epoch = self.room(room)?.epoch(head)?;
        println!("epoch {} {}", epoch.number, hex::encode(head));
        let tree = epoch.group.as_ref().or_missing("state")?.export_tree();
        for (_, device, _) in mls::members(&tree) {
            println!("member {}", name(&device.or_missing("device of a leaf")?));
        }
        self.read(room)
    }

    /// Prints every text that can be read, and which events cannot.
    fn read(&mut self, room: &str) -> Result {
        let room = self.room(room)?;
        for read in room.read.iter().filter(|read| read.kind == "m.room.message") {
            if let Some(text) = read.content["body"].as_str() {
                println!("text {} {text}", name(&read.sender));
            }
        }
        let waiting = room.unsettled.iter().map(|event| &*event.event_id);
        let refused = room.refused.iter().map(|(event, _)| &**event);
        for event in waiting.chain(refused).filter(|event| event.starts_with('$')) {
            println!("unread {event}");
        }
        Ok(())
    }
}
