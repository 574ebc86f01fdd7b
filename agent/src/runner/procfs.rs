//! What `/proc` says about processes. Anything may vanish between two reads; then it is left out.

use std::fs;
use std::path::Path;

use rustix::process::Pid;

/// A process at the moment of a scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProcessInfo {
    pub(super) pid: Pid,
    /// `None` for the first process and what comes from outside of our namespace.
    pub(super) parent: Option<Pid>,
    pub(super) group: Option<Pid>,
    pub(super) session: Option<Pid>,
    /// Ended, and not reaped yet.
    pub(super) is_zombie: bool,
    /// In clock ticks since boot; with the pid it names a process for ever.
    pub(super) start_time: u64,
    /// How long its environment is. `None` in the middle of an exec, when it has its new memory and no environment in
    /// it yet (or if we may not look).
    pub(super) environment_bytes: Option<usize>,
}

/// All processes that there are. Costs some 15 µs for each.
pub(super) fn processes() -> Vec<ProcessInfo> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter_map(Pid::from_raw)
        .filter_map(process)
        .collect()
}

/// One process, if it is still there.
pub(super) fn process(pid: Pid) -> Option<ProcessInfo> {
    parse_stat(&fs::read(path(pid, "stat")).ok()?)
}

/// The environment that a process was started with, if we may see it: `NAME=VALUE`, each closed by a NUL.
pub(super) fn environment(pid: Pid) -> Option<Vec<u8>> {
    fs::read(path(pid, "environ")).ok()
}

/// Whether an environment has this `NAME=VALUE`, or one that goes on with `:…`.
pub(super) fn has_mark(environment: &[u8], mark: &[u8]) -> bool {
    let matches = |entry: &[u8]| entry.strip_prefix(mark).is_some_and(|rest| matches!(rest, [] | [b':', ..]));
    environment.split(|&byte| byte == 0).any(matches)
}

/// The value of a variable in an environment.
pub(super) fn variable(environment: &[u8], name: &str) -> Option<String> {
    environment
        .split(|&byte| byte == 0)
        .find_map(|entry| entry.strip_prefix(name.as_bytes())?.strip_prefix(b"="))
        .map(|value| String::from_utf8_lossy(value).into_owned())
}

fn path(pid: Pid, file: &str) -> impl AsRef<Path> {
    format!("/proc/{}/{file}", pid.as_raw_nonzero())
}

/// Reads `/proc/PID/stat` (see proc(5)): `PID (NAME) STATE PPID PGRP SESSION …`, the start time is field 22, the
/// environment goes from field 50 to field 51. The name may contain anything, also blanks and parentheses, so the fields are counted
/// from the last one.
fn parse_stat(stat: &[u8]) -> Option<ProcessInfo> {
    let name_from = stat.iter().position(|&byte| byte == b'(')?;
    let name_to = stat.iter().rposition(|&byte| byte == b')')?;
    let pid = std::str::from_utf8(stat.get(..name_from)?).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(stat.get(name_to + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?;
    let mut next_pid = || Some(Pid::from_raw(fields.next()?.parse().ok().filter(|&pid: &i32| pid >= 0)?));
    let (parent, group, session) = (next_pid()?, next_pid()?, next_pid()?);
    Some(ProcessInfo {
        pid: Pid::from_raw(pid)?,
        parent,
        group,
        session,
        is_zombie: matches!(state, "Z" | "X" | "x"),
        start_time: fields.nth(22 - 7)?.parse().ok()?,
        environment_bytes: {
            let from: usize = fields.nth(50 - 23)?.parse().ok()?;
            // Set as the last of all at an exec, and never 0 after it, however short the environment is.
            let to: usize = fields.next()?.parse().ok()?;
            (to > 0).then_some(to.wrapping_sub(from))
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_blanks_moves_no_field() {
        let stat = b"4711 (a) b (c) S 12 4711 99 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 123456 \
            1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 1000 1234 rest\n";
        let info = parse_stat(stat).unwrap();
        assert_eq!(info.pid, Pid::from_raw(4711).unwrap());
        assert_eq!(
            (info.parent, info.group, info.session),
            (Pid::from_raw(12), Pid::from_raw(4711), Pid::from_raw(99))
        );
        assert!(!info.is_zombie);
        assert_eq!((info.start_time, info.environment_bytes), (123_456, Some(234)));
    }

    #[test]
    fn an_exec_that_is_not_over_shows() {
        let stat = |env_end: &str| {
            let (before, between) = ("0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0", ["1"; 28].join(" "));
            parse_stat(format!("7 (x) R 1 7 7 {before} 99 {between} {env_end} 0\n").as_bytes()).unwrap()
        };
        assert_eq!((stat("0").start_time, stat("0").environment_bytes), (99, None));
        assert_eq!(stat("8").environment_bytes, Some(7));
        let empty = std::process::Command::new("sleep").arg("1000").env_clear().spawn();
        let mut empty = empty.unwrap();
        let pid = Pid::from_child(&empty);
        // Its own exec may still be under way. No environment at all is another thing, or this never ends.
        while process(pid).unwrap().environment_bytes != Some(0) {
            std::thread::yield_now();
        }
        assert_eq!(environment(pid).as_deref(), Some(&b""[..]));
        empty.kill().unwrap();
        empty.wait().unwrap();
    }

    #[test]
    fn what_is_no_stat_is_left_out() {
        for bad in [
            &b""[..],
            b"1 (a",
            b"1 a) S 1 1 1",
            b"x (a) S 1 1 1",
            b"1 (a) S 1 1",
            b") ( S",
            b"1 (a) S -5 1 1 0 0",
        ] {
            assert_eq!(parse_stat(bad), None, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn we_see_ourselves() {
        let own = rustix::process::getpid();
        let info = processes().into_iter().find(|info| info.pid == own).unwrap();
        assert_eq!(info.parent, rustix::process::getppid());
        assert_eq!(process(own).unwrap().start_time, info.start_time);
        assert!(environment(own).is_some());
    }

    #[test]
    fn a_mark_matches_as_a_whole_or_up_to_a_colon() {
        let environment = b"A=1\0MARK=id:7:9\0B=MARK=other\0";
        for mark in [&b"MARK=id:7:9"[..], b"MARK=id:7", b"MARK=id", b"A=1"] {
            assert!(has_mark(environment, mark));
        }
        for mark in [&b"MARK=i"[..], b"MARK=id:", b"MARK=other", b"A=", b"A=12"] {
            assert!(!has_mark(environment, mark), "{}", String::from_utf8_lossy(mark));
        }
        assert_eq!(variable(environment, "MARK").as_deref(), Some("id:7:9"));
        assert_eq!(variable(environment, "MAR"), None);
    }
}
