//! One request and its answer, sent again while the coordinator restarts.

use super::{Target, problem};
use crate::exit::{Exit, Failure};
use crate::view::write_above;
use cairn_coordinator::runtime::new_id;
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::cell::Cell;
use std::time::Duration;

/// How long a connection may take to come about.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long nothing may come: five times the pause between two signs of life in a stream of events, and more than a
/// coordinator gives the body of a plan.
const READ_TIMEOUT: Duration = Duration::from_secs(75);
/// How long a coordinator that has never answered is tried: most are back from a restart by then, and who typed a
/// wrong URL is told soon.
const FIRST_PATIENCE: Duration = Duration::from_secs(5);
/// How long one that says that it cannot now is tried: it is starting, or overloaded.
const BUSY_PATIENCE: Duration = Duration::from_secs(30);
/// How long one that has done something for us is tried: the time to move it to another machine.
const LATER_PATIENCE: Duration = Duration::from_secs(300);
/// The first pause between two tries, and the longest one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Most bytes of an answer: the status of a million tasks has 300 MB.
const MAX_ANSWER_BYTES: usize = 1 << 30;
/// Most bytes of a refusal that are read.
const MAX_PROBLEM_BYTES: usize = 4 << 20;
/// Where the interface begins.
const API: [&str; 2] = ["api", "v1"];

/// What is sent with a write.
pub struct Body {
    bytes: Vec<u8>,
    content_type: &'static str,
}

impl Body {
    /// A value.
    ///
    /// # Errors
    /// It cannot be written as JSON, which is our bug.
    pub fn json(value: &impl Serialize) -> Result<Self, Failure> {
        let bytes = serde_json::to_vec(value)
            .map_err(|error| Failure::new(Exit::Bug, format!("a request cannot be written: {error}")))?;
        Ok(Self { bytes, content_type: "application/json" })
    }

    /// A plan as it was written.
    pub fn plan(text: String) -> Self {
        Self { bytes: text.into_bytes(), content_type: "application/yaml" }
    }
}

/// Speaks to one coordinator.
pub struct Client {
    http: reqwest::Client,
    target: Target,
    /// It has answered before.
    has_answered: Cell<bool>,
    /// It was said that it is lost.
    is_lost: Cell<bool>,
    /// What fails is not tried again.
    gives_up: bool,
    clock: Clock,
}

impl Client {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// The system has no certificates to trust, and they are needed.
    pub fn new(target: Target) -> Result<Self, Failure> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("cairn/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(READ_TIMEOUT)
            // An interface does not move; a token must not.
            .redirect(reqwest::redirect::Policy::none());
        if target.url.scheme() == "http" {
            // What is not needed is not loaded, and may be missing.
            builder = builder.tls_certs_only([]);
        }
        if super::target::is_loopback(&target.url) {
            builder = builder.no_proxy();
        }
        let http = builder.build().map_err(|error| {
            Failure::because(Exit::OutOfReach, &error).help(
                "install the certificates of the usual authorities, or name a file of them in SSL_CERT_FILE",
            )
        })?;
        let client = Self {
            http,
            has_answered: Cell::new(false),
            is_lost: Cell::new(false),
            gives_up: false,
            clock: Clock::start(Timestamp(0)),
            target,
        };
        if client.target.is_open() {
            client.tell(&format!(
                "the token goes to {} unencrypted: everybody on the way can use it; use https",
                client.target.url
            ));
        }
        Ok(client)
    }

    /// The same, that tries nothing again: for those who want to know how things are now.
    #[must_use]
    pub fn at_once(mut self) -> Self {
        self.gives_up = true;
        self
    }

