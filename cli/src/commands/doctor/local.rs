//! What can be looked at without a coordinator.

use super::Check;
use crate::client::admin_token_file;
use crate::context::Context;
use crate::state_directory::{try_open, writer};
use cairn_coordinator::runtime::list_runs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// Below so many free bytes a log may soon not be written: a day of a busy coordinator.
const LITTLE_SPACE: u64 = 1 << 30;
/// Below so many free bytes a coordinator is about to stop.
const NO_SPACE: u64 = 64 << 20;

/// All checks of the state directory.
pub fn checks(context: &Context) -> Vec<Check> {
    let mut checks = vec![state(context)];
    checks.extend(space(&context.state));
    checks.extend(secret(context));
    checks
}

fn state(context: &Context) -> Check {
    const NAME: &str = "state directory";
    let place = context.state.display();
    let reader = match try_open(context) {
        Ok(Some(reader)) => reader,
        Ok(None) => return Check::ok(NAME, format!("{place} holds no runs yet")),
        Err(failure) => return Check::failed(NAME, failure),
    };
    let held = match writer(context) {
        Some(holder) => format!("process {} works on it", holder.pid),
        None => "no process works on it".to_owned(),
    };
    match list_runs(&*reader) {
        Ok(runs) => Check::ok(NAME, format!("{place} holds {} runs; {held}", runs.len())),
        Err(error) => Check::fail(
            NAME,
            format!("{place} cannot be read: {error}"),
            "put it back from a backup, or name another one with --state DIR",
        ),
    }
}

/// Room on the disk of the state directory, or of the nearest directory above that is there.
fn space(state: &Path) -> Option<Check> {
    const NAME: &str = "disk space";
    let path = std::path::absolute(state).ok()?;
    let there = path.ancestors().find(|path| path.exists())?;
    let disk = match rustix::fs::statvfs(there) {
        Ok(disk) => disk,
        Err(error) => {
            let message = format!("cannot be told for {}: {}", there.display(), io::Error::from(error));
            return Some(Check::warn(NAME, message, "look with `df`"));
        }
    };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let message = format!("{} MiB free at {}", free >> 20, there.display());
    let remedy = "make room, or name a state directory on another disk with --state DIR";
    Some(match free {
        ..NO_SPACE => Check::fail(NAME, message, remedy),
        NO_SPACE..LITTLE_SPACE => Check::warn(NAME, message, remedy),
        _ => Check::ok(NAME, message),
    })
}

/// Whether the token of the state directory is its user's alone.
fn secret(context: &Context) -> Option<Check> {
    const NAME: &str = "admin token";
    let path = admin_token_file(&context.state);
    let mode = std::fs::metadata(&path).ok()?.permissions().mode();
    let place = path.display();
    Some(match mode & 0o077 {
        0 => Check::ok(NAME, format!("{place} can be read by its user only")),
        _ => Check::fail(
            NAME,
            format!("{place} can be read by others"),
            format!("`chmod 600 {place}`, then `cairn token revoke admin` and make another"),
        ),
    })
}
