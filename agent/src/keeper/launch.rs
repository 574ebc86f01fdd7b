//! Starts children, and hears what they say and when they end.

use super::Event;
use crate::link::{Reader, ToChild, ToKeeper, Writer};
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::sync::mpsc;

/// Frames for the child that wait to be written. A child that lets so many wait is broken, and is replaced.
const MAX_WAITING_FRAMES: usize = 4096;

/// Frames written together.
const FRAMES_AT_ONCE: usize = 64;

/// How long until a child is started again that ended soon after its start: after the first time at once.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// The same at most.
const MAX_DELAY: Duration = Duration::from_secs(1);

/// The program that this process was started from, even if the file has been replaced.
const OWN_IMAGE: &str = "/proc/self/exe";

/// What to start.
#[derive(Clone, Debug)]
pub struct Launch {
    /// The program.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// A child that runs.
pub(super) struct Child {
    pub generation: u64,
    to: mpsc::Sender<ToChild>,
    handle: OwnedFd,
    /// It has said who it is.
    pub is_attached: bool,
    /// Beats that it has not answered.
    pub unanswered: u32,
}

impl Launch {
    /// Starts a child. Events with its generation tell what becomes of it.
    ///
    /// # Errors
    /// The system refuses.
    pub(super) fn start(
        &self,
        generation: u64,
        own_image: bool,
        events: &mpsc::Sender<Event>,
    ) -> io::Result<Child> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let program = if own_image { Path::new(OWN_IMAGE) } else { &self.program };
        let mut child = Command::new(program)
            .args(&self.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        let handle = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
        let ended = events.clone();
        // The child is waited for by this thread and by nobody else.
        std::thread::Builder::new().name("child".to_owned()).spawn(move || {
            let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
            // The keeper has gone on without it.
            let _ = ended.blocking_send(Event::Gone { generation, how });
        })?;
        let (from_child, to_child) = tokio::net::UnixStream::from_std(ours)?.into_split();
        let (to, mut waiting) = mpsc::channel(MAX_WAITING_FRAMES);
        tokio::spawn(async move {
            let (mut writer, mut frames) = (Writer::new(to_child), Vec::new());
            while waiting.recv_many(&mut frames, FRAMES_AT_ONCE).await > 0 {
                // A socket without a child: its end is on the way.
                if writer.write(&frames).await.is_err() {
                    return;
                }
                frames.clear();
            }
        });
        let events = events.clone();
        tokio::spawn(async move {
            let mut reader = Reader::new(from_child);
            loop {
                let event = match reader.next::<ToKeeper>().await {
                    Ok(Some(said)) => Event::Said { generation, said },
                    Ok(None) => Event::Silent { generation, error: None },
                    Err(error) => Event::Silent { generation, error: Some(error) },
                };
                let is_last = matches!(event, Event::Silent { .. });
                if events.send(event).await.is_err() || is_last {
                    return;
                }
            }
        });
        Ok(Child { generation, to, handle: handle?, is_attached: false, unanswered: 0 })
    }
}

impl Child {
    /// Says something to it. One that does not listen is ended.
    pub fn tell(&self, frame: ToChild) {
        if let Err(mpsc::error::TrySendError::Full(_)) = self.to.try_send(frame) {
            tracing::warn!("the child does not listen: it is replaced");
            self.kill();
        }
    }

    /// Ends it at once; nothing of tasks is lost.
    pub fn kill(&self) {
        let _ = rustix::process::pidfd_send_signal(&self.handle, Signal::KILL);
    }
}

/// How long to wait before a child is started again that ended `failures` times in a row soon after its start.
pub(super) fn delay_after(failures: u32) -> Duration {
    match failures {
        0 | 1 => Duration::ZERO,
        more => MAX_DELAY.min(FIRST_DELAY * 2_u32.saturating_pow(more - 2)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_time_at_once_and_never_later_than_a_second() {
        let delays: Vec<_> = (1..8).map(|failures| delay_after(failures).as_millis()).collect();
        assert_eq!(delays, [0, 50, 100, 200, 400, 800, 1000]);
        assert_eq!(delay_after(u32::MAX), MAX_DELAY);
    }
}
