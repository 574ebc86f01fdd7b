use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};

use super::*;

const PATH_VARIABLE: &str = "CAIRN_TEST_LOCK_PATH";

fn holder(command: &str) -> Holder {
    Holder::this_process(command, Timestamp(0))
}

#[test]
fn the_second_is_told_who_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let first = holder("cairn run plan.yaml");
    let _lock = Lock::acquire(&path, &first).unwrap();
    let error = Lock::acquire(&path, &holder("cairn run other.yaml")).unwrap_err();
    let text = error.to_string();
    let LockError::Held { holder: Some(told), .. } = error else { panic!("{error:?}") };
    assert_eq!(*told, first);
    let pid = std::process::id();
    assert!(text.contains("`cairn run plan.yaml`") && text.contains(&format!("process {pid} on")), "{text}");
    assert!(text.contains("since 1970-01-01T00:00:00.000000Z"), "{text}");
    assert_eq!(last_holder(&path), Some(first));
}

#[test]
fn a_lock_ends_with_its_guard() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    drop(Lock::acquire(&path, &holder("a long command line that is overwritten")).unwrap());
    let lock = Lock::acquire(&path, &holder("b")).unwrap();
    assert_eq!(last_holder(&path), Some(holder("b")));
    assert_eq!(lock.path(), path);
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_is_in_the_file_does_not_decide() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    for text in ["", "not json", "{\"pid\":1}", "\u{0}\u{0}"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(last_holder(&path), None, "{text:?}");
        let lock = Lock::acquire(&path, &holder("a")).unwrap();
        std::fs::write(&path, text).unwrap();
        let error = Lock::acquire(&path, &holder("b")).unwrap_err();
        assert!(error.to_string().contains("has not said who it is"), "{error}");
        drop(lock);
    }
}

#[test]
fn a_lock_that_outlives_its_process_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    // The start time tells this process from one that had the same number before.
    let mut ended = holder("cairn coordinator");
    ended.started_ticks += 1;
    assert!(holder("a").is_running() && !ended.is_running());
    let _lock = Lock::acquire(&path, &ended).unwrap();
    let error = Lock::acquire(&path, &holder("b")).unwrap_err().to_string();
    assert!(error.contains("started by `cairn coordinator`") && error.contains("has ended"), "{error}");
}

#[test]
fn no_directory_is_an_io_error() {
    let dir = tempfile::tempdir().unwrap();
    let error = Lock::acquire(&dir.path().join("none/lock"), &holder("a")).unwrap_err();
    assert!(matches!(error, LockError::Io(IoFailure { doing: "open", .. })), "{error:?}");
}

#[test]
fn a_killed_holder_leaves_the_lock_free() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("lock");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::lock::tests::hold_until_killed", "--ignored", "--nocapture"])
        .env(PATH_VARIABLE, &path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(
        lines.map_while(Result::ok).any(|line| line.contains("the lock is held")),
        "the child did not lock"
    );
    let error = Lock::acquire(&path, &holder("b")).unwrap_err();
    let LockError::Held { holder: Some(told), .. } = error else { panic!("{error:?}") };
    assert_eq!((told.pid, told.command.as_str()), (child.id(), "a child"));
    assert!(told.is_running());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(!told.is_running());
    let _lock = Lock::acquire(&path, &holder("b")).unwrap();
}

/// Not a test by itself: the other process of [`a_killed_holder_leaves_the_lock_free`].
#[test]
#[ignore = "run by another test"]
fn hold_until_killed() {
    let path = std::env::var_os(PATH_VARIABLE).unwrap();
    let _lock = Lock::acquire(Path::new(&path), &holder("a child")).unwrap();
    println!("the lock is held");
    // Until killed, or until the test that started this has ended.
    std::io::stdin().lines().for_each(drop);
}
