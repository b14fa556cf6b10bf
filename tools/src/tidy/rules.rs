//! The rules. Most are bans: words that must not appear in some folders. `I1` and the like are the
//! numbers of the invariants in docs/architecture.md.

use super::{File, extension};
use crate::source::Line;

pub const HEADER: &str = "include/discover.h";

// Folders and files, separated by spaces; so are the words below.
const PURE: &str = "core/src/descriptor/ core/src/error.rs core/src/layout/ core/src/model/ \
                    core/src/kv.rs core/src/url.rs";
const BOUNDARY: &str = "bindings/node/src/ bindings/python/src/ ffi/src/";
const LIBRARY: &str = "bindings/node/src/ bindings/python/src/ core/src/ ffi/src/";
const PRODUCT: &str = "agent/src/ bindings/node/src/ bindings/python/src/ core/src/ ffi/src/";
const SAFE: &str = "agent/src/ bindings/node/src/ bindings/python/src/ core/src/ tools/src/";

/// Words that Rust code in some folders does without.
struct Ban {
    within: &'static str,
    except: &'static str,
    /// Whole ones: `tokio` is found in `tokio::time`, and not in `my_tokio`.
    words: &'static str,
    in_tests: bool,
    /// `tidy: KEY, why` in a comment on the line lifts the ban.
    unless: Option<&'static str>,
    why: &'static str,
}

const BANS: &[Ban] = &[
    Ban {
        within: PURE,
        except: "",
        // Of std::net, an address is a value; a socket is not.
        words: "tokio async std::fs std::thread Mutex RwLock Instant SystemTime \
                TcpListener TcpStream ToSocketAddrs UdpSocket UnixListener UnixStream",
        in_tests: true,
        unless: None,
        why: "values and layouts do no IO, hold no lock and read no clock (I1)",
    },
    Ban {
        within: "core/src/store/",
        except: "",
        words: "layout:: crate::layout",
        in_tests: true,
        unless: None,
        why: "a store knows no layout (I2)",
    },
    Ban {
        within: "core/src/layout/",
        except: "",
        words: "store:: crate::store",
        in_tests: true,
        unless: None,
        why: "a layout knows no store (I2)",
    },
    Ban {
        within: SAFE,
        except: "core/src/fork_safety.rs",
        words: "unsafe",
        in_tests: true,
        unless: None,
        why: "unsafe code is written in ffi/ and core/src/fork_safety.rs only (I8)",
    },
    Ban {
        within: PRODUCT,
        except: "",
        words: ".unwrap() .expect( panic! todo! unimplemented!",
        in_tests: false,
        unless: Some("infallible"),
        why: "return an error, or say `// tidy: infallible, <why>`",
    },
    Ban {
        within: LIBRARY,
        except: "",
        words: "print! println! eprint! eprintln! dbg!",
        in_tests: false,
        unless: None,
        why: "the library never prints; log instead",
    },
];

/// The names that are chosen among in one place.
const SCHEMES_AND_LAYOUTS: &str = "local memory discoverd discoverd+unix etcd etcds etcd2 etcd2s \
                                   zookeeper consul native scalingo containerpilot \
                                   registrator embassy grpc kratos go-micro";

const SLEEPS: &str = "thread::sleep time.sleep( setTimeout( usleep(";

const LONGEST_FILE: usize = 500;

pub fn check(file: &File) -> Vec<String> {
    let mut findings = Vec::new();
    let mut found = |number: usize, why: &str| {
        findings.push((number, format!("{}:{number}: {why}", file.path)));
    };
    for ban in BANS {
        banned_words(file, ban, &mut found);
    }
    one_match_on_names(file, &mut found);
    embed_only(file, &mut found);
    no_sleep_in_tests(file, &mut found);
    header_speaks_c(file, &mut found);
    length(file, &mut found);
    findings.sort();
    findings.into_iter().map(|(_, finding)| finding).collect()
}

fn banned_words(file: &File, ban: &Ban, found: &mut impl FnMut(usize, &str)) {
    if !file.is_under(ban.within) || file.is_under(ban.except) || extension(&file.path) != "rs" {
        return;
    }
    for (number, line) in numbered(file) {
        if (line.test || file.is_test()) && !ban.in_tests {
            continue;
        }
        if ban.unless.is_some_and(|key| is_excused(&line.comment, key)) {
            continue;
        }
        if let Some(word) = ban
            .words
            .split_whitespace()
            .find(|word| has_word(&line.code, word))
        {
            found(number, &format!("`{word}`: {}", ban.why));
        }
    }
}

/// I3: only `open.rs` decides by the name of a scheme or a layout.
fn one_match_on_names(file: &File, found: &mut impl FnMut(usize, &str)) {
    let open = "core/src/backend/open.rs";
    if !file.is_under("core/src/") || file.path == open || file.is_test() {
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
                &format!("\"{name}\": only {open} decides by such a name (I3)"),
            );
        }
    }
}

/// I7: the boundary crates see one module of the core.
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
            let why = "wait for what must happen, or say `tidy: sleep, <why>`";
            found(at + 1, &format!("`{sleep}`: {why}"));
        }
    }
}

/// The header is generated from Rust, and read by people who know none.
fn header_speaks_c(file: &File, found: &mut impl FnMut(usize, &str)) {
    if file.path != HEADER {
        return;
    }
    for (number, line) in numbered(file) {
        let rust = ["[`", "::", "Self"]
            .iter()
            .find(|rust| has_word(&line.comment, rust));
        if let Some(rust) = rust {
            found(number, &format!("`{rust}`: the header speaks C"));
        }
    }
}

fn length(file: &File, found: &mut impl FnMut(usize, &str)) {
    let length = file.text.lines().count();
    if length > LONGEST_FILE && !file.is_test() && !file.is_generated() {
        found(
            length,
            &format!("{length} lines; a file is one idea, in {LONGEST_FILE} at most"),
        );
    }
}

fn numbered(file: &File) -> impl Iterator<Item = (usize, &Line)> {
    file.lines
        .iter()
        .enumerate()
        .map(|(at, line)| (at + 1, line))
}

/// Whether `comment` says `tidy: KEY, why`, with a why.
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

/// What follows each place where `word` stands alone, and not as a part of a longer name.
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
