//! The scenario between languages: `clients [--homeserver embedded|synapse] NAME=COMMAND …`. Each
//! command runs a device as `bin/device.rs` does; the Rust one is always first.

use std::process::ExitCode;

use matrix_mls_kit::{
    Homeserver, HomeserverKind, Result, bail, eyre,
    languages::{Language, tell},
    story::Printer,
};

const USAGE: &str = "usage: clients [--homeserver embedded|synapse] NAME=COMMAND …";

fn main() -> ExitCode {
    match run() {
        Ok(()) => {
            println!("\nEvery step was as told.");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("\nThe scenario broke off: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result {
    let mut kind = HomeserverKind::Embedded;
    let own = std::env::current_exe()?.with_file_name("device");
    let mut languages =
        vec![Language { name: "rust".to_owned(), command: format!("'{}'", own.display()) }];
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--homeserver" {
            kind = arguments.next().unwrap_or_default().parse()?;
            continue;
        }
        let (name, command) = argument.split_once('=').ok_or_else(|| eyre!(USAGE))?;
        languages.push(Language { name: name.to_owned(), command: command.to_owned() });
    }
    if languages.len() < 2 {
        bail!(USAGE);
    }
    let homeserver = tokio::runtime::Runtime::new()?.block_on(Homeserver::start(kind))?;
    println!("One MLS room between languages, on {} ({kind:?}).", homeserver.base_url());
    tell(&homeserver, &languages, "", &mut Printer::default())?;
    Ok(())
}
