use super::*;
use crate::machine::{Input, START_ANNOUNCED_AFTER};

fn at(millis: i64) -> Timestamp {
    Timestamp(1_000_000_000 + millis * 1000)
}

fn of(run: u32, task: u32) -> AttemptId {
    AttemptId { run, task: TaskIndex(task), attempt: 1 }
}

fn id(task: u32) -> AttemptId {
    of(0, task)
}

fn takes(resources: &[(usize, u64)]) -> Terms {
    Terms { resources: resources.into(), ..Work::Process.into() }
}

fn awaiting() -> Terms {
    Terms { awaits_grant: true, ..Work::Process.into() }
}

struct Rig {
    machine: Machine,
    now: Timestamp,
}

impl Rig {
    fn new(slots: usize, resources: &[u64]) -> Self {
        let capacity = Capacity { slots, backlog: 8, timers: 2, resources: resources.into() };
        let mut rig = Self { machine: Machine::of_fleet(capacity), now: at(0) };
        rig.give(Input::Suspend(false));
        rig
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.machine.handle(input, self.now, &mut actions);
        actions
    }

    fn take(&mut self, id: AttemptId, terms: Terms) -> Vec<Action> {
        self.give(Input::Take { id, epoch: 1, terms })
    }

    /// What has been started, of all that is done.
    fn starts(actions: &[Action]) -> Vec<AttemptId> {
        let start = |action: &Action| if let Action::Start(id) = action { Some(*id) } else { None };
        actions.iter().filter_map(start).collect()
    }

    fn finish(&mut self, id: AttemptId, outcome: Outcome) -> Vec<Action> {
        let (started_at, finished_at) = (at(0), self.now);
        self.give(Input::ProcessFinished { id, outcome, started_at, finished_at })
    }

    fn end(&self, id: AttemptId, outcome: Outcome, from: Timestamp) -> [Action; 2] {
        let kind = ReportKind::Finished { outcome, started_at: from, finished_at: self.now };
        [Action::Record(Fact::Ended(id)), Action::Report(id, kind)]
    }

    fn tick(&mut self, millis: i64) -> Vec<Action> {
        self.now = at(millis);
        self.give(Input::Tick)
    }
}

fn accepted(id: AttemptId, awaits_grant: bool) -> Action {
    Action::Report(id, ReportKind::Accepted { awaits_grant })
}

#[test]
fn what_is_said_and_done_comes_after_its_record() {
    let mut rig = Rig::new(1, &[]);
    let taken = rig.take(id(0), Work::Process.into());
    let started = [Action::Record(Fact::Started(id(0))), Action::Start(id(0))];
    assert_eq!(taken[..2], [Action::Record(Fact::Accepted(id(0))), accepted(id(0), false)]);
    assert_eq!(taken[2..], started);
    let end = rig.end(id(0), Outcome::Completed, at(0));
    assert_eq!(rig.finish(id(0), Outcome::Completed), end);
    assert_eq!(rig.give(Input::Acknowledge { id: id(0) }), [Action::Record(Fact::Settled(id(0)))]);
    assert_eq!((rig.take(id(0), Work::Process.into()), rig.machine.is_empty()), (vec![], true));
}

#[test]
fn of_what_ends_at_once_only_the_end_is_recorded_and_told() {
    let mut rig = Rig::new(1, &[]);
    let nothing = || Terms::from(Work::Timer(Duration::ZERO));
    assert_eq!(rig.take(id(0), nothing()), rig.end(id(0), Outcome::Completed, at(0)));
    assert_eq!(rig.take(id(0), nothing()), rig.end(id(0), Outcome::Completed, at(0))[1..], "offered again");
    rig.give(Input::Acknowledge { id: id(0) });
    assert_eq!((rig.take(id(0), nothing()), rig.machine.is_empty()), (vec![], true));
    let waits = rig.take(id(1), Terms { awaits_grant: true, ..nothing() });
    assert_eq!(waits, [Action::Record(Fact::Accepted(id(1))), accepted(id(1), true)]);
}

