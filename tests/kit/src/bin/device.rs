//! One device in a process of its own: `device URL DIRECTORY USER DEVICE [STEP …]`.
//!
//! With a step it does that one and ends; without, it reads steps from its standard input, one a
//! line, and answers each with its result lines and then `ok` or `failed` and why. Kotlin and Swift
//! have the same program. Steps: `register` (prints the user's id), `log-in`, `settle`,
//! `create-room USER_ID …`, `enable ROOM`, `join ROOM`, `kick ROOM USER_ID`, `prepare ROOM`,
//! `rotate ROOM`, `send ROOM TEXT`, `head ROOM`, `look ROOM`, `read ROOM`, `back-up` (prints the
//! recovery key), `restore KEY`, `sign-out DEVICE`, `make-identity`, `ask USER_ID` (to verify each
//! other), `answer`, `begin`, `emojis`, `confirm`, `verified` (prints whether the other is signed),
//! `verdict USER_ID DEVICE`, `shields ROOM` (prints each message with its verdict), `quit`; and
//! here only `encrypt ROOM TEXT …`, which prints what would be sent, and `log-out`.
//!
//! The crash tests run it with `MATRIX_MLS_KILL` set, so that it dies at a chosen commit of its
//! store, and then without, as an app that is started again.

use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc};

use matrix_mls::{EpochInfo, MlsError, RoomSettings, Verdict, Verification, VerificationState};
use matrix_mls_kit::{Client, ClientOptions, Homeserver, OrMissing as _, Result, bail};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("no async runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(&arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}: {error}", arguments.join(" "));
            ExitCode::FAILURE
        }
    }
}

async fn run(arguments: &[String]) -> Result {
    let [url, directory, user, device, step @ ..] = arguments else {
        bail!("usage: device URL DIRECTORY USER DEVICE [STEP …]");
    };
    let mut device = Device {
        homeserver: Homeserver::at(url),
        directory: PathBuf::from(directory),
        user: user.clone(),
        device: device.clone(),
        client: None,
        verification: None,
    };
    let step: Vec<&str> = step.iter().map(String::as_str).collect();
    if step.is_empty() {
        device.listen().await?;
    } else {
        if step[0] != "register" {
            device.log_in().await?;
        }
        device.step(&step).await?;
    }
    device.close().await
}

struct Device {
    homeserver: Homeserver,
    directory: PathBuf,
    user: String,
    device: String,
    client: Option<Client>,
    /// The verification under way, by its id.
    verification: Option<String>,
}

impl Device {
    /// Does what standard input says, until it ends or says `quit`.
    async fn listen(&mut self) -> Result {
        for line in std::io::stdin().lines() {
            let line = line?;
            if line == "quit" {
                break;
            }
            let most = if line.starts_with("send ") { 3 } else { usize::MAX };
            let step: Vec<&str> = line.splitn(most, ' ').collect();
            match self.step(&step).await {
                Ok(()) => println!("ok"),
                Err(error) => println!("failed {}", error.to_string().replace('\n', " ")),
            }
            std::io::stdout().flush()?;
        }
        Ok(())
    }

    async fn register(&mut self) -> Result {
        let client =
            Client::register_with(&self.homeserver, &self.user, &self.device, self.options());
        self.client = Some(client.await?);
        Ok(())
    }

    async fn log_in(&mut self) -> Result {
        let client =
            Client::log_in_with(&self.homeserver, &self.user, &self.device, self.options());
        self.client = Some(client.await?);
        Ok(())
    }

    fn options(&self) -> ClientOptions {
        ClientOptions { directory: Some(self.directory.clone()), ..ClientOptions::default() }
    }

