//! `Verdict`: what is known of who a device is, and the shield that an app shows for it.
//!
//! The codes and colours of shields are those of matrix-sdk-crypto (`ShieldState`), so that an app
//! which shows both kinds of rooms has one picture for each.

use crate::devices;

/// What is known of who a device is: the sender of a message, or a member of a group.
///
/// It is what is known now, and can change: another device list, a verification, a reset identity.
/// `Update::TrustChanged` tells of whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum Verdict {
    /// The device's owner has signed it, and your user has verified the owner. Also: it is this
    /// very device.
    Verified,
    /// The device's owner has signed it. Your user has not verified the owner.
    OwnerNotVerified,
    /// The device's owner has signed it, with another identity than the one that your user had
    /// verified. The owner has reset the identity, or the homeserver lies.
    OwnerChanged,
    /// The device's owner has not signed it, or has no identity. The homeserver may have invented
    /// the device.
    NotSignedByOwner,
    /// The homeserver does not list the device. Only the members of the group say that it is this
    /// user's.
    UnknownDevice,
    /// Only whoever gave the keys says who has sent the message: another member, the key backup, or
    /// a file. The homeserver does not list the device.
    OnlyClaimed,
    /// The device had another key first, so somebody is lying. Its messages are refused
    /// (`"conflicting_credential"`), and it is removed before anything is sent.
    Conflicting,
}

/// Why a shield is shown, as matrix-sdk-crypto names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, uniffi::Enum)]
pub enum ShieldCode {
    /// Who has sent it cannot be found out by this device.
    AuthenticityNotGuaranteed,
    /// The device is unknown.
    UnknownDevice,
    /// The device is not signed by its owner.
    UnsignedDevice,
    /// Your user has not verified the device's owner.
    UnverifiedIdentity,
    /// The owner was verified, and has another identity now.
    VerificationViolation,
}

/// The shield beside a message or a device.
#[derive(Debug, Clone, PartialEq, Eq, uniffi::Enum)]
pub enum Shield {
    /// No shield.
    None,
    /// A grey one: nothing wrong is known, but something cannot be checked.
    Grey {
        /// Why, for programs.
        code: ShieldCode,
        /// Why, as an English sentence for people.
        message: String,
    },
    /// A red one: a warning.
    Red {
        /// Why, for programs.
        code: ShieldCode,
        /// Why, as an English sentence for people.
        message: String,
    },
}

/// The shield to show for a verdict.
///
/// With `strict`, people whom your user has not verified get a red shield as well.
/// matrix-sdk-crypto has the same two ways (`to_shield_state_strict`, `to_shield_state_lax`).
#[uniffi::export]
pub fn shield_of(verdict: Verdict, strict: bool) -> Shield {
    let red = |code, message: &str| Shield::Red { code, message: message.to_owned() };
    match verdict {
        Verdict::Verified => Shield::None,
        Verdict::OwnerNotVerified if !strict => Shield::None,
        Verdict::OwnerNotVerified => {
            red(ShieldCode::UnverifiedIdentity, "You have not verified this user.")
        }
        Verdict::OwnerChanged => red(
            ShieldCode::VerificationViolation,
            "You verified this user, but their identity is another now.",
        ),
        Verdict::NotSignedByOwner => {
            red(ShieldCode::UnsignedDevice, "Its owner has not verified this device.")
        }
        Verdict::UnknownDevice => {
            red(ShieldCode::UnknownDevice, "The homeserver does not know this device.")
        }
        Verdict::Conflicting => {
            red(ShieldCode::UnknownDevice, "This device has other keys than it had at first.")
        }
        Verdict::OnlyClaimed => Shield::Grey {
            code: ShieldCode::AuthenticityNotGuaranteed,
            message: "This device cannot check who sent this message.".to_owned(),
        },
    }
}

impl From<devices::Verdict> for Verdict {
    fn from(verdict: devices::Verdict) -> Self {
        match verdict {
            devices::Verdict::Verified => Self::Verified,
            devices::Verdict::OwnerNotVerified => Self::OwnerNotVerified,
            devices::Verdict::OwnerChanged => Self::OwnerChanged,
            devices::Verdict::NotSignedByOwner => Self::NotSignedByOwner,
            devices::Verdict::Unknown => Self::UnknownDevice,
            devices::Verdict::Conflicting => Self::Conflicting,
        }
    }
}
