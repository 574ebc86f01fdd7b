//! Tokens: random, kept as hashes in `tokens.json` of the state directory, readable by its user only.
//!
//! Whoever may write that directory may make and revoke them, with or without a running coordinator: the file is
//! replaced as a whole under a lock, and a running coordinator reads it again when it has changed (it looks at most
//! once a second). The token itself is shown once and kept nowhere, but for the first one, which
//! [`ensure_admin`](Tokens::ensure_admin) leaves in `admin.token`.
//!
//! A token has 256 random bits, so one round of SHA-256 keeps it safe: there is nothing to guess.

mod file;

use super::access::Caller;
use super::model::TokenInfo;
use crate::store::IoFailure;
use cairn_model::Timestamp;
use cairn_model::ids::{is_id, is_project_id};
use cairn_shared::clock::Clock;
use file::{Kept, Stamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;

/// Every token begins so; scanners for leaked secrets look for it.
const PREFIX: &str = "cairn_";
/// Random bytes of a token.
const SECRET_BYTES: usize = 32;
/// Characters of a token's id, taken from its hash: enough that ten thousand do not collide.
const ID_CHARS: usize = 16;
/// Tokens of a deployment: what all of them take stays below some megabytes.
pub const MAX_TOKENS: usize = 10_000;
/// Projects of a token.
pub const MAX_TOKEN_PROJECTS: usize = 100;
/// The longest life of a token that ends: ten years.
const MAX_LIFE: Duration = Duration::from_secs(10 * 365 * 86_400);
/// How often the file is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// What a token allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// To look.
    Viewer,
    /// And to submit plans, and act on runs.
    Submitter,
    /// And to act on the fleet.
    Operator,
    /// And to manage tokens.
    Admin,
    /// What an agent needs, which is nothing here yet.
    Agent,
    /// What another coordinator needs: to look.
    Coordinator,
}

impl Role {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Viewer, Self::Submitter, Self::Operator, Self::Admin, Self::Agent, Self::Coordinator];

    /// The name in files and on the screen.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Submitter => "submitter",
            Self::Operator => "operator",
            Self::Admin => "admin",
            Self::Agent => "agent",
            Self::Coordinator => "coordinator",
        }
    }
}

/// A token to be made.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Who will have it.
    pub name: String,
    /// What it allows.
    pub role: Role,
    /// Projects that it is good for; all, if there are none.
    pub projects: Vec<String>,
    /// After how long it is good for nothing.
    pub life: Option<Duration>,
}

/// Why tokens cannot be had or changed.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoFailure),
    /// The file is not one of tokens.
    #[error("{} is not a file of tokens", path.display())]
    Damaged {
        /// Which one.
        path: PathBuf,
        /// Why not.
        #[source]
        source: serde_json::Error,
    },
    /// The system gives no random bytes.
    #[error("the system gives no random bytes")]
    Random(#[source] getrandom::Error),
    /// A token has that name.
    #[error("there is a token for {name}")]
    NameTaken {
        /// Which one.
        name: String,
    },
    /// A token of that name or id is not there.
    #[error("there is no token {token}")]
    NoSuchToken {
        /// Which one.
        token: String,
    },
    /// The wish is not of the right form.
    #[error("{what} must be {form}")]
    Invalid {
        /// What of it.
        what: &'static str,
        /// How it must be.
        form: &'static str,
    },
    /// There are as many as there may be.
    #[error("there are {MAX_TOKENS} tokens, which is the limit")]
    TooMany,
}

/// The tokens of a state directory.
#[derive(Debug)]
pub struct Tokens {
    directory: PathBuf,
    clock: Clock,
    known: RwLock<Known>,
}

/// What was read last.
#[derive(Debug, Default)]
struct Known {
    stamp: Option<Stamp>,
    looked_at: Timestamp,
    by_id: HashMap<String, Token>,
}

#[derive(Debug)]
struct Token {
    hash: [u8; 32],
    expires_at: Option<Timestamp>,
    caller: Caller,
}

