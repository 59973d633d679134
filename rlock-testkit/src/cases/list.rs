//! The list of all cases.

/// All cases: their module, the rule that they check, what they need, their names.
#[doc(hidden)]
#[macro_export]
macro_rules! __cases {
    ($make:ident $tested:tt $left_out:tt) => {
        $crate::$make! { $tested $left_out
            exclusion, Contract(1), anywhere: [
                second_client_is_refused
                same_client_is_refused
                names_are_independent
                reacquire_after_release
                hundred_tasks_never_two
                unlocked_counter_adds_up
                acquire_races_release
                weights_never_exceed_capacity
                readers_share_writer_excludes
                semaphore_fills_and_no_more
                many_holders_fill_a_semaphore
                capacity_mismatch_is_an_error
            ]
            exclusion, Contract(1), processes: [two_processes_exclude]
            sets, Contract(1), anywhere: [
                opposite_sets_take_turns
                busy_set_holds_nothing
            ]
            order, Contract(2), queue: [
                fifo_among_waiters
                fifo_across_clients
                try_does_not_overtake
                waiting_writer_blocks_new_readers
                readers_behind_a_writer_are_granted_together
                expired_waiters_are_skipped_together
                large_request_is_not_starved
            ]
            tokens, Contract(3), anywhere: [
                token_increases
                token_increases_after_release
                token_increases_after_expiry
                token_increases_after_break
                token_unchanged_by_extend
                token_unchanged_by_acquire_again
                refused_acquire_gets_none
                resource_rejects_stale_token
                token_is_exact
            ]
            tokens, Contract(3), queue: [token_follows_grant_order]
            tokens, Contract(3), control: [token_increases_after_restart]
            compare, Contract(4), anywhere: [
                id_is_new_for_every_acquisition
                foreign_release_does_nothing
                foreign_extend_does_nothing
                stale_release_spares_the_next_holder
                stale_extend_spares_the_next_holder
                extend_never_resurrects_released
                extend_never_resurrects_expired
                release_is_true_once
                break_then_old_release_is_harmless
            ]
            extend, Contract(5), anywhere: [
                extend_restores_the_ttl
                outlives_ttl_five_times
                extend_never_shortens
                extend_longer_than_before
                batch_answers_each
                batch_with_one_lost
                batch_of_ten_thousand
                concurrent_extends
                extend_races_release
                opposite_batches_do_not_deadlock
            ]
            extend, Contract(5), queue: [queued_lease_lives_by_extends]
            expiry, Contract(6), anywhere: [
                expires_after_ttl
                never_expires_early
                expired_reads_as_free
                crash_frees
                client_clock_is_ignored
                expiry_wakes_a_waiter
                ttl_bounds
                granted_ttl_is_reported
                short_reader_spares_a_long_one
            ]
            expiry, Contract(6), queue: [
                dead_waiter_costs_its_ttl
                dead_waiters_anywhere_cost_their_ttl
                unseen_turn_counts
            ]
            expiry, Contract(6), processes: [killed_process_frees]
            grant, Contract(7), anywhere: [
                wakes_on_release
                wake_up_is_prompt
                no_lost_wake_up
                all_waiters_are_served
                wait_timeout_is_exact
                zero_wait_is_one_try
                grant_racing_timeout_is_not_leaked
                idle_waiter_is_quiet
                lost_event_is_repaired
            ]
            grant, Contract(7), network: [waiter_survives_its_connection]
            grant, Contract(7), queue: [
                break_grants_the_next
                waiter_for_all_permits_is_woken
            ]
            grant, Contract(7), push: [break_tells_the_holder]
            idempotence, Contract(8), anywhere: [
                reply_lost_on_acquire
                reply_lost_on_extend
                reply_lost_on_release
                lost_requests_are_sent_again
                requests_arrive_twice
                acquire_sent_twice_is_one_lease
                late_acquire_is_cleaned_up
            ]
            idempotence, Contract(8), queue: [lease_is_adopted_in_front_of_many]
            errors, Contract(9), network: [
                error_says_whether_applied
                transient_error_is_no_loss
            ]
            names, Contract(10), anywhere: [
                unicode
                empty_is_refused
                longest_and_one_longer
                case_matters
                hostile_names
                prefixes_do_not_collide
                namespaces_are_apart
                ten_thousand_names
            ]
            looking, Contract(10), anywhere: [
                list_by_prefix_and_pages
                foreign_cursor_stays_in_the_prefix
                inspect_free_and_held
                inspect_never_shows_the_id
            ]
            looking, Contract(10), queue: [inspect_free_held_queued]
            looking, Contract(11), anywhere: [nothing_is_left_behind]
            cost, Contract(12), cost: [
                history_costs_nothing
                queue_costs_nothing
                holders_cost_nothing
            ]
            rest, Contract(13), rest: [
                rest_keeps_others_away
                rest_ends_by_itself
                rest_takes_only_its_share
                hold_at_least_outlasts_the_release
                hold_at_least_outlasts_the_client
            ]
            rest, Contract(14), data: [data_are_shown]
            elections, Contract(14), data: [leader_is_known_to_others]
            outages, Contract(15), control: [restarted_store_frees_nothing]
            cancelling, Promise(4), anywhere: [
                dropped_acquire_leaves_nothing
                dropped_wait_leaves_the_queue
                dropped_release_is_safe
                dropped_extend_is_safe
                dropped_adoption_is_safe
            ]
            cancelling, Promise(5), anywhere: [
                dropped_guard_frees
                guard_dropped_outside_a_runtime
                guard_dropped_on_another_runtime
                shutdown_gives_back_everything
            ]
            cancelling, Promise(4), network: [connection_comes_back_clean]
            loss, Promise(1), anywhere: [late_grant_is_extended_in_time]
            loss, Promise(2), network: [
                partition_signals_before_the_ttl
                half_open_connection_signals_too
                healed_partition_does_not_revive
            ]
            loss, Promise(2), processes: [frozen_process_knows_on_waking]
            loss, Promise(2), control: [frozen_store]
            outages, Promise(2), control: [
                store_restart_never_two
                failover_loss_is_reported
            ]
            loss, Promise(2), anywhere: [
                loss_is_final_and_has_a_reason
                late_subscriber_sees_loss
            ]
            outages, Promise(3), network: [
                connection_killed
                dead_connection_is_replaced
            ]
            outages, Promise(3), control: [
                short_outage_loses_nothing
                waiter_recovers_from_restart
            ]
            loss, Promise(6), anywhere: [watchdog_survives_a_blocked_runtime]
            loss, Promise(7), anywhere: [run_stops_the_work]
            histories, Contract(1), anywhere: [
                mutex_history
                rw_history
                semaphore_history
            ]
            histories, Contract(3), anywhere: [fenced_register]
            histories, Promise(2), control: [under_kills_and_pauses]
            reference, Reference, anywhere: [random_operations_match_the_reference]
        }
    };
}
