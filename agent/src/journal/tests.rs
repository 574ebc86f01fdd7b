use super::*;
use cairn_shared::message::wire::Work;
use std::path::Path;

pub(super) fn offer(task: u32) -> Record {
    let offer = Offer {
        task,
        attempt: 1,
        name: format!("build/t{task}"),
        work: Work::Run { script: "true".into() },
        env: vec![("LOG".into(), "info".into())],
        working_dir: None,
        timeout_millis: Some(5),
        resources: vec![("cpus".into(), 1000)],
        needs_grant: false,
        hold: false,
    };
    let key = Key { run: 0, task, attempt: 1 };
    Record::Offered { key, awaits_grant: true, offer: Box::new(offer) }
}

fn batches() -> Vec<Vec<Record>> {
    let key = Key { run: 0, task: 0, attempt: 1 };
    let outcome = WireOutcome::Lost { reason: "why".into() };
    vec![
        vec![
            Record::Life { format: FORMAT, agent: "a".into(), incarnation: 7 },
            Record::Run { number: 0, name: "apollo.1".into() },
        ],
        vec![offer(0), offer(1), Record::Epoch { run: 0, epoch: 3 }],
        vec![Record::Granted(key), Record::Started(key)],
        vec![Record::Ended { key, outcome, started_micros: 1, finished_micros: 2 }],
        vec![Record::Declined(key), Record::Settled(key), Record::Forgotten { run: 0 }],
    ]
}

#[test]
fn a_journal_that_is_cut_anywhere_tells_all_batches_before_the_cut() {
    let batches = batches();
    let frames: Vec<_> = batches.iter().map(|batch| encode(batch)).collect();
    let bytes = frames.concat();
    for cut in 0..=bytes.len() {
        let (mut whole, mut ends) = (0, 0);
        while whole < frames.len() && ends + frames[whole].len() <= cut {
            ends += frames[whole].len();
            whole += 1;
        }
        let expected = Content::Records { records: batches[..whole].concat(), bytes: ends };
        assert_eq!(decode(&bytes[..cut]), expected, "cut at {cut}");
        // The same when the file had been made longer before it was written to.
        let mut longer = bytes[..ends].to_vec();
        longer.resize(cut + 100, 0);
        assert_eq!(decode(&longer), expected, "zeros from {ends}");
    }
}

#[test]
fn a_changed_byte_before_the_last_batch_is_damage_and_in_it_a_torn_end() {
    let batches = batches();
    let frames: Vec<_> = batches.iter().map(|batch| encode(batch)).collect();
    let (bytes, last) = (frames.concat(), frames.last().unwrap().len());
    let before = bytes.len() - last;
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        match decode(&changed) {
            Content::Damaged { at: found } => assert!(found <= at && at < before, "changed at {at}"),
            Content::Records { records, bytes } => {
                assert!(bytes <= at, "changed at {at}");
                // A length that points behind the end of the file cannot be told from a torn end.
                assert!(at >= before || at - bytes < 4, "changed at {at}");
                assert!(batches.concat().starts_with(&records));
            }
        }
    }
}

#[test]
fn bytes_of_any_kind_are_read_without_harm() {
    let mut state = 1_u64;
    for length in 0..2_000 {
        let bytes: Vec<u8> = (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                u8::try_from(state >> 56).unwrap()
            })
            .collect();
        let _ = decode(&bytes);
    }
}

fn open(path: &Path) -> (Journal, Opened) {
    Journal::open(path).unwrap()
}

#[test]
fn what_was_appended_is_there_again_and_a_torn_end_is_cut_for_good() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mut journal, opened) = open(&path);
    assert_eq!(opened, Opened::New);
    for batch in batches() {
        journal.append(&batch).unwrap();
    }
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes.truncate(bytes.len() - 1);
    std::fs::write(&path, &bytes).unwrap();
    let (mut journal, opened) = open(&path);
    let kept = batches()[..4].concat();
    assert_eq!(
        opened,
        Opened::Records { records: kept.clone(), cut_bytes: encode(&batches()[4]).len() as u64 - 1 }
    );
    journal.append(&batches()[4]).unwrap();
    drop(journal);
    let (_, opened) = open(&path);
    assert_eq!(opened, Opened::Records { records: [kept, batches()[4].clone()].concat(), cut_bytes: 0 });
}

#[test]
fn a_rewritten_journal_holds_what_it_was_given_and_goes_on() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mut journal, _) = open(&path);
    for task in 0..100 {
        journal.append(&[offer(task)]).unwrap();
    }
    let long = journal.bytes();
    journal.rewrite(&[offer(7)]).unwrap();
    assert!(journal.bytes() < long / 50);
    journal.append(&[offer(8)]).unwrap();
    drop(journal);
    assert_eq!(open(&path).1, Opened::Records { records: vec![offer(7), offer(8)], cut_bytes: 0 });
}

#[test]
fn a_damaged_journal_is_put_aside_and_kept() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("journal");
    let (mut journal, _) = open(&path);
    for batch in batches() {
        journal.append(&batch).unwrap();
    }
    drop(journal);
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[20] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let (mut journal, opened) = open(&path);
    let Opened::Damaged { kept_as, at: 0 } = opened else { panic!("{opened:?}") };
    assert_eq!(std::fs::read(kept_as).unwrap(), bytes);
    journal.append(&[offer(1)]).unwrap();
    drop(journal);
    assert_eq!(open(&path).1, Opened::Records { records: vec![offer(1)], cut_bytes: 0 });
}
