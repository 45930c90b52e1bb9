//! The list of checks and of what each needs: the one table that stamping, coverage and the
//! mutants read.
//!
//! A line is `name [capabilities it needs] [parts it needs];` below the module that holds it.

use super::checks;
use super::runner::{Check, Part};
use memory_core::Capability;

/// Hands the list to another macro of this crate.
#[doc(hidden)]
#[macro_export]
macro_rules! __for_each_check {
    ($then:ident $($args:tt)*) => {
        $crate::$then! { $($args)*
            crud {
                put_then_fetch [] [];
                every_field_round_trips [] [];
                bare_item_round_trips [] [];
                fetch_keeps_order_and_repeats [] [];
                fetch_is_bounded [] [];
                replace_merges_nothing [] [];
                delete_removes [] [];
                delete_of_missing_succeeds [] [];
                receipts_tell_what_existed [] [];
                each_write_has_its_own_revision [] [];
                huge_content_round_trips [] [];
                large_metadata_round_trips [] [];
                extreme_times_round_trip [] [];
                texts_are_kept_exactly [] [];
                invalid_items_are_refused [] [];
            }
            preconditions {
                absent_creates_once [Preconditions] [];
                any_creates_and_replaces [Preconditions] [];
                revision_swaps_once [Preconditions] [];
                revision_of_missing_is_not_found [Preconditions] [];
                foreign_revisions_never_fit [Preconditions] [];
                delete_under_revision [Preconditions] [];
                delete_of_absent_is_refused [Preconditions] [];
                expired_is_absent_to_a_create [Preconditions Expiry] [];
                expired_is_missing_to_a_swap [Preconditions Expiry] [];
                revisions_are_never_reused [Preconditions Expiry] [];
                revisions_outlive_an_erasure [Preconditions Erase] [];
            }
            commits {
                commit_is_atomic [AtomicCommit Preconditions] [];
                failed_commit_logs_nothing [AtomicCommit Preconditions ChangeLog] [];
                results_are_in_order [AtomicCommit Preconditions] [];
                duplicate_ids_are_refused [AtomicCommit Preconditions] [];
                empty_commit_is_refused [AtomicCommit] [];
                commit_size_is_bounded [AtomicCommit Preconditions] [];
                commit_bytes_are_bounded [AtomicCommit Preconditions] [];
                reads_see_what_was_acknowledged [AtomicCommit Preconditions] [];
                first_attempts_ignore_their_id [Preconditions CommitIds] [];
            }
            isolation {
                hostile_ids_are_kept_apart [] [];
                longest_ids_are_kept_whole [] [];
                hostile_owners_are_told_apart [] [];
                hostile_tenants_are_kept_apart [] [];
                tenant_and_id_do_not_run_together [] [];
                reads_stay_in_their_tenant [] [];
                writes_stay_in_their_tenant [Preconditions] [];
                sweeps_stay_in_their_tenant [Expiry] [];
                erasures_stay_in_their_tenant [Erase] [];
                empty_filters_do_not_widen [] [];
                tenants_are_listed [TenantDirectory] [];
                tenants_come_by_commit_and_go_by_erasure [TenantDirectory Erase] [];
                ids_are_never_patterns [] [];
            }
            filters {
                filters_on_numbers [TypedFilters Counts] [];
                filters_on_texts [TypedFilters Counts] [];
                filters_on_booleans [TypedFilters Counts] [];
                filters_on_lists [TypedFilters Counts] [];
                filters_on_mixed_types [TypedFilters Counts] [];
                filter_keys_are_names [TypedFilters Counts] [];
                filters_on_fixed_fields [TypedFilters Counts] [];
                filters_combine [TypedFilters Counts] [];
                filters_by_lists_of_values [TypedFilters Counts] [];
                long_texts_are_told_apart [TypedFilters Counts] [];
                malformed_filters_are_refused [TypedFilters Counts] [];
            }
            pages {
                pages_cover_every_item_once [Cursors] [];
                pages_hold_their_filter [Cursors] [];
                newest_comes_first [Cursors] [];
                last_page_has_no_cursor [Cursors] [];
                page_sizes_are_independent [Cursors] [];
                pages_survive_writes_between [Cursors Erase] [];
                cursors_outlive_their_item [Cursors] [];
                foreign_cursors_are_refused [Cursors] [];
                malformed_cursors_are_refused [Cursors] [];
                page_limits_are_refused [Cursors] [];
                longest_pages_are_whole [Cursors] [];
            }
            projection {
                projections_bring_what_was_asked_for [Projection] [];
                vectors_come_when_asked_for [Projection VectorSearch CoLocated] [];
            }
            expiry {
                expiry_is_exact [Expiry] [];
                expired_from_the_start [Expiry] [];
                expiry_follows_the_last_put [Expiry] [];
                pages_fill_up_past_expired_items [Expiry Cursors] [];
                sweep_removes_only_the_expired [Expiry] [];
                sweep_spares_what_was_written_anew [Expiry] [];
                sweep_limits_are_refused [Expiry] [];
                commits_see_no_expired_items [Expiry AtomicCommit Preconditions] [];
            }
            erasure {
                erase_user_takes_theirs_only [Erase] [];
                erase_of_nobody_takes_nothing [Erase] [];
                erase_takes_expired_items_too [Erase Expiry] [];
                erase_tenant_takes_everything [Erase] [];
                erase_tenant_takes_what_is_beside_items [Erase IdempotencyKeys] [Meta];
                erase_is_resumable [Erase] [];
                foreign_erase_tokens_are_refused [Erase] [];
                what_follows_an_erasure_stays [Erase] [];
                erasures_leave_tombstones [Erase] [Meta];
                tombstones_block_no_writes [Erase] [Meta];
                carried_tombstones_count [Erase] [Meta];
                erasure_resets_the_change_log [Erase ChangeLog] [];
                erased_items_are_found_by_no_vector [Erase VectorSearch CoLocated] [];
                erased_items_are_found_by_no_word [Erase KeywordSearch CoLocated] [];
            }
            retries {
                keys_give_the_first_answer [IdempotencyKeys] [];
                keys_come_before_preconditions [IdempotencyKeys Preconditions] [];
                keys_stand_for_one_request [IdempotencyKeys] [];
                keys_end_after_a_day [IdempotencyKeys] [];
                failed_commits_use_up_no_key [IdempotencyKeys Preconditions] [];
                keys_are_kept_apart [IdempotencyKeys] [];
                keys_cover_deletes [IdempotencyKeys] [];
                resent_create_recognises_itself [CommitIds Preconditions] [];
                resent_swap_recognises_itself [CommitIds Preconditions] [];
                resent_delete_succeeds [CommitIds Preconditions] [];
                resend_of_what_never_arrived_happens [CommitIds Preconditions] [];
                resent_commits_happen_once [CommitIds Preconditions] [];
                covered_resends_conflict [CommitIds Preconditions] [];
                resends_take_no_others_work [CommitIds Preconditions] [];
                keys_answer_resends [IdempotencyKeys CommitIds] [];
            }
            vectors {
                nearest_by_cosine [VectorSearch CoLocated] [];
                nearest_by_dot_product [VectorSearch CoLocated] [];
                nearest_by_distance [VectorSearch CoLocated] [];
                vector_search_fills_up_under_a_filter [VectorSearch CoLocated] [];
                stale_vectors_are_not_found [VectorSearch CoLocated] [];
                expired_vectors_are_not_found [VectorSearch CoLocated Expiry] [];
                kept_vectors_follow_the_content [VectorSearch CoLocated] [];
                keep_needs_a_revision [VectorSearch CoLocated] [];
                misshapen_vectors_are_refused [VectorSearch CoLocated] [];
                unknown_spaces_are_refused [VectorSearch CoLocated] [];
                upserts_know_their_revision [VectorSearch CoLocated] [];
                removals_forget_vectors_only [VectorSearch CoLocated] [];
                vectors_stay_in_their_tenant [VectorSearch CoLocated] [];
                spaces_stand_side_by_side [VectorSearch CoLocated] [];
                vector_search_reaches_a_position [VectorSearch CoLocated] [];
                vector_search_is_bounded [VectorSearch CoLocated] [];
                failed_commits_leave_vectors_alone [VectorSearch CoLocated] [];
            }
            missing {
                missing_vectors_are_listed [VectorSearch CoLocated] [];
                missing_vectors_follow_the_items [VectorSearch CoLocated] [];
                missing_vectors_come_in_pages [VectorSearch CoLocated] [];
                missing_vectors_behind_a_walk_wait_for_the_next [VectorSearch CoLocated] [];
                expired_items_miss_no_vector [VectorSearch CoLocated Expiry] [];
                missing_vectors_stay_in_their_tenant [VectorSearch CoLocated] [];
                missing_vectors_are_those_of_one_space [VectorSearch CoLocated] [];
                missing_vectors_are_bounded [VectorSearch CoLocated] [];
            }
            keywords {
                items_are_found_by_their_words [KeywordSearch CoLocated] [];
                updates_change_the_words [KeywordSearch CoLocated] [];
                deleted_words_find_nothing [KeywordSearch CoLocated] [];
                expired_words_find_nothing [KeywordSearch CoLocated Expiry] [];
                keyword_search_fills_up_under_a_filter [KeywordSearch CoLocated] [];
                search_texts_have_no_syntax [KeywordSearch CoLocated] [];
                better_matches_come_first [KeywordSearch CoLocated] [];
                explanations_add_up [KeywordSearch CoLocated] [];
                statistics_are_the_tenants_own [KeywordSearch CoLocated] [];
                statistics_forget_what_is_gone [KeywordSearch CoLocated] [];
                keyword_search_is_bounded [KeywordSearch CoLocated] [];
                keyword_upserts_know_their_revision [KeywordSearch CoLocated] [];
                keyword_search_reaches_a_position [KeywordSearch CoLocated] [];
            }
            changes {
                changes_are_logged_in_order [ChangeLog] [];
                receipts_name_their_position [ChangeLog] [];
                changes_are_read_by_parts [ChangeLog] [];
                changes_stay_in_their_tenant [ChangeLog] [];
                consumers_move_forward [ChangeLog] [];
                unread_changes_are_kept [ChangeLog] [];
                trimmed_changes_are_no_secret [ChangeLog] [];
                vector_changes_are_logged [ChangeLog VectorSearch CoLocated] [];
            }
            leases {
                leases_are_exclusive [Leases] [];
                leases_end_by_the_clock [Leases] [];
                renewals_prolong [Leases] [];
                releases_free_their_own [Leases] [];
                lease_lives_are_bounded [Leases] [];
                the_fence_keeps_late_writers_out [Leases] [];
                the_fence_keeps_late_vectors_out [Leases VectorSearch CoLocated] [];
                a_fence_is_lifted_by_its_holder [Leases] [];
            }
            admin {
                the_schema_is_current [] [Meta];
                spaces_change_by_version [] [Meta];
                senseless_spaces_are_refused [] [Meta];
                the_store_key_is_constant [] [Meta];
                the_analyser_is_named [KeywordSearch] [Meta];
                tenant_stats_count_what_is_visible [] [Upkeep];
                tenant_stats_know_vectors [VectorSearch ChangeLog CoLocated] [Meta Upkeep];
                a_sound_store_verifies [] [Upkeep];
                backups_overwrite_nothing [OnlineBackup] [Upkeep];
            }
            lifecycle {
                passed_deadlines_are_timeouts [] [];
                closed_stores_refuse_every_call [] [];
                a_serving_store_is_healthy [] [];
                capabilities_are_constant [] [];
                errors_show_no_text [Preconditions] [];
                dropped_writes_leave_nothing [] [];
            }
            concurrency {
                no_update_is_lost [Preconditions] [];
                one_create_wins [Preconditions] [];
                every_writer_is_heard [Preconditions] [];
                failures_stay_alone [AtomicCommit Preconditions] [];
                one_commit_under_a_key_happens [IdempotencyKeys] [];
                one_lease_is_granted [Leases] [];
            }
        }
    };
}

/// Makes the table.
#[doc(hidden)]
#[macro_export]
macro_rules! __table {
    ($($group:ident { $($name:ident [$($needs:ident)*] [$($parts:ident)*];)* })*) => {
        /// Every check of the suite, with what it needs.
        pub const CHECKS: &[Check] = &[
            $($(Check {
                name: stringify!($name),
                needs: &[$(Capability::$needs),*],
                parts: &[$(Part::$parts),*],
                run: |bench| Box::pin(checks::$group::$name(bench)),
            },)*)*
        ];
    };
}

crate::__for_each_check! { __table }
