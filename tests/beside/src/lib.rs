//! matrix-mls beside matrix-sdk: nothing but what tests/ builds and runs.
