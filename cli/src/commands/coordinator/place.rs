//! Where a coordinator keeps things: the state directory, the store, and the file that says where it answers.

use crate::client::URL_FILE;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use cairn_coordinator::runtime::{last_moment, new_id};
use cairn_coordinator::store::file::{LogReader, Options};
use cairn_coordinator::store::{FileStore, Holder};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A state directory that is there, by its absolute path.
pub(super) fn absolute(state: &Path) -> Result<PathBuf, Failure> {
    let made = std::fs::create_dir_all(state).and_then(|()| state.canonicalize());
    made.map_err(|error| {
        Failure::new(Exit::OutOfReach, format!("cannot use the state directory {}: {error}", state.display()))
            .help("make it writable, or name another one with --state DIR")
    })
}

/// The store, and a clock that goes on where its log ends.
pub(super) fn open_store(directory: &Path, context: &Context) -> Result<(Arc<FileStore>, Clock), Failure> {
    let now = Clock::start(Timestamp(0)).now();
    let holder = Holder::this_process(context.command_line.clone(), now);
    let store = FileStore::open(directory, &holder, Options::new(new_id())).map_err(|error| {
        Failure::because(Exit::OutOfReach, &error)
            .help("one coordinator owns a store: end the other one, or name another state directory with --state DIR")
    })?;
    for notice in store.notices() {
        tracing::warn!("{notice}");
    }
    let last = LogReader::open(directory).and_then(|reader| last_moment(&reader));
    let last = last.map_err(|error| Failure::because(Exit::OutOfReach, &error))?;
    Ok((Arc::new(store), Clock::start(last)))
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
