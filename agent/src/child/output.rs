//! Ships what tasks print: reads the logs of attempts as they grow, in pieces with their places.
//!
//! One piece of a log at a time is under way; the next is read when the broker has it. So output is bounded in memory and
//! never holds up what else there is to say by more than a piece of each log in turn. After a restart of the child a log
//! is shipped from its beginning again: what comes twice lands on itself.

use super::uplink::Uplink;
use crate::link::{LogName, ToKeeper};
use crate::metric_definitions::OUTPUT_BYTES;
use cairn_shared::message::wire::{Output, ToCoordinator};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::sync::mpsc;

/// Bytes of a piece at most.
const MAX_PIECE_BYTES: u64 = 64 << 10;

/// How often logs are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Names that wait to be heard: of all that start and end between two looks.
pub(super) const MAX_WAITING_NAMES: usize = 16_384;

/// Pieces of one log in a row.
const MAX_PIECES_PER_LOOK: usize = 16;

/// What the shipper hears.
#[derive(Debug)]
pub(super) enum News {
    Started(LogName),
    Ended(LogName),
    Silent(LogName),
}

#[derive(Default)]
struct Followed {
    offset: u64,
    has_ended: bool,
}

/// What became of a log at a look.
enum Progress {
    /// There may be more, later.
    Going,
    /// The broker has all of it.
    Shipped,
    /// The broker did not take a piece.
    Refused,
}

/// Ships logs.
pub(super) struct Shipper {
    pub agent: String,
    pub logs: PathBuf,
    pub uplink: Uplink,
    pub to_keeper: mpsc::Sender<ToKeeper>,
}

impl Shipper {
    /// Ships until nobody speaks to it any more.
    pub async fn run(self, mut news: mpsc::Receiver<News>) {
        let mut followed: BTreeMap<LogName, Followed> = BTreeMap::new();
        loop {
            tokio::select! {
                heard = news.recv() => {
                    match heard {
                        Some(News::Started(name)) => drop(followed.entry(name).or_default()),
                        Some(News::Ended(name)) => followed.entry(name).or_default().has_ended = true,
                        Some(News::Silent(name)) => drop(followed.remove(&name)),
                        None => return,
                    }
                    continue;
                }
                () = tokio::time::sleep(LOOK_INTERVAL), if !followed.is_empty() => {}
            }
            let mut shipped = Vec::new();
            for (name, log) in &mut followed {
                match self.follow(name, log).await {
                    Progress::Going => {}
                    Progress::Shipped => shipped.push(name.clone()),
                    Progress::Refused => break,
                }
            }
            for name in shipped {
                followed.remove(&name);
                if self.to_keeper.send(ToKeeper::Shipped(name)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Ships what a log has, up to some pieces: then it is the turn of the next one.
    async fn follow(&self, name: &LogName, log: &mut Followed) -> Progress {
        for _ in 0..MAX_PIECES_PER_LOOK {
            let bytes = read(&self.logs.join(name.path()), log.offset).unwrap_or_else(|error| {
                tracing::warn!(%error, log = name.path(), "output is lost: its log cannot be read");
                Vec::new()
            });
            let length = bytes.len() as u64;
            let is_last = log.has_ended && length < MAX_PIECE_BYTES;
            if length == 0 && !is_last {
                return Progress::Going;
            }
            let LogName { run, task, attempt } = name.clone();
            let (agent, offset) = (self.agent.clone(), log.offset);
            let output = Output { agent, run, task, attempt, offset, bytes, is_last };
            if !self.uplink.ship(ToCoordinator::Output(output)).await {
                return Progress::Refused;
            }
            metrics::counter!(OUTPUT_BYTES).increment(length);
            log.offset += length;
            if is_last {
                return Progress::Shipped;
            }
        }
        Progress::Going
    }
}

/// The next piece of a log; empty at its end, and if there is none yet.
fn read(path: &Path, offset: u64) -> io::Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?,
    };
    file.seek(SeekFrom::Start(offset))?;
    let mut piece = Vec::new();
    file.take(MAX_PIECE_BYTES).read_to_end(&mut piece)?;
    Ok(piece)
}
