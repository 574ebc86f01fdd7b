//! Output, progress, outputs and the work directory.

use std::fs;

use super::*;

#[test]
fn both_outputs_are_in_the_log_in_the_order_of_writing() {
    let bench = Bench::new(1);
    let finished =
        bench.run_script("i=0; while [ $i -lt 200 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done");
    let expected: String = (0..200).map(|n| format!("out {n}\nerr {n}\n")).collect();
    assert_eq!(String::from_utf8(bench.log(1)).unwrap(), expected);
    assert_eq!((finished.output_bytes, finished.left_out_bytes), (expected.len() as u64, 0));
    assert!(finished.log_error.is_none());
}

#[test]
fn bytes_are_kept_as_they_are() {
    let bench = Bench::new(1);
    bench.run_script(r"printf '\377\376\000\033[31m\r no line end'");
    assert_eq!(bench.log(1), b"\xff\xfe\x00\x1b[31m\r no line end");
}

#[test]
fn a_task_that_is_silent_has_no_log() {
    let bench = Bench::new(1);
    assert_eq!(bench.run_script("true").output_bytes, 0);
    assert!(!bench.path("logs").exists());
}

#[test]
fn a_flood_neither_blocks_the_task_nor_fills_the_disk() {
    const FLOOD: u64 = 200_000_000;
    let bench = Bench::new(1);
    let script = format!("echo first; head -c {FLOOD} /dev/zero; echo; echo last; exit 3");
    let finished = bench.run(Job { log_limit: 1_000_000, ..bench.script(1, &script) });
    assert!(matches!(finished.exit, Exit::Code(3)));
    assert_eq!(finished.output_bytes, FLOOD + 12);
    assert_eq!(finished.left_out_bytes, FLOOD + 12 - 1_000_000);
    let log = bench.log(1);
    assert!(log.starts_with(b"first\n\0") && log.ends_with(b"\0\nlast\n"));
    let note = format!("… {} bytes left out …", finished.left_out_bytes);
    assert_eq!(log.len(), 1_000_000 + note.len() + 2);
    assert!(tail(&bench.path("logs/t1.1.log"), 1, 100).unwrap().contains("last"));
}

#[test]
fn a_log_that_cannot_be_written_does_not_disturb_the_task() {
    let bench = Bench::new(1);
    fs::write(bench.path("logs"), "in the way").unwrap();
    let finished = bench.run_script("echo hello");
    assert!(finished.exit.is_success());
    assert!(finished.log_error.is_some());
    assert_eq!(finished.output_bytes, 6);
}

#[test]
fn progress_is_told_while_the_task_runs() {
    let bench = Bench::new(1);
    let fifo = bench.fifo("go");
    let script =
        format!("echo '40 half way' > $CAIRN_PROGRESS; cat {}; echo 100 > $CAIRN_PROGRESS", fifo.display());
    let pid = bench.started(bench.script(1, &script));
    assert!(pid > 0);
    match bench.next() {
        RunnerEvent::Progress { key: 1, progress } => {
            assert_eq!(progress, Progress { permille: 400, message: "half way".into() });
        }
        other => panic!("{other:?}"),
    }
    fs::write(&fifo, "").unwrap();
    let finished = bench.finished();
    assert_eq!(finished.progress, Some(Progress { permille: 1000, message: String::new() }));
}

#[test]
fn progress_of_a_short_task_is_in_its_end() {
    let bench = Bench::new(1);
    assert_eq!(
        bench.run_script("echo 70 > $CAIRN_PROGRESS").progress.map(|progress| progress.permille),
        Some(700)
    );
    assert_eq!(bench.run_script("mkfifo $CAIRN_PROGRESS $CAIRN_OUTPUT").progress, None);
    assert_eq!(bench.run_script("true").progress, None);
}

#[test]
fn outputs_come_with_the_end() {
    let bench = Bench::new(1);
    let finished = bench.run_script("echo version=1.2 >> $CAIRN_OUTPUT; echo nonsense >> $CAIRN_OUTPUT");
    assert_eq!(finished.outputs, [("version".to_owned(), "1.2".to_owned())]);
    assert_eq!(finished.outputs_ignored, 1);
    assert!(bench.run_script("true").outputs.is_empty());
}

#[test]
fn every_attempt_begins_with_nothing() {
    let bench = Bench::new(1);
    let is_new =
        "test -z \"$(ls -A $CAIRN_WORK)\" && test ! -e $CAIRN_PROGRESS && test ! -e $CAIRN_OUTPUT || exit 9";
    let deeds = [
        "true",
        "exit 1",
        "mkdir -p $CAIRN_WORK/a/b; touch $CAIRN_WORK/a/b/c",
        "echo 5 > $CAIRN_PROGRESS; echo a=b > $CAIRN_OUTPUT; exit 1",
        "rmdir $CAIRN_WORK",
        "rmdir $CAIRN_WORK; ln -s / $CAIRN_WORK",
        "chmod 000 $CAIRN_WORK",
        "touch $CAIRN_WORK/.hidden; exit 1",
        "echo 5 > $CAIRN_PROGRESS",
    ];
    for deed in deeds.into_iter().flat_map(|deed| [deed, "true"]) {
        let finished = bench.run_script(&format!("{is_new}; {deed}"));
        assert!(matches!(finished.exit, Exit::Code(0 | 1)), "after {deed}: {}", finished.exit);
        assert!(finished.cleanup_error.is_none(), "after {deed}: {:?}", finished.cleanup_error);
    }
}

#[test]
fn after_a_success_nothing_is_left() {
    let bench = Bench::new(2);
    for key in 0..4 {
        let script = "mkdir $CAIRN_WORK/d; echo x > $CAIRN_WORK/d/f; echo 5 > $CAIRN_PROGRESS; echo a=b > $CAIRN_OUTPUT";
        assert!(bench.run(bench.script(key, script)).kept_work.is_none());
        assert!(bench.run(bench.script(key, "true")).kept_work.is_none());
    }
    let Bench { runner, directory, .. } = bench;
    runner.shutdown(Urgency::Graceful);
    assert_eq!(fs::read_dir(directory.path().join("work")).unwrap().count(), 0);
}

#[test]
fn what_a_failed_attempt_made_is_kept_where_it_was() {
    let bench = Bench::new(1);
    let finished = bench.run_script("echo precious > $CAIRN_WORK/result; echo $CAIRN_WORK; exit 1");
    let kept = finished.kept_work.unwrap();
    assert_eq!(format!("{}\n", kept.display()).as_bytes(), bench.log(1));
    assert!(bench.run_script("test ! -e $CAIRN_WORK/result").exit.is_success());
    assert_eq!(fs::read_to_string(bench.path("kept/t1.1/result")).unwrap(), "precious\n");
    assert!(bench.run_script("exit 1").kept_work.is_none());
}
