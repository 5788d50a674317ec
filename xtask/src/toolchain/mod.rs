//! What the commands need beside Rust, found or set up: once, and outside the tree.

pub mod apt;
pub mod java;
pub mod swift;

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::step::Failure;

/// Where what is set up is kept: `MATRIX_MLS_CACHE`, or the user's cache directory.
pub fn cache() -> Result<PathBuf, Failure> {
    let named = std::env::var_os("MATRIX_MLS_CACHE").map(PathBuf::from);
    let users = || std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let homes = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = named.or_else(|| users().or_else(homes).map(|cache| cache.join("matrix-mls")));
    let cache = cache.ok_or_else(|| {
        Failure::Missing("there is no HOME to keep a cache in: set MATRIX_MLS_CACHE".to_owned())
    })?;
    std::fs::create_dir_all(&cache).map_err(Failure::io(&cache))?;
    Ok(cache)
}

/// Whether a program runs and answers to these arguments.
pub fn runs(program: &str, arguments: &[&str]) -> bool {
    let status = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
