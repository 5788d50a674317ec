//! A second implementation of the protocol, on mls-rs, written from docs/spec alone; and the
//! scenarios in which it meets the library (docs/spec/8-conformance.md). It shares nothing with the
//! library but what any two clients share: a homeserver.

#![deny(unsafe_code)]

mod backup;
mod client;
mod crypto;
mod devices;
mod events;
mod forking;
mod head;
mod hostile;
mod joining;
mod keeping;
mod large;
mod meeting;
mod mls;
mod names;
mod opening;
mod room;
mod speaking;
mod taking;
mod vectors;
mod wire;
