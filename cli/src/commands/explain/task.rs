//! Why a task is, or is not, running.

use super::Subject;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::state_directory::{Named, find_named, now, writer};
use crate::style::{Paint, Style, count, duration, grouped, moment};
use cairn_agent::runner::harmless;
use cairn_coordinator::insight::{
    AgentRoom, Explanation, FailureView, Need, Reason, ResourceRoom, Waiting, explain_task,
};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use std::time::Duration;

/// Explains a task.
///
/// # Errors
/// There is no such task, or nobody listens.
pub fn explain(subject: &Subject, name: &str, context: &Context) -> Result<(), Failure> {
    let task = match find_named(subject.plan(), name)? {
        Named::Task(task) => task,
        Named::Milestone(milestone) => {
            let id = &subject.plan().milestone(milestone).id;
            let first = subject.plan().tasks_of(milestone).next();
            let help = first
                .map(|task| format!("name one of its tasks, such as {}", subject.plan().task_name(task)));
            let failure = Failure::new(Exit::Usage, format!("{id} is a milestone, not a task"));
            return Err(Failure { help, ..failure });
        }
    };
    let explanation = explain_task(&subject.state, task);
    if context.format != Format::Text {
        return print_value(context, &explanation);
    }
    let is_unfinished = subject.is_run && !subject.state.run().status.is_final();
    let writer = if is_unfinished { writer(context) } else { None };
    let nobody_works = is_unfinished && writer.is_none();
    let (state, plan) = (&subject.state, subject.plan());
    let shown = Shown {
        is_run: subject.is_run,
        fails_fast: Some(state.run().options.fail_fast),
        expected: plan.expected_duration(task),
        nobody_works,
        now: now(state, writer.as_ref()),
        style: Style::stdout(context),
    };
    print_text(&shown.text(&explanation))
}

/// What a coordinator says of a task, for people.
pub fn told(explanation: &Explanation, style: Style) -> String {
    let now = Clock::start(Timestamp(0)).now();
    let shown = Shown { is_run: true, fails_fast: None, expected: None, nobody_works: false, now, style };
    shown.text(explanation)
}

struct Shown {
    is_run: bool,
    /// Whether one failure ends the run, if that is known.
    fails_fast: Option<bool>,
    /// How long the plan says that the task takes, if that is known.
    expected: Option<Duration>,
    /// The run is to go on, and no process is there for it.
    nobody_works: bool,
    now: Timestamp,
    style: Style,
}

impl Shown {
    fn text(&self, explanation: &Explanation) -> String {
        let mut out = self.style.paint(Paint::Bold, &explanation.task);
        if let Some(run) = &explanation.run {
            out.push_str(&format!(" is {} in {run}", self.style.state(explanation.status)));
        }
        out.push('\n');
        let mut lines: Vec<String> =
            explanation.reasons.iter().flat_map(|reason| self.reason(reason)).collect();
        if lines.is_empty() {
            lines.push("needs nothing: it can be started first".to_owned());
        }
        if self.nobody_works && !explanation.status.is_final() {
            lines.push("no process works on the run now: `cairn status` says how to continue it".to_owned());
        }
        if explanation.attempt > 0 {
            let allowed = format!("attempt {} of at most {}", explanation.attempt, explanation.max_attempts);
            let not_counted = explanation.attempt > explanation.max_attempts;
            let note = if not_counted { " (attempts that were lost are not counted)" } else { "" };
            lines.push(format!("{allowed}{note}, {} failed", explanation.failures));
        }
        lines.push(self.importance(explanation));
        for line in lines {
            out.push_str(&format!("  {line}\n"));
        }
        out
    }

    fn importance(&self, explanation: &Explanation) -> String {
        let place = format!(
            "place {} of {} in the order of start",
            grouped(u64::from(explanation.rank)),
            grouped(explanation.tasks as u64)
        );
        let expected = match self.expected {
            Some(expected) if !expected.is_zero() => format!("{} expected, ", duration(expected)),
            _ => String::new(),
        };
        if explanation.is_critical {
            format!("{expected}on the critical path, {place}")
        } else {
            let slack = Duration::try_from_secs_f64(explanation.slack_seconds).unwrap_or_default();
            format!("{expected}{} of slack, {place}", duration(slack))
        }
    }

