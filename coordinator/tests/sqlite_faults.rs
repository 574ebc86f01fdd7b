//! The SQLite store in a process that is killed, or whose system calls fail. What was acknowledged is there afterwards,
//! and nothing that nobody submitted.
#![expect(clippy::unwrap_used, reason = "a failed call is a failed test")]

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use cairn_coordinator::store::EventReader;
use cairn_coordinator::store::sqlite::{Options, SqliteReader};
use cairn_coordinator::store::{
    Append, AppendError, Cursor, EventStore, Holder, NewRecord, SqliteStore, Ticket,
};
use cairn_model::Timestamp;
use uuid::Uuid;

/// Tells the child where its state directory is.
const STATE: &str = "CAIRN_TEST_STATE";
/// Tells the child how many events to append before it ends, and how large.
const EVENTS: &str = "CAIRN_TEST_EVENTS";
const EVENT_BYTES: &str = "CAIRN_TEST_EVENT_BYTES";

/// The event at a position; every third is of another stream.
fn event(position: u64, bytes: usize) -> NewRecord {
    let (stream, first_version) = match position % 3 {
        0 => ("b", position / 3),
        _ => ("a", position - position / 3),
    };
    let body = format!("{{\"p\":{position},\"fill\":\"{}\"}}", "x".repeat(bytes));
    NewRecord { stream: stream.into(), first_version, count: 1, body }
}

fn variable(name: &str) -> u64 {
    std::env::var(name).unwrap().parse().unwrap()
}

/// The life of a child: it goes on from the end of the log, in groups of up to five appends of up to three events, and
/// says what was acknowledged.
#[test]
#[ignore = "the other tests run it in processes of their own"]
fn child() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let (events, bytes) = (variable(EVENTS), usize::try_from(variable(EVENT_BYTES)).unwrap());
    let holder = Holder::this_process("a test's child", Timestamp(0));
    let store = match SqliteStore::open(Path::new(&state), &holder, Options::new(Uuid::from_u128(7))) {
        Ok(store) => store,
        Err(error) => return say(&format!("refused {error}: {}", cause(&error))),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut next = runtime.block_on(store.head()).unwrap().position + 1;
    let end = next + events;
    while next < end {
        let mut tickets: Vec<(u64, Ticket)> = Vec::new();
        for group in 0..(next % 5 + 1) {
            let records: Vec<_> = (next..=next + group % 3).map(|position| event(position, bytes)).collect();
            next += records.len() as u64;
            tickets.push((next - 1, store.submit(Append { epoch: 1, records })));
        }
        for (last, ticket) in tickets {
            match ticket.wait() {
                Ok(_) => say(&format!("acknowledged {last}")),
                Err(AppendError::Stopped(stopped)) => {
                    assert!(store.stopped().is_some());
                    return say(&format!("stopped {}", stopped.cause));
                }
                Err(other) => panic!("{other}"),
            }
        }
    }
    drop(store);
    say("done");
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map(ToString::to_string).unwrap_or_default()
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    // A line at a time, so that none is lost with the process; on one of its own behind what the harness prints.
    writeln!(out, "\n#{line}").and_then(|()| out.flush()).unwrap();
}