#[test]
fn nothing_starts_before_the_grant_and_it_is_asked_for_again() {
    let mut rig = Rig::new(1, &[]);
    let taken = rig.take(id(0), awaiting());
    assert_eq!(taken, [Action::Record(Fact::Accepted(id(0))), accepted(id(0), true)]);
    assert_eq!(rig.take(id(0), awaiting()), [accepted(id(0), true)], "offered again");
    assert_eq!(rig.machine.next_deadline(), Some(at(5000)));
    assert_eq!((rig.tick(4999), rig.tick(5000)), (vec![], vec![accepted(id(0), true)]));
    assert_eq!(rig.tick(10_000), [accepted(id(0), true)]);
    assert_eq!(rig.give(Input::Grant { id: id(0), epoch: 0 }), [], "of an epoch that is over");
    let granted = rig.give(Input::Grant { id: id(0), epoch: 1 });
    assert_eq!(granted[0], Action::Record(Fact::Granted(id(0))));
    assert_eq!(Rig::starts(&granted), [id(0)]);
    assert_eq!(rig.give(Input::Grant { id: id(0), epoch: 1 }), [accepted(id(0), false)], "granted again");
    assert_eq!(rig.machine.next_deadline(), None);
    let unknown = rig.give(Input::Grant { id: id(9), epoch: 1 });
    assert!(matches!(&unknown[..], [Action::Report(_, ReportKind::Declined { .. })]));
}

#[test]
fn an_end_is_told_again_until_it_is_acknowledged() {
    let mut rig = Rig::new(1, &[]);
    rig.take(id(0), Work::Process.into());
    let [_, told] = rig.end(id(0), Outcome::Completed, at(0));
    rig.finish(id(0), Outcome::Completed);
    assert_eq!((rig.tick(4999), rig.tick(5000)), (vec![], vec![told.clone()]));
    assert_eq!(rig.give(Input::RecallAll), std::slice::from_ref(&told));
    assert_eq!(rig.tick(9_999), [], "from when it was said last");
    assert_eq!(rig.tick(10_000), [told]);
    rig.give(Input::Acknowledge { id: id(0) });
    assert_eq!((rig.tick(20_000), rig.machine.next_deadline()), (vec![], None));
}

#[test]
fn runs_take_turns() {
    let mut rig = Rig::new(1, &[]);
    for (run, task) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)] {
        rig.take(of(run, task), Work::Process.into());
    }
    let mut order = vec![of(0, 0)];
    while let [next] = Rig::starts(&rig.finish(*order.last().unwrap(), Outcome::Completed))[..] {
        order.push(next);
    }
    assert_eq!(order, [of(0, 0), of(0, 1), of(1, 0), of(0, 2), of(1, 1)]);
}

#[test]
fn what_does_not_fit_lets_others_pass_but_none_that_take_what_it_lacks() {
    let mut rig = Rig::new(3, &[2000, 1000]);
    assert_eq!(Rig::starts(&rig.take(id(0), takes(&[(0, 1500)]))), [id(0)]);
    assert_eq!(Rig::starts(&rig.take(id(1), takes(&[(0, 2000)]))), []);
    assert_eq!(Rig::starts(&rig.take(id(2), takes(&[(0, 500)]))), [], "it would fit, and overtake for ever");
    assert_eq!(Rig::starts(&rig.take(id(3), takes(&[(1, 1000)]))), [id(3)]);
    assert_eq!(Rig::starts(&rig.take(id(4), takes(&[]))), [id(4)]);
    assert_eq!(Rig::starts(&rig.finish(id(0), Outcome::Completed)), [id(1)]);
    assert_eq!(Rig::starts(&rig.finish(id(1), Outcome::Completed)), [id(2)]);
}

