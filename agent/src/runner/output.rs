//! The outputs of a task: the `key=value` lines of `$CAIRN_OUTPUT`.

use std::io::Read;
use std::path::Path;

use super::progress::open_written;

/// How much of `$CAIRN_OUTPUT` is read: outputs travel in messages and events.
pub const OUTPUT_FILE_LIMIT: u64 = 64 * 1024;

/// How many outputs a task may have.
pub const OUTPUTS_MAX: usize = 256;

/// How long the name of an output may be.
const NAME_BYTES: usize = 128;

/// What a task put out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outputs {
    pub(super) values: Vec<(String, String)>,
    /// Lines that are no outputs or beyond the limits.
    pub(super) ignored: usize,
}

/// Reads the outputs of an attempt; no file is no outputs.
pub(super) fn read(path: &Path) -> Outputs {
    let Some((file, metadata)) = open_written(path) else { return Outputs::default() };
    let mut bytes = Vec::new();
    if file.take(OUTPUT_FILE_LIMIT).read_to_end(&mut bytes).is_err() {
        bytes.clear();
    }
    let mut outputs = Outputs::default();
    if metadata.len() > bytes.len() as u64 {
        // The last line that was read may be a part of a line: it goes with what was not read.
        bytes.truncate(bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1));
        outputs.ignored = 1;
    }
    parse(&String::from_utf8_lossy(&bytes), &mut outputs);
    outputs
}

fn parse(text: &str, outputs: &mut Outputs) {
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let Some((name, value)) = line.split_once('=').filter(|(name, _)| is_name(name)) else {
            outputs.ignored += 1;
            continue;
        };
        let values = &mut outputs.values;
        if let Some((_, known)) = values.iter_mut().find(|(known, _)| known == name) {
            value.clone_into(known);
        } else if values.len() < OUTPUTS_MAX {
            values.push((name.to_owned(), value.to_owned()));
        } else {
            outputs.ignored += 1;
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-';
    name.len() <= NAME_BYTES
        && name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_')
        && name.bytes().all(is_part)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn outputs_of(content: &[u8]) -> Outputs {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("output");
        fs::write(&path, content).unwrap();
        read(&path)
    }

    #[test]
    fn lines_with_a_name_are_outputs_and_the_last_value_holds() {
        let outputs = outputs_of(b"version=1.0\nempty=\r\n\nurl=a=b\nversion=1.1\n");
        let values: Vec<_> =
            outputs.values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(values, [("version", "1.1"), ("empty", ""), ("url", "a=b")]);
        assert_eq!(outputs.ignored, 0);
    }

    #[test]
    fn other_lines_are_counted() {
        let outputs = outputs_of(b"=x\n1a=x\na b=x\nno output\n\xff=1\nok=\xff\n");
        assert_eq!(outputs.values, [("ok".to_owned(), "\u{fffd}".to_owned())]);
        assert_eq!(outputs.ignored, 5);
    }

    #[test]
    fn too_much_is_cut_at_a_line() {
        let many: String = (0..300).map(|n| format!("k{n}=v\n")).collect();
        let outputs = outputs_of(many.as_bytes());
        assert_eq!((outputs.values.len(), outputs.ignored), (OUTPUTS_MAX, 44));
        let long = format!("a=1\nb={}\nc=2\n", "x".repeat(70_000));
        let outputs = outputs_of(long.as_bytes());
        assert_eq!(outputs.values, [("a".to_owned(), "1".to_owned())]);
        assert_eq!(outputs.ignored, 1);
    }

    #[test]
    fn no_file_is_no_outputs() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(&directory.path().join("none")), Outputs::default());
    }
}
