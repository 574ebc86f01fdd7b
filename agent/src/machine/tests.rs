use super::*;
use cairn_model::FailureKind;

const EPOCH: u64 = 3;

fn at(millis: i64) -> Timestamp {
    Timestamp(1_000_000_000 + millis * 1000)
}

fn id(task: u32, attempt: u32) -> AttemptId {
    AttemptId { run: 0, task: TaskIndex(task), attempt }
}

/// A machine at some moment.
struct Rig {
    machine: Machine,
    now: Timestamp,
}

impl Rig {
    fn new(slots: usize) -> Self {
        Self { machine: Machine::new(slots), now: at(0) }
    }

    fn give(&mut self, input: Input) -> Vec<Action> {
        let mut actions = Vec::new();
        self.machine.handle(input, self.now, &mut actions);
        actions
    }

    fn offer(&mut self, id: AttemptId) -> Vec<Action> {
        self.give(Input::Offer { id, epoch: EPOCH, work: Work::Process })
    }

    fn timer(&mut self, id: AttemptId, millis: u64) -> Vec<Action> {
        self.give(Input::Offer { id, epoch: EPOCH, work: Work::Timer(Duration::from_millis(millis)) })
    }

    fn stop(&mut self, id: AttemptId) -> Vec<Action> {
        self.give(Input::Stop { id, epoch: EPOCH })
    }

    fn started(&mut self, id: AttemptId) -> Vec<Action> {
        self.give(Input::ProcessStarted { id, at: self.now })
    }

    fn finished(&mut self, id: AttemptId, outcome: Outcome) -> Vec<Action> {
        self.give(Input::ProcessFinished { id, outcome, started_at: at(0), finished_at: self.now })
    }

    fn acknowledge(&mut self, id: AttemptId) -> Vec<Action> {
        self.give(Input::Acknowledge { id })
    }

    fn recall(&mut self, epoch: u64) -> Vec<Action> {
        self.give(Input::Recall { run: 0, epoch })
    }

    fn tick(&mut self, millis: i64) -> Vec<Action> {
        self.now = at(millis);
        self.give(Input::Tick)
    }

    fn end(&self, id: AttemptId, outcome: Outcome) -> Action {
        Action::Report(id, ReportKind::Finished { outcome, started_at: at(0), finished_at: self.now })
    }
}

#[test]
fn as_many_run_as_there_are_slots_and_the_rest_waits_in_order() {
    let mut rig = Rig::new(2);
    assert_eq!(rig.offer(id(0, 1)), [Action::Start(id(0, 1))]);
    assert_eq!(rig.offer(id(1, 1)), [Action::Start(id(1, 1))]);
    assert_eq!(rig.offer(id(2, 1)), []);
    assert_eq!(rig.offer(id(3, 1)), []);
    assert_eq!((rig.machine.busy(), rig.machine.processes()), (4, 2));
    let end = rig.end(id(1, 1), Outcome::Completed);
    assert_eq!(rig.finished(id(1, 1), Outcome::Completed), [end, Action::Start(id(2, 1))]);
    let failed = Outcome::Failed { kind: FailureKind::ExitCode, message: "1".into(), exit_code: Some(1) };
    let end = rig.end(id(0, 1), failed.clone());
    assert_eq!(rig.finished(id(0, 1), failed), [end, Action::Start(id(3, 1))]);
    assert_eq!((rig.machine.busy(), rig.machine.processes()), (2, 2));
}

#[test]
fn an_offer_that_comes_again_starts_nothing_again() {
    let mut rig = Rig::new(1);
    rig.offer(id(0, 1));
    rig.offer(id(1, 1));
    for waiting_or_running in [id(0, 1), id(1, 1)] {
        assert_eq!(rig.offer(waiting_or_running), []);
    }
    let end = rig.end(id(0, 1), Outcome::Completed);
    rig.finished(id(0, 1), Outcome::Completed);
    assert_eq!(rig.offer(id(0, 1)), std::slice::from_ref(&end), "it tells the end again");
    rig.acknowledge(id(0, 1));
    assert_eq!(
        (rig.offer(id(0, 1)), rig.machine.stale_orders()),
        (vec![], 1),
        "not even when all is settled"
    );
    assert_eq!((rig.stop(id(0, 1)), rig.machine.stale_orders()), (vec![], 2));
    rig.finished(id(1, 1), Outcome::Completed);
    assert_eq!(rig.offer(id(0, 2)), [Action::Start(id(0, 2))], "a later attempt is another one");
    rig.finished(id(0, 2), Outcome::Completed);
    rig.acknowledge(id(0, 2));
    rig.acknowledge(id(0, 1));
    assert_eq!(rig.offer(id(0, 1)), [], "an acknowledgement that comes again changes nothing");
}

