//! A homeserver for tests in other languages: `homeserver [embedded|synapse]` prints its base URL and
//! runs until its standard input ends, so that it never outlives whoever started it.

use std::{
    io::{Read, Write},
    process::ExitCode,
};

use matrix_mls_kit::{Homeserver, HomeserverKind, Result};

fn main() -> ExitCode {
    let kind = std::env::args().nth(1).map_or(Ok(HomeserverKind::Embedded), |kind| kind.parse());
    let outcome = kind.map_err(Into::into).and_then(run);
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("homeserver: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(kind: HomeserverKind) -> Result {
    let homeserver = tokio::runtime::Runtime::new()?.block_on(Homeserver::start(kind))?;
    println!("{}", homeserver.base_url());
    std::io::stdout().flush()?;
    std::io::copy(&mut std::io::stdin().lock().by_ref(), &mut std::io::sink())?;
    Ok(())
}
