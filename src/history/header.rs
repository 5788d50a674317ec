//! The header of an MLSMessage: what can be read without a key. It names the group and the epoch of
//! a message, so that the right export or group is loaded. Nothing in the header is authenticated.

use super::framing::{
    ContentType, GroupContext, Malformed, SENDER_MEMBER, read, read_message_start, read_opaque,
    wire_format,
};

/// `SenderType.external`. Like a member's, it is followed by an index.
const SENDER_EXTERNAL: u8 = 2;
/// `SenderType.new_member_proposal`.
const SENDER_NEW_MEMBER_PROPOSAL: u8 = 3;
/// `SenderType.new_member_commit`.
const SENDER_NEW_MEMBER_COMMIT: u8 = 4;

/// The kind of an MLSMessage, and what the message says in the clear.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// A PrivateMessage: encrypted, from a member.
    Private {
        /// The group it was sent in.
        group_id: Vec<u8>,
        /// The epoch it was sent in.
        epoch: u64,
        /// What it carries.
        content_type: ContentType,
    },
    /// A PublicMessage: signed, not encrypted. An external commit always is one.
    Public {
        /// The group it was sent to.
        group_id: Vec<u8>,
        /// The epoch it was sent in.
        epoch: u64,
        /// What it carries.
        content_type: ContentType,
    },
    /// A Welcome. It names its group only inside what it encrypts.
    Welcome,
    /// A GroupInfo.
    GroupInfo {
        /// The group it describes.
        group_id: Vec<u8>,
        /// The epoch it describes.
        epoch: u64,
    },
    /// A KeyPackage.
    KeyPackage,
}

/// Reads the header of an MLSMessage, and nothing after the header.
pub fn peek(message: &[u8]) -> Result<Header, Malformed> {
    let mut input = message;
    match read_message_start(&mut input)? {
        wire_format::PRIVATE_MESSAGE => Ok(Header::Private {
            group_id: read_opaque(&mut input)?.to_vec(),
            epoch: read(&mut input)?,
            content_type: read(&mut input)?,
        }),
        wire_format::PUBLIC_MESSAGE => {
            let group_id = read_opaque(&mut input)?.to_vec();
            let epoch = read(&mut input)?;
            match read::<u8>(&mut input)? {
                SENDER_MEMBER | SENDER_EXTERNAL => {
                    let _index: u32 = read(&mut input)?;
                }
                SENDER_NEW_MEMBER_PROPOSAL | SENDER_NEW_MEMBER_COMMIT => {}
                _ => return Err(Malformed),
            }
            let _authenticated_data = read_opaque(&mut input)?;
            Ok(Header::Public { group_id, epoch, content_type: read(&mut input)? })
        }
        wire_format::WELCOME => Ok(Header::Welcome),
        wire_format::GROUP_INFO => {
            let context = GroupContext::read(&mut input)?;
            Ok(Header::GroupInfo { group_id: context.group_id.to_vec(), epoch: context.epoch })
        }
        wire_format::KEY_PACKAGE => Ok(Header::KeyPackage),
        _ => Err(Malformed),
    }
}
