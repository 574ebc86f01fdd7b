//! The process tree: nothing of it survives, and nobody else is hit.

use super::*;

const SHORT: Duration = Duration::from_millis(30);

#[test]
fn a_background_child_that_holds_the_output_does_not_hang_the_task() {
    let bench = Bench::new(1);
    let finished = bench.run_script("sleep 1000 & echo done; exit 4");
    assert!(matches!(finished.exit, Exit::Code(4)), "{}", finished.exit);
    assert_eq!((finished.left_behind, bench.processes()), (1, 0));
    assert_eq!(bench.log(1), b"done\n");
}

#[test]
fn a_background_child_without_the_output_is_ended_too() {
    let bench = Bench::new(1);
    let finished = bench.run_script("sleep 1000 > /dev/null 2>&1 & exit 0");
    assert!(finished.exit.is_success());
    assert_eq!((finished.left_behind, bench.processes()), (1, 0));
}

#[test]
fn a_background_child_that_ignores_sigterm_is_killed() {
    let bench = Bench::new(1);
    let ready = bench.fifo("ready");
    let script =
        format!("(trap '' TERM; echo > {0}; while :; do sleep 1000; done) & cat {0}", ready.display());
    let finished = bench.run(Job { grace: SHORT, ..bench.script(1, &script) });
    assert!(finished.exit.is_success(), "{}", finished.exit);
    assert_eq!(bench.processes(), 0);
}

#[test]
fn the_last_words_of_a_background_child_are_waited_for() {
    let bench = Bench::new(1);
    let finished = bench.run_script("(sleep 0.02; echo late) & echo early");
    assert!(finished.exit.is_success());
    assert_eq!(finished.left_behind, 0);
    assert_eq!(bench.log(1), b"early\nlate\n");
}

#[test]
fn a_daemon_that_holds_the_output_is_found_in_its_own_session() {
    let bench = Bench::new(1);
    let finished = bench.run_script("setsid sleep 1000 & exit 0");
    assert!(finished.exit.is_success());
    assert_eq!((finished.left_behind, bench.processes()), (1, 0));
}

#[test]
fn a_time_out_ends_who_left_the_group_the_session_or_the_environment() {
    let bench = Bench::new(1);
    for escape in [
        "setsid sleep 1000 > /dev/null 2>&1 &",
        "(setsid sh -c 'sleep 1000 & sleep 1001' > /dev/null 2>&1 &);",
        "setsid sh -c 'trap \"\" TERM HUP; sleep 1000; sleep 1000' &",
        "nohup sleep 1000 > /dev/null 2>&1 &",
    ] {
        let ready = bench.fifo("ready");
        let script = format!("{escape} echo > {}; sleep 1000", ready.display());
        bench.started(Job { grace: SHORT, ..bench.script(1, &script) });
        wait_for(&ready);
        assert!(bench.processes() >= 2, "{escape}");
        bench.runner.stop(1, StopReason::Cancelled, Urgency::Graceful);
        assert!(matches!(bench.finished().exit, Exit::Stopped { .. }));
        assert_eq!(bench.processes(), 0, "{escape}");
        fs::remove_file(&ready).unwrap();
    }
}

#[test]
fn a_process_without_our_environment_is_known_by_its_parents() {
    let bench = Bench::new(1);
    let ready = bench.fifo("ready");
    let script = format!("env -i setsid sh -c 'echo $$ > {}; sleep 1000' & wait", ready.display());
    bench.started(bench.script(1, &script));
    let pid: i32 = wait_for(&ready).trim().parse().unwrap();
    bench.runner.stop(1, StopReason::Cancelled, Urgency::Graceful);
    assert!(matches!(bench.finished().exit, Exit::Stopped { .. }));
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(procfs::process(pid).is_none_or(|info| info.is_zombie));
}

#[test]
fn who_forks_all_the_time_does_not_get_away() {
    let bench = Bench::new(1);
    let script = "trap '' TERM; fork() { while :; do setsid sleep 1000 & sleep 0.002; done; }; fork & fork";
    let finished = bench.run(Job { timeout: Some(SHORT * 3), grace: SHORT, ..bench.script(1, script) });
    assert!(matches!(finished.exit, Exit::TimedOut { .. }), "{}", finished.exit);
    assert_eq!(bench.processes(), 0);
}

#[test]
fn the_end_of_one_task_leaves_the_others_alone() {
    let bench = Bench::new(3);
    let go = bench.fifo("go");
    let other = bench.script(1, &format!("setsid sleep 1000 & cat {}; kill $!", go.display()));
    bench.started(other);
    for key in 2..30 {
        let script = if key % 2 == 0 { "sleep 1000 & exit 0" } else { "setsid sleep 1000 & sleep 1000" };
        let finished = bench.run(Job { timeout: Some(SHORT), grace: SHORT, ..bench.script(key, script) });
        assert_eq!(finished.key, key);
    }
    fs::write(&go, "").unwrap();
    let finished = bench.finished();
    assert!(matches!((finished.key, &finished.exit), (1, Exit::Code(0))), "{}", finished.exit);
}

#[test]
fn a_hidden_daemon_is_ended_by_the_shutdown_and_without_the_marker_it_stays() {
    let bench = Bench::new(1);
    let ready = bench.fifo("ready");
    let daemon = |prefix: &str| {
        let inner = format!("echo $$ > {}; exec sleep 1000", ready.display());
        format!("{prefix} setsid sh -c '{inner}' > /dev/null 2>&1 & cat {}", ready.display())
    };
    let finished = bench.run_script(&daemon(""));
    assert_eq!((finished.left_behind, bench.processes()), (0, 1));
    assert!(bench.run(bench.script(2, &daemon("env -u CAIRN_TEST_RUNNER"))).exit.is_success());
    let pid: i32 = String::from_utf8(bench.log(2)).unwrap().trim().parse().unwrap();
    let Bench { runner, id, .. } = bench;
    runner.shutdown(Urgency::Graceful);
    assert!(find_leftovers(("CAIRN_TEST_RUNNER", &id)).is_empty());
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    assert!(procfs::process(pid).is_some_and(|info| !info.is_zombie));
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
