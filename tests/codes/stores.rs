//! Stores of other versions, and a process whose logs go elsewhere.

use std::{fs, path::Path, sync::Arc};

use matrix_mls::{LogLevel, LogSink, MlsReader, set_log_sink};
use matrix_mls_kit::{Refused as _, Result, store_key};

use super::says;

/// A notification extension of the new version runs before the app has.
#[tokio::test]
async fn a_reader_waits_for_the_machine_to_bring_the_store_up_to_date() -> Result {
    let store = tempfile::tempdir()?;
    let old = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/store/v2/matrix-mls.db");
    fs::copy(old, store.path().join("matrix-mls.db"))?;
    let path = store.path().to_string_lossy().into_owned();
    let error = MlsReader::open(path, store_key()).await.map(drop).refused()?;
    says(&error, "store_not_upgraded", "open it with a machine of this version first");
    assert!(error.details().retryable);
    Ok(())
}

struct Sink;

impl LogSink for Sink {
    fn on_log(&self, _level: LogLevel, _target: String, _message: String) {}
}

/// This process has a subscriber, so no other test of it hears logs.
#[test]
fn a_process_has_one_subscriber() -> Result {
    tracing::subscriber::set_global_default(tracing_subscriber::registry())?;
    // However often it is tried: no sink is taken that would hear nothing.
    for _ in 0..2 {
        let error = set_log_sink(LogLevel::Info, Some(Arc::new(Sink))).refused()?;
        says(&error, "subscriber_set", "read the logs there");
    }
    Ok(())
}
