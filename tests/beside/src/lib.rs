//! matrix-mls beside matrix-sdk: nothing but what tests/stores.rs builds and runs.
