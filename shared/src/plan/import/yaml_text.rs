//! Scalars and durations as they are written into the YAML of a plan.

use std::fmt::Write as _;
use std::time::Duration;

/// Words that YAML, or people's memory of YAML 1.1, takes for something else than text.
const SPECIAL: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];

/// A scalar that reads back as `text`: plain where nobody could take it for something else, else in quotes.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
        && !SPECIAL.contains(&text.to_ascii_lowercase().as_str());
    if is_plain { text.to_string() } else { quoted(text) }
}

/// A double-quoted scalar, readable as JSON and as YAML.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for character in text.chars() {
        match character {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            _ if character.is_control()
                || matches!(character, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                // Writing to a String cannot fail; all of these are below 0x10000.
                let _ = write!(out, "\\u{:04x}", u32::from(character));
            }
            _ => out.push(character),
        }
    }
    out.push('"');
    out
}

/// Seconds with as many decimals as there are, up to six.
pub(crate) fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:06}", duration.as_secs(), duration.subsec_micros());
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

/// A duration of the plan language, exact to the microsecond.
pub(crate) fn duration(duration: Duration) -> String {
    let is_whole_millis = duration.subsec_micros().is_multiple_of(1_000);
    if duration.as_secs() == 0 && is_whole_millis && !duration.is_zero() {
        return format!("{}ms", duration.subsec_millis());
    }
    format!("{}s", seconds(duration))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::scalar as reading;
    use proptest::prelude::*;

    #[test]
    fn what_could_be_mistaken_is_quoted() {
        for (text, expected) in [
            ("abc_1.x/y-z", "abc_1.x/y-z"),
            ("1", "\"1\""),
            ("yes", "\"yes\""),
            ("Null", "\"Null\""),
            ("", "\"\""),
            ("-a", "\"-a\""),
            ("a b", "\"a b\""),
            ("a\"\\\n\u{1}", "\"a\\\"\\\\\\n\\u0001\""),
        ] {
            assert_eq!(scalar(text), expected);
        }
    }

    #[test]
    fn durations_are_short() {
        for (millionths, expected) in
            [(0, "0s"), (123_000, "123ms"), (1_500_000, "1.5s"), (307_360_000, "307.36s"), (400, "0.0004s")]
        {
            assert_eq!(duration(Duration::from_micros(millionths)), expected);
        }
    }

    proptest! {
        #[test]
        fn durations_read_back(micros in 0_u64..1_000_000_000_000) {
            let expected = Duration::from_micros(micros);
            prop_assert_eq!(reading::duration(&duration(expected)), Ok(expected));
        }

        #[test]
        fn scalars_read_back(text in "\\PC{0,20}|[\\x01-\\x20\"\\\\:#-]{0,12}") {
            let document = format!("a: {}\n", scalar(&text));
            let mut found = None;
            for item in granit_parser::Parser::new_from_str(&document) {
                if let (granit_parser::Event::Scalar(value, ..), _) = item.expect("YAML") {
                    found = Some(value.into_owned());
                }
            }
            prop_assert_eq!(found, Some(text));
        }
    }
}
