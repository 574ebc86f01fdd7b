use super::*;
use crate::machine::Capacity;
use cairn_shared::message::wire::{Attempt, Work};
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_000_000_000);

fn core() -> Core {
    let capacity = Capacity { slots: 1, backlog: 8, timers: 8, resources: vec![2000] };
    let jobs = JobMaker {
        agent: "a1".into(),
        workspace: "/w".into(),
        directory: "/d".into(),
        grace: Duration::from_secs(5),
        resources: vec![("cpus".into(), 2000)],
        hold: false,
    };
    let mut core = Core::new(Machine::of_fleet(capacity), jobs, 7);
    core.give(Input::Suspend(false), NOW);
    core
}

fn offer(task: u32) -> WireOrder {
    WireOrder::Offer(Box::new(Offer {
        task,
        attempt: 1,
        name: format!("build/t{task}"),
        work: Work::Run { script: "true".into() },
        env: Vec::new(),
        working_dir: None,
        timeout_millis: None,
        resources: vec![("cpus".into(), 1000)],
        needs_grant: task >= 10,
        hold: false,
    }))
}

fn orders(incarnation: u64, orders: Vec<WireOrder>) -> RunOrders {
    RunOrders { run: "apollo.1".into(), epoch: 3, incarnation, orders }
}

fn id(task: u32) -> AttemptId {
    AttemptId { run: 0, task: TaskIndex(task), attempt: 1 }
}

fn attempt(task: u32) -> Attempt {
    Attempt { task, attempt: 1 }
}

fn finished(task: u32) -> Input {
    let outcome = Outcome::Completed;
    Input::ProcessFinished { id: id(task), outcome, started_at: NOW, finished_at: NOW }
}

#[test]
fn a_delivery_is_dealt_with_after_all_that_it_asked_for() {
    let mut core = core();
    core.obey((5, false), orders(7, vec![offer(0), offer(1)]), NOW);
    let (records, deeds) = core.take_batch(false);
    assert_eq!(records.len(), 5, "the run, two offers, a start and the epoch: one batch, one sync");
    assert_eq!(records[0], Record::Run { number: 0, name: "apollo.1".into() });
    assert_eq!(records[4], Record::Epoch { run: 0, epoch: 3 });
    assert_eq!(deeds.last(), Some(&Deed::Taken(5)));
    assert!(deeds.contains(&Deed::Start(id(0))) && !deeds.contains(&Deed::Start(id(1))));
    core.obey((6, false), orders(7, vec![offer(0), offer(1)]), NOW);
    let (records, deeds) = core.take_batch(false);
    assert_eq!((records, deeds.len()), (vec![], 3), "nothing new: two reports and the receipt");
}