    /// Whom it speaks to.
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// Reads something of `/api/v1`.
    ///
    /// # Errors
    /// The coordinator is out of reach, refuses, or cannot be understood.
    pub async fn get<T: DeserializeOwned>(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<T, Failure> {
        let response = self.open(path, query, &[]).await?;
        self.read(response).await
    }

    /// Begins to read something of `/api/v1`.
    ///
    /// # Errors
    /// The coordinator is out of reach, or refuses.
    pub async fn open(
        &self,
        path: &[&str],
        query: &[(&str, &str)],
        headers: &[(&'static str, &str)],
    ) -> Result<Response, Failure> {
        let url = self.url(path);
        self.send(|| {
            let request = self.http.get(url.clone()).query(query);
            headers.iter().fold(request, |request, (name, value)| request.header(*name, *value))
        })
        .await
    }

    /// Writes something; the same key is the same write, however often it comes.
    ///
    /// # Errors
    /// The coordinator is out of reach, refuses, or cannot be understood.
    pub async fn write<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
        body: Option<&Body>,
        key: Option<&str>,
    ) -> Result<T, Failure> {
        let url = self.url(path);
        let key = key.map_or_else(|| new_id().to_string(), str::to_owned);
        let response = self
            .send(|| {
                let request = self.http.request(method.clone(), url.clone()).query(query);
                let request = request.header("idempotency-key", &key);
                match body {
                    Some(body) => request.header(CONTENT_TYPE, body.content_type).body(body.bytes.clone()),
                    None => request,
                }
            })
            .await?;
        self.read(response).await
    }

    /// Asks for a page outside of `/api/v1` (`/readyz`) once, whatever the answer.
    ///
    /// # Errors
    /// There is no answer.
    pub async fn probe(&self, path: &str, query: &[(&str, &str)]) -> Result<Response, Failure> {
        let mut url = self.target.url.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(path.split('/').filter(|segment| !segment.is_empty()));
        }
        let request = self.authorized(self.http.get(url).query(query));
        request.send().await.map_err(|error| problem::no_answer(&self.target, &error))
    }

    /// Reads an answer to its end.
    ///
    /// # Errors
    /// It breaks off, is too long, or cannot be understood.
    pub async fn read<T: DeserializeOwned>(&self, response: Response) -> Result<T, Failure> {
        let bytes = self.bytes(response, MAX_ANSWER_BYTES).await?;
        // What is written without an answer has none.
        let bytes = if bytes.is_empty() { b"null".as_slice() } else { &bytes };
        serde_json::from_slice(bytes).map_err(|error| problem::unreadable(&self.target, &error))
    }

    async fn bytes(&self, mut response: Response, limit: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= limit => bytes.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    return Err(Failure::new(
                        Exit::OutOfReach,
                        format!("the answer of {} has more than {limit} bytes", self.target.url),
                    ));
                }
                Ok(None) => return Ok(bytes),
                Err(error) => return Err(problem::no_answer(&self.target, &error)),
            }
        }
    }

    fn url(&self, path: &[&str]) -> Url {
        let mut url = self.target.url.clone();
        // It has a host, so it has segments.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(API).extend(path);
        }
        url
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.target.token {
            Some(token) => request.header(AUTHORIZATION, token.header.clone()),
            None => request,
        }
    }

    /// Sends until there is an answer that stays, as long as there is hope.
    async fn send(&self, build: impl Fn() -> RequestBuilder) -> Result<Response, Failure> {
        let mut pauses = Pauses::new(self.clock.clone());
        loop {
            let request = self.authorized(build());
            let (failure, at_least, patience) = match request.send().await {
                Ok(response) if response.status().is_success() => {
                    self.found();
                    return Ok(response);
                }
                Ok(response) => {
                    let status = response.status();
                    let at_least = retry_after(&response);
                    let body = self.bytes(response, MAX_PROBLEM_BYTES).await.unwrap_or_default();
                    let failure = problem::refusal(&self.target, status, &body);
                    if !problem::will_pass(status) {
                        self.found();
                        return Err(failure);
                    }
                    (failure, at_least, BUSY_PATIENCE)
                }
                Err(error) => {
                    let failure = problem::no_answer(&self.target, &error);
                    if !problem::may_pass(&error) {
                        return Err(failure);
                    }
                    (failure, Duration::ZERO, FIRST_PATIENCE)
                }
            };
            let patience = match self.has_answered.get() {
                _ if self.gives_up => Duration::ZERO,
                true => LATER_PATIENCE,
                false => patience,
            };
            let Some(pause) = pauses.next(patience, at_least) else { return Err(failure) };
            self.lost(&failure);
            tokio::time::sleep(pause).await;
        }
    }

    /// A stream broke off, or there is no answer for now: says so, once.
    pub(super) fn lost(&self, failure: &Failure) {
        if self.is_lost.replace(true) {
            return;
        }
        match self.has_answered.get() {
            true => self.tell("lost the coordinator, trying again"),
            false => self.tell(&format!("{}; trying again", failure.message)),
        }
    }

    fn found(&self) {
        self.has_answered.set(true);
        if self.is_lost.replace(false) {
            self.tell("the coordinator is back");
        }
    }

    fn tell(&self, text: &str) {
        // A closed stderr stops nothing.
        let _ = write_above(format!("note: {text}\n").as_bytes());
    }
}

fn retry_after(response: &Response) -> Duration {
    let seconds = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    Duration::from_secs(seconds.unwrap_or(0))
}

/// The media type of a stream of events, for [`Client::open`].
pub const EVENT_STREAM: (&str, &str) = ("accept", "text/event-stream");

/// Pauses between tries: each up to twice as long as the one before, by chance shorter, so that many clients do not
/// come back at once.
struct Pauses {
    clock: Clock,
    since: Timestamp,
    longest: Duration,
}

impl Pauses {
    fn new(clock: Clock) -> Self {
        Self { since: clock.now(), longest: PAUSES.0, clock }
    }

    /// The next pause; `None` if it would end behind our patience.
    fn next(&mut self, patience: Duration, at_least: Duration) -> Option<Duration> {
        let pause = jittered(self.longest).max(at_least);
        self.longest = (self.longest * 2).min(PAUSES.1);
        (self.clock.now().plus(pause).since(self.since) <= patience).then_some(pause)
    }
}

/// Between half of it and all of it.
pub(super) fn jittered(pause: Duration) -> Duration {
    // The low bits of an id are random.
    let thousandths = (new_id().as_u128() % 1000) as u32;
    pause / 2 + pause / 2 * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let mut pauses = Pauses::new(Clock::start(Timestamp(0)));
        let hour = Duration::from_secs(3600);
        let taken: Vec<_> = (0..9).map_while(|_| pauses.next(hour, Duration::ZERO)).collect();
        for (at, pause) in taken.iter().enumerate() {
            let longest = (PAUSES.0 * (1 << at)).min(PAUSES.1);
            assert!((longest / 2..=longest).contains(pause), "{at}: {pause:?}");
        }
        assert_eq!(taken.len(), 9);
        assert_eq!(pauses.next(hour, hour / 2), Some(hour / 2));
        assert_eq!(pauses.next(hour, 2 * hour), None, "longer than there is patience");
    }
}
