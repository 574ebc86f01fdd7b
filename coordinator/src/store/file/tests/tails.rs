//! Torn or damaged: every place where a log can end, and every bit that can change.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use super::super::super::error::{Damage, DamageReason, LogFault, Notice};
use super::super::super::event_store::EventStore;
use super::super::segment::segment_path;
use super::super::survey::{Survey, survey};
use super::{Log, Random, event, open, put, read_all};

/// A log of about 16 KiB: lines of many sizes, in writes of one and of several appends.
fn sample() -> Log {
    let mut log = Log::new();
    for sizes in
        [&[10][..], &[100, 200, 300], &[4_000], &[0, 0, 0], &[2_000, 50], &[700], &[1_500, 3_000, 900]]
    {
        log.write(sizes);
    }
    log
}

fn small_sample() -> Log {
    let mut log = Log::new();
    for sizes in [&[10][..], &[100, 20], &[300, 30]] {
        log.write(sizes);
    }
    log
}

fn survey_of(log: &Log) -> Result<Survey, Damage> {
    survey(&log.events()).map_err(|fault| match fault {
        LogFault::Damaged(damage) => damage,
        LogFault::Schema(error) => panic!("{error}"),
        LogFault::Io(failure) => panic!("{failure}"),
    })
}

/// The log must be cut at `offset`, where the event `position` would have been.
fn assert_torn(log: &Log, offset: usize, bytes: usize, position: u64, what: &str) {
    let found = survey_of(log).unwrap_or_else(|damage| panic!("{what}: {damage}"));
    let torn = found.torn.unwrap_or_else(|| panic!("{what}: accepted"));
    assert_eq!((torn.offset, torn.bytes), (offset as u64, bytes as u64), "{what}");
    assert_eq!(found.head.position + 1, position, "{what}");
}

fn assert_damaged(log: &Log, offset: usize, position: u64, what: &str) -> DamageReason {
    let damage = survey_of(log).err().unwrap_or_else(|| panic!("{what}: not refused"));
    assert_eq!((damage.offset, damage.position), (offset as u64, position), "{what}: {damage}");
    assert_eq!(damage.file, log.path(), "{what}");
    damage.reason
}

#[test]
fn a_whole_log_is_accepted() {
    let log = sample();
    let found = survey_of(&log).unwrap();
    assert!(found.torn.is_none());
    assert_eq!((found.head.position, found.head.chain), (log.next_position - 1, log.chain));
    assert!((15_000..20_000).contains(&log.bytes.len()), "{}", log.bytes.len());
}

#[test]
fn cut_at_every_offset_it_is_torn_and_nothing_else() {
    let log = sample();
    for length in 0..log.bytes.len() {
        log.save(&log.bytes[..length]);
        let (start, position) = if length == 0 { (0, 1) } else { log.line_of(length - 1) };
        let is_boundary = log.lines.iter().any(|(line, _)| *line == length && length > 0);
        if is_boundary {
            let found = survey_of(&log).unwrap();
            assert!(found.torn.is_none(), "at {length}");
        } else {
            assert_torn(&log, start, length - start, position, &format!("at {length}"));
        }
    }
}

#[test]
fn cut_at_every_offset_it_opens_goes_on_and_says_so() {
    let log = small_sample();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for length in 0..log.bytes.len() {
        log.save(&log.bytes[..length]);
        let left = survey_of(&log).unwrap();
        let (store, expected) = (open(log.state.path(), 1 << 20).unwrap(), left.head.position);
        let cut: Vec<_> = left.torn.iter().map(|torn| (torn.offset, torn.bytes)).collect();
        let told: Vec<_> = store
            .notices()
            .iter()
            .map(|notice| match notice {
                Notice::TailCut { file, offset, bytes_cut, after_position } => {
                    assert_eq!((file, *after_position), (&log.path(), expected));
                    (*offset, *bytes_cut)
                }
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(told, cut);
        let appended = runtime.block_on(store.submit(event("s", expected + 1, 10))).unwrap();
        assert_eq!(appended.position, expected + 1, "at {length}");
        drop(store);
        assert!(open(log.state.path(), 1 << 20).unwrap().notices().is_empty(), "at {length}");
        assert_eq!(read_all(log.state.path()).len() as u64, expected + 1, "at {length}");
    }
}

#[test]
fn no_flipped_bit_is_accepted_or_cut() {
    let log = sample();
    let file = OpenOptions::new().write(true).open(log.path()).unwrap();
    for (offset, byte) in log.bytes.iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ (1 << bit)], offset as u64).unwrap();
            let (start, position) = log.line_of(offset);
            assert_damaged(&log, start, position, &format!("bit {bit} of byte {offset}"));
        }
        file.write_all_at(&[*byte], offset as u64).unwrap();
    }
}

