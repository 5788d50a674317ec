//! The stores of matrix-sdk, with its end-to-end encryption, and of matrix-mls are open in one
//! process, on one SQLite.

use matrix_mls::{MachineConfig, MlsMachine, Publishing, StoreKey};
use matrix_sdk::{Client, ruma::api::MatrixVersion};

type Outcome = Result<(), Box<dyn std::error::Error>>;

#[tokio::test]
async fn both_stores_are_open_in_one_process() -> Outcome {
    let directory = tempfile::tempdir()?;
    let client = Client::builder()
        // Nothing is sent there.
        .homeserver_url("http://localhost:1")
        .server_versions([MatrixVersion::V1_11])
        .sqlite_store(directory.path().join("sdk"), Some("passphrase"))
        .build()
        .await?;
    let machine = MlsMachine::open(MachineConfig {
        user_id: "@alice:example.org".into(),
        device_id: "PHONE".into(),
        store_path: directory.path().join("mls").to_string_lossy().into_owned(),
        store_key: StoreKey::Raw { key: vec![7; 32] },
        publishing: Publishing::BesideOlm,
        member_policy: None,
    })
    .await?;
    assert!(!machine.outgoing_requests().await?.is_empty());
    assert!(client.user_id().is_none(), "nobody has logged in");
    machine.shutdown().await?;
    Ok(())
}
