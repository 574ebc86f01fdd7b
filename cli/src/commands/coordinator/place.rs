//! Where a coordinator keeps things: the state directory, the store, and the file that says where it answers.

use crate::client::URL_FILE;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::state_directory::not_opened;
use cairn_coordinator::runtime::{last_moment, new_id};
use cairn_coordinator::service::config::CoordinatorConfig;
use cairn_coordinator::store::{self, EventStore, Holder, InForce, Lock, StoreUrl};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The events of a state directory.
pub(super) struct Events {
    pub store: Arc<dyn EventStore>,
    /// Where they are.
    pub url: StoreUrl,
    /// A clock that goes on where the log ends.
    pub clock: Clock,
    /// That of the state directory, if the store does not hold it.
    pub lock: Option<Lock>,
}

/// Opens the store that is in force.
pub(super) fn open_store(
    state: &Path,
    config: &CoordinatorConfig,
    context: &Context,
) -> Result<Events, Failure> {
    let now = Clock::start(Timestamp(0)).now();
    let holder = Holder::this_process(context.command_line.clone(), now);
    let InForce { url, opened, lock } =
        store::open_in_force(state, config.store.as_ref(), &config.stores, &holder, new_id()).map_err(
            |error| not_opened(&error, "one coordinator owns a state directory: end the other one"),
        )?;
    for notice in &opened.notices {
        tracing::warn!("{notice}");
    }
    let last = store::open_reader(&url).and_then(|reader| last_moment(&*reader));
    let last = last.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    Ok(Events { store: opened.store, url, clock: Clock::start(last), lock })
}

/// Says where the coordinator answers, for as long as it does.
pub(super) struct UrlFile(PathBuf);

impl UrlFile {
    pub fn write(state: &Path, url: &str) -> Result<Self, Failure> {
        let path = state.join(URL_FILE);
        let draft = state.join(format!("{URL_FILE}.{}", std::process::id()));
        let written =
            std::fs::write(&draft, format!("{url}\n")).and_then(|()| std::fs::rename(&draft, &path));
        written.map_err(|error| {
            Failure::new(Exit::OutOfReach, format!("cannot write {}: {error}", path.display()))
        })?;
        Ok(Self(path))
    }
}

impl Drop for UrlFile {
    fn drop(&mut self) {
        // Where it stays, whoever follows it finds nobody and says so.
        let _ = std::fs::remove_file(&self.0);
    }
}