#[test]
fn a_stop_ends_an_attempt_wherever_it_is() {
    let mut rig = Rig::new(1);
    rig.offer(id(0, 1));
    rig.offer(id(1, 1));
    rig.timer(id(2, 1), 1000);
    assert_eq!(rig.stop(id(0, 1)), [Action::Stop(id(0, 1))]);
    assert_eq!(rig.stop(id(0, 1)), [], "once is enough");
    for (stopped, outcome) in
        [(id(1, 1), Outcome::NotStarted), (id(2, 1), Outcome::Stopped), (id(9, 4), Outcome::NotStarted)]
    {
        let end = rig.end(stopped, outcome);
        assert_eq!(rig.stop(stopped), std::slice::from_ref(&end));
        assert_eq!(rig.stop(stopped), [end], "it tells the end again");
    }
    assert_eq!(
        rig.offer(id(9, 4)),
        [rig.end(id(9, 4), Outcome::NotStarted)],
        "the offer came after its stop"
    );
    // What ended before the stop reached it ended as it did.
    let end = rig.end(id(0, 1), Outcome::Completed);
    assert_eq!(
        rig.finished(id(0, 1), Outcome::Completed),
        [end],
        "and the one that was stopped does not start"
    );
    assert_eq!(rig.machine.busy(), 0);
}

#[test]
fn orders_of_an_epoch_that_is_over_are_refused() {
    let mut rig = Rig::new(2);
    rig.offer(id(0, 1));
    assert_eq!(rig.recall(EPOCH + 1), []);
    assert_eq!(rig.offer(id(1, 1)), []);
    assert_eq!(rig.stop(id(0, 1)), []);
    assert_eq!(rig.recall(EPOCH), []);
    assert_eq!((rig.machine.stale_orders(), rig.machine.busy()), (3, 1));
    let work = Work::Process;
    let offer = Input::Offer { id: id(1, 1), epoch: EPOCH + 1, work };
    assert_eq!(rig.give(offer), [Action::Start(id(1, 1))]);
    let other_run = AttemptId { run: 1, ..id(0, 1) };
    rig.give(Input::Stop { id: other_run, epoch: 1 });
    assert_eq!(rig.machine.stale_orders(), 3, "each run has its own");
}

#[test]
fn a_start_is_announced_late_with_progress_or_not_at_all() {
    let mut rig = Rig::new(3);
    (0..3).for_each(|task| drop(rig.offer(id(task, 1))));
    (0..3).for_each(|task| drop(rig.started(id(task, 1))));
    assert_eq!(rig.machine.next_deadline(), Some(at(50)));
    assert_eq!(rig.tick(49), []);
    let started = |task| Action::Report(id(task, 1), ReportKind::Started { at: at(0) });
    let progress = ReportKind::Progress { permille: 10, message: None };
    let told = rig.give(Input::ProcessProgress { id: id(1, 1), permille: 10, message: None });
    assert_eq!(told, [started(1), Action::Report(id(1, 1), progress.clone())]);
    let told = rig.give(Input::ProcessProgress { id: id(1, 1), permille: 10, message: None });
    assert_eq!(told, [Action::Report(id(1, 1), progress)]);
    let end = rig.end(id(2, 1), Outcome::Completed);
    assert_eq!(rig.finished(id(2, 1), Outcome::Completed), [end], "one message for a short task");
    assert_eq!(rig.tick(50), [started(0)]);
    assert_eq!((rig.tick(51), rig.machine.next_deadline()), (vec![], None));
}