    fn reason(&self, reason: &Reason) -> Vec<String> {
        match reason {
            Reason::Needs(waiting) => self.waiting("waits for", waiting),
            Reason::MilestoneNeeds { milestone, waiting } => {
                self.waiting(&format!("its milestone {milestone} waits for"), waiting)
            }
            Reason::Retry { at, error } => {
                let wait = Timestamp::parse(at).map_or(Duration::ZERO, |at| at.since(self.now));
                let why = match error {
                    Some(error) if error.kind == "declined" => format!(": {}", said(error)),
                    Some(error) => format!(": the last one failed: {}", said(error)),
                    None => String::new(),
                };
                vec![format!("the next attempt is due in {}{why}", duration(wait))]
            }
            Reason::RunPaused => vec!["the run is paused".to_owned()],
            Reason::RunInterrupted => vec!["the run was interrupted, to be continued later".to_owned()],
            Reason::MilestonePaused { milestone } => vec![format!("its milestone {milestone} is paused")],
            Reason::TaskPaused => vec!["it is paused itself".to_owned()],
            Reason::NoAgents => vec!["no agent is there".to_owned()],
            Reason::NeverFits { asks, agents } => {
                let mut lines = vec![format!("no agent could ever run it: it asks for {asks}")];
                lines.extend(agents.iter().map(|agent| format!("  {}", lacks(agent, |room| room.total))));
                lines
            }
            Reason::NoRoom { asks, ahead, agents } => {
                let first = match ahead {
                    0 => "it goes first as soon as there is".to_owned(),
                    ahead => format!("{} go first", count(*ahead as u64, "ready task", "ready tasks")),
                };
                let mut lines = vec![format!("no agent has room for it now: it asks for {asks}; {first}")];
                lines.extend(agents.iter().map(|agent| format!("  {}", lacks(agent, |room| room.free))));
                lines
            }
            Reason::NextDecision => vec!["nothing holds it back: it is started next".to_owned()],
            Reason::ShareUsed { most_slots } => {
                let share = count(u64::from(*most_slots), "attempt", "attempts");
                vec![format!("other runs wait too: this one has its share, {share} at a time")]
            }
            Reason::InPool { pool } => {
                vec![format!("offered to the pool {}, nobody has taken it yet", or_unknown(pool))]
            }
            Reason::AwaitsGrant { agent } => vec![format!(
                "offered to {}, which asks before it starts what must run at most once",
                or_unknown(agent)
            )],
            Reason::Granted { agent } => {
                vec![format!("{} has it and may start it, its start is not told yet", or_unknown(agent))]
            }
            Reason::Offered { agent } => {
                vec![format!("offered to {}, its start is not told yet", or_unknown(agent))]
            }
            Reason::Runs { agent, since, progress, message } => {
                let since = Timestamp::parse(since).unwrap_or(self.now);
                let far =
                    if *progress > 0.0 { format!(", {:.0} % done", progress * 100.0) } else { String::new() };
                let says =
                    message.as_deref().map_or_else(String::new, |text| format!(": {}", one_line(text)));
                let long = duration(self.now.since(since));
                vec![format!("runs on {} since {} ({long}){far}{says}", or_unknown(agent), moment(since))]
            }
            Reason::Completed { duration_seconds } => {
                let took = Duration::try_from_secs_f64(*duration_seconds).unwrap_or_default();
                vec![format!("it took {}", duration(took))]
            }
            Reason::Failed { error } => {
                vec![
                    error.as_ref().map_or_else(
                        || "it failed".to_owned(),
                        |error| format!("it failed: {}", said(error)),
                    ),
                ]
            }
            Reason::Skipped { cause } => vec![match cause {
                Some(cause) => format!("skipped because of {}", self.need(cause)),
                None => "skipped because of another task".to_owned(),
            }],
            Reason::Cancelled if self.fails_fast == Some(true) => {
                vec!["cancelled when another task had failed: the run has `--fail-fast`".to_owned()]
            }
            Reason::Cancelled => vec!["somebody cancelled it, or the run with it".to_owned()],
        }
    }

    fn waiting(&self, what: &str, waiting: &Waiting) -> Vec<String> {
        let mut lines: Vec<_> =
            waiting.needs.iter().map(|need| format!("{what} {}", self.need(need))).collect();
        if waiting.omitted > 0 {
            lines.push(format!("{what} {} more", grouped(waiting.omitted as u64)));
        }
        lines
    }

    fn need(&self, need: &Need) -> String {
        if !self.is_run {
            return need.id.clone();
        }
        let why = need.error.as_ref().map_or_else(String::new, |error| format!(": {}", said(error)));
        format!("{}, which is {}{why}", need.id, need.status)
    }
}

fn or_unknown(agent: &Option<String>) -> &str {
    agent.as_deref().unwrap_or("an agent")
}

fn said(error: &FailureView) -> String {
    one_line(&error.message)
}

fn one_line(text: &str) -> String {
    harmless(text.trim_end().as_bytes()).replace(['\n', '\t'], " ")
}

/// What an agent has too little of.
fn lacks(agent: &AgentRoom, has: impl Fn(&ResourceRoom) -> f64) -> String {
    let short = |room: &&ResourceRoom| has(room) < room.wanted;
    let rooms = std::iter::once(&agent.slots).chain(&agent.resources).filter(short);
    let taken = |room: &ResourceRoom| match room.others > 0.0 {
        true => format!(" ({} with other runs)", room.others),
        false => String::new(),
    };
    let free =
        |room: &ResourceRoom| format!("{} of {} {} free{}", room.free, room.total, room.name, taken(room));
    let mut lacks: Vec<_> = rooms.map(free).collect();
    lacks.extend(agent.closed.then(|| "takes nothing new".to_owned()));
    lacks.extend(agent.missing_labels.iter().map(|label| format!("no label {label}")));
    format!("{}: {}", agent.agent, lacks.join(", "))
}
