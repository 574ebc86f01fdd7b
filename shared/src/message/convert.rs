//! Between the wire and the model: an offer from a row of a plan, a report to and from what an agent says.
//!
//! What comes from outside is clamped where a sensible value is near (times, progress, long texts, unknown causes), and
//! refused where there is none (a task that the plan has not). What goes out is clamped alike, so that a report that
//! went over the wire is the one that was meant.
//!
//! Not here: who may say what about which attempt (the engine), how a job is started (the agent).

use super::wire::{Offer, WireOutcome, WireReport, WireReportKind, Work};
use cairn_model::{Action, AgentIndex, FailureKind, Outcome, Plan, Report, ReportKind, TaskIndex, Timestamp};
use std::borrow::Cow;

/// Text for people in a report at most, in bytes: it stands in the log for ever. What is beyond is in the task's output.
pub const MAX_REPORT_TEXT_BYTES: usize = 4 << 10;

/// How much of an unknown cause's name is kept, in bytes.
const MAX_CAUSE_BYTES: usize = 64;

/// The last moment that has a form in RFC 3339: 9999-12-31T23:59:59.999999Z.
pub const LAST_MOMENT: Timestamp = Timestamp(253_402_300_799_999_999);

const MAX_PERMILLE: u16 = 1000;

/// Why a report means nothing here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReportError {
    /// The plan has no such task.
    #[error("a report about task {task} of a plan of {tasks} tasks")]
    UnknownTask {
        /// The task's number.
        task: u32,
        /// How many there are.
        tasks: usize,
    },
    /// It is about output, which is no business of a run.
    #[error("a report about the output of task {task}")]
    OfOutput {
        /// The task's number.
        task: u32,
    },
    /// Attempts are counted from 1.
    #[error("a report about attempt 0 of task {task}; attempts are counted from 1")]
    AttemptZero {
        /// The task's number.
        task: u32,
    },
}

/// All that an agent needs to run an attempt of a task of `plan`.
#[must_use]
pub fn offer(plan: &Plan, task: TaskIndex, attempt: u32) -> Offer {
    let settings = plan.settings(task);
    let work = match plan.action(task) {
        Action::Run(script) => Work::Run { script: script.to_owned() },
        Action::Exec(words) => Work::Exec { argv: words.into_iter().map(str::to_owned).collect() },
        Action::Wait(duration) => Work::Wait { micros: whole(duration.as_micros()) },
        // A checkpoint is never offered: the engine completes it by itself. A timer of no length would do as much.
        Action::Checkpoint => Work::Wait { micros: 0 },
    };
    Offer {
        task: task.0,
        attempt,
        name: plan.task_name(task),
        work,
        env: settings.env.clone(),
        working_dir: settings.working_dir.clone(),
        // Rounded up: a time-out below a millisecond is none the less one.
        timeout_millis: settings.timeout.map(|timeout| whole(timeout.as_nanos().div_ceil(1_000_000))),
        resources: settings.resources.clone(),
        needs_grant: settings.at_most_once,
        // No plan says yet that a task outlives its lease.
        hold: false,
    }
}

/// What `agent` says, about a run of a plan of `tasks` tasks. A moment that it leaves out is that at which it was `heard`.
///
/// # Errors
/// What is about no attempt of that plan.
pub fn report(
    wire: &WireReport,
    agent: AgentIndex,
    tasks: usize,
    heard: Timestamp,
) -> Result<Report, ReportError> {
    let WireReport { task, attempt, .. } = *wire;
    let index = TaskIndex(task);
    if index.get() >= tasks {
        return Err(ReportError::UnknownTask { task, tasks });
    }
    if attempt == 0 {
        return Err(ReportError::AttemptZero { task });
    }
    let moment = |micros| if micros > 0 { moment(micros) } else { heard };
    let kind = match &wire.kind {
        &WireReportKind::Accepted { awaits_grant } => ReportKind::Accepted { awaits_grant },
        WireReportKind::Declined { reason } => ReportKind::Declined { reason: text(reason).into() },
        &WireReportKind::Started { at_micros } => ReportKind::Started { at: moment(at_micros) },
        WireReportKind::Progress { permille, message } => ReportKind::Progress {
            permille: (*permille).min(MAX_PERMILLE),
            message: message.as_deref().map(|message| text(message).into()),
        },
        WireReportKind::Finished { outcome: wire, started_micros, finished_micros } => ReportKind::Finished {
            outcome: outcome(wire),
            started_at: moment(*started_micros),
            finished_at: moment(*finished_micros),
        },
        WireReportKind::Silent => return Err(ReportError::OfOutput { task }),
    };
    Ok(Report { task: index, attempt, agent, kind })
}

