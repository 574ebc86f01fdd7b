//! A line for each change of state, for logs and pipes.

use super::sign;
use crate::style::{self, Mark, Style, count};
use cairn_coordinator::runtime::{Observer, Update};
use cairn_engine::{MilestoneStatus, RunStatus, State, TaskStatus};
use cairn_model::{Event, TaskIndex, Timestamp};
use std::fmt::Write as _;
use std::io::{self, Write as _};

/// Prints a line for each change to stderr, in one write for all that became durable together.
pub fn printer(style: Style) -> Observer {
    let mut text = String::new();
    Box::new(move |update| {
        text.clear();
        update.events.iter().for_each(|event| line(&mut text, update, event, &style));
        if !text.is_empty() {
            // A closed stderr stops no run.
            let _ = io::stderr().lock().write_all(text.as_bytes());
        }
    })
}

fn line(text: &mut String, update: &Update<'_>, event: &Event, style: &Style) {
    let state = update.state;
    let mut put = |mark: Mark, what: &dyn Fn(&mut String)| {
        push_time(text, update.at);
        text.push(' ');
        text.push_str(&sign(style, mark));
        text.push(' ');
        what(text);
        text.push('\n');
    };
    let milestone = |index| state.plan().milestone(index).id.as_str();
    match event {
        Event::RunSubmitted(submitted) => put(RunStatus::Active.into(), &|out| {
            let tasks = count(submitted.tasks, "task", "tasks");
            let milestones = count(submitted.milestones, "milestone", "milestones");
            let _ = write!(out, "{} submitted: {tasks} in {milestones}", submitted.run);
        }),
        Event::MilestoneStarted { milestone: index } => put(MilestoneStatus::Active.into(), &|out| {
            let _ = write!(out, "milestone {} started", milestone(*index));
        }),
        Event::MilestoneCompleted { milestone: index } => put(MilestoneStatus::Completed.into(), &|out| {
            let _ = write!(out, "milestone {} completed", milestone(*index));
        }),
        Event::MilestoneFailed { milestone: index } => put(MilestoneStatus::Failed.into(), &|out| {
            let _ = write!(out, "milestone {} failed", milestone(*index));
        }),
        Event::MilestoneSkipped { milestone: index } => put(MilestoneStatus::Skipped.into(), &|out| {
            let _ = write!(out, "milestone {} skipped", milestone(*index));
        }),
        Event::MilestoneCancelled { milestone: index } => put(MilestoneStatus::Cancelled.into(), &|out| {
            let _ = write!(out, "milestone {} cancelled", milestone(*index));
        }),
        Event::TaskStarted { task, attempt, .. } => put(TaskStatus::InProgress.into(), &|out| {
            name(out, state, *task, *attempt);
            out.push_str(" started");
        }),
        Event::TaskCompleted { task, attempt, duration, .. } => put(TaskStatus::Completed.into(), &|out| {
            name(out, state, *task, *attempt);
            out.push_str(" completed");
            if *attempt > 0 {
                let _ = write!(out, " in {}", style::duration(*duration));
            }
        }),
        Event::TaskFailed { task, attempt, failure, duration, .. } => {
            put(TaskStatus::Failed.into(), &|out| {
                name(out, state, *task, *attempt);
                let _ = write!(out, " failed after {}: {}", style::duration(*duration), failure.message);
            })
        }
        Event::TaskRetryScheduled { task, attempt, failure, retry_at, .. } => {
            put(TaskStatus::Pending.into(), &|out| {
                name(out, state, *task, *attempt);
                let wait = retry_at.since(update.at);
                let _ = match wait.is_zero() {
                    true => write!(out, " is to be tried again: {}", failure.message),
                    false => write!(out, " is tried again in {}: {}", style::duration(wait), failure.message),
                };
            })
        }
        Event::TaskSkipped { task, cause } => put(TaskStatus::Skipped.into(), &|out| {
            name(out, state, *task, 0);
            let _ = write!(out, " skipped: {} did not complete", state.plan().task_name(*cause));
        }),
        Event::TaskCancelled { task, attempt } => put(TaskStatus::Cancelled.into(), &|out| {
            name(out, state, *task, *attempt);
            out.push_str(" cancelled");
        }),
        Event::LeaseExpired { task, attempt } => put(TaskStatus::Pending.into(), &|out| {
            name(out, state, *task, *attempt);
            out.push_str(" is offered again: nobody has taken it");
        }),
        Event::TaskReopened { task, ended } => put(TaskStatus::Pending.into(), &|out| {
            name(out, state, *task, 0);
            let _ = write!(out, " was {}, and is run again", ended.name());
        }),
        Event::MilestoneReopened { milestone: index } => put(MilestoneStatus::Planned.into(), &|out| {
            let _ = write!(out, "milestone {} goes on", milestone(*index));
        }),
        Event::RunReopened => put(RunStatus::Active.into(), &|out| {
            let _ = write!(out, "{} goes on", state.run().id);
        }),
        // That of a closed fleet is lost with its process.
        Event::AgentLost { agent, reason } if !state.run().options.closed_fleet => {
            put(TaskStatus::Failed.into(), &|out| {
                let id = state.agents().get(agent.get()).map_or("", |agent| agent.spec.id.as_str());
                let _ = write!(out, "agent {id} is lost: {reason}");
            })
        }
        Event::RunInterrupted { reason } => put(RunStatus::Paused.into(), &|out| {
            let _ = write!(out, "{reason}: stopping what runs; once more kills it");
        }),
        _ => {}
    }
}

