//! The tools that commands need beside cargo: found, or set up once and outside the workspace.

pub mod apt;
pub mod cache;
pub mod java;
pub mod rust;
pub mod swift;