/// The same the other way: what to say for `report`. Who says it stands once, beside all reports of a message.
#[must_use]
pub fn wire_report(report: &Report) -> WireReport {
    let kind = match &report.kind {
        &ReportKind::Accepted { awaits_grant } => WireReportKind::Accepted { awaits_grant },
        ReportKind::Declined { reason } => WireReportKind::Declined { reason: text(reason).into() },
        ReportKind::Started { at } => WireReportKind::Started { at_micros: moment(at.0).0 },
        ReportKind::Progress { permille, message } => WireReportKind::Progress {
            permille: (*permille).min(MAX_PERMILLE),
            message: message.as_deref().map(|message| text(message).into()),
        },
        ReportKind::Finished { outcome, started_at, finished_at } => WireReportKind::Finished {
            outcome: wire_outcome(outcome),
            started_micros: moment(started_at.0).0,
            finished_micros: moment(finished_at.0).0,
        },
    };
    WireReport { task: report.task.0, attempt: report.attempt, kind }
}

fn outcome(wire: &WireOutcome) -> Outcome {
    match wire {
        WireOutcome::Completed => Outcome::Completed,
        &WireOutcome::Failed { ref kind, ref message, exit_code: Some(code) } if kind.is_empty() => {
            let (kind, told, exit_code) = match code {
                ..0 => (FailureKind::Signal, format!("signal {}", code.unsigned_abs()), None),
                0.. => (FailureKind::ExitCode, format!("exit code {code}"), Some(code)),
            };
            let message = if message.is_empty() { told.into() } else { text(message).into() };
            Outcome::Failed { kind, message, exit_code }
        }
        WireOutcome::Failed { kind, message, exit_code } => {
            let (kind, message) = match FailureKind::parse(kind) {
                Some(known) => (known, text(message).into()),
                // Of a newer agent, or one in another language: that it failed counts, and the name is not lost.
                None => {
                    let named = format!("{}: {message}", cut(kind, MAX_CAUSE_BYTES));
                    (FailureKind::StartFailed, text(&named).into())
                }
            };
            Outcome::Failed { kind, message, exit_code: *exit_code }
        }
        WireOutcome::Stopped => Outcome::Stopped,
        WireOutcome::NotStarted => Outcome::NotStarted,
        WireOutcome::Lost { reason } => Outcome::Lost { reason: text(reason).into() },
    }
}

fn wire_outcome(outcome: &Outcome) -> WireOutcome {
    match outcome {
        Outcome::Completed => WireOutcome::Completed,
        Outcome::Failed { kind, message, exit_code } => WireOutcome::Failed {
            kind: kind.name().to_owned(),
            message: text(message).into(),
            exit_code: *exit_code,
        },
        Outcome::Stopped => WireOutcome::Stopped,
        Outcome::NotStarted => WireOutcome::NotStarted,
        Outcome::Lost { reason } => WireOutcome::Lost { reason: text(reason).into() },
    }
}

/// A text for people as it may stand in the log: not too long, and without NUL, which PostgreSQL stores in no text.
fn text(text: &str) -> Cow<'_, str> {
    let short = cut(text, MAX_REPORT_TEXT_BYTES);
    if short.contains('\0') { Cow::Owned(short.replace('\0', " ")) } else { Cow::Borrowed(short) }
}

fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}

/// A moment that can be told, whatever a clock says.
fn moment(micros: i64) -> Timestamp {
    Timestamp(micros).clamp(Timestamp(0), LAST_MOMENT)
}

