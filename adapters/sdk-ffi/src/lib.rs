//! One library with matrix-sdk and matrix-mls inside, and a UniFFI namespace for each.
//!
//! This crate stands for a fork of matrix-sdk-ffi. It owns its namespace: [`client::Client`] is the
//! little of the SDK's that the tests need, and [`mls::Mls`] is what a fork adds. The namespace
//! `matrix_mls` comes from its own crate and is in the library as it is. The two share objects:
//! [`mls::Mls::machine`] gives Kotlin and Swift the `MlsMachine` of the other namespace.
//!
//! docs/element-x.md explains it to those who have a fork. `cargo xtask test` generates Kotlin and
//! Swift from this one library and calls both namespaces.

#![deny(missing_docs, unsafe_code)]

pub mod client;
pub mod error;
pub mod mls;
mod sync;

uniffi::setup_scaffolding!();
matrix_mls_sdk::matrix_mls::uniffi_reexport_scaffolding!();
