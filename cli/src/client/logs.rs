//! The log of one attempt, byte for byte, across restarts of the coordinator.

use super::send::jittered;
use super::{Client, problem};
use crate::exit::Failure;
use reqwest::Response;
use std::time::Duration;

/// The header that tells which attempt a log is of.
const ATTEMPT: &str = "cairn-attempt";
/// How long is waited, up to, before a log that broke off is opened again.
const REOPEN_PAUSE: Duration = Duration::from_secs(1);

/// A log that is read.
pub struct LogStream<'a> {
    client: &'a Client,
    path: Vec<String>,
    query: Vec<(String, String)>,
    response: Option<Response>,
    /// Bytes that were handed out, or are not wanted.
    received: u64,
    /// Bytes that come again after a break.
    again: u64,
}

impl<'a> LogStream<'a> {
    /// The log of a task, `milestone/task`; nothing is asked for yet.
    pub fn new(client: &'a Client, run: &str, task: &str, query: &[(&str, &str)]) -> Self {
        let (milestone, id) = task.split_once('/').unwrap_or(("main", task));
        let path = ["runs", run, "tasks", milestone, id, "logs"];
        Self {
            client,
            path: path.map(str::to_owned).to_vec(),
            query: query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            response: None,
            received: 0,
            again: 0,
        }
    }

    /// The same without its first bytes.
    #[must_use]
    pub fn skip(mut self, bytes: u64) -> Self {
        self.received = bytes;
        self
    }

    /// Begins, and gives the attempt; 0 if that is not told.
    ///
    /// # Errors
    /// The coordinator is out of reach, or refuses.
    pub async fn open(&mut self) -> Result<u32, Failure> {
        let path: Vec<_> = self.path.iter().map(String::as_str).collect();
        let query: Vec<_> = self.query.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let response = self.client.open(&path, &query, &[]).await?;
        let attempt = response.headers().get(ATTEMPT).and_then(|value| value.to_str().ok()?.parse().ok());
        self.again = self.received;
        self.response = Some(response);
        Ok(attempt.unwrap_or(0))
    }

    /// What comes next; `None` at the end. Can be dropped while it waits.
    ///
    /// # Errors
    /// The coordinator has been out of reach for too long, or refuses.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        loop {
            let Some(response) = &mut self.response else {
                self.open().await?;
                continue;
            };
            match response.chunk().await {
                Ok(Some(bytes)) => {
                    let known = usize::try_from(self.again).unwrap_or(usize::MAX).min(bytes.len());
                    self.again -= known as u64;
                    let fresh = &bytes[known..];
                    if !fresh.is_empty() {
                        self.received += fresh.len() as u64;
                        return Ok(Some(fresh.to_vec()));
                    }
                }
                Ok(None) => return Ok(None),
                Err(error) => {
                    let lost = problem::no_answer(self.client.target(), &error);
                    // Where the last lines begin may have changed meanwhile.
                    if self.received > 0 && self.query.iter().any(|(name, _)| name == "tail") {
                        return Err(lost);
                    }
                    self.response = None;
                    self.client.lost(&lost);
                    tokio::time::sleep(jittered(REOPEN_PAUSE)).await;
                }
            }
        }
    }

    /// How many bytes have come.
    pub const fn received(&self) -> u64 {
        self.received
    }
}
