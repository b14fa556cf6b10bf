//! Tests of the header's contract. Each compiles a C program, runs it on the backends that need no server, and
//! runs it again under valgrind.

mod support;

use support::{Program, run};

const MEMORY: &str = "memory://contract";

fn passes(name: &str) {
    let program = passes_without_valgrind(name);
    run(program.under_valgrind().arg(MEMORY));
}

fn passes_without_valgrind(name: &str) -> Program {
    let program = Program::new(&[&format!("ffi/tests/c/{name}")]);
    for url in [MEMORY, &program.local_url()] {
        run(program.command().arg(url));
    }
    program
}

#[test]
fn null_and_malformed_text_are_rejected() {
    passes("misuse.c");
}

#[test]
fn destroy_is_called_exactly_once() {
    passes("destroy.c");
}

#[test]
fn callbacks_may_make_every_call_but_close() {
    passes("callbacks.c");
}

#[test]
fn no_lock_is_held_while_a_callback_runs() {
    passes_without_valgrind("callback_locking.c");
}

#[test]
fn closing_ends_calls_threads_and_callbacks() {
    passes("closing.c");
}

#[test]
fn sets_are_read_filtered_and_picked_from() {
    passes("sets.c");
}

#[test]
fn reading_a_set_allocates_nothing() {
    passes_without_valgrind("allocations.c");
}

#[test]
fn leases_are_kept_alive_updated_and_released() {
    passes("leases.c");
}

#[test]
fn status_callbacks_and_counters_report_changes() {
    passes("status_callbacks.c");
}

#[test]
fn a_feed_wakes_an_event_loop() {
    passes("feed.c");
}

#[test]
fn log_records_go_to_one_callback() {
    passes("log.c");
}

#[test]
fn a_forked_child_gets_an_error_and_does_not_disturb_its_parent() {
    let program = passes_without_valgrind("fork.c");
    run(program.under_valgrind_without_leak_check().arg(MEMORY));
}

#[test]
fn reads_of_a_set_throw_in_a_forked_child_in_cpp() {
    passes_without_valgrind("fork.cc");
}

#[test]
fn const_calls_run_at_the_same_time() {
    passes("threads.c");
}

#[test]
fn descriptors_are_parsed_as_the_table_says() {
    passes("descriptors.c");
}

#[test]
fn descriptors_are_values_in_cpp() {
    passes("descriptors.cc");
}

#[test]
fn scalingo_hosts_have_urls_and_ports_in_c() {
    passes("scalingo.c");
}

#[test]
fn scalingo_hosts_have_urls_and_ports_in_cpp() {
    passes("scalingo.cc");
}

#[test]
fn cpp_adds_destructors_exceptions_and_ranges() {
    passes("cpp.cc");
}