/// As much of a number as the wire has room for.
fn whole(number: u128) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Options, Source, parse};
    use proptest::prelude::*;

    const AGENT: AgentIndex = AgentIndex(3);
    const TASKS: usize = 10;
    const HEARD: Timestamp = Timestamp(1_000);

    fn plan(text: &str) -> Plan {
        let parsed = parse(&Source::new("plan.yaml", text), &Options::default());
        parsed.unwrap_or_else(|errors| panic!("{}", errors.render(false))).plan
    }

    #[test]
    fn an_offer_has_all_that_a_task_has() {
        let plan = plan(
            "{version: 1, project: apollo, env: {LOG: info}, tasks: [{id: unit, exec: [cargo, test], timeout: 90s,
              env: {RUST_BACKTRACE: '1'}, working_dir: sub, resources: {cpus: 1.5}, at_most_once: true}]}",
        );
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let expected = Offer {
            task: 0,
            attempt: 7,
            name: "main/unit".to_owned(),
            work: Work::Exec { argv: vec!["cargo".to_owned(), "test".to_owned()] },
            env: vec![pair("LOG", "info"), pair("RUST_BACKTRACE", "1")],
            working_dir: Some("sub".to_owned()),
            timeout_millis: Some(90_000),
            resources: vec![("cpus".to_owned(), 1_500)],
            needs_grant: true,
            hold: false,
        };
        assert_eq!(offer(&plan, TaskIndex(0), 7), expected);
    }

    #[test]
    fn an_offer_carries_every_kind_of_work() {
        let plan = plan(
            "{version: 1, project: a, tasks: [{id: r, run: \"echo \\\"$x\\\"\\n\"}, {id: w, wait: 1500ms}, {id: c}]}",
        );
        let work = |task| offer(&plan, TaskIndex(task), 1).work;
        assert_eq!(work(0), Work::Run { script: "echo \"$x\"\n".to_owned() });
        assert_eq!(work(1), Work::Wait { micros: 1_500_000 });
        assert_eq!(work(2), Work::Wait { micros: 0 });
        let plain = offer(&plan, TaskIndex(0), 1);
        assert_eq!((plain.timeout_millis, plain.working_dir, plain.needs_grant), (None, None, false));
    }

    fn wire(kind: WireReportKind) -> WireReport {
        WireReport { task: 2, attempt: 1, kind }
    }

    fn kind_of(wire_kind: WireReportKind) -> ReportKind {
        report(&wire(wire_kind), AGENT, TASKS, HEARD).expect("a report about a task of the plan").kind
    }

    #[test]
    fn what_is_about_no_attempt_is_refused() {
        let at = |task, attempt| {
            report(
                &WireReport { task, attempt, kind: WireReportKind::Started { at_micros: 0 } },
                AGENT,
                TASKS,
                HEARD,
            )
        };
        assert!(at(9, 1).is_ok());
        assert_eq!(at(10, 1), Err(ReportError::UnknownTask { task: 10, tasks: TASKS }));
        assert_eq!(at(u32::MAX, 1), Err(ReportError::UnknownTask { task: u32::MAX, tasks: TASKS }));
        assert_eq!(at(9, 0), Err(ReportError::AttemptZero { task: 9 }));
    }

    #[test]
    fn absurd_numbers_are_clamped() {
        assert_eq!(
            kind_of(WireReportKind::Started { at_micros: i64::MIN }),
            ReportKind::Started { at: HEARD }
        );
        assert_eq!(
            kind_of(WireReportKind::Started { at_micros: i64::MAX }),
            ReportKind::Started { at: LAST_MOMENT }
        );
        assert_eq!(kind_of(WireReportKind::Started { at_micros: 0 }), ReportKind::Started { at: HEARD });
        assert_eq!(LAST_MOMENT.to_string(), "9999-12-31T23:59:59.999999Z");
        assert_eq!(
            kind_of(WireReportKind::Progress { permille: u16::MAX, message: None }),
            ReportKind::Progress { permille: 1000, message: None }
        );
    }

    #[test]
    fn long_texts_are_cut_between_letters_and_have_no_nul() {
        let reason = format!("a\0{}", "ß".repeat(MAX_REPORT_TEXT_BYTES));
        let ReportKind::Declined { reason } = kind_of(WireReportKind::Declined { reason }) else {
            panic!("a declined attempt")
        };
        assert_eq!(reason.len(), MAX_REPORT_TEXT_BYTES);
        assert!(reason.starts_with("a ß") && reason.ends_with('ß'));
    }

    #[test]
    fn an_unknown_cause_keeps_its_name() {
        let failed = |kind: &str, message: &str| {
            let outcome =
                WireOutcome::Failed { kind: kind.into(), message: message.into(), exit_code: Some(3) };
            kind_of(WireReportKind::Finished { outcome, started_micros: 1, finished_micros: 2 })
        };
        let expected = |kind, message: &str| ReportKind::Finished {
            outcome: Outcome::Failed { kind, message: message.into(), exit_code: Some(3) },
            started_at: Timestamp(1),
            finished_at: Timestamp(2),
        };
        assert_eq!(failed("signal", "killed"), expected(FailureKind::Signal, "killed"));
        assert_eq!(failed("gpu_on_fire", "hot"), expected(FailureKind::StartFailed, "gpu_on_fire: hot"));
        assert_eq!(failed("", ""), expected(FailureKind::ExitCode, "exit code 3"));
        assert_eq!(failed("", "wrong"), expected(FailureKind::ExitCode, "wrong"));
        let outcome =
            WireOutcome::Failed { kind: String::new(), message: String::new(), exit_code: Some(-9) };
        let signal =
            Outcome::Failed { kind: FailureKind::Signal, message: "signal 9".into(), exit_code: None };
        assert_eq!(super::outcome(&outcome), signal);
        let long = format!("{}: hot", "x".repeat(MAX_CAUSE_BYTES));
        assert_eq!(failed(&"x".repeat(1 << 20), "hot"), expected(FailureKind::StartFailed, &long));
    }

    fn any_text() -> impl Strategy<Value = Box<str>> {
        "\\PC{0,40}".prop_map(String::into_boxed_str)
    }

    fn any_moment() -> impl Strategy<Value = Timestamp> {
        (1..=LAST_MOMENT.0).prop_map(Timestamp)
    }

    fn any_outcome() -> impl Strategy<Value = Outcome> {
        let failed = (0..FailureKind::NAMES.len(), any_text(), any::<Option<i32>>()).prop_map(
            |(kind, message, exit_code)| Outcome::Failed {
                kind: FailureKind::NAMES[kind].0,
                message,
                exit_code,
            },
        );
        prop_oneof![
            Just(Outcome::Completed),
            failed,
            Just(Outcome::Stopped),
            Just(Outcome::NotStarted),
            any_text().prop_map(|reason| Outcome::Lost { reason }),
        ]
    }

    fn any_report() -> impl Strategy<Value = Report> {
        let kind = prop_oneof![
            any::<bool>().prop_map(|awaits_grant| ReportKind::Accepted { awaits_grant }),
            any_text().prop_map(|reason| ReportKind::Declined { reason }),
            any_moment().prop_map(|at| ReportKind::Started { at }),
            (0..=MAX_PERMILLE, proptest::option::of(any_text()))
                .prop_map(|(permille, message)| ReportKind::Progress { permille, message }),
            (any_outcome(), any_moment(), any_moment()).prop_map(|(outcome, started_at, finished_at)| {
                ReportKind::Finished { outcome, started_at, finished_at }
            }),
        ];
        (0..u32::try_from(TASKS).expect("a few"), 1..=u32::MAX, kind)
            .prop_map(|(task, attempt, kind)| Report { task: TaskIndex(task), attempt, agent: AGENT, kind })
    }

    proptest! {
        #[test]
        fn a_report_is_the_same_after_the_wire(said in any_report()) {
            prop_assert_eq!(report(&wire_report(&said), AGENT, TASKS, HEARD), Ok(said));
        }

        /// Whatever comes in, what it was clamped to goes out and comes in again unchanged.
        #[test]
        fn clamping_twice_is_clamping_once(
            started_micros in any::<i64>(),
            finished_micros in any::<i64>(),
            cause in "\\PC{0,80}",
            message in "[\\PC\0]{0,40}",
        ) {
            let outcome = WireOutcome::Failed { kind: cause, message, exit_code: None };
            let wild = wire(WireReportKind::Finished { outcome, started_micros, finished_micros });
            let tame = report(&wild, AGENT, TASKS, HEARD).expect("a task of the plan");
            prop_assert_eq!(report(&wire_report(&tame), AGENT, TASKS, HEARD), Ok(tame));
        }
    }
}
