//! A device, as results and updates name it.

/// A device of a user. Device ids alone are not unique: two users may have one in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, uniffi::Record)]
pub struct MlsDevice {
    /// The id of the device's user.
    pub user_id: String,
    /// The device's id.
    pub device_id: String,
}
