//! A keeper within the process of its coordinator: for a coordinator on one machine.
//!
//! It has a thread of its own, so that what else the process does keeps no process from being ended in time. All else is
//! as in an agent of its own: journal, left-over processes, workspace. What differs: signals and the service manager are
//! the process's affair, and nobody is left to end its tasks when the process is killed, so the next keeper does.

use super::start::{MAX_WAITING_EVENTS, run_with};
use super::{Ended, Event, KeeperError, Settings};
use cairn_shared::clock::Clock;
use tokio::sync::{mpsc, oneshot};

/// A keeper in a thread of this process.
#[derive(Debug)]
pub struct Embedded {
    events: mpsc::Sender<Event>,
    ended: oneshot::Receiver<Result<Ended, KeeperError>>,
}

impl Embedded {
    /// Starts one. Its settings say [`Here`](super::Launch::Here), and where.
    ///
    /// # Errors
    /// The system gives no thread. What fails later is told by [`ended`](Self::ended).
    pub fn start(settings: Settings, clock: Clock) -> Result<Self, KeeperError> {
        let (events, heard) = mpsc::channel(MAX_WAITING_EVENTS);
        let (tell, ended) = oneshot::channel();
        let to_itself = events.clone();
        let work = move || {
            let reload = Box::new(|| Err("it is read by the coordinator".to_owned()));
            // Nobody waits any more where the process is ending.
            let _ = tell.send(run_with(settings, reload, clock, (to_itself, heard)));
        };
        std::thread::Builder::new().name("agent".to_owned()).spawn(work).map_err(KeeperError::Setup)?;
        Ok(Self { events, ended })
    }

    /// Asks it to end, as a signal asks an agent: the first time what runs goes on to its end, the second time that is
    /// ended, the third time killed.
    pub async fn terminate(&self) {
        // One that has ended need not be asked.
        let _ = self.events.send(Event::Terminate).await;
    }

    /// How it ended; not to be asked again. `None` if it panicked.
    ///
    /// # Errors
    /// It could not begin, or its journal failed.
    pub async fn ended(&mut self) -> Result<Option<Ended>, KeeperError> {
        (&mut self.ended).await.map_or(Ok(None), |ended| ended.map(Some))
    }
}