fn start(mut command: Command, state: &Path, events: u64, bytes: usize) -> Child {
    command
        .args(["child", "--exact", "--ignored", "--nocapture"])
        .env(STATE, state)
        .env(EVENTS, events.to_string())
        .env(EVENT_BYTES, bytes.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// What the child says, line by line.
fn told(child: &mut Child) -> impl Iterator<Item = String> + use<> {
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.map_while(Result::ok).filter_map(|line| line.strip_prefix('#').map(str::to_owned))
}

/// Checks that the log is sound, holds the first events as they were made, and all that were acknowledged; returns how
/// many there are.
fn assert_kept(state: &Path, acknowledged: u64, bytes: usize, what: &str) -> u64 {
    let reader = SqliteReader::open(state).unwrap_or_else(|error| panic!("{what}: {error}"));
    let head = reader.verify().unwrap_or_else(|error| panic!("{what}: {error}")).head.position;
    assert!(head >= acknowledged, "{what}: {acknowledged} were acknowledged, {head} are there");
    let (mut cursor, mut next) = (Cursor::all(1), 1);
    loop {
        let page = reader.read(&mut cursor).unwrap();
        if page.is_empty() {
            break;
        }
        for record in page {
            let expected = event(next, bytes);
            assert_eq!((record.position, &record.stream), (next, &expected.stream), "{what}");
            assert!(record.body == expected.body && record.first_version == expected.first_version, "{what}");
            next += 1;
        }
    }
    assert_eq!(next, head + 1, "{what}");
    head
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().unwrap())
}

#[test]
fn a_process_may_be_killed_at_any_moment() {
    const LIVES: u64 = 25;
    const BYTES: usize = 20_000;
    let state = tempfile::tempdir().unwrap();
    let mut kept = 0;
    for life in 0..LIVES {
        let mut child = start(this_program(), state.path(), u64::MAX / 2, BYTES);
        // The first life ends before it has done anything, perhaps while it makes the tables.
        let lines = usize::try_from(life * life % 331).unwrap();
        let acknowledged: Vec<String> = told(&mut child).take(lines).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        let last = acknowledged.last().and_then(|line| line.strip_prefix("acknowledged ")?.parse().ok());
        assert_eq!(last.is_none(), lines == 0, "life {life}: {:?}", acknowledged.last());
        if lines > 0 || kept > 0 {
            kept = assert_kept(state.path(), last.unwrap_or(kept), BYTES, &format!("life {life}"));
        }
    }
    assert!(kept > 1_000, "{kept}");
}

/// Whether a tool is installed. A missing one is an error where `CAIRN_REQUIRE_TOOLS` is 1, and told elsewhere.
#[expect(clippy::print_stderr, reason = "a test that is skipped says so")]
fn is_there(tool: &str) -> bool {
    let is_there = Command::new(tool).arg("-V").stdout(Stdio::null()).status().is_ok();
    let is_required = std::env::var_os("CAIRN_REQUIRE_TOOLS").is_some_and(|value| value == "1");
    assert!(is_there || !is_required, "{tool} is not installed and CAIRN_REQUIRE_TOOLS is set");
    if !is_there {
        eprintln!("skipped: {tool} is not installed");
    }
    is_there
}

/// Lets the n-th call of each thread fail, for each n until a run is not hit any more. At least `expected` runs must
/// end with the failure told: it may be that the database does without the result of a call (the writing of an index
/// that it makes anew from the write-ahead log, the folding when it is closed), but not of many.
fn let_each_fail(call: &str, error: &str, expected: u64) {
    const BYTES: usize = 300;
    const EVENTS: u64 = 12;
    let mut failed = 0;
    for at in 1.. {
        let what = format!("{error} at {call} {at}");
        let state = tempfile::tempdir().unwrap();
        // Another life has left something to be put right.
        let mut before = start(this_program(), state.path(), u64::MAX / 2, BYTES);
        let left: Vec<String> = told(&mut before).take(3).collect();
        before.kill().unwrap();
        before.wait().unwrap();
        let number = |line: &String| line.strip_prefix("acknowledged ")?.parse::<u64>().ok();
        let before = left.iter().rev().find_map(number).unwrap();

        let mut strace = Command::new("strace");
        strace.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}")]);
        // What is written elsewhere does not count: the harness's own output.
        strace
            .args(["-e", &format!("inject={call}:error={error}:when={at}")])
            .arg(std::env::current_exe().unwrap());
        let mut child = start(strace, state.path(), EVENTS, BYTES);
        let lines: Vec<String> = told(&mut child).collect();
        child.wait().unwrap();
        let acknowledged = lines.iter().rev().find_map(number).unwrap_or(before);
        let kept = assert_kept(state.path(), acknowledged, BYTES, &what);
        assert!(kept >= before, "{what}");

        // And it goes on from there.
        let mut after = start(this_program(), state.path(), EVENTS, BYTES);
        assert_eq!(told(&mut after).last().as_deref(), Some("done"), "{what}");
        after.wait().unwrap();
        assert!(assert_kept(state.path(), kept + EVENTS, BYTES, &what) >= kept + EVENTS);
        match lines.last().map(String::as_str) {
            Some("done") if failed >= expected => return,
            Some("done") => assert!(at < 100, "{call} does not fail"),
            Some(line) if line.starts_with("stopped ") || line.starts_with("refused ") => failed += 1,
            other => panic!("{what}: {other:?}"),
        }
    }
}

#[test]
fn any_sync_may_fail() {
    if is_there("strace") {
        let_each_fail("fsync", "EIO", 4);
    }
}

#[test]
fn any_write_may_fail() {
    if is_there("strace") {
        for error in ["EIO", "ENOSPC"] {
            let_each_fail("pwrite64", error, 12);
        }
    }
}
