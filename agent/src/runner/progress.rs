//! The file in which a task reports its progress.

use std::fs::{File, Metadata};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::job::Progress;

/// How long the message of a progress may be; the rest is cut.
pub const PROGRESS_MESSAGE_BYTES: usize = 200;

/// How much of the file's end is read: a task may append, and only its last line counts.
const PROGRESS_READ_BYTES: u64 = 4096;

/// Looks at a progress file again and again.
pub(super) struct ProgressFile<'a> {
    path: &'a Path,
    seen: Option<Stamp>,
    last: Option<Progress>,
}

/// What changes when a file is written.
#[derive(PartialEq, Eq)]
struct Stamp {
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl<'a> ProgressFile<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, seen: None, last: None }
    }

    /// The progress, if it has changed since the last look.
    pub(super) fn look(&mut self) -> Option<Progress> {
        let (mut file, metadata) = open_written(self.path)?;
        let stamp = Stamp {
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        };
        if self.seen.as_ref() == Some(&stamp) {
            return None;
        }
        let progress = read(&mut file, &metadata)?;
        self.seen = Some(stamp);
        if self.last.as_ref() == Some(&progress) {
            return None;
        }
        self.last = Some(progress.clone());
        Some(progress)
    }

    /// The last progress. If there may be a file, it is read once more even if it looks unchanged: two writes within
    /// a tick of the file system's clock have the same stamp.
    pub(super) fn finish(mut self, may_exist: bool) -> Option<Progress> {
        if may_exist {
            self.seen = None;
            self.look();
        }
        self.last
    }
}

/// Opens a file that a task may have written, if it is a regular file: a FIFO must not hold us up, a link must not
/// lead us elsewhere.
pub(super) fn open_written(path: &Path) -> Option<(File, Metadata)> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::NOCTTY;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty()).ok()?);
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata))
}

fn read(file: &mut File, metadata: &Metadata) -> Option<Progress> {
    let mut bytes = Vec::new();
    let read = |file: &mut File, bytes: &mut Vec<u8>| -> io::Result<usize> {
        file.seek(SeekFrom::Start(metadata.len().saturating_sub(PROGRESS_READ_BYTES)))?;
        file.take(PROGRESS_READ_BYTES).read_to_end(bytes)
    };
    read(file, &mut bytes).ok()?;
    String::from_utf8_lossy(&bytes).lines().rev().find_map(parse)
}

/// Reads `40`, `40.5 half way`, `40% half way`. A number beyond the ends counts as the end.
fn parse(line: &str) -> Option<Progress> {
    let line = line.trim();
    let (number, message) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let percent: f64 = number.strip_suffix('%').unwrap_or(number).parse().ok()?;
    if percent.is_nan() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to 1000 after the clamp")]
    let permille = (percent.clamp(0.0, 100.0) * 10.0).round() as u16;
    Some(Progress { permille, message: short(message) })
}

/// The message without control characters, cut at a character.
fn short(message: &str) -> String {
    let mut text = String::new();
    for character in message.trim().chars().filter(|character| !character.is_control()) {
        if text.len() + character.len_utf8() > PROGRESS_MESSAGE_BYTES {
            break;
        }
        text.push(character);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn parsed(line: &str) -> Option<(u16, String)> {
        parse(line).map(|progress| (progress.permille, progress.message))
    }

    #[test]
    fn reads_what_tasks_write() {
        assert_eq!(parsed("40"), Some((400, String::new())));
        assert_eq!(parsed("40 half way"), Some((400, "half way".into())));
        assert_eq!(parsed("  12.34%\thalf \u{1b}[1mway\r"), Some((123, "half [1mway".into())));
        assert_eq!(parsed("-3 x"), Some((0, "x".into())));
        assert_eq!(parsed("1e9"), Some((1000, String::new())));
        assert_eq!(parsed("inf"), Some((1000, String::new())));
        for nothing in ["", "NaN", "half way", "forty 40", "0x10", "%"] {
            assert_eq!(parsed(nothing), None, "{nothing}");
        }
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let (_, message) = parsed(&format!("1 {}", "ä".repeat(150))).unwrap();
        assert_eq!(message.len(), PROGRESS_MESSAGE_BYTES);
        let (_, message) = parsed(&format!("1 x{}", "ä".repeat(150))).unwrap();
        assert_eq!(message.len(), PROGRESS_MESSAGE_BYTES - 1);
    }

    #[test]
    fn only_a_change_is_told_and_the_last_line_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("progress");
        let mut file = ProgressFile::new(&path);
        assert_eq!(file.look(), None);
        fs::write(&path, "10 start").unwrap();
        assert_eq!(file.look().map(|progress| progress.permille), Some(100));
        assert_eq!(file.look(), None);
        fs::write(&path, "10 start\n20 more\nnonsense\n\n").unwrap();
        assert_eq!(file.look().map(|progress| progress.permille), Some(200));
        fs::write(&path, format!("{}\n30 end\n", "x".repeat(100_000))).unwrap();
        assert_eq!(file.finish(true), Some(Progress { permille: 300, message: "end".into() }));
    }

    #[test]
    fn what_is_no_file_neither_blocks_nor_counts() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, Mode::from(0o600), 0)
            .unwrap();
        assert_eq!(ProgressFile::new(&fifo).look(), None);
        let target = directory.path().join("target");
        fs::write(&target, "50").unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&target, &link).unwrap();
        assert_eq!(ProgressFile::new(&link).finish(true), None);
        assert_eq!(ProgressFile::new(directory.path()).look(), None);
    }
}
