//! A device's name: its user id and its device id.
//!
//! On the wire it is `[user_id, device_id]`, and that form is written. Some rows of earlier
//! versions hold an object; where a row may, that form is read too.

use std::fmt;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::exported::MlsDevice;

/// One device of one user.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct DeviceName {
    pub(crate) user_id: OwnedUserId,
    pub(crate) device_id: OwnedDeviceId,
}

impl DeviceName {
    pub(crate) fn new(user_id: OwnedUserId, device_id: OwnedDeviceId) -> Self {
        Self { user_id, device_id }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}|{}", self.user_id, self.device_id)
    }
}

impl From<&DeviceName> for MlsDevice {
    fn from(device: &DeviceName) -> Self {
        Self { user_id: device.user_id.to_string(), device_id: device.device_id.to_string() }
    }
}

impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.user_id, &self.device_id).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (user_id, device_id) = Deserialize::deserialize(deserializer)?;
        Ok(Self { user_id, device_id })
    }
}

/// A device's name in a row of any version. The wire has one form alone, so that all clients read
/// an event the same.
#[derive(Deserialize)]
#[serde(untagged)]
enum InRow {
    Wire(DeviceName),
    Object { user_id: OwnedUserId, device_id: OwnedDeviceId },
}

impl From<InRow> for DeviceName {
    fn from(row: InRow) -> Self {
        match row {
            InRow::Wire(name) => name,
            InRow::Object { user_id, device_id } => Self { user_id, device_id },
        }
    }
}

/// Reads a device's name from a row of any version.
pub(crate) fn device_in_row<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<DeviceName, D::Error> {
    InRow::deserialize(deserializer).map(Into::into)
}

/// Reads a list of devices' names from a row of any version.
pub(crate) fn devices_in_row<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<DeviceName>, D::Error> {
    Ok(Vec::<InRow>::deserialize(deserializer)?.into_iter().map(Into::into).collect())
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    #[derive(Deserialize)]
    struct Row {
        #[serde(deserialize_with = "device_in_row")]
        one: DeviceName,
        #[serde(deserialize_with = "devices_in_row")]
        list: Vec<DeviceName>,
    }

    #[test]
    fn the_wire_has_one_form() -> Result<(), serde_json::Error> {
        let name = DeviceName::new(owned_user_id!("@a:b"), "D".into());
        assert_eq!(serde_json::to_string(&name)?, r#"["@a:b","D"]"#);
        assert_eq!(serde_json::from_str::<DeviceName>(r#"["@a:b","D"]"#)?, name);
        for json in
            [r#"["@a:b"]"#, r#"["@a:b","D","E"]"#, r#"{"user_id":"@a:b","device_id":"D"}"#, "1"]
        {
            assert!(serde_json::from_str::<DeviceName>(json).is_err(), "{json}");
        }
        Ok(())
    }

    #[test]
    fn rows_of_every_version_are_read() -> Result<(), serde_json::Error> {
        let name = DeviceName::new(owned_user_id!("@a:b"), "D".into());
        for form in [r#"["@a:b","D"]"#, r#"{"user_id":"@a:b","device_id":"D"}"#] {
            let row: Row = serde_json::from_str(&format!(r#"{{"one":{form},"list":[{form}]}}"#))?;
            assert_eq!((row.one, row.list), (name.clone(), vec![name.clone()]));
        }
        Ok(())
    }
}
