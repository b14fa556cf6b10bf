//! Lexer that splits Rust and C source into code, comments and strings, so that a rule about code ignores comments and
//! strings.

/// A line of source.
#[derive(Debug, Default)]
pub struct Line {
    /// The code, with each string literal replaced by `""`.
    pub code: String,
    pub comment: String,
    /// Contents of the string literals that begin on this line.
    pub strings: Vec<String>,
    /// True if the line belongs to an item under `#[cfg(test)]`.
    pub test: bool,
}

pub fn lines(text: &str) -> Vec<Line> {
    let mut lines = split(text);
    mark_tests(&mut lines);
    lines
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    Code,
    LineComment,
    /// Contains the depth: comments nest in Rust, but not in C.
    BlockComment(usize),
    /// A raw string ends at a quote with the same number of `#` as at its start.
    String {
        raw_hashes: Option<usize>,
    },
}

fn split(text: &str) -> Vec<Line> {
    let chars: Vec<char> = text.chars().collect();
    let mut lines = vec![Line::default()];
    let mut literal = (0, String::new()); // the first line of a string, and its content
    let mut state = State::Code;
    let mut at = 0;
    while at < chars.len() {
        let (char, next) = (chars[at], chars.get(at + 1).copied());
        let last = lines.len() - 1;
        let line = &mut lines[last];
        let mut length = 1;
        match state {
            State::LineComment if char == '\n' => state = State::Code,
            State::LineComment => line.comment.push(char),

            State::BlockComment(depth) => match (char, next) {
                ('*', Some('/')) => {
                    length = 2;
                    state = if depth == 1 {
                        State::Code
                    } else {
                        State::BlockComment(depth - 1)
                    };
                }
                ('/', Some('*')) => {
                    length = 2;
                    state = State::BlockComment(depth + 1);
                }
                ('\n', _) => {}
                _ => line.comment.push(char),
            },

            State::String { raw_hashes: None } if char == '\\' => {
                length = 2;
                literal.1.extend([Some(char), next].into_iter().flatten());
            }
            State::String { raw_hashes } if char == '"' && closes(&chars[at + 1..], raw_hashes) => {
                length += raw_hashes.unwrap_or(0);
                state = State::Code;
                let (begin, content) = std::mem::take(&mut literal);
                lines[begin].strings.push(content);
            }
            State::String { .. } => literal.1.push(char),

            State::Code => match (char, next) {
                ('/', Some('/')) => {
                    length = 2;
                    state = State::LineComment;
                }
                ('/', Some('*')) => {
                    length = 2;
                    state = State::BlockComment(1);
                }
                ('"', _) => {
                    state = State::String {
                        raw_hashes: raw_hashes(&line.code),
                    };
                    literal = (last, String::new());
                    line.code.push_str("\"\"");
                }
                ('\'', _) => length = char_literal(&chars[at..]),
                ('\n', _) => {}
                _ => line.code.push(char),
            },
        }
        // A line break after a backslash is part of the escape, but still begins a line.
        for _ in chars[at..chars.len().min(at + length)]
            .iter()
            .filter(|char| **char == '\n')
        {
            lines.push(Line::default());
        }
        at += length;
    }
    lines
}

fn closes(after_quote: &[char], raw_hashes: Option<usize>) -> bool {
    let hashes = raw_hashes.unwrap_or(0);
    after_quote.len() >= hashes && after_quote[..hashes].iter().all(|char| *char == '#')
}

/// Returns the number of `#` that close the string after `code`, if `code` ends like `r##`.
fn raw_hashes(code: &str) -> Option<usize> {
    let head = code.trim_end_matches('#');
    let before = head.strip_suffix('r')?.trim_end_matches(['b', 'c']);
    let is_word = before.ends_with(|last: char| last.is_alphanumeric() || last == '_');
    (!is_word).then_some(code.len() - head.len())
}

/// Returns the length of the character literal at a quote; 1 for the quote of a lifetime.
fn char_literal(from: &[char]) -> usize {
    match from {
        ['\'', '\\', _, rest @ ..] => {
            3 + rest
                .iter()
                .position(|char| *char == '\'')
                .map_or(0, |end| end + 1)
        }
        ['\'', _, '\'', ..] => 3,
        _ => 1,
    }
}

/// Marks each item under a `#[cfg(test)]`: up to its closing brace, or to its `;` if it has none.
fn mark_tests(lines: &mut [Line]) {
    let mut inside = false;
    let mut depth = 0;
    for line in lines {
        let mut code = line.code.as_str();
        if !inside && let Some(end) = end_of_test_attribute(code) {
            inside = true;
            depth = 0;
            code = &code[end..];
        }
        line.test = inside;
        for char in code.chars().filter(|_| inside) {
            match char {
                '(' | '[' | '{' => depth += 1,
                ')' | ']' | '}' => depth -= 1,
                _ => {}
            }
            if depth <= 0 && matches!(char, '}' | ';') {
                inside = false;
                break;
            }
        }
    }
}

fn end_of_test_attribute(code: &str) -> Option<usize> {
    let begin = code.find("#[cfg(")?;
    let end = begin + code[begin..].find(']')? + 1;
    let condition = &code[begin..end];
    let tests = condition.contains("(test") && !condition.contains("not(test");
    tests.then_some(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> Vec<String> {
        lines(text).into_iter().map(|line| line.code).collect()
    }

    #[test]
    fn strings_and_comments_are_separated_from_code() {
        let line = &lines(r#"let a = "x // y \" z"; // why "not""#)[0];
        assert_eq!(line.code, "let a = \"\"; ");
        assert_eq!(line.comment, " why \"not\"");
        assert_eq!(line.strings, [r#"x // y \" z"#]);
    }

    #[test]
    fn raw_strings_end_at_their_own_hashes() {
        let text = "f(r#\"a \" b\"#, br\"\\\", 1); g(for_r, \"x\")";
        assert_eq!(code(text), ["f(r#\"\", br\"\", 1); g(for_r, \"\")"]);
    }

    #[test]
    fn quotes_and_lifetimes_are_not_strings() {
        assert_eq!(
            code(r#"f('"', '\'', b'\\', &'a str) // "#),
            ["f(, , b, &a str) "]
        );
    }

    #[test]
    fn comments_and_strings_over_several_lines_keep_the_line_numbers() {
        let text = "a /* one\n two /* nested */ */ b\nlet s = \"x \\\n y\";\nc";
        assert_eq!(code(text), ["a ", " b", "let s = \"\"", ";", "c"]);
        assert_eq!(lines(text)[2].strings, ["x \\\n y"]);
    }

    #[test]
    fn items_under_cfg_test_are_marked() {
        let text = "\
fn a() {}
#[cfg(test)]
use b;
fn c(x: [u8; 4]) {}
#[cfg(all(test, unix))]
#[allow(dead_code)]
mod d {
    fn e(x: [u8; 4]) {}
}
#[cfg(not(test))]
fn f() {}
#[cfg(test)] fn g() {}
fn h() {}";
        let marked: Vec<bool> = lines(text).iter().map(|line| line.test).collect();
        let expected = [0, 1, 1, 0, 1, 1, 1, 1, 1, 0, 0, 1, 0].map(|mark| mark == 1);
        assert_eq!(marked, expected);
    }
}
