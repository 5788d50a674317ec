//! `Diagnostics`: how a store stands, for a report of a bug. Thin, like `machine`: the engine makes
//! the report.

use super::{error::MlsError, machine::MlsMachine, reader::MlsReader, slot::blocking};
use crate::engine::{EngineError, diagnostics::Report};

/// How a store stands, for a report of a bug (a rageshake).
///
/// It has rooms, epochs and forks, what waits and why, requests and sizes. A machine's also has how
/// long its calls took and which causes made messages unreadable, since it was opened. It holds no
/// key, no content of a message, and no id: of each id it has a short name, which is the first ten
/// hex digits of the id's SHA-256, and for a device that of `user_id|device_id`. Two devices have
/// the same names for the same things. Whoever knows an id can find it in the report.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Record)]
pub struct Diagnostics {
    /// The report for people, a line for each fact.
    pub text: String,
    /// The same for programs, with more of it, as a JSON object.
    pub json: String,
}

impl Diagnostics {
    fn of(report: &Report) -> Result<Self, MlsError> {
        let json = serde_json::to_string(report);
        let json = json.map_err(|error| MlsError::internal("diagnostics", error))?;
        Ok(Self { text: report.to_string(), json })
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsMachine {
    /// How this device's store stands, for a report of a bug.
    ///
    /// It changes nothing. It looks at no more than 500 rooms and 2,000 epochs, and counts the
    /// rest. Fails like any call that reads the store.
    pub async fn diagnostics(&self) -> Result<Diagnostics, MlsError> {
        let calls = self.engine.calls();
        let report = self.engine.run(move |engine| engine.report(calls)).await?;
        Diagnostics::of(&report)
    }
}

#[uniffi::export(async_runtime = "tokio")]
impl MlsReader {
    /// How the store stands, for a report of a bug, while a machine has it open or none does.
    ///
    /// It is what [`MlsMachine::diagnostics`](crate::MlsMachine::diagnostics) gives, without what a
    /// machine has in memory.
    pub async fn diagnostics(&self) -> Result<Diagnostics, MlsError> {
        let reader = self.reader.clone();
        blocking(move || {
            let report = reader.report().map_err(EngineError::from)?;
            Diagnostics::of(&report)
        })
        .await
    }
}