/// The second of the day, UTC: `12:00:01Z`.
fn push_time(text: &mut String, at: Timestamp) {
    let mut full = String::with_capacity(27);
    at.write_to(&mut full);
    text.push_str(full.get(11..19).unwrap_or_default());
    text.push('Z');
}

fn name(out: &mut String, state: &State, task: TaskIndex, attempt: u32) {
    let plan = state.plan();
    out.push_str(&plan.milestone(plan.milestone_of(task)).id);
    out.push('/');
    out.push_str(plan.task_id(task));
    if attempt > 1 {
        let _ = write!(out, " (attempt {attempt})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cairn_coordinator::runtime::read_plan;
    use cairn_model::{AgentIndex, AgentSpec, Ended, MilestoneIndex, RunOptions, RunSubmitted};

    const PLAN: &str = "{version: 1, project: p, tasks: [{id: a, run: x}]}";

    fn said(state: &State, event: &Event) -> String {
        let mut text = String::new();
        let update = Update { state, events: &[], at: Timestamp(0) };
        line(&mut text, &update, event, &Style { color: false, unicode: false });
        text.get(9..).unwrap_or_default().trim().to_owned()
    }

    #[test]
    fn what_a_fleet_does_to_a_run_has_its_line() {
        let (plan, graph) = read_plan("plan.yaml", PLAN.to_owned(), &[]).unwrap();
        let mut state = State::new(plan, graph);
        for closed_fleet in [false, true] {
            let options = RunOptions { closed_fleet, ..RunOptions::default() };
            let submitted = RunSubmitted { run: "p.1".into(), options, ..RunSubmitted::default() };
            let joined = AgentSpec { id: "one".into(), ..AgentSpec::default() };
            for event in [Event::RunSubmitted(Box::new(submitted)), Event::AgentJoined(Box::new(joined))] {
                cairn_engine::apply(&mut state, &event, Timestamp(0));
            }
            let (task, milestone, agent) = (TaskIndex(0), MilestoneIndex(0), AgentIndex(0));
            let lost = said(&state, &Event::AgentLost { agent, reason: "silent".into() });
            assert_eq!(lost.ends_with("agent one is lost: silent"), !closed_fleet, "{lost}");
            for (event, end) in [
                (Event::RunReopened, "p.1 goes on"),
                (Event::MilestoneReopened { milestone }, "milestone main goes on"),
                (Event::TaskReopened { task, ended: Ended::Failed }, "main/a was failed, and is run again"),
                (
                    Event::LeaseExpired { task, attempt: 2 },
                    "main/a (attempt 2) is offered again: nobody has taken it",
                ),
            ] {
                let line = said(&state, &event);
                assert!(line.ends_with(end), "{line}");
            }
        }
    }
}
