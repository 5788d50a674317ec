//! What is fuzzed: for each target, what becomes of one input and what must hold. A promise that
//! does not hold is a panic.
//!
//! `fuzz/src/main.rs` gives the targets what libFuzzer invents, and `tests/fuzz_corpus.rs` gives
//! them the inputs in `fuzz/corpus`. The first build needs a C++ compiler, the second only what all
//! tests need. Each has a `LONGEST`, the time that one input may take.

mod change;
mod choices;
mod live;
mod sealed;
mod texts;
mod world;

pub use texts::unnamed;
pub use world::{World, answered};

/// A target.
pub struct Target {
    /// Its name, and that of its directory in `fuzz/corpus`.
    pub name: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

/// All targets. CONTRIBUTING.md says what each is given.
pub const TARGETS: [Target; 9] = [
    Target { name: "sync", run: texts::sync },
    Target { name: "sliding", run: texts::sliding },
    Target { name: "keys", run: texts::keys },
    Target { name: "room", run: live::room },
    Target { name: "state", run: live::state },
    Target { name: "to_device", run: live::to_device },
    Target { name: "answers", run: live::answers },
    Target { name: "files", run: sealed::files },
    Target { name: "backup", run: sealed::backup },
];
