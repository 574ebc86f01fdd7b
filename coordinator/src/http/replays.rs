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
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

/// Whose key it is, and the key.
type Name = (Arc<str>, String);

/// Answers that were given.
#[derive(Default)]
pub(super) struct Replays(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    by_name: HashMap<Name, Replay>,
    oldest_first: VecDeque<Name>,
}

struct Replay {
    request: [u8; 32],
    status: StatusCode,
    body: Bytes,
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
    /// The answer that this request was given, if it was.
    pub(super) fn find(
        &self,
        name: &Name,
        request: &[u8; 32],
    ) -> Result<Option<(StatusCode, Bytes)>, Problem> {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    pub(super) fn keep(&self, name: Name, request: [u8; 32], status: StatusCode, body: Bytes) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
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
    fn parts_of_a_request_do_not_run_into_each_other() {
        assert_ne!(fingerprint("a", Some("b"), b"c"), fingerprint("a", Some("bc"), b""));
    }
}
