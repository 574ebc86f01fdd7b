//! What the daemons share: the way to the broker, and what the service manager is told.

use crate::exit::{Exit, Failure};
use cairn_coordinator::service::config::CoordinatorConfig;
use cairn_shared::config::{SecretUrl, read_authority};
use cairn_shared::transport::Transport;
use cairn_shared::transport::amqp::{Amqp, Role, Settings};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The transport of a coordinator over a broker; it connects by itself, and its health tells how that goes.
///
/// # Errors
/// The address of the broker is none, or `transport_authority` cannot be used.
pub fn transport_of_coordinator(
    config: &CoordinatorConfig,
    url: &SecretUrl,
    name: &str,
) -> Result<Arc<dyn Transport>, Failure> {
    let url = url.expose().parse().map_err(|error| Failure::because(Exit::Usage, &error))?;
    let settings = Settings {
        url,
        queue_type: config.queue_type,
        role: Role::Coordinator,
        name: format!("cairn coordinator {name}"),
        certificate_authority: authority(config.transport_authority.as_deref())?,
    };
    Ok(Arc::new(Amqp::connect(settings)))
}

/// A state directory that is there, by its absolute path.
///
/// # Errors
/// It cannot be made or entered.
pub fn absolute(state: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::create_dir_all(state).and_then(|()| state.canonicalize());
    made.map_err(|error| {
        Failure::new(Exit::OutOfReach, format!("cannot use the state directory {}: {error}", state.display()))
            .help("make it writable, or name another one with --state DIR")
    })
}

/// The certificates that vouch for the broker besides those of the system.
///
/// # Errors
/// The file cannot be read, or is none of certificates.
pub fn authority(path: Option<&Path>) -> Result<Option<String>, Failure> {
    read_authority(path).map_err(|error| {
        Failure::because(Exit::Usage, &error)
            .help("`transport_authority` is to name a file of certificates (PEM) that this user can read")
    })
}

/// The name of this machine, or what stands for it.
pub fn host_name() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "coordinator".to_owned() } else { name }
}

/// Tells the service manager that we serve. Nobody listens where there is none.
pub fn say_ready() {
    tell(sd_notify::NotifyState::Ready);
}

/// Tells the service manager that we are ending.
pub fn say_stopping() {
    tell(sd_notify::NotifyState::Stopping);
}

fn tell(state: sd_notify::NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::debug!(%error, "the service manager was not told");
    }
}