#[test]
fn orders_for_another_life_are_dropped_and_what_may_be_somebody_elses_is_asked_for() {
    let mut core = core();
    core.obey((1, false), orders(6, vec![offer(0)]), NOW);
    assert_eq!(core.take_batch(false), (vec![], vec![Deed::Taken(1)]));
    assert_eq!(core.stale_orders(), 1);
    core.obey((2, true), orders(0, vec![offer(0)]), NOW);
    core.is_doubtful = true;
    core.obey((3, false), orders(7, vec![offer(1)]), NOW);
    core.is_doubtful = false;
    core.obey((4, false), orders(7, vec![offer(2)]), NOW);
    let (records, _) = core.take_batch(false);
    let awaits = |task| {
        let is = |record: &&Record| matches!(record, Record::Offered { key, .. } if key.task == task);
        match records.iter().find(is) {
            Some(Record::Offered { awaits_grant, .. }) => *awaits_grant,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(
        (awaits(0), awaits(1), awaits(2)),
        (true, true, false),
        "what may be somebody else's is asked for"
    );
}

#[test]
fn what_nobody_can_run_and_what_was_never_heard_of_leaves_nothing_behind() {
    let mut core = core();
    for order in [
        WireOrder::Grant(attempt(0)),
        WireOrder::Acknowledge(attempt(0)),
        WireOrder::Recall,
        WireOrder::Forget,
    ] {
        core.obey((1, false), orders(7, vec![order]), NOW);
    }
    let bad = RunOrders { run: "../..".into(), ..orders(7, vec![offer(0)]) };
    core.obey((1, false), bad, NOW);
    assert_eq!(core.take_batch(true).0, []);
    let WireOrder::Offer(mut unfit) = offer(0) else { panic!() };
    unfit.name = "../../etc".into();
    core.obey((1, false), orders(7, vec![WireOrder::Offer(unfit)]), NOW);
    let (_, deeds) = core.take_batch(true);
    assert!(matches!(
        &deeds[..],
        [.., Deed::Report(0, WireReport { kind: WireReportKind::Declined { .. }, .. }), Deed::Taken(1)]
    ));
    assert!(core.offers.is_empty() && core.machine.is_empty());
}

/// The records of a life with an attempt in each state.
fn life() -> (Core, Vec<Record>) {
    let mut core = core();
    let mut records = core.snapshot();
    core.obey((1, false), orders(7, (0..3).map(offer).chain([offer(10), offer(11)]).collect()), NOW);
    core.give(finished(0), NOW);
    core.give(finished(1), NOW);
    core.obey(
        (2, false),
        orders(7, vec![WireOrder::Acknowledge(attempt(0)), WireOrder::Grant(attempt(11))]),
        NOW,
    );
    records.extend(core.take_batch(true).0);
    (core, records)
}

#[test]
fn a_core_knows_again_what_its_journal_says_also_when_that_was_rewritten() {
    let (before, records) = life();
    for records in [records, before.snapshot()] {
        let mut after = core();
        after.give(Input::Suspend(true), NOW);
        after.restore(records, NOW);
        let (new, deeds) = after.take_batch(true);
        assert_eq!(after.holds(), before.holds());
        assert!(!deeds.iter().any(|deed| matches!(deed, Deed::Start(_))));
        let lost = Outcome::Lost { reason: "the agent's keeper ended while it ran".into() };
        assert_eq!(after.machine.end_of(id(2)).unwrap().0, &lost, "it ran");
        assert_eq!(new.len(), 1, "that it is lost is all that is new: {new:?}");
        assert_eq!(after.machine.end_of(id(1)).unwrap().0, &Outcome::Completed);
        // One waits for its grant, one was granted before: either may be somebody else's by now.
        assert!(after.machine.is_awaiting_grant(id(10)) && after.machine.is_awaiting_grant(id(11)));
        let grant = || orders(7, vec![WireOrder::Grant(attempt(11))]);
        after.obey((3, false), grant(), NOW);
        assert!(after.machine.is_awaiting_grant(id(11)), "it may have been given before nobody was here");
        after.give(Input::Suspend(false), NOW);
        let asks = |deeds: &[Deed]| deeds.iter().filter(|deed| matches!(deed, Deed::Report(..))).count();
        assert_eq!(asks(&after.take_batch(true).1), 2, "both ask again");
        after.obey((4, false), grant(), NOW);
        let (_, deeds) = after.take_batch(true);
        assert!(deeds.contains(&Deed::Start(id(11))), "it is still out");
        after.obey((1, false), orders(7, vec![offer(0)]), NOW);
        assert!(!after.machine.is_under_way(id(0)), "its end was acknowledged");
        let stale = RunOrders { epoch: 2, ..orders(7, vec![offer(5)]) };
        after.obey((2, false), stale, NOW);
        assert!(!after.machine.is_under_way(id(5)), "the epoch is known as well");
    }
}

#[test]
fn what_was_declined_stays_so_in_the_next_life_also_when_its_journal_was_rewritten() {
    let mut before = core();
    let mut records = before.snapshot();
    before.is_fenced = true;
    before.obey((1, false), orders(7, vec![offer(0)]), NOW);
    before.obey((2, false), orders(7, vec![offer(0)]), NOW);
    let batch = before.take_batch(false).0;
    assert_eq!(batch.iter().filter(|record| matches!(record, Record::Declined(_))).count(), 1, "{batch:?}");
    records.extend(batch);
    for records in [records, before.snapshot()] {
        let mut after = core();
        after.restore(records, NOW);
        after.obey((1, false), orders(7, vec![offer(0), offer(1)]), NOW);
        assert!(!after.machine.is_under_way(id(0)) && after.machine.is_under_way(id(1)));
        after.obey((2, false), orders(7, vec![WireOrder::Forget]), NOW);
        assert_eq!(after.declined, BTreeSet::new(), "nobody asks any more");
    }
}

#[test]
fn a_run_that_is_over_stays_over_in_the_next_life() {
    let (mut core_before, mut records) = life();
    core_before.obey((3, false), orders(7, vec![WireOrder::Forget]), NOW);
    let (more, deeds) = core_before.take_batch(true);
    assert!(
        deeds.iter().filter(|deed| matches!(deed, Deed::Settled(_))).count() >= 4,
        "all their logs may go"
    );
    records.extend(more);
    for records in [records, core_before.snapshot()] {
        let mut after = core();
        after.restore(records, NOW);
        after.obey((1, false), orders(7, vec![offer(8)]), NOW);
        assert!(after.holds().is_empty() && !after.machine.is_under_way(id(8)));
        // Until it is retried, by a later owner; what was said late of its end before is nothing then.
        after.obey((2, false), RunOrders { epoch: 8, ..orders(7, vec![offer(8)]) }, NOW);
        assert!(after.machine.is_under_way(id(8)));
        after.obey((3, false), orders(7, vec![WireOrder::Forget]), NOW);
        assert!(after.machine.is_under_way(id(8)));
        let mut next = core();
        next.restore(after.snapshot(), NOW);
        assert_eq!(next.holds().len(), 1);
    }
}

#[test]
fn what_is_taken_of_a_run_that_goes_on_outlives_the_word_that_it_was_over() {
    let mut core = core();
    core.obey((1, false), orders(7, vec![offer(0)]), NOW);
    let (mut journal, _) = core.take_batch(false);
    core.give(finished(0), NOW);
    core.obey((2, false), orders(7, vec![WireOrder::Acknowledge(attempt(0)), WireOrder::Forget]), NOW);
    let again = RunOrders { epoch: 4, ..orders(7, vec![offer(1)]) };
    core.obey((3, false), again, NOW);
    journal.extend(core.take_batch(false).0);
    assert!(core.machine.is_running(id(1)));
    journal.extend(core.take_batch(true).0);
    let mut next = self::core();
    next.restore(journal, NOW);
    assert!(next.machine.end_of(id(1)).is_some(), "it had started, and is lost: {:?}", next.holds());
}