    async fn close(self) -> Result {
        if let Some(client) = self.client {
            client.machine()?.shutdown().await?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &[&str]) -> Result {
        match step {
            ["register"] => {
                self.register().await?;
                let client = self.client()?;
                println!("user {}", client.user_id());
                return Ok(client.settle().await?);
            }
            ["log-in"] => return self.log_in().await,
            ["log-out"] => {
                let client =
                    self.client.take().or_missing("client (register or log-in comes first)")?;
                return Ok(client.log_out().await?);
            }
            _ => {}
        }
        let client = self.client()?;
        match step {
            ["ask", user] => {
                let asked =
                    client.machine()?.request_verification((*user).to_owned(), None).await?;
                self.verification = Some(asked.id());
            }
            ["answer"] => {
                let asked = client.machine()?.verifications().await?;
                let asked = asked.into_iter().find(|asked| asked.is_incoming);
                let id = asked.or_missing("request to verify")?.id;
                client.machine()?.verification(id.clone()).accept().await?;
                self.verification = Some(id);
            }
            ["begin"] => self.verification()?.start_sas().await?,
            ["emojis"] => {
                println!("emojis {}", client.emojis(&*self.verification()?).await?.join(" "))
            }
            ["confirm"] => self.verification()?.confirm().await?,
            ["verified"] => match self.verification()?.info().await?.state {
                VerificationState::Done { is_signed, .. } => println!("signed {is_signed}"),
                state => bail!("not verified: {state:?}"),
            },
            ["verdict", user, device] => {
                let (user, device) = ((*user).to_owned(), (*device).to_owned());
                let verdict = client.machine()?.device_verdict(user, device).await?;
                println!("verdict {}", name_of(verdict));
            }
            ["shields", room] => shields(client, room).await?,
            ["make-identity"] => client.make_identity().await?,
            ["settle"] => client.settle().await?,
            ["create-room", invited @ ..] => {
                let request = serde_json::json!({ "preset": "private_chat", "invite": invited });
                println!("room {}", client.create_room_from(request).await?);
                client.settle().await?;
            }
            ["enable", room] => enable(client, room).await?,
            ["join", room] => client.join(room).await?,
            ["kick", room, user] => client.kick(room, user).await?,
            ["prepare", room] => client.prepare(room).await?,
            ["rotate", room] => {
                client.rotate_keys(room).await?;
                client.prepare(room).await?;
            }
            ["send", room, texts @ ..] => {
                for text in texts {
                    client.send_text(room, text).await?;
                }
            }
            ["encrypt", room, texts @ ..] => {
                let handle = client.room(room).await?;
                client.prepare(room).await?;
                for text in texts {
                    let content = serde_json::json!({ "body": text }).to_string();
                    println!("{}", handle.encrypt("m.room.message".to_owned(), content).await?);
                }
            }
            ["head", room] => head(&client.epochs(room).await?),
            ["look", room] => look(client, room).await?,
            ["read", room] => read(client, room).await?,
            ["back-up"] => println!("key {}", client.back_up_history().await?),
            ["restore", key @ ..] => {
                println!("restored {}", client.restore_history(&key.concat()).await?);
            }
            ["sign-out", device] => client.delete_devices(&[device]).await?,
            _ => bail!("there is no step {}", step.join(" ")),
        }
        Ok(())
    }

    fn client(&self) -> Result<&Client> {
        self.client.as_ref().or_missing("client (register or log-in comes first)")
    }

    fn verification(&self) -> Result<Arc<Verification>> {
        let id =
            self.verification.clone().or_missing("verification (ask or answer comes first)")?;
        Ok(self.client()?.machine()?.verification(id))
    }
}

/// A verdict, as every language prints it.
fn name_of(verdict: Verdict) -> String {
    format!("{verdict:?}").to_lowercase()
}

/// Prints every text of the room that can be read, with its verdict.
async fn shields(client: &Client, room: &str) -> Result {
    for event in client.read(room).await? {
        if let (Some(text), Ok(message)) = (event.text(), &event.message) {
            let (user, device) = (&message.sender_user_id, &message.sender_device_id);
            println!("shield {user}|{device} {} {text}", name_of(message.verdict));
        }
    }
    Ok(())
}

/// Makes the room's group unless that has been done, as an app does that does not remember.
async fn enable(client: &Client, room: &str) -> Result {
    match client.room(room).await?.enable(RoomSettings::default()).await {
        Ok(()) => {}
        Err(MlsError::InvalidInput { details }) if details.code == "already_enabled" => {}
        Err(error) => return Err(error.into()),
    }
    client.settle().await?;
    Ok(())
}

/// Prints the head, without looking for news.
fn head(epochs: &[EpochInfo]) {
    for epoch in epochs.iter().filter(|epoch| epoch.is_head) {
        println!("epoch {} {}", epoch.epoch, epoch.id);
    }
}

/// Prints the head, the members and every text of the room that can be read.
async fn look(client: &Client, room: &str) -> Result {
    client.settle().await?;
    head(&client.epochs(room).await?);
    let mut members: Vec<String> = client
        .members(room)
        .await?
        .iter()
        .map(|member| format!("member {}|{}", member.user_id, member.device_id))
        .collect();
    members.sort();
    members.iter().for_each(|member| println!("{member}"));
    read(client, room).await
}

/// Prints every text of the room that can be read, and which messages cannot.
async fn read(client: &Client, room: &str) -> Result {
    for event in client.read(room).await? {
        match (event.text(), &event.message) {
            (Some(text), Ok(message)) => {
                let (user, device) = (&message.sender_user_id, &message.sender_device_id);
                println!("text {user}|{device} {text}");
            }
            _ => println!("unread {}", event.event_id),
        }
    }
    Ok(())
}
