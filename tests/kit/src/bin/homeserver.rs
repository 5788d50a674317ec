//! A homeserver in a process of its own.
//!
//! `homeserver [embedded|synapse]` is for tests in other languages. It prints its base URL and runs
//! until its standard input ends, so it never outlives whoever started it.
//!
//! `homeserver [embedded|synapse] --port PORT` is for people (`cargo xtask homeserver`). It prints
//! what somebody needs to use it, and runs until Ctrl-C. `--port any` takes the usual port of
//! homeservers, or any that is free.

use std::{
    io::{Read, Write},
    net::TcpListener,
    process::ExitCode,
};

use matrix_mls_kit::{Homeserver, HomeserverKind, KitError, Result};
use tokio::signal::unix::{SignalKind, signal};

/// The port that homeservers have by default, and that the samples of the README name.
const USUAL_PORT: u16 = 8008;

/// What the command line asks for.
struct Wanted {
    kind: HomeserverKind,
    /// The port of a homeserver that is for people.
    port: Option<u16>,
}

fn main() -> ExitCode {
    match wanted().and_then(run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("homeserver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn wanted() -> Result<Wanted> {
    let mut wanted = Wanted { kind: HomeserverKind::Embedded, port: None };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--port" {
            wanted.port = Some(match arguments.next().as_deref() {
                Some("any") => usual_or_free()?,
                Some(port) => port.parse()?,
                None => return Err(KitError::Setup("--port needs a port".to_owned()).into()),
            });
        } else {
            wanted.kind = argument.parse()?;
        }
    }
    Ok(wanted)
}

/// The usual port, or one that is free where another program has that.
fn usual_or_free() -> Result<u16> {
    let bound = TcpListener::bind(("127.0.0.1", USUAL_PORT))
        .or_else(|_| TcpListener::bind(("127.0.0.1", 0)))?;
    Ok(bound.local_addr()?.port())
}

fn run(wanted: Wanted) -> Result {
    let runtime = tokio::runtime::Runtime::new()?;
    let Some(port) = wanted.port else {
        let homeserver = runtime.block_on(Homeserver::start(wanted.kind))?;
        println!("{}", homeserver.base_url());
        std::io::stdout().flush()?;
        std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink())?;
        return Ok(());
    };
    runtime.block_on(async {
        // Before anybody is told that it runs, so that whoever ends it then ends it cleanly.
        let (mut interrupted, mut ended) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let homeserver = Homeserver::start_at(wanted.kind, port).await?;
        println!("{}", explained(homeserver.base_url(), wanted.kind));
        std::io::stdout().flush()?;
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = ended.recv() => {}
        }
        println!("\nThe homeserver ends. What was on it is deleted.");
        Ok(())
    })
}

/// What somebody needs to know to use it.
fn explained(base_url: &str, kind: HomeserverKind) -> String {
    let name = match kind {
        HomeserverKind::Embedded => "The test kit's homeserver (server name embedded.test)",
        HomeserverKind::Synapse => "Synapse (server name synapse.test)",
    };
    // The address by which the README's samples know a homeserver on this machine.
    let address = base_url.replace("127.0.0.1", "localhost");
    format!(
        "{name} runs at

    {address}

Anybody on this machine may register. The samples do it by themselves. By hand:

    curl -X POST {address}/_matrix/client/v3/register -d \\
        '{{\"username\":\"alice\",\"password\":\"secret\",\"auth\":{{\"type\":\"m.login.dummy\"}}}}'

The answer has the user id, a device id and an access token. Everything is kept until the homeserver
ends, and no longer. Press Ctrl-C to end it."
    )
}
