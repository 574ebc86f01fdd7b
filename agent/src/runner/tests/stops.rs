//! Time-outs, stops and their races.

use super::*;

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn a_time_out_is_told_with_what_the_process_did() {
    let bench = Bench::new(1);
    let timed = |script: &str| bench.run(Job { timeout: Some(SHORT), ..bench.script(1, script) });
    let finished = timed("exec sleep 1000");
    assert!(matches!(
        finished.exit,
        Exit::TimedOut { limit: SHORT, end: ProcessEnd::Signal { signal: 15, .. } }
    ));
    assert!(finished.finished_at.since(finished.started_at.unwrap()) >= SHORT);
    assert_eq!(finished.exit.to_string(), "timed out after 30ms, then ended by SIGTERM (signal 15)");
    let finished = timed("trap 'echo bye; exit 0' TERM; while :; do sleep 0.01; done");
    assert!(matches!(finished.exit, Exit::TimedOut { end: ProcessEnd::Code(0), .. }), "{}", finished.exit);
    assert!(bench.log(1).ends_with(b"bye\n"));
}

#[test]
fn a_task_that_ignores_sigterm_is_killed_after_the_grace() {
    let bench = Bench::new(1);
    let job = bench.script(1, "trap '' TERM; sleep 1000; sleep 1000");
    let finished = bench.run(Job { timeout: Some(SHORT), grace: SHORT, ..job });
    assert!(matches!(finished.exit, Exit::TimedOut { end: ProcessEnd::Signal { signal: 9, .. }, .. }));
    assert!(finished.finished_at.since(finished.started_at.unwrap()) >= SHORT + SHORT);
    assert_eq!(bench.processes(), 0);
}

#[test]
fn a_stopped_process_hears_sigterm() {
    let bench = Bench::new(1);
    let job = bench.script(1, "kill -STOP $$; exit 0");
    let finished = bench.run(Job { timeout: Some(SHORT), ..job });
    assert!(matches!(finished.exit, Exit::TimedOut { end: ProcessEnd::Signal { signal: 15, .. }, .. }));
}

#[test]
fn a_running_job_is_stopped_and_the_slot_goes_on() {
    let bench = Bench::new(1);
    bench.started(bench.script(1, "exec sleep 1000"));
    assert!(bench.runner.stop(1, StopReason::Cancelled, Urgency::Graceful));
    let finished = bench.finished();
    assert!(matches!(
        finished.exit,
        Exit::Stopped { reason: StopReason::Cancelled, end: Some(ProcessEnd::Signal { signal: 15, .. }) }
    ));
    assert!(!bench.runner.stop(1, StopReason::Cancelled, Urgency::Graceful));
    assert!(bench.run_script("true").exit.is_success());
}

#[test]
fn a_second_stop_hurries_and_the_first_reason_is_told() {
    let bench = Bench::new(1);
    let ready = bench.fifo("ready");
    let script = format!("trap '' TERM; echo > {}; sleep 1000; sleep 1000", ready.display());
    bench.started(bench.script(1, &script));
    wait_for(&ready);
    assert!(bench.runner.stop(1, StopReason::LeaseEnded, Urgency::Graceful));
    assert!(bench.runner.stop(1, StopReason::Cancelled, Urgency::Immediate));
    let finished = bench.finished();
    assert!(matches!(
        finished.exit,
        Exit::Stopped { reason: StopReason::LeaseEnded, end: Some(ProcessEnd::Signal { signal: 9, .. }) }
    ));
    assert_eq!(bench.processes(), 0);
}

#[test]
fn a_queued_job_is_stopped_without_a_process() {
    let bench = Bench::new(1);
    bench.started(bench.script(1, "exec sleep 1000"));
    for key in [2, 3] {
        bench.runner.start(bench.script(key, "true")).unwrap();
    }
    assert_eq!(bench.runner.load(), (2, 1));
    assert!(bench.runner.stop(2, StopReason::Cancelled, Urgency::Graceful));
    match bench.next() {
        RunnerEvent::Finished(finished) => {
            assert_eq!(finished.key, 2);
            assert!(matches!(finished.exit, Exit::Stopped { end: None, .. }));
            assert_eq!(finished.exit.to_string(), "stopped before it started (cancelled)");
        }
        other => panic!("{other:?}"),
    }
    bench.runner.stop_all(StopReason::ShuttingDown, Urgency::Immediate);
    let mut keys = [bench.finished().key, bench.finished().key];
    keys.sort_unstable();
    assert_eq!(keys, [1, 3]);
    assert_eq!(bench.runner.load(), (0, 0));
}

#[test]
fn a_stop_that_races_with_the_end_gives_one_end_and_no_harm_to_the_next() {
    let bench = Bench::new(1);
    for key in 0..200 {
        bench.runner.start(bench.program(key, &["true"])).unwrap();
        bench.runner.start(bench.program(1_000 + key, &["true"])).unwrap();
        let was_there = bench.runner.stop(key, StopReason::Cancelled, Urgency::Immediate);
        let (first, second) = (bench.finished(), bench.finished());
        assert_eq!((first.key, second.key), (key, 1_000 + key));
        assert!(was_there || first.exit.is_success());
        assert!(matches!(first.exit, Exit::Code(0) | Exit::Stopped { .. }), "{}", first.exit);
        assert!(second.exit.is_success(), "{}", second.exit);
    }
}

#[test]
fn a_key_is_taken_once_and_nothing_after_the_shutdown() {
    let bench = Bench::new(1);
    bench.started(bench.script(1, "exec sleep 1000"));
    assert!(matches!(bench.runner.start(bench.script(1, "true")), Err(Refusal::DuplicateKey { key: 1 })));
    bench.runner.start(bench.script(2, "true")).unwrap();
    assert!(matches!(bench.runner.start(bench.script(2, "true")), Err(Refusal::DuplicateKey { key: 2 })));
    let Bench { runner, events, directory: _directory, .. } = bench;
    runner.shutdown(Urgency::Graceful);
    let ends: Vec<_> = events.iter().filter(|event| matches!(event, RunnerEvent::Finished(_))).collect();
    assert_eq!(ends.len(), 2, "{ends:?}");
}

#[test]
fn jobs_run_in_their_order_and_as_many_at_a_time_as_there_are_slots() {
    let bench = Bench::new(2);
    let (first, second) = (bench.fifo("first"), bench.fifo("second"));
    // Each waits for the other: with one slot they would never end.
    let script =
        |mine: &Path, other: &Path| format!("echo > {} & cat {}; wait", mine.display(), other.display());
    bench.runner.start(bench.script(1, &script(&first, &second))).unwrap();
    bench.runner.start(bench.script(2, &script(&second, &first))).unwrap();
    for _ in 0..2 {
        let finished = bench.finished();
        let said = String::from_utf8_lossy(&bench.log(finished.key)).into_owned();
        assert!(finished.exit.is_success(), "{}: {said}", finished.exit);
    }
    let one = Bench::new(1);
    for key in 0..20 {
        one.runner.start(one.program(key, &["true"])).unwrap();
    }
    let keys: Vec<u64> = (0..20).map(|_| one.finished().key).collect();
    assert_eq!(keys, (0..20).collect::<Vec<_>>());
}
