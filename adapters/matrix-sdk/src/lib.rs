//! Rooms of a [`matrix_sdk::Client`] on MLS, beside its Olm machine.
//!
//! [`Mls`] attaches a [`matrix_mls::MlsMachine`] to a client that is logged in. It has a sliding
//! sync connection (MSC4186) of its own for rooms, device lists and key counts, sends the machine's
//! requests through the client, and takes to-device events from the SDK's own sync. What it gives
//! out is a stream of decrypted events, to be shown in place of what the SDK's timeline cannot
//! decrypt.
//!
//! ```no_run
//! # async fn example(client: matrix_sdk::Client, key: Vec<u8>) -> Result<(), matrix_mls_sdk::Error> {
//! use matrix_mls_sdk::{Config, Mls};
//!
//! let mls = Mls::attach(&client, Config::new("/data/mls", key)).await?;
//! mls.before_sync().await?; // then the SDK may sync
//! let runs = mls.clone();
//! tokio::spawn(async move { runs.run().await });
//! # Ok(())
//! # }
//! ```
//!
//! # A Welcome that was acknowledged is kept
//!
//! The homeserver has one queue of to-device events for a device, whatever connections the device
//! has. A request with the token of an earlier response deletes what that response had. Two
//! connections that both acknowledge would delete events of each other. So one does: the SDK's,
//! whose Olm machine needs the same events. This crate never sends a token.
//!
//! - While the SDK syncs, an event handler gives each event to the machine, and the SDK waits for
//!   its handlers before its next request. The handler comes back when the machine has the event on
//!   its disk, and tries again where its disk fails.
//! - A process may end between the SDK's writing of its token and the handler. The SDK's next
//!   request would delete what the machine has not seen. [`Mls::before_sync`] reads the queue
//!   before that, without a token: the homeserver then gives the oldest hundred events and deletes
//!   none. That is at least what the SDK's last response had.

#![deny(missing_docs, unsafe_code)]

mod config;
mod connection;
mod driver;
mod error;
mod http;
mod identity;
mod mls;
#[cfg(feature = "olm-signature")]
mod olm;
mod position;
mod send;
mod timeline;
mod to_device;
mod upgrade;

pub use matrix_mls;
pub use matrix_sdk;

#[cfg(feature = "olm-signature")]
pub use self::olm::OlmStore;
pub use self::{
    config::Config,
    driver::State,
    error::Error,
    mls::Mls,
    timeline::{Decrypted, TimelineItem},
    upgrade::{Encryption, Obstacle, UpgradePlan, Upgraded},
};
