//! Fuzzing of decoders with mutated records of real programs.
//!
//! libFuzzer needs a nightly compiler, and with stable its wrappers produce bytes that hardly ever resemble
//! a record. The search therefore starts from valid records and uses the means of [`prove`](crate::prove):
//! the everyday run repeats the same cases, each longer run has others, and a failure is shrunk and kept.

use proptest::prelude::*;
use proptest::sample::{Index, select};

/// The key of a record and its value.
pub(crate) type Seed = (String, Vec<u8>);

/// Returns the records of `tests/fixtures/records.tsv` with this name.
pub(crate) fn seeds(what: &str) -> Vec<Seed> {
    fixture("records.tsv", what, 2)
}

/// Returns two fields of each line that starts with `what`; the second is field number `text`.
pub(crate) fn fixture(file: &str, what: &str, text: usize) -> Vec<Seed> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/");
    let all = std::fs::read_to_string(format!("{path}{file}")).unwrap();
    let lines = all.lines().map(|line| line.split('\t').collect::<Vec<_>>());
    let mine = lines.filter(|fields| fields[0] == what);
    let seed = |fields: Vec<&str>| (fields[1].to_owned(), fields[text].as_bytes().to_vec());
    let seeds: Vec<Seed> = mine.map(seed).collect();
    assert!(!seeds.is_empty(), "{file} has no {what}");
    seeds
}

/// Replacements and insertions.
const PIECES: [&[u8]; 30] = [
    b"null",
    b"true",
    b"0",
    b"-1",
    b"1.5",
    b"1e999",
    b"65536",
    b"80",
    b"18446744073709551616",
    b"\"\"",
    b"\"80\"",
    b"\"h:1\"",
    b"\"[::1]:1\"",
    b"\"\\ud800\"",
    b"\"\\u0000\"",
    b"[]",
    b"{}",
    b"[[[[[[",
    b"{\"\":",
    b"\"",
    b",",
    b":",
    b"\\",
    b"/",
    b"../",
    b"%00",
    b"@",
    b"\0",
    b"\xff",
    b"\xe2\x80\xa8",
];

/// A mutation.
#[derive(Clone, Debug)]
enum Edit {
    Byte(Index, u8),
    Delete(Index, usize),
    Repeat(Index, usize),
    Insert(Index, &'static [u8]),
    /// Replaces the text after a separator, up to the next one.
    Member(Index, &'static [u8]),
    /// Replaces the rest by that of another seed.
    Splice(Index, Index, Index),
}

impl Edit {
    fn make(&self, text: &mut Vec<u8>, seeds: &[Seed]) {
        let place = |at: &Index, text: &[u8]| at.index(text.len() + 1);
        match self {
            Edit::Byte(at, byte) => {
                let at = place(at, text);
                if let Some(old) = text.get_mut(at) {
                    *old = *byte;
                }
            }
            Edit::Delete(at, length) => {
                let from = place(at, text);
                text.drain(from..(from + length).min(text.len()));
            }
            Edit::Repeat(at, length) => {
                let from = place(at, text);
                let again = text[from..(from + length).min(text.len())].to_vec();
                text.splice(from..from, again);
            }
            Edit::Insert(at, piece) => {
                let at = place(at, text);
                text.splice(at..at, piece.iter().copied());
            }
            Edit::Member(at, piece) => {
                let ends = |byte: &u8| matches!(byte, b':' | b',' | b'}' | b']' | b'&' | b'=');
                let from = place(at, text);
                let Some(from) = text[from..].iter().position(ends).map(|n| from + n + 1) else {
                    return;
                };
                let length = text[from..].iter().position(ends);
                let to = length.map_or(text.len(), |n| from + n);
                text.splice(from..to, piece.iter().copied());
            }
            Edit::Splice(at, of, from) => {
                if seeds.is_empty() {
                    return;
                }
                let (_, other) = &seeds[of.index(seeds.len())];
                let at = place(at, text);
                text.truncate(at);
                text.extend_from_slice(&other[place(from, other)..]);
            }
        }
        text.truncate(100_000);
    }
}

fn edits(most: usize) -> impl Strategy<Value = Vec<Edit>> {
    let at = any::<Index>;
    let edit = prop_oneof![
        1 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte(at, byte)),
        1 => (at(), 1..30usize).prop_map(|(at, n)| Edit::Delete(at, n)),
        1 => (at(), 1..200usize).prop_map(|(at, n)| Edit::Repeat(at, n)),
        1 => (at(), select(&PIECES[..])).prop_map(|(at, piece)| Edit::Insert(at, piece)),
        3 => (at(), select(&PIECES[..])).prop_map(|(at, piece)| Edit::Member(at, piece)),
        1 => (at(), at(), at()).prop_map(|(at, of, from)| Edit::Splice(at, of, from)),
    ];
    proptest::collection::vec(edit, 0..most)
}

/// Returns a seed with a few mutations; in one case of five its key is mutated, too.
pub(crate) fn mutated(seeds: Vec<Seed>) -> impl Strategy<Value = Seed> {
    let place = prop_oneof![4 => Just(Vec::new()), 1 => edits(3)];
    (select(seeds.clone()), edits(6), place).prop_map(move |((place, mut text), edits, moves)| {
        let mut place = place.into_bytes();
        edits.iter().for_each(|edit| edit.make(&mut text, &seeds));
        moves.iter().for_each(|edit| edit.make(&mut place, &[]));
        (String::from_utf8_lossy(&place).into_owned(), text)
    })
}
