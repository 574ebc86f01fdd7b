//! Snapshots of a run: its folded state in bincode, so that a long log need not be folded from its beginning.

use crate::store::{Snapshot, StreamId};
use bincode::config::{Configuration, Fixint, Limit, LittleEndian};
use cairn_engine::{IMAGE_FORM, Image, ImageRef, State};
use std::collections::HashMap;

/// A run has a snapshot after so many events at the earliest.
const MIN_EVENTS: u64 = 100;

/// Most bytes of a snapshot: a million tasks take about a twentieth of it.
const MAX_BYTES: usize = 1 << 30;

/// Fixed widths: a million rows are read at the speed of memory.
fn format() -> Configuration<LittleEndian, Fixint, Limit<MAX_BYTES>> {
    bincode::config::standard().with_fixed_int_encoding().with_limit::<MAX_BYTES>()
}

#[derive(serde::Serialize)]
struct Written<'a> {
    form: u32,
    plan_hash: &'a str,
    versions: Vec<(&'a str, u64)>,
    image: ImageRef<'a>,
}

#[derive(serde::Deserialize)]
struct Head {
    form: u32,
    plan_hash: String,
    versions: Vec<(String, u64)>,
}

/// What a snapshot holds.
pub struct Restored {
    /// Where the run stood.
    pub image: Image,
    /// The versions of its streams.
    pub versions: HashMap<StreamId, u64>,
}

/// After how many events since the last one a run of this size has a new snapshot: half the rows of its state, so
/// that snapshots cost a fixed share of the log.
#[must_use]
pub fn pace(state: &State) -> u64 {
    let rows = state.plan().task_count() + state.plan().milestones().len();
    MIN_EVENTS.max(rows as u64 / 2)
}

/// A snapshot of a run whose durable events end at `position`; `None` if it would be too large.
#[must_use]
pub fn take(
    state: &State,
    plan_hash: &str,
    versions: &HashMap<StreamId, u64>,
    position: u64,
) -> Option<Snapshot> {
    let mut names: Vec<_> = versions.iter().map(|(stream, version)| (stream.as_str(), *version)).collect();
    names.sort_unstable();
    let name = state.run().id.clone();
    let version = versions.get(name.as_str()).copied().unwrap_or(0);
    let written = Written { form: IMAGE_FORM, plan_hash, versions: names, image: state.image() };
    let bytes = bincode::serde::encode_to_vec(&written, format()).ok()?;
    // The limit of the format is one of reading only.
    (bytes.len() <= MAX_BYTES).then_some(())?;
    Some(Snapshot { name, version, position, bytes })
}

/// What a snapshot holds, if it is of this form and of a run of this plan.
#[must_use]
pub fn read(snapshot: &Snapshot, plan_hash: &str) -> Option<Restored> {
    let (head, length): (Head, usize) = bincode::serde::decode_from_slice(&snapshot.bytes, format()).ok()?;
    if head.form != IMAGE_FORM || head.plan_hash != plan_hash {
        return None;
    }
    let rest = snapshot.bytes.get(length..)?;
    let (image, _) = bincode::serde::decode_from_slice(rest, format()).ok()?;
    let versions =
        head.versions.into_iter().map(|(stream, version)| (StreamId::new(stream), version)).collect();
    Some(Restored { image, versions })
}

#[cfg(test)]
mod tests;
