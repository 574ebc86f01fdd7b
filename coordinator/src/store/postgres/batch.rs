//! A batch as the database's function `append` takes it, and what that answers.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::{PgArguments, PgRow};
use sqlx::query::Query;

use crate::store::chain::Link;
use crate::store::error::AppendError;
use crate::store::record::{Append, Appended, Head, NewRecord};

const APPEND: &str =
    "SELECT end_position, end_chain, out_first_position, out_refused_appends, out_refused_runs,
    out_refused_as_fenced, out_refused_at
    FROM append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)";

/// A batch in columns. A run is a row of records of one append and stream that follow each other.
#[derive(Debug, Default)]
pub(super) struct Batch<'a> {
    streams: Vec<&'a str>,
    appends: Appends<'a>,
    runs: Runs,
    records: Records<'a>,
    /// The link that the log had, and the one it has after this if it has that still and all is accepted.
    known: Option<(Link, Link)>,
}

#[derive(Debug, Default)]
struct Appends<'a> {
    appends: Vec<&'a Append>,
    epochs: Vec<i64>,
    counts: Vec<i64>,
}

#[derive(Debug, Default)]
struct Runs {
    appends: Vec<i32>,
    streams: Vec<i32>,
    versions: Vec<i64>,
    counts: Vec<i64>,
    /// The record that the run begins with: its append's number, and its own within that.
    firsts: Vec<(usize, usize)>,
}

#[derive(Debug, Default)]
struct Records<'a> {
    appends: Vec<i32>,
    streams: Vec<i32>,
    offsets: Vec<i64>,
    versions: Vec<i64>,
    counts: Vec<i64>,
    bodies: Vec<&'a str>,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Answer {
    /// The end of the log as the database knows it.
    pub(super) head: Head,
    /// One for each append, in order.
    pub(super) appends: Vec<Result<Appended, AppendError>>,
}

impl<'a> Batch<'a> {
    /// Puts appends into columns. `known` is the link that the log has as far as the writer knows.
    pub(super) fn new(appends: impl IntoIterator<Item = &'a Append>, known: Link) -> Self {
        let mut batch = Self::default();
        let mut numbers: HashMap<&'a str, i32> = HashMap::new();
        let mut link = known;
        for append in appends {
            batch.put(append, &mut numbers, &mut link);
        }
        batch.known = Some((known, link));
        batch
    }

    fn put(&mut self, append: &'a Append, numbers: &mut HashMap<&'a str, i32>, link: &mut Link) {
        let at = self.appends.appends.len();
        let number = ordinal(at);
        let mut offset = 0;
        // Where the run that is being put goes on.
        let mut next = None;
        for (index, record) in append.records.iter().enumerate() {
            let NewRecord { stream, first_version, count, body } = record;
            let name = stream.as_str();
            let stream = *numbers.entry(name).or_insert_with(|| {
                self.streams.push(name);
                ordinal(self.streams.len() - 1)
            });
            let (version, events) = (signed(*first_version), i64::from(*count));
            match self.runs.counts.last_mut() {
                Some(run) if next == Some((stream, *first_version)) => *run += events,
                _ => self.runs.push(number, stream, version, events, (at, index)),
            }
            next = Some((stream, first_version + u64::from(*count)));
            self.records.appends.push(number);
            self.records.streams.push(stream);
            self.records.offsets.push(offset);
            self.records.versions.push(version);
            self.records.counts.push(events);
            self.records.bodies.push(body);
            offset += events;
            *link = link.followed_by(name, *first_version, *count, append.epoch, body.as_bytes());
        }
        self.appends.appends.push(append);
        self.appends.epochs.push(signed(append.epoch));
        self.appends.counts.push(offset);
    }

    /// The call that makes the batch.
    pub(super) fn call(&self, writer: i32, number: i64) -> Query<'_, sqlx::Postgres, PgArguments> {
        let (known, next) = self.known.unwrap_or((Link::EMPTY, Link::EMPTY));
        sqlx::query(APPEND)
            .bind(writer)
            .bind(number)
            .bind(known.bytes().to_vec())
            .bind(next.bytes().to_vec())
            .bind(&self.streams)
            .bind(&self.appends.epochs)
            .bind(&self.appends.counts)
            .bind(&self.runs.appends)
            .bind(&self.runs.streams)
            .bind(&self.runs.versions)
            .bind(&self.runs.counts)
            .bind(&self.records.appends)
            .bind(&self.records.streams)
            .bind(&self.records.offsets)
            .bind(&self.records.versions)
            .bind(&self.records.counts)
            .bind(&self.records.bodies)
    }

    /// Reads the answer.
    pub(super) fn answer(&self, row: &PgRow) -> Result<Answer, sqlx::Error> {
        let chain: Vec<u8> = row.try_get(1)?;
        let chain =
            Link::from_bytes(&chain).ok_or_else(|| sqlx::Error::Decode("a link has 32 bytes".into()))?;
        let head = Head { position: unsigned(row.try_get(0)?), chain };
        let refused: Vec<i32> = row.try_get(3)?;
        let runs: Vec<i32> = row.try_get(4)?;
        let fenced: Vec<bool> = row.try_get(5)?;
        let at: Vec<i64> = row.try_get(6)?;
        let mut refusals = HashMap::new();
        for (((append, run), fenced), at) in refused.into_iter().zip(runs).zip(fenced).zip(at) {
            refusals.insert(append, self.refusal(run, fenced, unsigned(at))?);
        }
        let mut position = unsigned(row.try_get(2)?);
        let appends = self.appends.counts.iter().zip(1..);
        let appends = appends.map(|(count, number)| match refusals.remove(&number) {
            Some(refusal) => Err(refusal),
            None => {
                let appended = Appended { position };
                position += unsigned(*count);
                Ok(appended)
            }
        });
        Ok(Answer { head, appends: appends.collect() })
    }

    fn refusal(&self, run: i32, is_fenced: bool, at: u64) -> Result<AppendError, sqlx::Error> {
        let first = usize::try_from(run).ok().and_then(|run| self.runs.firsts.get(run.checked_sub(1)?));
        let found = first.and_then(|&(append, record)| {
            let append = self.appends.appends.get(append)?;
            Some((append.epoch, append.records.get(record)?))
        });
        let (epoch, record) = found.ok_or_else(|| sqlx::Error::Decode("there is no such run".into()))?;
        let stream = record.stream.clone();
        Ok(if is_fenced {
            AppendError::Fenced { stream, epoch, current: at }
        } else {
            AppendError::Conflict { stream, expected: record.first_version - 1, actual: at }
        })
    }
}

impl Runs {
    fn push(&mut self, append: i32, stream: i32, version: i64, count: i64, first: (usize, usize)) {
        self.appends.push(append);
        self.streams.push(stream);
        self.versions.push(version);
        self.counts.push(count);
        self.firsts.push(first);
    }
}

/// The number, counted from 1, of what has this index; there is less of everything in a batch than an append has bytes.
fn ordinal(index: usize) -> i32 {
    i32::try_from(index + 1).unwrap_or(i32::MAX)
}

/// A number as the database takes it. What is beyond stands for more than any version or position that there is.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A number as it comes back; the tables hold none below 0.
pub(super) fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