#[test]
fn no_flipped_bit_before_a_torn_end_is_accepted_or_cut() {
    let mut log = small_sample();
    let whole = log.bytes.len();
    log.write(&[400]);
    log.save(&log.bytes[..whole + 200]);
    let file = OpenOptions::new().write(true).open(log.path()).unwrap();
    for (offset, byte) in log.bytes[..whole + 200].iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ (1 << bit)], offset as u64).unwrap();
            let (start, position) = log.line_of(offset);
            let what = format!("bit {bit} of byte {offset}");
            match survey_of(&log) {
                Ok(_) if offset >= whole => assert_torn(&log, whole, 200, position, &what),
                _ => drop(assert_damaged(&log, start, position, &what)),
            }
        }
        file.write_all_at(&[*byte], offset as u64).unwrap();
    }
}

#[test]
fn zeros_after_the_end_are_cut() {
    let log = sample();
    for zeros in 1..=4_096 {
        log.save(&[&log.bytes[..], &vec![0; zeros]].concat());
        assert_torn(&log, log.bytes.len(), zeros, log.next_position, &format!("{zeros} zeros"));
    }
}

#[test]
fn garbage_after_the_end_is_cut() {
    let log = sample();
    for length in 1..=4_096 {
        let mut random = Random::new(length as u64);
        let garbage: Vec<u8> = (0..length).map(|_| u8::try_from(random.below(256)).unwrap()).collect();
        log.save(&[&log.bytes[..], &garbage].concat());
        assert_torn(&log, log.bytes.len(), length, log.next_position, &format!("seed {length}"));
    }
}

#[test]
fn garbage_before_sound_lines_of_other_writes_is_refused() {
    let mut log = small_sample();
    let end = log.bytes.len();
    log.write(&[100]);
    log.write(&[100]);
    let position = log.line_of(end).1;
    // The first of the two writes is overwritten so that nothing of a line is left, and then taken out altogether.
    let second = log.lines.last().unwrap().0;
    let mut bytes = log.bytes.clone();
    bytes[end..second].fill(b'#');
    log.save(&bytes);
    assert_eq!(assert_damaged(&log, end, position, "no break"), DamageReason::Length);
    bytes[second - 1] = b'\n';
    log.save(&bytes);
    assert_eq!(assert_damaged(&log, end, position, "a break"), DamageReason::NoLine);
    bytes.drain(end..second);
    log.save(&bytes);
    assert_eq!(assert_damaged(&log, end, position, "nothing"), DamageReason::Sequence);
}

#[test]
fn zeroed_sectors_of_the_last_write_are_cut_and_of_others_refused() {
    let mut log = sample();
    let last_write = log.bytes.len();
    log.write(&[700, 3_000, 10, 20, 2_500]);
    let first_sector = last_write / 512;
    let sectors = log.bytes.len().div_ceil(512);
    for sector in 0..sectors {
        for count in [1, 2, 7] {
            let (from, to) = (sector * 512, ((sector + count) * 512).min(log.bytes.len()));
            let mut bytes = log.bytes.clone();
            // What was there before the write, the disk still has.
            let from = if sector == first_sector { from.max(last_write) } else { from };
            bytes[from..to].fill(0);
            log.save(&bytes);
            let (start, position) = log.line_of(from);
            let what = format!("sector {sector}, {count} of them");
            if from >= last_write {
                assert_torn(&log, start, bytes.len() - start, position, &what);
            } else {
                assert_damaged(&log, start, position, &what);
            }
        }
    }
}

#[test]
fn zeros_that_are_not_whole_sectors_are_refused() {
    let log = sample();
    let (start, position) = *log.lines.last().unwrap();
    let sector = (start / 512 + 1) * 512;
    let mut bytes = log.bytes.clone();
    bytes[sector + 1..sector + 512].fill(0);
    log.save(&bytes);
    assert_eq!(assert_damaged(&log, start, position, "511 zeros"), DamageReason::Checksum);
}

#[test]
fn a_torn_first_write_of_a_segment_takes_the_whole_file() {
    let mut log = small_sample();
    let (first, end) = (log.path(), log.bytes.len() as u64);
    log.begin_segment();
    log.write(&[100, 100]);
    let (path, position) = (log.path(), log.start);
    for length in 0..log.lines[1].0 {
        log.save(&log.bytes[..length]);
        let store = open(log.state.path(), 1 << 20).unwrap();
        let notice = Notice::TailCut {
            file: path.clone(),
            offset: 0,
            bytes_cut: length as u64,
            after_position: position - 1,
        };
        assert_eq!(store.notices(), [notice]);
        assert!(!path.exists());
        assert_eq!(std::fs::metadata(&first).unwrap().len(), end);
    }
}

