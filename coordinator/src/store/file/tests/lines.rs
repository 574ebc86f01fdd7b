//! Lines read back what they were written from, and nothing that is read can panic.

use proptest::prelude::*;

use super::super::super::chain::Link;
use super::super::super::record::{Append, NewRecord};
use super::super::line::{
    AppendLine, FRAME_BYTES, Place, SegmentHeader, announced_bytes, is_sound, write_append,
};
use super::super::tail::{Writes, judge};
use super::STORE_ID;

fn records() -> impl Strategy<Value = Vec<NewRecord>> {
    let record = ("\\PC{1,20}", any::<u64>(), any::<u32>(), "\\PC{1,60}").prop_map(
        |(name, first_version, count, body)| NewRecord { stream: name.into(), first_version, count, body },
    );
    prop::collection::vec(record, 1..5)
}

fn line_of(append: &Append) -> Vec<u8> {
    let mut line = Vec::new();
    let chain = Link::EMPTY.followed_by("s", 1, 1, 1, b"{}");
    write_append(&mut line, append, Place { position: 7, batch: 5, chain });
    line
}

proptest! {
    #[test]
    fn an_append_reads_back(epoch in any::<u64>(), records in records()) {
        let append = Append { epoch, records };
        let line = line_of(&append);
        prop_assert!(is_sound(&line) && announced_bytes(&line) == Some(line.len()));
        prop_assert!(line.len() <= append.stored_bytes() + 512);
        let read = AppendLine::parse(&line).unwrap();
        prop_assert_eq!((read.position, read.epoch, read.batch), (7, epoch, 5));
        let records: Vec<NewRecord> = read
            .records()
            .map(|record| {
                let record = record.unwrap();
                NewRecord {
                    stream: (&*record.stream).into(),
                    first_version: record.first_version,
                    count: record.count,
                    body: String::from_utf8(record.body.to_vec()).unwrap(),
                }
            })
            .collect();
        prop_assert_eq!(records, append.records);
    }

    #[test]
    fn a_header_reads_back(start in any::<u64>()) {
        let header = SegmentHeader { store_id: STORE_ID, start, chain: Link::EMPTY };
        let mut line = Vec::new();
        header.write(&mut line);
        prop_assert!(is_sound(&line));
        prop_assert_eq!(SegmentHeader::parse(&line), Ok(header));
        prop_assert!(AppendLine::parse(&line).is_none());
    }

    /// A checksum can match by malice, so what is behind it must not be trusted either.
    #[test]
    fn nothing_that_is_read_panics(
        records in records(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        length in any::<prop::sample::Index>(),
        offset in 0_u64..2_000,
    ) {
        let mut line = line_of(&Append { epoch: 1, records });
        for (at, byte) in changes {
            let at = at.index(line.len());
            line[at] = byte;
        }
        line.truncate(length.index(line.len() + 1));
        is_sound(&line);
        judge(&line, offset, Writes { last_batch: Some(5), next_position: 7 });
        if line.len() >= FRAME_BYTES {
            let _ = SegmentHeader::parse(&line);
        }
        for record in AppendLine::parse(&line).iter().flat_map(AppendLine::records).flatten() {
            prop_assert!(record.body.len() <= line.len());
        }
    }
}
