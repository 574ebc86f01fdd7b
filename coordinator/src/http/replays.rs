//! Answers to writes that carried an `Idempotency-Key`: the same request is answered alike, and done once.
//!
//! Kept in memory, the newest of them: after a restart of the coordinator a wish that was granted before is refused as
//! not possible any more, which changes nothing. A submission is not kept here: its key is durable with its run. Nor is
//! the making of a token, whose answer nobody may keep: its name makes it unique.

use super::limits::MAX_REPLAYS;
use super::problem::{Problem, ProblemKind};
use axum::body::Bytes;
use axum::http::StatusCode;
use sha2::{Digest as _, Sha256};
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Whose key it is, and the key.
type Name = (Arc<str>, String);

/// Answers that were given.
#[derive(Default)]
pub(super) struct Replays(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_name: HashMap<Name, Replay>,
    /// Whose answers are being made.
    under_way: HashSet<Name>,
    oldest_first: VecDeque<Name>,
}

struct Replay {
    request: [u8; 32],
    status: StatusCode,
    body: Bytes,
}

/// What a request with a key has to do.
pub(super) enum Turn<'a> {
    /// It was answered so.
    Answered(StatusCode, Bytes),
    /// It is the first one, and the only one until this goes.
    First(First<'a>),
}

/// The first request with its key, which is being answered.
pub(super) struct First<'a> {
    replays: &'a Replays,
    name: Name,
    request: [u8; 32],
}

impl First<'_> {
    /// Keeps its answer.
    pub(super) fn keep(self, status: StatusCode, body: Bytes) {
        self.replays.keep(self.name.clone(), self.request, status, body);
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        self.replays.kept().under_way.remove(&self.name);
    }
}

/// What tells one request from another.
pub(super) fn fingerprint(action: &str, query: Option<&str>, body: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in [action.as_bytes(), query.unwrap_or_default().as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

impl Replays {
    /// Whether a request is to be done, or was. One that is being done just now has to be asked for again.
    pub(super) fn turn(&self, name: Name, request: [u8; 32]) -> Result<Turn<'_>, Problem> {
        if let Some((status, body)) = self.find(&name, &request)? {
            return Ok(Turn::Answered(status, body));
        }
        if !self.kept().under_way.insert(name.clone()) {
            return Err(Problem::unavailable("a request with this key is being answered").retry_after(1));
        }
        let first = First { replays: self, name, request };
        // Whoever was first may have been answered in between.
        Ok(match self.find(&first.name, &request)? {
            Some((status, body)) => Turn::Answered(status, body),
            None => Turn::First(first),
        })
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer that this request was given, if it was.
    fn find(&self, name: &Name, request: &[u8; 32]) -> Result<Option<(StatusCode, Bytes)>, Problem> {
        let kept = self.kept();
        match kept.by_name.get(name) {
            None => Ok(None),
            Some(replay) if replay.request == *request => Ok(Some((replay.status, replay.body.clone()))),
            Some(_) => {
                let detail = format!("idempotency key {} was used for another request", name.1);
                let help = "use another Idempotency-Key for this request";
                Err(Problem::new(ProblemKind::KeyReused, detail, help))
            }
        }
    }

    /// Keeps an answer.
    fn keep(&self, name: Name, request: [u8; 32], status: StatusCode, body: Bytes) {
        let mut kept = self.kept();
        if kept.by_name.insert(name.clone(), Replay { request, status, body }).is_none() {
            kept.oldest_first.push_back(name);
        }
        if kept.oldest_first.len() > MAX_REPLAYS
            && let Some(oldest) = kept.oldest_first.pop_front()
        {
            kept.by_name.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_go_first() {
        let replays = Replays::default();
        let name = |at: usize| (Arc::from("token"), at.to_string());
        for at in 0..=MAX_REPLAYS {
            replays.keep(name(at), [0; 32], StatusCode::OK, Bytes::new());
        }
        assert!(replays.find(&name(0), &[0; 32]).expect("no other").is_none());
        assert!(replays.find(&name(1), &[0; 32]).expect("no other").is_some());
        assert!(replays.find(&name(1), &[1; 32]).is_err());
    }

    #[test]
    fn two_at_once_are_done_once() {
        let replays = Replays::default();
        let turn = || replays.turn((Arc::from("token"), "key".to_owned()), [0; 32]);
        let Ok(Turn::First(first)) = turn() else { panic!("nobody was before") };
        assert!(turn().is_err(), "it is being answered");
        // It failed, so the next one is the first again.
        drop(first);
        let Ok(Turn::First(first)) = turn() else { panic!("nothing was done") };
        first.keep(StatusCode::ACCEPTED, Bytes::from_static(b"{}"));
        let Ok(Turn::Answered(status, body)) = turn() else { panic!("it was done") };
        assert_eq!((status, &body[..]), (StatusCode::ACCEPTED, &b"{}"[..]));
    }

    #[test]
    fn parts_of_a_request_do_not_run_into_each_other() {
        assert_ne!(fingerprint("a", Some("b"), b"c"), fingerprint("a", Some("bc"), b""));
    }
}
