//! How many streams are open, of each token and in all.

use super::limits::{FOLLOWERS_PER_TOKEN, MAX_FOLLOWERS};
use super::problem::{Problem, ProblemKind};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts open streams.
#[derive(Debug, Default)]
pub(super) struct Followers(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    by_token: HashMap<Arc<str>, usize>,
    all: usize,
}

/// A place for a stream; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    followers: Arc<Mutex<Open>>,
    token: Arc<str>,
}

impl Followers {
    /// A place for one more stream of that token.
    pub(super) fn enter(&self, token: &Arc<str>) -> Result<Place, Problem> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if open.all >= MAX_FOLLOWERS {
            return Err(Problem::unavailable(format!(
                "{MAX_FOLLOWERS} streams are open, which is the limit"
            )));
        }
        let own = open.by_token.entry(token.clone()).or_default();
        if *own >= FOLLOWERS_PER_TOKEN {
            let detail = format!("{FOLLOWERS_PER_TOKEN} streams of this token are open, which is the limit");
            let help = "close one, or read pages without `follow`";
            return Err(Problem::new(ProblemKind::TooManyFollowers, detail, help).retry_after(5));
        }
        *own += 1;
        open.all += 1;
        Ok(Place { followers: self.0.clone(), token: token.clone() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.followers.lock().unwrap_or_else(PoisonError::into_inner);
        open.all -= 1;
        if let Some(own) = open.by_token.get_mut(&self.token) {
            *own -= 1;
            if *own == 0 {
                open.by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_and_given_back() {
        let followers = Followers::default();
        let token: Arc<str> = "a".into();
        let mut places: Vec<_> =
            (0..FOLLOWERS_PER_TOKEN).map(|_| followers.enter(&token).expect("room")).collect();
        assert_eq!(followers.enter(&token).expect_err("full").status().as_u16(), 429);
        places.extend((FOLLOWERS_PER_TOKEN..MAX_FOLLOWERS).map(|at| {
            let token = format!("{}", at / FOLLOWERS_PER_TOKEN).into();
            followers.enter(&token).expect("room")
        }));
        assert_eq!(followers.enter(&"b".into()).expect_err("full").status().as_u16(), 503);
        drop(places);
        assert!(followers.enter(&token).is_ok());
        assert!(followers.0.lock().expect("sound").by_token.is_empty());
    }
}
