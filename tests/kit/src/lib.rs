//! What the tests, the demo and the benches of matrix-mls stand on: a homeserver to talk to
//! ([`Homeserver`], embedded or a real Synapse), and a client that does what an app does
//! ([`Client`]).
//!
//! The embedded homeserver is made to answer as Synapse does. `tests/kit/tests/homeserver` puts the
//! same questions to both. What the network and the server may do to a client is ordered through
//! [`Controls`].

#![deny(missing_docs, unsafe_code)]

mod client;
mod clock;
mod config;
pub mod conformance;
pub mod cross_signing;
pub mod crowd;
mod embedded;
mod error;
mod faulty;
mod federation;
mod feed;
pub mod giant;
pub mod graph;
mod heard;
mod homeserver;
mod http;
pub mod languages;
pub mod many_rooms;
pub mod olm;
pub mod other;
pub mod parted;
pub mod peer;
pub mod process;
pub mod published_tree;
mod result;
pub mod schema;
pub mod sim;
mod sliding_sync;
pub mod story;
mod synapse;
pub mod tables;
pub mod together;
pub mod two_identities;
pub mod written_tree;

pub use client::{
    Client, ClientOptions, Driven, ReadEvent, Snapshot, SyncBy, Synced, is_commit, password_auth,
};
pub use clock::Clock;
pub use config::{config, store_key};
pub use embedded::{Controls, EmbeddedServer, Fault, RateLimit, RequestRecord, Target};
pub use error::KitError;
pub use eyre::{bail, eyre};
pub use federation::Federation;
pub use feed::{feed, news};
pub use heard::Heard;
pub use homeserver::{Homeserver, HomeserverKind};
pub use http::{Answer, Http};
pub use result::{Fields, OrMissing, Refused, Result};
pub use sliding_sync::SlidingSync;
pub use synapse::Synapse;
