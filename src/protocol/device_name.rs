//! A device's name: its user id and its device id.
//!
//! On the wire it is `[user_id, device_id]`, and that form is written. Some rows of earlier
//! versions hold an object, so that form is read too.

use std::fmt;

use ruma::{OwnedDeviceId, OwnedUserId};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{Error as _, MapAccess, SeqAccess, Visitor},
};

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

impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.user_id, &self.device_id).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

struct EitherForm;

impl<'de> Visitor<'de> for EitherForm {
    type Value = DeviceName;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a user id and a device id")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut parts: A) -> Result<DeviceName, A::Error> {
        let missing = || A::Error::custom("a device's name has a user id and a device id");
        let user_id = parts.next_element()?.ok_or_else(missing)?;
        let device_id = parts.next_element()?.ok_or_else(missing)?;
        if parts.next_element::<serde::de::IgnoredAny>()?.is_some() {
            return Err(A::Error::custom("a device's name has two parts"));
        }
        Ok(DeviceName { user_id, device_id })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<DeviceName, A::Error> {
        let (mut user_id, mut device_id) = (None, None);
        while let Some(field) = fields.next_key::<String>()? {
            match &*field {
                "user_id" => user_id = Some(fields.next_value()?),
                "device_id" => device_id = Some(fields.next_value()?),
                _ => drop(fields.next_value::<serde::de::IgnoredAny>()?),
            }
        }
        match (user_id, device_id) {
            (Some(user_id), Some(device_id)) => Ok(DeviceName { user_id, device_id }),
            _ => Err(A::Error::custom("a device's name has a user id and a device id")),
        }
    }
}

#[cfg(test)]
mod tests {
    use ruma::owned_user_id;

    use super::*;

    #[test]
    fn both_forms_are_read_and_the_wires_is_written() {
        let name = DeviceName::new(owned_user_id!("@a:b"), "D".into());
        assert_eq!(serde_json::to_string(&name).ok().as_deref(), Some(r#"["@a:b","D"]"#));
        for json in [r#"["@a:b","D"]"#, r#"{"user_id":"@a:b","device_id":"D","more":[1]}"#] {
            assert_eq!(serde_json::from_str::<DeviceName>(json).ok(), Some(name.clone()), "{json}");
        }
        for json in [r#"["@a:b"]"#, r#"["@a:b","D","E"]"#, r#"{"user_id":"@a:b"}"#, "[]", "1"] {
            assert!(serde_json::from_str::<DeviceName>(json).is_err(), "{json}");
        }
    }
}
