//! libFuzzer's program for one target, whose name is in `MATRIX_MLS_FUZZ_TARGET`.

#![no_main]

// What records the corpus is used by the tests alone.
#[allow(dead_code, unused_imports)]
#[path = "../targets/mod.rs"]
mod targets;

use std::{sync::OnceLock, time::Duration};

/// How long one input may take.
const LONGEST: Duration = Duration::from_secs(1);

static RUN: OnceLock<fn(&[u8])> = OnceLock::new();

libfuzzer_sys::fuzz_target!(
    init: {
        let name = std::env::var("MATRIX_MLS_FUZZ_TARGET").unwrap_or_default();
        let Some(target) = targets::TARGETS.iter().find(|target| target.name == name) else {
            eprintln!("MATRIX_MLS_FUZZ_TARGET is {name:?}, which is no target");
            std::process::exit(2);
        };
        RUN.get_or_init(|| target.run);
    },
    |data: &[u8]| {
        if let Some(run) = RUN.get() {
            run(data);
        }
    }
);
