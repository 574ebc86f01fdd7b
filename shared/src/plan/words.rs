//! Small helpers for what people read: quoting, numbers, the nearest known word.

use std::fmt::Write as _;

/// Most characters of a user's text inside a message.
const MAX_QUOTED: usize = 60;

/// A user's text in backticks, cut, without anything that could steer a terminal.
pub(crate) fn quoted(text: &str) -> String {
    let mut out = String::from("`");
    for (count, character) in text.chars().enumerate() {
        if count == MAX_QUOTED {
            out.push('…');
            break;
        }
        match character {
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if is_unprintable(character) => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('`');
    out
}

/// Control characters, and the invisible ones that reorder a line of text.
pub(crate) fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        || character == '\u{feff}'
}

/// `1000000` as `1,000,000`.
pub(crate) fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Most words of a list in a message.
const MAX_LISTED: usize = 20;

/// `` `a`, `b` and `c` ``.
pub(crate) fn listed<'a>(items: impl IntoIterator<Item = &'a str>, last: &str) -> String {
    let mut items = items.into_iter();
    let mut words: Vec<_> = items.by_ref().take(MAX_LISTED).map(quoted).collect();
    let more = items.count();
    if more > 0 {
        words.push(format!("{} more", grouped(more)));
    }
    match words.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [rest @ .., end] => format!("{} {last} {end}", rest.join(", ")),
    }
}

/// The candidate that `word` was probably meant to be: the one with the fewest changes, if they are few.
pub(crate) fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.chars().take(MAX_COMPARED + 1).flat_map(char::to_lowercase).collect();
    // One letter is as near to any other as to the one that was meant.
    if word.len() < 2 || word.len() > MAX_COMPARED {
        return None;
    }
    let allowed = (word.len() / 3).clamp(1, 3);
    let mut best: Option<(usize, &str)> = None;
    for candidate in candidates {
        let limit = best.map_or(allowed + 1, |(distance, _)| distance);
        if limit == 0 {
            break;
        }
        if candidate.len().abs_diff(word.len()) >= limit + 3 * word.len() {
            continue;
        }
        let characters: Vec<char> = candidate.chars().flat_map(char::to_lowercase).collect();
        if characters.len().abs_diff(word.len()) >= limit {
            continue;
        }
        let distance = distance(&word, &characters);
        if distance < limit {
            best = Some((distance, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Longer words than this are not compared.
const MAX_COMPARED: usize = 128;

/// Insertions, deletions, replacements and swaps of neighbours that lead from one word to the other
/// (optimal string alignment distance).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut before_last: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=to.len()).collect();
    for (row, left) in from.iter().enumerate() {
        let mut current = vec![row + 1];
        for (column, right) in to.iter().enumerate() {
            let replaced = last[column] + usize::from(left != right);
            let mut fewest = replaced.min(last[column + 1] + 1).min(current[column] + 1);
            if row > 0 && column > 0 && from[row - 1] == *right && to[column - 1] == *left {
                fewest = fewest.min(before_last[column - 1] + 1);
            }
            current.push(fewest);
        }
        before_last = std::mem::replace(&mut last, current);
    }
    last[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found() {
        let keys = ["title", "tasks", "timeout", "retry"];
        assert_eq!(nearest("tilte", keys), Some("title"));
        assert_eq!(nearest("time_out", keys), Some("timeout"));
        assert_eq!(nearest("TASKS", keys), Some("tasks"));
        assert_eq!(nearest("task", keys), Some("tasks"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest("", keys), None);
        assert_eq!(nearest("t", ["x"]), None);
        assert_eq!(nearest(&"x".repeat(10_000), keys), None);
    }

    #[test]
    fn quoting_hides_what_steers_a_terminal() {
        assert_eq!(quoted("a\u{1b}[31m\nb\u{202e}"), "`a\\u{1b}[31m\\nb\\u{202e}`");
        assert_eq!(quoted(&"é".repeat(99)).chars().count(), MAX_QUOTED + 3);
    }

    #[test]
    fn lists_are_sentences() {
        assert_eq!(listed(["a"], "and"), "`a`");
        assert_eq!(listed(["a", "b", "c"], "or"), "`a`, `b` or `c`");
        assert!(listed(["a"; 1_020], "and").ends_with("`a` and 1,000 more"));
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(10_000_000), "10,000,000");
    }
}
