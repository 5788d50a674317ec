//! What this library does with OpenMLS's groups, whatever the room: how groups are made, joined,
//! founded, loaded and exported, what a commit must not do, what its leaves say of their devices,
//! and what OpenMLS's errors mean.

mod bindings;
mod checks;
mod errors;
mod export;
pub(crate) mod founding;
mod group;
mod welcome_parts;

pub(crate) use self::{
    bindings::{binding_of, note_bindings, note_bindings_of_commit, note_bindings_of_members},
    checks::{
        Added, Removed, check_commit, check_external_commit, devices_added, is_conflicting,
        refuse_conflicting,
    },
    errors::{is_of_another_epoch, refusal},
    export::keep_export,
    group::{create_config, group_id, join_config, load_group, parse_message, take_group},
    welcome_parts::split_welcome,
};
