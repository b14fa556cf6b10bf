//! Text of other parties in messages and logs. Pure.

/// Replacement of the part that was cut off.
const CUT_MARK: char = '…';

/// Returns at most `max_chars` characters of a text that another party supplied. Control characters and characters
/// that change the direction of text are escaped (`\n`, `\u{202e}`), so that the text can neither look like a line of
/// its own nor hide or reorder what follows it.
pub fn printable_excerpt(text: &str, max_chars: usize) -> String {
    let mut excerpt = String::with_capacity(text.len().min(max_chars));
    let mut chars = text.chars();
    for c in chars.by_ref().take(max_chars) {
        match is_interpreted(c) {
            true => excerpt.extend(c.escape_default()),
            false => excerpt.push(c),
        }
    }
    if chars.next().is_some() {
        excerpt.push(CUT_MARK);
    }
    excerpt
}

/// Returns true for characters that a terminal or a pager interprets instead of showing them: control characters,
/// line separators, direction marks and invisible ones.
fn is_interpreted(c: char) -> bool {
    let is_separator = matches!(c, '\u{2028}' | '\u{2029}');
    let is_direction_mark = matches!(
        c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}'
    );
    c.is_control() || is_separator || is_direction_mark
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_cut_and_what_a_terminal_interprets_is_escaped() {
        assert_eq!(printable_excerpt("plain ä text", 100), "plain ä text");
        assert_eq!(
            printable_excerpt("a\nb\u{1b}[2J\u{202e}c\u{9b}\u{2028}", 100),
            r"a\nb\u{1b}[2J\u{202e}c\u{9b}\u{2028}"
        );
        assert_eq!(printable_excerpt("äöü", 2), "äö…");
        assert_eq!(printable_excerpt("äöü", 3), "äöü");
    }
}
