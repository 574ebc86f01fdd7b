//! The score, what it says, and what this release makes of it.

use super::Subject;
use crate::context::{Context, Format};
use crate::exit::Failure;
use crate::output::{print_text, print_value};
use crate::state_directory::unreadable;
use crate::style::{Cell, Paint, Style, table};
use cairn_coordinator::insight::{
    COORDINATION_WEIGHT, Profile, Scale, Terms, coordination, milestone_depth, score,
};
use cairn_coordinator::runtime::{belongs, each_record};
use cairn_coordinator::store::{Cursor, EventReader, ReadError};
use serde::Serialize;
use std::fs;
use std::path::Path;

/// What this release does, whatever the scale.
const STORAGE: &str = "file";
const PATTERN: &str = "direct";

#[derive(Serialize)]
struct Size<'a> {
    subject: &'a str,
    score: f64,
    scale: Scale,
    terms: Terms,
    /// What a run of this scale asks for.
    profile: Profile,
    in_force: InForce,
}

#[derive(Serialize)]
struct InForce {
    storage: &'static str,
    pattern: &'static str,
}

/// Bytes of a run's events and of what its tasks wrote.
///
/// # Errors
/// The log cannot be read.
pub fn data_bytes(reader: &dyn EventReader, state: &Path, run: &str) -> Result<u64, Failure> {
    let mut bytes = 0;
    each_record(reader, &mut Cursor::all(1), |record| {
        if belongs(record.stream.as_str(), run) {
            bytes += record.body.len() as u64;
        }
        Ok::<(), ReadError>(())
    })
    .map_err(|error| unreadable(&error))?;
    // A directory for each milestone, a file for each attempt. What is not there takes no room.
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    for milestone in entries(&state.join("logs").join(run)) {
        let files = entries(&milestone.path()).filter_map(|file| file.metadata().ok());
        bytes += files.filter(fs::Metadata::is_file).map(|file| file.len()).sum::<u64>();
    }
    Ok(bytes)
}

/// Explains scale, storage or pattern.
pub fn explain(subject: &Subject, topic: &str, context: &Context) -> Result<(), Failure> {
    let plan = subject.plan();
    let terms = Terms {
        milestones: plan.milestones().len() as u64,
        dependency_depth: milestone_depth(plan, subject.state.graph()),
        concurrent_users: None,
        data_mb: subject.data_bytes.map(megabytes),
        coordination: coordination(plan),
    };
    let found = score(&terms);
    let size = Size {
        subject: &subject.name,
        score: found.score,
        scale: found.scale,
        terms,
        profile: found.scale.profile(),
        in_force: InForce { storage: STORAGE, pattern: PATTERN },
    };
    match context.format {
        Format::Text => print_text(&text(&size, topic, &Style::stdout(context))),
        Format::Json | Format::Jsonl | Format::Yaml => print_value(context, &size),
    }
}

#[expect(clippy::cast_precision_loss, reason = "one decimal is shown")]
fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

fn text(size: &Size<'_>, topic: &str, style: &Style) -> String {
    let Size { terms, scale, profile, .. } = size;
    let bound = match scale {
        Scale::Small => "below 50",
        Scale::Medium => "50 to 200",
        Scale::Large => "200 to 500",
        Scale::Enterprise => "500 and above",
    };
    let name = style.paint(Paint::Bold, size.subject);
    let mut out = format!("{name}: score {:.1}: {} ({bound})\n\n", size.score, scale.name());
    out.push_str(&table(style, "  ", &term_rows(terms)));
    let (asked, does) = match topic {
        "storage" => (format!("storage {}", profile.storage), "keeps every run in files"),
        "pattern" => (format!("pattern {}", profile.pattern), "coordinates every run directly, by one loop"),
        _ => {
            let Profile { storage, pattern, view } = profile;
            (
                format!("storage {storage}, pattern {pattern}, view {view}"),
                "keeps every run in files and coordinates it directly, by one loop",
            )
        }
    };
    out.push_str(&format!(
        "\nA {} run asks for {asked}.\nThis release {does}, whatever the scale.\n",
        scale.name()
    ));
    out
}

fn term_rows(terms: &Terms) -> Vec<Vec<Cell>> {
    let Terms { milestones, dependency_depth, concurrent_users, data_mb, coordination } = terms;
    let row = |value: Option<f64>, term: &str, of: String| {
        let value = value.map_or_else(|| "-".to_owned(), |value| format!("{value:.1}"));
        vec![Cell::right(value), Cell::new(term), Cell::new(of).paint(Paint::Dim)]
    };
    #[expect(clippy::cast_precision_loss, reason = "limits of a plan")]
    let times = |factor: f64, count: u64| Some(factor * count as f64);
    let users = match concurrent_users {
        Some(users) => users.to_string(),
        None => "not known: nobody counts them without a coordinator".to_owned(),
    };
    let data = match data_mb {
        Some(data) => format!("{data:.1} MB of log and output"),
        None => "not known before there is a run".to_owned(),
    };
    let entangled = format!(
        "{:.2} = {} needs across milestones / {milestones} + fan-in {} / 10 + {} demands / 4",
        coordination.complexity,
        coordination.needs_across_milestones,
        coordination.largest_fan_in,
        coordination.distinct_demands,
    );
    vec![
        row(times(2.0, *milestones), "2 * milestones", milestones.to_string()),
        row(times(5.0, *dependency_depth), "5 * dependency_depth", dependency_depth.to_string()),
        row(concurrent_users.and_then(|users| times(3.0, users)), "3 * concurrent_users", users),
        row(data_mb.map(|data| data / 10.0), "data_mb / 10", data),
        row(Some(COORDINATION_WEIGHT * coordination.complexity), "10 * coordination_complexity", entangled),
    ]
}
