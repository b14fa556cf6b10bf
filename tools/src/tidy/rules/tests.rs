//! Each rule with a violation that it must find, and with code that it must accept.

use super::*;

#[track_caller]
fn finds(path: &str, text: &str, expected: &[&str]) {
    let findings = check(&File::new(path, text.to_owned()));
    assert_eq!(findings.len(), expected.len(), "{findings:#?}");
    for (finding, expected) in findings.iter().zip(expected) {
        assert!(finding.starts_with(expected), "{finding} is not {expected}");
    }
}

#[test]
fn values_and_layouts_are_pure() {
    finds(
        "core/src/model/view.rs",
        "\nuse tokio::time;",
        &["core/src/model/view.rs:2: `tokio`"],
    );
    finds(
        "core/src/layout/grpc.rs",
        "std::fs::read(p)",
        &["core/src/layout/grpc.rs:1: `std::fs`"],
    );
    finds(
        "core/src/url.rs",
        "use std::time::{Duration, Instant};",
        &["core/src/url.rs:1"],
    );
    finds(
        "core/src/url.rs",
        "// tokio\nstruct Instance; use std::net::Ipv6Addr;",
        &[],
    );
    finds("core/src/lease.rs", "use tokio::time;", &[]);
}

#[test]
fn stores_and_layouts_are_independent() {
    finds(
        "core/src/store/etcd/v3/mod.rs",
        "use crate::layout::Layout;",
        &["core/src/store/etcd/v3/mod.rs:1"],
    );
    finds(
        "core/src/layout/mod.rs",
        "use crate::{store::Store};",
        &["core/src/layout/mod.rs:1"],
    );
    finds(
        "core/src/backend/kv/mod.rs",
        "use crate::{layout::L, store::S};",
        &[],
    );
    finds(
        "core/src/store/mod.rs",
        "let layout = memory_layout::new();",
        &[],
    );
}

#[test]
fn scheme_and_layout_names_are_compared_in_one_place() {
    let choice = "match scheme {\n    \"etcd\" | \"etcds\" => a,\n}";
    finds(
        "core/src/client.rs",
        choice,
        &["core/src/client.rs:2: \"etcd\""],
    );
    finds(
        "core/src/url.rs",
        "if layout == \"grpc\" {}",
        &["core/src/url.rs:1: \"grpc\""],
    );
    finds("core/src/backend/open.rs", choice, &[]);
    finds(
        "core/src/store/local.rs",
        "const SCHEME: &str = \"local\";",
        &[],
    );
    finds(
        "core/src/url.rs",
        "#[cfg(test)]\nmod t { fn f() { a == \"etcd\" } }",
        &[],
    );
}

#[test]
fn the_boundary_imports_embed_only() {
    finds(
        "ffi/src/lease.rs",
        "use discover_core::model::X;",
        &["ffi/src/lease.rs:1: import"],
    );
    finds(
        "bindings/node/src/lib.rs",
        "use discover_core::{embed, y};",
        &["bindings/node/src/lib.rs:1"],
    );
    finds(
        "bindings/python/src/lib.rs",
        "use discover_core::embed::{Engine, Feed};",
        &[],
    );
    finds(
        "agent/src/runtime/lifecycle.rs",
        "use discover_core::Client;",
        &[],
    );
}

#[test]
fn unsafe_code_is_confined() {
    finds(
        "core/src/store/local.rs",
        "let x = unsafe { f() };",
        &["core/src/store/local.rs:1: `unsafe`"],
    );
    finds(
        "bindings/python/src/lib.rs",
        "unsafe impl Send for X {}",
        &["bindings/python/src/lib.rs:1"],
    );
    finds("core/src/fork_safety.rs", "unsafe { fork() }", &[]);
    finds("ffi/src/boundary.rs", "unsafe { *p }", &[]);
    finds("core/src/lib.rs", "#![forbid(unsafe_code)]", &[]);
}

#[test]
fn a_rule_whose_path_matches_no_file_is_reported() {
    let paths = "agent/src/a.rs bindings/node/src/a.rs bindings/python/src/a.rs core/src/a.rs ffi/src/a.rs \
                 tools/src/a.rs include/discover.h core/src/backend/open.rs core/src/descriptor/mod.rs \
                 core/src/error.rs core/src/layout/mod.rs core/src/kv.rs core/src/url.rs core/src/store/mod.rs \
                 core/src/fork_safety.rs";
    let files: Vec<String> = paths.split_whitespace().map(str::to_owned).collect();
    let dead = dead_paths(&files);
    assert_eq!(dead.len(), 1, "{dead:?}");
    assert!(dead[0].contains("core/src/model/"), "{dead:?}");
}

#[test]
fn tests_do_not_sleep() {
    finds(
        "tests/e2e/test_story.py",
        "import time\ntime.sleep(1)",
        &["tests/e2e/test_story.py:2: `time.sleep(`"],
    );
    finds(
        "bindings/node/test/a.ts",
        "setTimeout(f, 9)",
        &["bindings/node/test/a.ts:1"],
    );
    finds(
        "ffi/tests/c/fork.c",
        "usleep(10);",
        &["ffi/tests/c/fork.c:1"],
    );
    let inside = "#[cfg(test)]\nmod tests {\n    std::thread::sleep(d);\n}";
    finds(
        "core/src/a.rs",
        inside,
        &["core/src/a.rs:3: `thread::sleep`"],
    );
    finds(
        "tests/a.py",
        "time.sleep(1)  # tidy: sleep, the lease must lapse",
        &[],
    );
    finds(
        "core/tests/a.rs",
        "thread::sleep(d); // tidy: sleep, etcd has no event for it",
        &[],
    );
    finds(
        "core/tests/a.rs",
        "thread::sleep(d); // tidy: sleep",
        &["core/tests/a.rs:1"],
    );
    finds("examples/register.py", "time.sleep(1)", &[]);
}

#[test]
fn the_header_has_no_rust_syntax() {
    let header = "/* See [`Client`]. */\nint a; // std::fs\n/* Selfless */ int b;\n/* A Self. */";
    finds(
        HEADER,
        header,
        &[
            "include/discover.h:1",
            "include/discover.h:2",
            "include/discover.h:4",
        ],
    );
    finds("include/discover.hpp", "// std::string", &[]);
}

#[test]
fn files_are_short() {
    let long = "\n".repeat(501);
    finds("core/src/a.rs", &long, &["core/src/a.rs:501: 501 lines"]);
    finds(
        "bindings/node/ts/index.ts",
        &long,
        &["bindings/node/ts/index.ts:501"],
    );
    finds("core/src/a.rs", &"\n".repeat(500), &[]);
    finds(HEADER, &long, &[]);
    finds("tests/e2e/test_story.py", &long, &[]);
}