impl Tokens {
    /// The tokens of a state directory; none, if none were ever made.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn open(state_directory: &Path, clock: Clock) -> Result<Self, TokenError> {
        let tokens = Self { directory: state_directory.to_owned(), clock, known: RwLock::default() };
        tokens.read_again()?;
        Ok(tokens)
    }

    /// Makes the first token, for `admin`, and leaves it in `admin.token`, unless there are tokens already. Gives that
    /// file if it was written.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn ensure_admin(&self) -> Result<Option<PathBuf>, TokenError> {
        let _lock = file::lock(&self.directory)?;
        if file::stamp(&self.directory)?.is_some() {
            return Ok(None);
        }
        let wish = NewToken { name: "admin".to_owned(), role: Role::Admin, projects: Vec::new(), life: None };
        let (secret, kept) = self.make(&wish)?;
        // First the token, then the file that makes it good: killed in between, the next start does it again.
        let path = file::write_admin_token(&self.directory, &secret)?;
        file::write(&self.directory, &[kept])?;
        self.read_again()?;
        Ok(Some(path))
    }

    /// Makes a token. It is good, durably, when this returns.
    ///
    /// # Errors
    /// The wish is not of the right form, the name is in use, or a file operation failed.
    pub fn create(&self, wish: &NewToken) -> Result<(String, TokenInfo), TokenError> {
        wish.check()?;
        let _lock = file::lock(&self.directory)?;
        let mut all = file::read(&self.directory)?;
        // The name of one that has expired is free.
        let now = self.clock.now();
        all.retain(|kept| kept.info.name != wish.name || !has_expired(expiry(&kept.info), now));
        if all.iter().any(|kept| kept.info.name == wish.name) {
            return Err(TokenError::NameTaken { name: wish.name.clone() });
        }
        if all.len() >= MAX_TOKENS {
            return Err(TokenError::TooMany);
        }
        let (secret, kept) = self.make(wish)?;
        let info = kept.info.clone();
        all.push(kept);
        file::write(&self.directory, &all)?;
        self.read_again()?;
        Ok((secret, info))
    }

    /// All tokens, in the order of their making, those that have expired included.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn list(&self) -> Result<Vec<TokenInfo>, TokenError> {
        Ok(file::read(&self.directory)?.into_iter().map(|kept| kept.info).collect())
    }

    /// Revokes the token of that id or name. It is good for nothing, durably, when this returns.
    ///
    /// # Errors
    /// There is no such token, or a file operation failed.
    pub fn revoke(&self, token: &str) -> Result<TokenInfo, TokenError> {
        let _lock = file::lock(&self.directory)?;
        let mut all = file::read(&self.directory)?;
        let by_id = all.iter().position(|kept| kept.info.id == token);
        let found = by_id.or_else(|| all.iter().position(|kept| kept.info.name == token));
        let at = found.ok_or_else(|| TokenError::NoSuchToken { token: token.to_owned() })?;
        let info = all.remove(at).info;
        file::write(&self.directory, &all)?;
        self.read_again()?;
        Ok(info)
    }

    /// Who has that token, if it is good.
    pub(super) fn verify(&self, secret: &str) -> Option<Caller> {
        if !secret.starts_with(PREFIX) || secret.len() != PREFIX.len() + 2 * SECRET_BYTES {
            return None;
        }
        self.look();
        let hash: [u8; 32] = Sha256::digest(secret).into();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let token = known.by_id.get(&id_of(&hash))?;
        let is_equal: bool = token.hash.ct_eq(&hash).into();
        (is_equal && !has_expired(token.expires_at, self.clock.now())).then(|| token.caller.clone())
    }

    /// Whether the token of that id is still good: streams outlive the request that opened them.
    pub(super) fn is_good(&self, id: &str) -> bool {
        self.look();
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.by_id.get(id).is_some_and(|token| !has_expired(token.expires_at, self.clock.now()))
    }

    /// Reads the file again if it has changed.
    fn look(&self) {
        let now = self.clock.now();
        {
            let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
            if now.since(known.looked_at) < LOOK_INTERVAL {
                return;
            }
        }
        let is_changed = {
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            known.looked_at = now;
            file::stamp(&self.directory).is_ok_and(|stamp| stamp != known.stamp)
        };
        if is_changed && let Err(error) = self.read_again() {
            // What was read last stays in force.
            tracing::error!(error = &error as &dyn std::error::Error, "cannot read the tokens again");
        }
    }

    fn read_again(&self) -> Result<(), TokenError> {
        // The stamp first: a change in between is seen at the next look.
        let stamp = file::stamp(&self.directory)?;
        let all = file::read(&self.directory)?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        known.by_id = all.into_iter().filter_map(|kept| Some((kept.info.id.clone(), token(kept)?))).collect();
        known.stamp = stamp;
        Ok(())
    }

    fn make(&self, wish: &NewToken) -> Result<(String, Kept), TokenError> {
        let mut bytes = [0; SECRET_BYTES];
        getrandom::fill(&mut bytes).map_err(TokenError::Random)?;
        let secret = format!("{PREFIX}{}", file::hex(&bytes));
        let hash: [u8; 32] = Sha256::digest(&secret).into();
        let now = self.clock.now();
        let info = TokenInfo {
            id: id_of(&hash),
            name: wish.name.clone(),
            role: wish.role,
            projects: wish.projects.clone(),
            created_at: now.to_string(),
            expires_at: wish.life.map(|life| now.plus(life).to_string()),
        };
        Ok((secret, Kept { info, sha256: file::hex(&hash) }))
    }
}

impl NewToken {
    fn check(&self) -> Result<(), TokenError> {
        let invalid = |what, form| Err(TokenError::Invalid { what, form });
        if !is_id(&self.name) {
            return invalid("the name", "[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}");
        }
        if self.projects.len() > MAX_TOKEN_PROJECTS || !self.projects.iter().all(|id| is_project_id(id)) {
            return invalid("the projects", "at most 100 of [a-z0-9][a-z0-9-]{0,62}");
        }
        if self.life.is_some_and(|life| life.is_zero() || life > MAX_LIFE) {
            return invalid("the life", "more than nothing and at most ten years");
        }
        Ok(())
    }
}

fn id_of(hash: &[u8; 32]) -> String {
    file::hex(hash)[..ID_CHARS].to_owned()
}

fn expiry(info: &TokenInfo) -> Option<Timestamp> {
    // One whose end cannot be read has ended.
    info.expires_at.as_deref().map(|text| Timestamp::parse(text).unwrap_or_default())
}

fn has_expired(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|at| at <= now)
}

fn token(kept: Kept) -> Option<Token> {
    let expires_at = expiry(&kept.info);
    let caller = Caller {
        token: kept.info.id.into(),
        name: kept.info.name.into(),
        role: kept.info.role,
        projects: Arc::from(kept.info.projects),
    };
    Some(Token { hash: file::unhex(&kept.sha256)?, expires_at, caller })
}
