//! How large an app's arguments may be.

/// The longest label, in bytes.
pub(super) const LONGEST_LABEL: usize = 255;
/// How long a secret may be, in bytes. A shorter one could be guessed.
pub(super) const SHORTEST: usize = 16;
pub(super) const LONGEST: usize = 1024;
/// The longest context, in bytes.
pub(super) const LONGEST_CONTEXT: usize = 65_535;