#[test]
fn an_agent_without_room_and_one_that_drains_decline() {
    let declined = |actions: &[Action]| matches!(actions, [Action::Report(_, ReportKind::Declined { .. })]);
    let mut rig = Rig::new(1, &[]);
    assert_eq!(rig.machine.room(), 1);
    for task in 0..9 {
        assert!(!declined(&rig.take(id(task), Work::Process.into())), "{task}");
    }
    assert!(declined(&rig.take(id(9), Work::Process.into())));
    assert_eq!(rig.machine.room(), 0);
    let given_back = rig.give(Input::Drain(true));
    assert_eq!(given_back.len(), 16, "a record and a report of each that waits");
    assert!(
        given_back.chunks(2).zip(1..).all(|(end, task)| end == rig.end(id(task), Outcome::NotStarted, at(0)))
    );
    assert!(declined(&rig.take(id(10), Work::Process.into())));
    assert_eq!(rig.take(id(0), Work::Process.into()), [accepted(id(0), false)], "a known one is answered");
    rig.give(Input::Drain(false));
    assert!(!declined(&rig.take(id(10), Work::Process.into())));
}

#[test]
fn a_fence_ends_what_runs_gives_back_what_waits_and_spares_what_may_go_on() {
    let mut rig = Rig::new(2, &[]);
    rig.take(id(0), Work::Process.into());
    rig.take(id(1), Terms { hold: true, ..Work::Process.into() });
    rig.take(id(2), Terms { hold: true, ..Work::Process.into() });
    rig.take(id(3), awaiting());
    rig.take(id(4), Work::Timer(Duration::from_secs(9)).into());
    rig.take(id(5), Terms { hold: true, ..Work::Timer(Duration::from_secs(9)).into() });
    let reason: Box<str> = "why".into();
    let lost = Outcome::Lost { reason: reason.clone() };
    let fenced = rig.give(Input::Fence { reason: reason.clone() });
    let expected = [
        &rig.end(id(2), Outcome::NotStarted, at(0))[..],
        &rig.end(id(3), Outcome::NotStarted, at(0)),
        &[Action::Stop(id(0))],
        &rig.end(id(4), lost.clone(), at(0)),
    ];
    assert_eq!(fenced, expected.concat());
    assert_eq!(rig.give(Input::Fence { reason: reason.clone() }), [], "once is enough");
    let end = rig.end(id(0), lost, at(0));
    assert_eq!(rig.finish(id(0), Outcome::Stopped), end);
    let stopped = rig.end(id(5), Outcome::Stopped, at(0));
    assert_eq!(rig.give(Input::StopAll), [&[Action::Stop(id(1))][..], &stopped].concat(), "nothing is lost");
    let end = rig.end(id(1), Outcome::Completed, at(0));
    assert_eq!(rig.finish(id(1), Outcome::Completed), end, "it was faster than we");
}

#[test]
fn a_machine_that_is_restored_starts_nothing_before_it_is_told() {
    let capacity = Capacity { slots: 2, backlog: 8, timers: 8, resources: Vec::new() };
    let (mut machine, mut actions) = (Machine::of_fleet(capacity), Vec::new());
    let ended = Restored::Ended { outcome: Outcome::Completed, started_at: at(0), finished_at: at(1) };
    let restored =
        [Restored::Waiting(Work::Process.into()), Restored::Waiting(awaiting()), Restored::Started];
    for (task, restored) in (0..).zip(restored.into_iter().chain([ended, Restored::Settled])) {
        machine.restore(id(task), restored, at(2), &mut actions);
    }
    machine.restore_epoch(0, 7);
    let mut rig = Rig { machine, now: at(3) };
    assert_eq!(Rig::starts(&actions), []);
    assert!(actions.contains(&Action::Record(Fact::Ended(id(2)))), "it is lost, and that is new");
    assert!(!actions.contains(&Action::Record(Fact::Ended(id(3)))), "that is known");
    assert_eq!(rig.take(id(4), Work::Process.into()), [], "an epoch that is over");
    let again = rig.give(Input::RecallAll);
    assert_eq!(again[..2], [accepted(id(0), false), accepted(id(1), true)]);
    assert!(matches!(
        &again[2],
        Action::Report(_, ReportKind::Finished { outcome: Outcome::Lost { .. }, .. })
    ));
    assert_eq!(again.len(), 4, "nothing of what is settled");
    assert_eq!(rig.machine.holds()[&0].epoch, 7);
    assert_eq!(rig.machine.holds()[&0].attempts.len(), 4);
    assert_eq!(Rig::starts(&rig.give(Input::Suspend(false))), [id(0)]);
}

