//! The house rules that no lint knows. `I1` and the like are the numbers of the invariants in docs/architecture.md.

use super::{File, extension};
use crate::source::Line;

pub const HEADER: &str = "include/discover.h";

// Lists of paths, and of words, are separated by spaces.
const PURE: &str = "core/src/descriptor/ core/src/error.rs core/src/layout/ core/src/model/ \
                    core/src/kv.rs core/src/url.rs";
const BOUNDARY: &str = "bindings/node/src/ bindings/python/src/ ffi/src/";
const SAFE: &str = "agent/src/ bindings/node/src/ bindings/python/src/ core/src/ tools/src/";

/// Words that may not occur in the Rust code of some folders.
struct Ban {
    within: &'static str,
    except: &'static str,
    /// Whole words: `tokio` matches `tokio::time`, but not `my_tokio`.
    words: &'static str,
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: PURE,
        except: "",
        // Addresses of std::net are values; sockets are not.
        words: "tokio async std::fs std::thread Mutex RwLock Instant SystemTime \
                TcpListener TcpStream ToSocketAddrs UdpSocket UnixListener UnixStream",
        why: "values and layouts do no I/O, hold no lock and read no clock (I1)",
    },
    Ban {
        within: "core/src/store/",
        except: "",
        words: "layout:: crate::layout",
        why: "a store knows no layout (I2)",
    },
    Ban {
        within: "core/src/layout/",
        except: "",
        words: "store:: crate::store",
        why: "a layout knows no store (I2)",
    },
    Ban {
        within: SAFE,
        except: "core/src/fork_safety.rs",
        words: "unsafe",
        why: "unsafe code is written in ffi/ and core/src/fork_safety.rs only (I8)",
    },
];

/// The only file that compares the names of schemes and layouts.
const OPEN: &str = "core/src/backend/open.rs";

const SCHEMES_AND_LAYOUTS: &str = "local memory discoverd discoverd+unix etcd etcds etcd2 etcd2s \
                                   zookeeper consul native scalingo containerpilot \
                                   registrator embassy grpc kratos go-micro";

const SLEEPS: &str = "thread::sleep time.sleep( setTimeout( usleep(";

const MAX_LINES: usize = 500;

/// Returns the rules whose paths match none of the files: a rule that guards nothing looks like one that holds.
pub fn dead_paths(files: &[String]) -> Vec<String> {
    let lists = BANS.iter().flat_map(|ban| [ban.within, ban.except]);
    let paths = lists
        .chain([BOUNDARY, HEADER, OPEN])
        .flat_map(str::split_whitespace);
    let is_dead = |path: &&str| !files.iter().any(|file| file.starts_with(path));
    paths
        .filter(is_dead)
        .map(|path| format!("tools/src/tidy/rules.rs: no file matches the path {path} of a rule"))
        .collect()
}

/// Returns the findings in one file, in the order of their lines.
pub fn check(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let mut found = |number: usize, why: &str| {
        findings.push((number, format!("{}:{number}: {why}", file.path)));
    };
    for ban in BANS {
        banned_words(file, ban, &mut found);
    }
    scheme_and_layout_names(file, &mut found);
    embed_only(file, &mut found);
    no_sleep_in_tests(file, &mut found);
    header_without_rust(file, &mut found);
    length(file, &mut found);
    findings.sort();
    findings.into_iter().map(|(_, finding)| finding).collect()
}

fn banned_words(file: &File, ban: &Ban, found: &mut impl FnMut(usize, &str)) {
    if !file.is_under(ban.within) || file.is_under(ban.except) || extension(&file.path) != "rs" {
        return;
    }
    for (number, line) in numbered(file) {
        if let Some(word) = ban
            .words
            .split_whitespace()
            .find(|word| has_word(&line.code, word))
        {
            found(number, &format!("`{word}`: {}", ban.why));
        }
    }
}

/// I3: only `open.rs` compares the name of a scheme or a layout.
fn scheme_and_layout_names(file: &File, found: &mut impl FnMut(usize, &str)) {
    if !file.is_under("core/src/") || file.path == OPEN || file.is_test() {
        return;
    }
    for (number, line) in numbered(file).filter(|(_, line)| !line.test) {
        let decides = ["=>", "==", "!=", "matches!"]
            .iter()
            .any(|sign| line.code.contains(sign));
        let is_name = |string: &&String| SCHEMES_AND_LAYOUTS.split(' ').any(|name| name == *string);
        if let Some(name) = line.strings.iter().find(is_name).filter(|_| decides) {
            found(
                number,
                &format!("\"{name}\": only {OPEN} decides by such a name (I3)"),
            );
        }
    }
}

/// I7: the boundary crates use one module of the core.
fn embed_only(file: &File, found: &mut impl FnMut(usize, &str)) {
    if !file.is_under(BOUNDARY) {
        return;
    }
    for (number, line) in numbered(file) {
        let elsewhere = |rest: &str| !rest.starts_with("::embed");
        if words(&line.code, "discover_core").any(elsewhere) {
            found(number, "import from discover_core::embed only (I7)");
        }
    }
}

fn no_sleep_in_tests(file: &File, found: &mut impl FnMut(usize, &str)) {
    for (at, text) in file.text.lines().enumerate() {
        let line = file.lines.get(at);
        let code = line.map_or(text, |line| &line.code);
        let is_test = file.is_test() || line.is_some_and(|line| line.test);
        let sleep = SLEEPS.split(' ').find(|sleep| has_word(code, sleep));
        if let Some(sleep) = sleep.filter(|_| is_test && !is_excused(text, "sleep")) {
            let why = "wait for a condition with a deadline, or add `tidy: sleep, <reason>`";
            found(at + 1, &format!("`{sleep}`: {why}"));
        }
    }
}

/// The header is generated from Rust and read by C programmers.
fn header_without_rust(file: &File, found: &mut impl FnMut(usize, &str)) {
    if file.path != HEADER {
        return;
    }
    for (number, line) in numbered(file) {
        let rust = ["[`", "::", "Self"]
            .iter()
            .find(|rust| has_word(&line.comment, rust));
        if let Some(rust) = rust {
            found(
                number,
                &format!("`{rust}`: Rust syntax in a comment of the C header"),
            );
        }
    }
}

fn length(file: &File, found: &mut impl FnMut(usize, &str)) {
    let length = file.text.lines().count();
    if length > MAX_LINES && !file.is_test() && !file.is_generated() {
        found(
            length,
            &format!("{length} lines; a file is one idea, of at most {MAX_LINES} lines"),
        );
    }
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &Line)> {
    file.lines
        .iter()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
}

/// Returns true if `comment` contains `tidy: KEY, REASON` with a reason.
fn is_excused(comment: &str, key: &str) -> bool {
    let after_key = comment
        .split_once("tidy: ")
        .and_then(|(_, rest)| rest.strip_prefix(key));
    after_key
        .and_then(|rest| rest.strip_prefix(", "))
        .is_some_and(|why| !why.trim().is_empty())
}

fn has_word(code: &str, word: &str) -> bool {
    words(code, word).next().is_some()
}

/// Returns the text after each occurrence of `word` as a whole word.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = &'a str> {
    let in_name = |char: char| char.is_alphanumeric() || char == '_';
    code.match_indices(word).filter_map(move |(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let joins_before = word.starts_with(in_name) && before.ends_with(in_name);
        let joins_after = word.ends_with(in_name) && after.starts_with(in_name);
        (!joins_before && !joins_after).then_some(after)
    })
}

#[cfg(test)]
mod tests;
