//! The bounded log of one attempt: the output as it came, its beginning and its end if it is too long.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// How much of a log's limit is kept for the end of the output, at most: 256 KiB, which is also the memory that
/// a slot spends on it. At most half of the limit.
pub const LOG_TAIL: u64 = 256 * 1024;

/// Writes the output of an attempt to its log.
///
/// The first bytes go to the file as they come. What is beyond goes through a ring in memory, whose content
/// follows at the end, after a line that says how much is missing. A failure to write is kept for the report;
/// output goes on being counted, and the task is never held up.
pub(super) struct Log<'a> {
    path: &'a Path,
    file: Option<File>,
    head_left: u64,
    tail_limit: usize,
    /// The last bytes beyond the head; allocated with the first of them.
    ring: Vec<u8>,
    /// Where the oldest byte of the ring is; 0 until it is full.
    oldest: usize,
    /// How many bytes went to the ring.
    beyond: u64,
    bytes: u64,
    error: Option<io::Error>,
}

/// What became of a log.
#[derive(Debug, Default)]
pub(super) struct LogSummary {
    pub(super) bytes: u64,
    pub(super) left_out_bytes: u64,
    pub(super) error: Option<io::Error>,
}

impl<'a> Log<'a> {
    /// A log that is not there yet.
    pub(super) fn new(path: &'a Path, limit: u64) -> Self {
        let tail = LOG_TAIL.min(limit / 2);
        Self {
            path,
            file: None,
            head_left: limit - tail,
            tail_limit: usize::try_from(tail).unwrap_or(0),
            ring: Vec::new(),
            oldest: 0,
            beyond: 0,
            bytes: 0,
            error: None,
        }
    }

    /// Takes the next bytes of output.
    pub(super) fn write(&mut self, output: &[u8]) {
        self.bytes += output.len() as u64;
        let head = usize::try_from(self.head_left).unwrap_or(usize::MAX).min(output.len());
        let (head, beyond) = output.split_at(head);
        if !head.is_empty() {
            self.head_left -= head.len() as u64;
            self.write_to_file(head);
        }
        if !beyond.is_empty() {
            self.keep_in_ring(beyond);
        }
    }

    /// Writes what is still in memory.
    pub(super) fn finish(mut self) -> LogSummary {
        let left_out_bytes = self.beyond - self.ring.len() as u64;
        if left_out_bytes > 0 {
            self.write_to_file(format!("\n… {left_out_bytes} bytes left out …\n").as_bytes());
        }
        let ring = std::mem::take(&mut self.ring);
        for part in [&ring[self.oldest..], &ring[..self.oldest]] {
            if !part.is_empty() {
                self.write_to_file(part);
            }
        }
        LogSummary { bytes: self.bytes, left_out_bytes, error: self.error }
    }

    fn keep_in_ring(&mut self, output: &[u8]) {
        self.beyond += output.len() as u64;
        if output.len() >= self.tail_limit {
            self.ring.clear();
            self.oldest = 0;
            self.ring.extend_from_slice(&output[output.len() - self.tail_limit..]);
            return;
        }
        if self.ring.capacity() == 0 {
            self.ring.reserve_exact(self.tail_limit);
        }
        let room = self.tail_limit - self.ring.len();
        let (fresh, over) = output.split_at(room.min(output.len()));
        self.ring.extend_from_slice(fresh);
        let (first, second) = over.split_at(over.len().min(self.tail_limit - self.oldest));
        self.ring[self.oldest..self.oldest + first.len()].copy_from_slice(first);
        self.ring[..second.len()].copy_from_slice(second);
        self.oldest = (self.oldest + over.len()) % self.tail_limit;
    }

    fn write_to_file(&mut self, output: &[u8]) {
        if self.error.is_some() {
            return;
        }
        let result = match &mut self.file {
            Some(file) => file.write_all(output),
            None => create(self.path).and_then(|file| self.file.insert(file).write_all(output)),
        };
        self.error = result.err();
    }
}

fn create(path: &Path) -> io::Result<File> {
    match File::create(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            File::create(path)
        }
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    struct Scratch(tempfile::TempDir);

    impl Scratch {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("deep/down/task.1.log")
        }
    }

    /// Writes `parts` to a log of `limit` bytes; the file's content, if there is one, and the summary.
    fn written(limit: u64, parts: &[&[u8]]) -> (Option<Vec<u8>>, LogSummary) {
        let scratch = Scratch::new();
        let path = scratch.path();
        let mut log = Log::new(&path, limit);
        for part in parts {
            log.write(part);
        }
        let summary = log.finish();
        (fs::read(&path).ok(), summary)
    }

    #[test]
    fn no_output_makes_no_file() {
        let (content, summary) = written(100, &[]);
        assert_eq!(content, None);
        assert_eq!((summary.bytes, summary.left_out_bytes), (0, 0));
        assert!(summary.error.is_none());
    }

    #[test]
    fn what_fits_is_kept_byte_by_byte_also_across_the_ring() {
        let bytes: Vec<u8> = (0..100).collect();
        for cut in 0..=100 {
            let (content, summary) = written(100, &[&bytes[..cut], &bytes[cut..]]);
            assert_eq!(content.as_deref(), Some(&bytes[..]), "cut at {cut}");
            assert_eq!((summary.bytes, summary.left_out_bytes), (100, 0));
        }
    }

    #[test]
    fn a_longer_output_keeps_its_beginning_and_its_end() {
        // Every way of cutting the same 95 bytes into equal parts must give the same file.
        let bytes: Vec<u8> = (0..95).collect();
        let mut expected = bytes[..10].to_vec();
        expected.extend_from_slice("\n… 75 bytes left out …\n".as_bytes());
        expected.extend_from_slice(&bytes[85..]);
        for size in 1..=95 {
            let parts: Vec<&[u8]> = bytes.chunks(size).collect();
            let (content, summary) = written(20, &parts);
            assert_eq!(content.as_deref(), Some(&expected[..]), "parts of {size}");
            assert_eq!((summary.bytes, summary.left_out_bytes), (95, 75));
        }
    }

    #[test]
    fn a_limit_of_nothing_keeps_nothing_but_the_count() {
        let (content, summary) = written(0, &[b"abc", b"defg"]);
        assert_eq!(content.as_deref(), Some("\n… 7 bytes left out …\n".as_bytes()));
        assert_eq!((summary.bytes, summary.left_out_bytes), (7, 7));
    }

    #[test]
    fn the_memory_is_the_tail_and_no_more() {
        let scratch = Scratch::new();
        let path = scratch.path();
        let mut log = Log::new(&path, 1_000_000);
        for _ in 0..100 {
            log.write(&[b'x'; 65_536]);
        }
        assert_eq!(log.ring.capacity() as u64, LOG_TAIL);
        let summary = log.finish();
        assert_eq!(summary.bytes, 6_553_600);
        assert_eq!(summary.left_out_bytes, 6_553_600 - 1_000_000);
    }

    #[test]
    fn a_log_that_cannot_be_written_is_reported_and_goes_on_counting() {
        let scratch = Scratch::new();
        let file = scratch.0.path().join("file");
        fs::write(&file, "in the way").unwrap();
        let path = file.join("task.log");
        let mut log = Log::new(&path, 10);
        log.write(b"lost");
        log.write(b"lost too, and longer");
        let summary = log.finish();
        assert_eq!(summary.bytes, 24);
        assert!(summary.error.is_some());
    }
}
