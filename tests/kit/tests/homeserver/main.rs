//! The same questions to the embedded homeserver and to a real Synapse: what the engine's tests
//! rely on must hold on both. Where they disagree, the embedded one is wrong.

mod device;
mod history;
mod keys;
mod lazy_members;
mod limits;
mod media;
mod members;
mod memberships;
mod push;
mod room_keys;
mod rooms;
mod sliding_sync;
mod sliding_sync_connections;
mod sliding_sync_windows;
mod sync;
mod to_device;

/// Makes each test twice, once a homeserver. On Synapse all share one server.
macro_rules! on_both {
    ($($module:ident :: $name:ident),* $(,)?) => {
        mod embedded {
            $(#[tokio::test]
            async fn $name() -> matrix_mls_kit::Result {
                crate::$module::$name(&matrix_mls_kit::Homeserver::embedded()?).await
            })*
        }
        mod synapse {
            $(#[tokio::test]
            async fn $name() -> matrix_mls_kit::Result {
                let server = matrix_mls_kit::Homeserver::shared_synapse().await?;
                crate::$module::$name(&server).await
            })*
        }
    };
}

on_both!(
    rooms::a_transaction_id_sends_once,
    rooms::only_the_sending_device_sees_the_transaction_id,
    rooms::an_event_is_limited_in_size,
    rooms::content_must_be_canonical_json,
    rooms::state_is_sent_once_and_needs_power,
    rooms::membership_decides_who_may_do_what,
    rooms::a_creation_content_and_initial_state_are_kept,
    history::visibility_and_membership_decide,
    history::a_sync_shows_no_more_than_may_be_seen,
    history::an_event_is_found_by_its_room_and_id_alone,
    history::pages_can_be_filtered,
    history::an_event_has_a_place_from_which_pages_go_on,
    history::bodies_and_answers_may_be_megabytes,
    media::media_comes_back_to_the_byte,
    media::media_needs_a_login,
    media::unknown_media_is_not_found,
    media::media_is_limited_in_size,
    sync::a_long_timeline_is_cut_and_can_be_paged,
    sync::who_left_reads_up_to_then,
    sync::an_invite_is_seen_before_joining,
    sync::a_sync_waits_for_news,
    sync::a_repeated_sync_gets_the_same_answer,
    sync::tokens_are_checked,
    keys::key_packages_are_counted_and_claimed,
    keys::a_fallback_key_is_used_last,
    keys::a_key_id_keeps_its_value,
    keys::malformed_keys_are_refused,
    keys::device_keys_come_back_verbatim,
    keys::a_device_without_device_keys_is_not_listed,
    keys::cross_signing_keys_and_signatures_are_handed_out,
    keys::too_many_one_time_keys_are_refused,
    room_keys::versions_come_and_go,
    room_keys::sessions_come_back_and_go,
    room_keys::the_better_session_is_kept,
    room_keys::another_version_is_refused,
    to_device::messages_stay_until_acknowledged,
    to_device::a_transaction_id_delivers_once,
    to_device::a_message_is_limited_in_size,
    to_device::messages_come_a_hundred_at_a_time,
    to_device::new_and_deleted_devices_change_the_list,
    to_device::sharing_rooms_changes_whose_lists_are_followed,
    lazy_members::members_come_as_the_timeline_needs_them,
    lazy_members::who_joins_and_speaks_is_told_twice,
    lazy_members::going_and_coming_back_begins_anew,
    lazy_members::the_state_may_be_that_after_the_timeline,
    lazy_members::a_sync_can_be_filtered,
    members::members_can_be_asked_for,
    members::pages_bring_the_members_they_need,
    members::pages_go_both_ways_and_end,
    members::one_time_keys_are_claimed_oldest_first,
    memberships::the_same_again_is_no_event,
    memberships::whoever_is_put_out_is_told_of_it,
    memberships::an_invitation_shows_the_room_of_its_time,
    memberships::coming_and_going_between_two_syncs_is_told,
    push::messages_and_encrypted_events_are_counted,
    push::a_rule_silences_events_by_their_content,
    push::rules_are_listed_and_checked,
    push::notifications_are_listed,
    sliding_sync::a_room_is_told_once,
    sliding_sync::a_gap_hides_memberships,
    sliding_sync::without_a_gap_every_membership_is_told,
    sliding_sync::state_is_told_when_it_changes,
    sliding_sync::wanting_members_later_brings_none,
    sliding_sync::an_invitation_has_its_own_state,
    sliding_sync::leaving_is_told_once_and_a_kick_stays,
    sliding_sync_windows::rooms_outside_the_window_wait,
    sliding_sync_windows::the_room_list_grows,
    sliding_sync_windows::an_open_room_is_told_further_back,
    sliding_sync_windows::lists_can_be_filtered,
    sliding_sync_windows::malformed_requests_are_refused,
    sliding_sync_connections::a_request_can_be_repeated,
    sliding_sync_connections::positions_are_checked,
    sliding_sync_connections::connections_know_nothing_of_each_other,
    sliding_sync_connections::to_device_events_stay_until_acknowledged,
    sliding_sync_connections::device_lists_need_a_position,
    sliding_sync_connections::memberships_change_device_lists,
    sliding_sync_connections::a_request_waits_for_news,
    sliding_sync_connections::account_data_and_receipts_are_told,
);
