//! How the devices of tests and benches are opened, where no [`Client`](crate::Client) does it.

use std::path::Path;

use matrix_mls::{MachineConfig, Publishing, StoreKey};

/// What seals the stores of tests.
pub fn store_key() -> StoreKey {
    StoreKey::Raw { key: vec![7; 32] }
}

/// A device without Olm, whose store is sealed with [`store_key`].
pub fn config(user_id: &str, device_id: &str, store: &Path) -> MachineConfig {
    MachineConfig {
        user_id: user_id.to_owned(),
        device_id: device_id.to_owned(),
        store_path: store.display().to_string(),
        store_key: store_key(),
        publishing: Publishing::Alone,
        member_policy: None,
    }
}
