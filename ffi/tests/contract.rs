//! The contract of the header, told by C programs: each is compiled, then run on the registries that
//! need no server, and once more under valgrind.

mod support;

use support::{Program, run};

const MEMORY: &str = "memory://contract";

fn holds(name: &str) {
    let program = holds_without_valgrind(name);
    run(program.under_valgrind().arg(MEMORY));
}

fn holds_without_valgrind(name: &str) -> Program {
    let program = Program::new(&[&format!("ffi/tests/c/{name}")]);
    for url in [MEMORY, &program.local_url()] {
        run(program.command().arg(url));
    }
    program
}

#[test]
fn null_and_bad_text_are_answered() {
    holds("misuse.c");
}

#[test]
fn destroy_is_called_exactly_once() {
    holds("destroy.c");
}

#[test]
fn callbacks_may_do_all_but_close() {
    holds("callbacks.c");
}

#[test]
fn no_lock_is_held_while_a_callback_runs() {
    holds_without_valgrind("user_lock.c");
}

#[test]
fn closing_ends_what_it_says() {
    holds("closing.c");
}

#[test]
fn sets_are_read_filtered_and_picked_from() {
    holds("sets.c");
}

#[test]
fn reading_a_set_allocates_nothing() {
    holds_without_valgrind("allocations.c");
}

#[test]
fn leases_are_kept_changed_and_released() {
    holds("leases.c");
}

#[test]
fn states_and_counters_are_told() {
    holds("states.c");
}

#[test]
fn a_feed_wakes_a_loop() {
    holds("feed.c");
}

#[test]
fn the_log_goes_to_one_function() {
    holds("log.c");
}

#[test]
fn a_forked_child_is_told_and_its_parent_undisturbed() {
    let program = holds_without_valgrind("fork.c");
    run(program.under_valgrind_but_leaking().arg(MEMORY));
}

#[test]
fn const_calls_run_at_the_same_time() {
    holds("threads.c");
}

#[test]
fn descriptors_are_read_as_the_table_says() {
    holds("descriptors.c");
}

#[test]
fn descriptors_are_values_in_cpp() {
    holds("descriptors.cc");
}

#[test]
fn hosts_have_urls_and_ports_in_c() {
    holds("hosts.c");
}

#[test]
fn hosts_have_urls_and_ports_in_cpp() {
    holds("hosts.cc");
}

#[test]
fn cpp_adds_destructors_exceptions_and_ranges() {
    holds("cpp.cc");
}
