//! Starts children, and hears what they say and when they end.

use super::Event;
use crate::child;
use crate::link::{Reader, ToChild, ToKeeper, Writer};
use cairn_shared::transport::Transport;
use cairn_shared::transport::in_process::InProcess;
use rustix::process::{Pid, PidfdFlags, Signal};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

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

/// How a child is started.
#[derive(Clone, Debug)]
pub enum Launch {
    /// As a process of its own.
    Program {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<OsString>,
    },
    /// Within this process, at an end of its own of these queues: for an agent whose coordinator is this process too.
    Here(Arc<InProcess>),
}

/// What ends a child.
enum Handle {
    Process(OwnedFd),
    Task(AbortHandle),
}

/// A child that runs.
pub(super) struct Child {
    pub generation: u64,
    to: mpsc::Sender<ToChild>,
    handle: Handle,
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
        let gone = (generation, events.clone());
        let handle = match self {
            Self::Program { program, arguments } => {
                let program = if own_image { Path::new(OWN_IMAGE) } else { program };
                start_process(program, arguments, theirs, gone)?
            }
            Self::Here(hub) => start_task(hub, theirs, gone)?,
        };
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
        Ok(Child { generation, to, handle, is_attached: false, unanswered: 0 })
    }

    /// Whether keeper and child are part of a process that has other things to do, signals and service manager among them.
    pub(super) fn is_here(&self) -> bool {
        matches!(self, Self::Here(_))
    }
}

impl fmt::Display for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Program { program, .. } => program.display().fmt(f),
            Self::Here(_) => f.write_str("this process"),
        }
    }
}

type Socket = std::os::unix::net::UnixStream;

fn start_process(
    program: &Path,
    arguments: &[OsString],
    socket: Socket,
    (generation, gone): (u64, mpsc::Sender<Event>),
) -> io::Result<Handle> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::null())
        .spawn()?;
    let handle = rustix::process::pidfd_open(Pid::from_child(&child), PidfdFlags::empty());
    // The child is waited for by this thread and by nobody else.
    std::thread::Builder::new().name("child".to_owned()).spawn(move || {
        let how = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        // The keeper has gone on without it.
        let _ = gone.blocking_send(Event::Gone { generation, how });
    })?;
    Ok(Handle::Process(handle?))
}

fn start_task(
    hub: &InProcess,
    socket: Socket,
    (generation, gone): (u64, mpsc::Sender<Event>),
) -> io::Result<Handle> {
    socket.set_nonblocking(true)?;
    let socket = tokio::net::UnixStream::from_std(socket)?;
    let transport: Arc<dyn Transport> = Arc::new(hub.endpoint());
    let task = tokio::spawn(child::serve(socket, |_| std::future::ready(Ok(transport)), None));
    let handle = Handle::Task(task.abort_handle());
    tokio::spawn(async move {
        let how = match task.await {
            Ok(Ok(_)) => "it ended".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        // The keeper has gone on without it.
        let _ = gone.send(Event::Gone { generation, how }).await;
    });
    Ok(handle)
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
        match &self.handle {
            Handle::Process(handle) => drop(rustix::process::pidfd_send_signal(handle, Signal::KILL)),
            Handle::Task(handle) => handle.abort(),
        }
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
