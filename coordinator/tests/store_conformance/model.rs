//! Any history of appends, right and wrong ones, against a model that is obviously right.

use std::collections::BTreeMap;

use cairn_coordinator::store::{Append, AppendError, StreamHead, Ticket};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngSeed, TestRunner};

use super::{Fixture, append, chain_of, read_all, read_stream, record};

/// A record of a history: which stream, how far its version is from the right one, how many events.
type Step = (u8, i8, u8);

/// What the model holds.
#[derive(Default)]
struct Model {
    streams: BTreeMap<String, StreamHead>,
    position: u64,
}

impl Model {
    /// Makes an append of steps, against the state as it would be if each were right.
    fn plan(&self, epoch: u8, steps: &[Step]) -> Append {
        let mut versions = BTreeMap::new();
        let records = steps
            .iter()
            .map(|&(stream, off, count)| {
                let name = format!("s{stream}");
                let known = self.streams.get(&name).map_or(0, |head| head.version);
                let next = versions.entry(name.clone()).or_insert(known + 1);
                let first_version = next.saturating_add_signed(i64::from(off)).max(1);
                *next = first_version + u64::from(count);
                record(&name, first_version, u32::from(count))
            })
            .collect();
        append(u64::from(epoch), records)
    }

    /// What comes of an append.
    fn apply(&mut self, append: &Append) -> Result<u64, &'static str> {
        let mut streams = self.streams.clone();
        let mut position = self.position;
        for record in &append.records {
            let head = streams.entry(record.stream.to_string()).or_default();
            if append.epoch < head.epoch {
                return Err("fenced");
            }
            if record.first_version != head.version + 1 {
                return Err("conflict");
            }
            *head = StreamHead { version: head.version + u64::from(record.count), epoch: append.epoch };
            position += u64::from(record.count);
        }
        let first = self.position + 1;
        (self.streams, self.position) = (streams, position);
        Ok(first)
    }
}

async fn told(ticket: Ticket) -> Result<u64, &'static str> {
    match ticket.await {
        Ok(appended) => Ok(appended.position),
        Err(AppendError::Fenced { .. }) => Err("fenced"),
        Err(AppendError::Conflict { .. }) => Err("conflict"),
        Err(other) => panic!("{other}"),
    }
}

/// Histories run one after the other on the same store, each on the state that the last has left.
pub async fn any_history_is_as_the_model_says(fixture: &dyn Fixture) {
    let mut runner = TestRunner::new(Config {
        rng_seed: RngSeed::Fixed(4_711),
        failure_persistence: None,
        ..Config::default()
    });
    let off = prop_oneof![8 => Just(0_i8), 1 => -2_i8..3];
    let steps = prop::collection::vec((0_u8..5, off, 1_u8..4), 1..5);
    let history = prop::collection::vec((prop_oneof![8 => Just(1_u8), 1 => 0_u8..3], steps), 1..20);
    let mut model = Model::default();
    let mut store = fixture.open();
    let mut accepted = 0;
    for round in 0..40 {
        let appends = history.new_tree(&mut runner).unwrap().current();
        let mut expected = Vec::new();
        let mut tickets = Vec::new();
        for (epoch, steps) in appends {
            // Owners change now and then; some appends come from the one before.
            let append = model.plan(epoch + round / 8, &steps);
            expected.push(model.apply(&append));
            accepted += usize::from(expected.last().is_some_and(Result::is_ok));
            tickets.push(store.submit(append));
        }
        for (step, (ticket, expected)) in tickets.into_iter().zip(expected).enumerate() {
            assert_eq!(told(ticket).await, expected, "round {round}, append {step}");
        }
        if round % 10 == 9 {
            drop(store);
            store = fixture.open();
        }
        let records = read_all(&*store).await;
        let head = store.head().await.unwrap();
        assert_eq!((head.position, head.chain), (model.position, chain_of(&records)), "round {round}");
        for (name, end) in &model.streams {
            assert_eq!(store.stream_head(&name.as_str().into()).await.unwrap(), *end, "round {round}");
            let last = read_stream(&*store, name, end.version).await;
            assert_eq!(
                last.last().map(|record| record.first_version + u64::from(record.count) - 1),
                Some(end.version)
            );
        }
    }
    assert!(accepted > 100, "only {accepted} appends were right");
}