#[test]
fn an_end_cut_short_before_another_segment_is_refused() {
    let mut log = small_sample();
    let (path, whole) = (log.path(), log.bytes.clone());
    let (start, position) = *log.lines.last().unwrap();
    log.begin_segment();
    log.write(&[100]);
    for length in start + 1..whole.len() {
        put(&path, &whole[..length]);
        let damage = survey_of(&log).unwrap_err();
        assert_eq!((damage.file, damage.offset, damage.position), (path.clone(), start as u64, position));
        assert_eq!(damage.reason, DamageReason::CutShort);
    }
    // Cut between two lines there is nothing wrong with this file, but the next does not follow.
    put(&path, &whole[..start]);
    let damage = survey_of(&log).unwrap_err();
    assert_eq!(damage.reason, DamageReason::Missing);
    assert_eq!((damage.file, damage.position), (segment_path(&log.events(), position), position));
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let mut log = small_sample();
    let first = log.path();
    log.begin_segment();
    log.write(&[100]);
    let (second, position) = (log.path(), log.start);
    let other = small_sample();
    let mut stranger = Log::new();
    stranger.write(&[1, 2, 3, 4, 5]);
    stranger.begin_segment();
    stranger.write(&[100]);
    std::fs::copy(stranger.path(), &second).unwrap();
    let damage = survey_of(&log).unwrap_err();
    assert_eq!((damage.file, damage.reason), (second.clone(), DamageReason::Segment));
    std::fs::copy(other.path(), &second).unwrap();
    assert_eq!(survey_of(&log).unwrap_err().reason, DamageReason::Segment);
    log.save(&log.bytes);
    assert_eq!(survey_of(&log).unwrap().head.position, position);
    std::fs::remove_file(&first).unwrap();
    let damage = survey_of(&log).unwrap_err();
    assert_eq!((damage.file, damage.position, damage.reason), (first, 1, DamageReason::Missing));
}

#[test]
fn a_later_format_is_refused_by_name() {
    let log = small_sample();
    let header = String::from_utf8(log.bytes[..log.lines[1].0].to_vec()).unwrap();
    let later = header.replace("\"cairn_log\":1,", "\"cairn_log\":2,");
    let crc = format!("{:08x}", crc32fast::hash(&later.as_bytes()[16..]));
    log.save(later.replace(&header[8..16], &crc).as_bytes());
    let damage = survey_of(&log).unwrap_err();
    assert_eq!(damage.reason, DamageReason::Format { format: 2 });
    assert!(damage.to_string().contains("at least as new"), "{damage}");
}

#[test]
fn lines_that_are_sound_but_do_not_follow_are_refused() {
    let log = small_sample();
    let line = |index: usize| {
        let end = log.lines.get(index + 1).map_or(log.bytes.len(), |(start, _)| *start);
        &log.bytes[log.lines[index].0..end]
    };
    // Swapped, repeated, left out: each line by itself matches its checksum.
    for order in [&[0, 2, 1][..], &[0, 1, 1], &[0, 1, 3], &[1, 2], &[0, 0]] {
        log.save(&order.iter().flat_map(|&index| line(index).to_vec()).collect::<Vec<_>>());
        let reason = survey_of(&log).unwrap_err().reason;
        assert!(matches!(reason, DamageReason::Sequence | DamageReason::Form), "{order:?}: {reason}");
    }
}

#[test]
fn a_body_that_was_changed_together_with_its_checksum_is_refused() {
    let log = small_sample();
    let (start, position) = log.lines[2];
    let end = log.lines[3].0;
    let mut bytes = log.bytes.clone();
    let at = start + bytes[start..end].windows(4).position(|text| text == b"fill").unwrap();
    bytes[at] = b'F';
    let crc = format!("{:08x}", crc32fast::hash(&bytes[start + 16..end]));
    bytes[start + 8..start + 16].copy_from_slice(crc.as_bytes());
    log.save(&bytes);
    assert_eq!(assert_damaged(&log, start, position, "forged"), DamageReason::Sequence);
}

#[test]
fn damage_is_told_with_its_place_and_a_remedy_and_changes_nothing() {
    let log = sample();
    let mut bytes = log.bytes.clone();
    bytes[5_000] ^= 1;
    log.save(&bytes);
    let error = open(log.state.path(), 1 << 20).unwrap_err().to_string();
    let (start, position) = log.line_of(5_000);
    for part in [
        &log.path().display().to_string(),
        &format!("byte {start}"),
        &format!("event {position}"),
        "restore the state directory from a backup",
    ] {
        assert!(error.contains(part), "{error}");
    }
    assert_eq!(std::fs::read(log.path()).unwrap(), bytes);
}