#[test]
fn timers_take_no_slot_and_run_in_the_machine() {
    let mut rig = Rig::new(0);
    assert_eq!(rig.timer(id(0, 1), 0), [rig.end(id(0, 1), Outcome::Completed)]);
    assert_eq!(rig.timer(id(1, 1), 20), []);
    assert_eq!(rig.timer(id(2, 1), 100), []);
    assert_eq!(rig.machine.next_deadline(), Some(at(20)));
    let ends = rig.tick(20);
    assert_eq!(ends, [rig.end(id(1, 1), Outcome::Completed)]);
    assert_eq!(rig.tick(50), [Action::Report(id(2, 1), ReportKind::Started { at: at(0) })]);
    assert_eq!(rig.tick(200), [rig.end(id(2, 1), Outcome::Completed)]);
    assert_eq!((rig.machine.next_deadline(), rig.machine.busy()), (None, 0));
}

#[test]
fn a_recall_tells_all_that_was_told_and_not_acknowledged() {
    let mut rig = Rig::new(3);
    (0..5).for_each(|task| drop(rig.offer(id(task, 1))));
    let third = rig.end(id(9, 1), Outcome::NotStarted);
    rig.stop(id(9, 1));
    rig.started(id(0, 1));
    rig.tick(50);
    rig.started(id(1, 1));
    let second = rig.end(id(2, 1), Outcome::Completed);
    rig.finished(id(2, 1), Outcome::Completed);
    let first = Action::Report(id(0, 1), ReportKind::Started { at: at(0) });
    // Not the one that has just started: it is announced in its time. Not those that wait: they are offered again.
    assert_eq!(rig.recall(EPOCH), [first.clone(), second.clone(), third]);
    rig.acknowledge(id(9, 1));
    assert_eq!(rig.recall(EPOCH + 1), [first.clone(), second]);
    let offer = Input::Offer { id: id(0, 1), epoch: EPOCH + 1, work: Work::Process };
    assert_eq!(rig.give(offer), [first], "an offer that comes again is told of the start as well");
    assert_eq!(rig.give(Input::Recall { run: 7, epoch: 1 }), []);
}

#[test]
fn of_a_run_that_is_over_nothing_is_left_and_nothing_comes_back() {
    let mut rig = Rig::new(1);
    rig.offer(id(0, 1));
    rig.offer(id(1, 1));
    rig.timer(id(2, 1), 1000);
    rig.stop(id(3, 1));
    let other = AttemptId { run: 1, ..id(0, 1) };
    rig.give(Input::Offer { id: other, epoch: 1, work: Work::Process });
    assert_eq!(rig.give(Input::Forget { run: 0, epoch: EPOCH - 1 }), [], "an earlier owner has no say");
    assert_eq!(rig.give(Input::Forget { run: 0, epoch: EPOCH }), [Action::Stop(id(0, 1))]);
    assert_eq!(rig.give(Input::Forget { run: 0, epoch: EPOCH }), []);
    assert_eq!((rig.started(id(0, 1)), rig.tick(5000), rig.recall(EPOCH)), (vec![], vec![], vec![]));
    assert_eq!(
        rig.finished(id(0, 1), Outcome::Stopped),
        [Action::Start(other)],
        "the slot is free for others"
    );
    assert_eq!((rig.offer(id(0, 2)), rig.stop(id(0, 2))), (vec![], vec![]));
    assert_eq!((rig.machine.busy(), rig.machine.next_deadline()), (1, None));
}

#[test]
fn words_about_processes_that_are_not_there_change_nothing() {
    let mut rig = Rig::new(1);
    assert_eq!(rig.started(id(0, 1)), []);
    assert_eq!(rig.give(Input::ProcessProgress { id: id(0, 1), permille: 1, message: None }), []);
    assert_eq!(rig.finished(id(0, 1), Outcome::Completed), []);
    assert_eq!(rig.acknowledge(id(0, 1)), []);
    assert_eq!(rig.offer(id(0, 1)), [Action::Start(id(0, 1))]);
    rig.finished(id(0, 1), Outcome::Completed);
    assert_eq!(rig.finished(id(0, 1), Outcome::Completed), [], "an end comes once");
    assert_eq!(rig.machine.processes(), 0);
}
