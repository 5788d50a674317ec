//! One device in a process of its own, for one step: `device URL DIRECTORY USER DEVICE STEP …`.
//!
//! The crash tests run it with `MATRIX_MLS_KILL` set, so that it dies at a chosen commit of its store,
//! and then without, as an app that is started again. It prints what the step found, a line each.

use std::{path::PathBuf, process::ExitCode};

use matrix_mls::{MlsError, RoomSettings};
use matrix_mls_kit::{Client, ClientOptions, Homeserver};

type Outcome = Result<(), Box<dyn std::error::Error>>;

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

async fn run(arguments: &[String]) -> Outcome {
    let [url, directory, user, device, step, rest @ ..] = arguments else {
        return Err("usage: device URL DIRECTORY USER DEVICE STEP …".into());
    };
    let homeserver = Homeserver::at(url);
    let options =
        ClientOptions { directory: Some(PathBuf::from(directory)), ..ClientOptions::default() };
    let client = if step == "register" {
        Client::register_with(&homeserver, user, device, options).await?
    } else {
        Client::log_in_with(&homeserver, user, device, options).await?
    };
    let rest: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (step.as_str(), rest.as_slice()) {
        ("register" | "settle", []) => client.settle().await?,
        ("create-room", [invited]) => {
            let request = serde_json::json!({ "preset": "private_chat", "invite": [invited] });
            println!("{}", client.create_room_from(request).await?);
            client.settle().await?;
        }
        ("enable", [room]) => enable(&client, room).await?,
        ("join-room", [room]) => client.join(room).await?,
        ("prepare", [room]) => client.prepare(room).await?,
        ("rotate", [room]) => {
            client.room(room).await?.rotate_keys().await?;
            client.prepare(room).await?;
        }
        ("send", [room, texts @ ..]) => {
            for text in texts {
                client.send_text(room, text).await?;
            }
        }
        ("encrypt", [room, texts @ ..]) => {
            let handle = client.room(room).await?;
            client.prepare(room).await?;
            for text in texts {
                let content = serde_json::json!({ "body": text }).to_string();
                let sealed = handle.encrypt("m.room.message".to_owned(), content).await?;
                println!("{sealed}");
            }
        }
        ("look", [room]) => look(&client, room).await?,
        _ => return Err(format!("there is no step {step} with {} arguments", rest.len()).into()),
    }
    client.machine()?.shutdown().await?;
    Ok(())
}

/// Makes the room's group unless that has been done, as an app does that does not remember.
async fn enable(client: &Client, room: &str) -> Outcome {
    match client.room(room).await?.enable(RoomSettings::default()).await {
        Ok(()) => {}
        Err(MlsError::InvalidInput { code, .. }) if code == "already_enabled" => {}
        Err(error) => return Err(error.into()),
    }
    client.settle().await?;
    Ok(())
}

/// Prints the head, the members and every text of the room that can be read.
async fn look(client: &Client, room: &str) -> Outcome {
    client.settle().await?;
    let handle = client.room(room).await?;
    for epoch in handle.epochs().await?.iter().filter(|epoch| epoch.is_head) {
        println!("head {}", epoch.id);
    }
    for member in handle.members().await? {
        println!("member {}|{}", member.user_id, member.device_id);
    }
    for event in client.read(room).await? {
        match event.text() {
            Some(text) => println!("text {text}"),
            None => println!("unread {}", event.event_id),
        }
    }
    Ok(())
}