#[test]
fn short_processes_are_handed_over_ahead_and_long_ones_are_not() {
    let mut rig = Rig::new(1, &[1000]);
    for task in 0..MIN_SAMPLES {
        assert_eq!(Rig::starts(&rig.take(id(task), Work::Process.into())), [id(task)]);
        rig.now = at(10);
        rig.finish(id(task), Outcome::Completed);
    }
    for task in 100..104 {
        assert_eq!(Rig::starts(&rig.take(id(task), Work::Process.into())), [id(task)], "10 ms each");
    }
    assert_eq!(
        Rig::starts(&rig.take(id(104), takes(&[(0, 1)]))),
        [],
        "what takes something waits for its turn"
    );
    for task in 100..104 {
        rig.now = at(60_000);
        rig.finish(id(task), Outcome::Completed);
    }
    assert_eq!(rig.machine.processes(), 1);
    assert_eq!(Rig::starts(&rig.take(id(105), Work::Process.into())), []);
}

#[test]
fn a_start_is_announced_once_and_told_when_asked() {
    let mut rig = Rig::new(1, &[]);
    rig.take(id(0), Work::Process.into());
    rig.give(Input::ProcessStarted { id: id(0), at: at(0) });
    assert_eq!(rig.give(Input::Recall { run: 0, epoch: 1 }), [accepted(id(0), false)], "not announced yet");
    let started = Action::Report(id(0), ReportKind::Started { at: at(0) });
    assert_eq!(
        rig.tick(i64::try_from(START_ANNOUNCED_AFTER.as_millis()).unwrap()),
        std::slice::from_ref(&started)
    );
    assert_eq!(rig.give(Input::Recall { run: 0, epoch: 1 }), [started]);
    assert_eq!(rig.give(Input::Recall { run: 3, epoch: 1 }), []);
    rig.give(Input::Forget { run: 0, epoch: 1 });
    assert!(rig.machine.holds().is_empty());
    assert_eq!(Rig::starts(&rig.take(id(7), Work::Process.into())), [], "the run is over");
    rig.machine.drop_run(0);
    assert_eq!(rig.machine.epoch(0), None);
}

#[test]
fn the_start_of_what_runs_is_said_again_until_it_ends() {
    let mut rig = Rig::new(1, &[]);
    rig.take(id(0), takes(&[]));
    rig.give(Input::ProcessStarted { id: id(0), at: at(0) });
    let started = [Action::Report(id(0), ReportKind::Started { at: at(0) })];
    for _ in 0..3 {
        rig.now = rig.machine.next_deadline().unwrap();
        assert_eq!(rig.give(Input::Tick), started);
    }
    assert_eq!(rig.now, at(0).plus(START_ANNOUNCED_AFTER).plus(START_RETOLD_AFTER * 2));
    let end = rig.end(id(0), Outcome::Completed, at(0));
    assert_eq!(rig.finish(id(0), Outcome::Completed), end);
    rig.now = rig.machine.next_deadline().unwrap();
    assert_eq!(rig.give(Input::Tick), end[1..], "it is the end that is said again");
    assert_eq!(rig.give(Input::Acknowledge { id: id(0) }), [Action::Record(Fact::Settled(id(0)))]);
    assert_eq!(rig.machine.next_deadline(), None, "nothing is left to be said");
}
