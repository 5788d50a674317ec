//! Files that are sent encrypted, as the Matrix specification has them ("Sending encrypted
//! attachments"): AES-256 in counter mode with a key of the file's own, and SHA-256 of what is
//! uploaded.
//!
//! A file of any size is read and written piece by piece. Nothing of a file that was opened is
//! where the app wants it before its hash was found right: the homeserver has the file, and counter
//! mode by itself lets whoever has it change the plaintext bit by bit.

mod cipher;
mod description;
mod files;

pub(crate) use self::{
    cipher::{AttachmentError, open, seal},
    description::{AttachmentKey, DescriptionError},
    files::{FileError, open_file, seal_file},
};
