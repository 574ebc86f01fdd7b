//! Runs that are decided by the engine, and what metrics tell of them.

use super::*;
use crate::insight::tests::{agent, command, submitted_state};
use crate::metric_definitions::{ALL, Kind, describe};
use crate::service::AgentView;
use cairn_engine::{State, TaskStatus};
use cairn_model::{Command, Event, FailureKind, Outcome, Report, ReportKind, RunId, Scope, Timestamp};
use cairn_shared::telemetry::Metrics;
use cairn_shared::transport::Health;
use std::time::Duration;

const PLAN: &str = "
version: 1
project: apollo
milestones:
  - id: build
    due: 1970-01-01T00:01:40Z
    tasks:
      - {id: compile, run: x, estimate: 20s}
      - {id: unit, run: x, estimate: 60s, needs: [compile], retry: {max_attempts: 2, initial: 5s, jitter: 0}}
  - {id: ship, needs: [build], tasks: [{id: publish, run: x, estimate: 30s}, {id: announced, needs: [publish]}]}
";

/// Metrics that belong to the test alone.
struct Bench {
    recorder: Box<dyn metrics::Recorder>,
    metrics: Metrics,
}

impl Bench {
    fn new() -> Self {
        let (recorder, metrics) = Metrics::new().expect("sound buckets");
        Self { recorder: Box::new(recorder), metrics }
    }

    fn with<T>(&self, act: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(&*self.recorder, act)
    }

    fn text(&self) -> String {
        self.metrics.upkeep();
        self.metrics.render()
    }

    /// The value of a series, as it is written.
    fn value(&self, series: &str) -> Option<f64> {
        let text = self.text();
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }
}

/// A run, its metrics, and the events that the engine decides.
struct Watched {
    state: State,
    metrics: RunMetrics,
}

impl Watched {
    fn new(plan: &str, run: &str, projects: &Projects) -> Self {
        let state = submitted_state(plan);
        let run = RunId::parse(run).expect("a run");
        let metrics = RunMetrics::new(&state, &run, "direct", projects);
        Self { state, metrics }
    }

    fn command(&mut self, second: i64, given: Command) -> Vec<Event> {
        let events = command(&mut self.state, second, given);
        self.metrics.observe(&self.state, &events, at(second));
        events
    }

    fn report(&mut self, second: i64, name: &str, kind: ReportKind) -> Vec<Event> {
        let task = self.state.plan().find_task_name(name).expect("in the plan");
        let row = *self.state.task(task);
        let report = Report { task, attempt: row.attempt, agent: row.agent().expect("out"), kind };
        self.command(second, Command::Reports(vec![report]))
    }

    fn look(&mut self, second: i64) {
        self.metrics.observe(&self.state, &[], at(second));
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1_000_000)
}

fn ended(outcome: Outcome, from: i64, to: i64) -> ReportKind {
    ReportKind::Finished { outcome, started_at: at(from), finished_at: at(to) }
}

fn failed() -> Outcome {
    Outcome::Failed { kind: FailureKind::ExitCode, message: "exit code 7".into(), exit_code: Some(7) }
}

#[test]
fn a_run_is_counted_from_its_start_to_its_end() {
    let bench = Bench::new();
    bench.with(|| {
        let mut run = Watched::new(PLAN, "apollo.1", &Projects::new(10));
        run.look(0);
        assert_eq!(bench.value("cairn_runs{status=\"active\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_tasks{status=\"ready\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_tasks{status=\"pending\"}"), Some(3.0));
        run.command(10, agent("a", 2, 2_000));
        assert_eq!(bench.value("cairn_tasks{status=\"dispatched\"}"), Some(1.0));
        run.report(11, "build/compile", ReportKind::Started { at: at(11) });
        run.report(40, "build/compile", ended(Outcome::Completed, 11, 40));
        // Ready at the submission, dispatched at 10, started at 11.
        assert_eq!(bench.value("cairn_task_queue_seconds_sum"), Some(11.0));
        assert_eq!(bench.value("cairn_dispatch_seconds_sum"), Some(1.0));
        assert_eq!(bench.value("cairn_task_duration_seconds_sum"), Some(29.0));
        // Short ones are never told to have started: it follows from the end. Dispatched at 40, ran from 42 to 45.
        run.report(45, "build/unit", ended(failed(), 42, 45));
        assert_eq!(bench.value("cairn_tasks_total{status=\"failed\"}"), Some(0.0), "another attempt follows");
        run.command(60, Command::Tick);
        run.report(70, "build/unit", ended(failed(), 63, 70));
        assert_eq!(bench.value("cairn_tasks_total{status=\"failed\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_tasks_total{status=\"skipped\"}"), Some(2.0));
        assert_eq!(bench.value("cairn_tasks_total{status=\"completed\"}"), Some(1.0));
        // The retry was due at 50 (5 s after 45), dispatched at 60, started at 63.
        assert_eq!(bench.value("cairn_task_queue_seconds_count"), Some(2.0));
        assert_eq!(bench.value("cairn_task_queue_seconds_sum"), Some(11.0 + 13.0));
        assert_eq!(bench.value("cairn_dispatch_seconds_sum"), Some(1.0 + 3.0));
        assert_eq!(bench.value("cairn_runs_total{status=\"failed\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_runs{status=\"active\"}"), Some(0.0));
        for status in TaskStatus::ALL {
            let series = format!("cairn_tasks{{status=\"{}\"}}", status.name());
            assert_eq!(bench.value(&series), Some(0.0), "{series}");
        }
        assert!(run.metrics.is_idle(), "nothing is kept of attempts that have ended");
    });
}

#[test]
fn what_is_left_and_how_late_it_will_be_follows_the_run() {
    let bench = Bench::new();
    let remaining = "cairn_run_remaining_critical_path_seconds{project=\"apollo\"}";
    let slack = "cairn_milestone_due_slack_seconds{project=\"apollo\",milestone=\"build\"}";
    bench.with(|| {
        let mut run = Watched::new(PLAN, "apollo.1", &Projects::new(10));
        run.look(0);
        assert_eq!(bench.value(remaining), Some(110.0));
        // Due at 100, expected after 20 and 60.
        assert_eq!(bench.value(slack), Some(20.0));
        run.command(10, agent("a", 2, 2_000));
        run.report(10, "build/compile", ReportKind::Started { at: at(10) });
        run.look(15);
        assert_eq!((bench.value(remaining), bench.value(slack)), (Some(105.0), Some(10.0)));
        run.look(50);
        assert_eq!(bench.value(slack), Some(-10.0), "it takes longer than estimated");
        run.report(60, "build/compile", ended(Outcome::Completed, 10, 60));
        run.report(70, "build/unit", ended(Outcome::Completed, 60, 70));
        run.look(70);
        assert_eq!(bench.value(remaining), Some(30.0));
        assert!(bench.value(slack).expect("there").is_nan(), "it has ended");
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"apollo\"}"), Some(0.5));
        run.report(80, "ship/publish", ended(Outcome::Completed, 70, 80));
        assert_eq!(bench.value(remaining), Some(0.0));
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"apollo\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_runs_total{status=\"completed\"}"), Some(1.0));
    });
}

#[test]
fn nothing_is_made_up_where_no_duration_is_known() {
    let bench = Bench::new();
    let plan = "
version: 1
project: apollo
milestones: [{id: m, due: 1970-01-01T00:01:00Z, tasks: [{id: a, run: x}, {id: b, run: x, needs: [a]}]}]
";
    bench.with(|| {
        let mut run = Watched::new(plan, "apollo.1", &Projects::new(10));
        run.look(0);
        let remaining = "cairn_run_remaining_critical_path_seconds{project=\"apollo\"}";
        let slack = "cairn_milestone_due_slack_seconds{project=\"apollo\",milestone=\"m\"}";
        assert!(bench.value(remaining).expect("there").is_nan());
        assert_eq!(bench.value(slack), Some(60.0), "that much at most");
        run.command(0, agent("a", 2, 2_000));
        run.report(40, "m/a", ended(Outcome::Completed, 0, 40));
        run.look(40);
        assert_eq!(bench.value(remaining), Some(40.0), "the other one counts as the first");
        assert_eq!(bench.value(slack), Some(-20.0));
    });
}

#[test]
fn only_so_many_projects_are_told_apart_and_of_each_the_newest_run() {
    let bench = Bench::new();
    bench.with(|| {
        let projects = Projects::new(2);
        let plan = |project: &str| PLAN.replace("apollo", project);
        let mut older = Watched::new(PLAN, "apollo.1", &projects);
        older.command(0, agent("a", 2, 2_000));
        older.report(10, "build/compile", ended(Outcome::Completed, 0, 10));
        older.look(10);
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"apollo\"}"), Some(0.25));
        let mut newer = Watched::new(PLAN, "apollo.2", &projects);
        newer.look(10);
        older.look(20);
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"apollo\"}"), Some(0.0));
        let mut others: Vec<_> = ["b", "c"]
            .iter()
            .map(|name| Watched::new(&plan(name), &format!("{name}.1"), &projects))
            .collect();
        others.iter_mut().for_each(|run| run.look(20));
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"b\"}"), Some(0.0));
        assert_eq!(bench.value("cairn_run_progress_ratio{project=\"c\"}"), None, "beyond the limit");
        assert_eq!(bench.value("cairn_runs{status=\"active\"}"), Some(4.0), "counted all the same");
        drop(others);
        drop(newer);
        assert_eq!(bench.value("cairn_runs{status=\"active\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_tasks{status=\"completed\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_pattern_info{project=\"b\",pattern=\"direct\"}"), Some(0.0));
    });
}

#[test]
fn milestones_beyond_the_limit_have_no_series() {
    let bench = Bench::new();
    let many = MAX_DUE_MILESTONES + 5;
    let mut plan = "version: 1\nproject: apollo\nmilestones:\n".to_owned();
    for index in 0..many {
        // Those that come later in the plan are due sooner.
        let due = Timestamp((many - index) as i64 * 1_000_000);
        plan.push_str(&format!("  - {{id: m{index}, due: {due}, tasks: [{{id: t, run: x}}]}}\n"));
    }
    bench.with(|| {
        let projects = Projects::new(1);
        Watched::new(&plan, "apollo.1", &projects).look(0);
        let count =
            |text: &str| text.lines().filter(|line| line.starts_with("cairn_milestone_due_slack")).count();
        let text = bench.text();
        assert_eq!(count(&text), MAX_DUE_MILESTONES);
        assert!(text.contains("milestone=\"m54\"") && !text.contains("milestone=\"m0\""), "those due first");
        // Other names in a later run do not begin new series without end.
        Watched::new(&plan.replace("id: m", "id: n"), "apollo.2", &projects).look(0);
        assert_eq!(count(&bench.text()), MAX_DUE_MILESTONES);
    });
}

#[test]
fn the_fleet_is_counted_by_state() {
    let bench = Bench::new();
    let view = |state, slots, slots_used| AgentView {
        id: String::new(),
        state,
        incarnation: 1,
        version: String::new(),
        slots,
        slots_used,
        resources: Vec::new(),
        labels: Vec::new(),
        joined_at: String::new(),
        heard_seconds_ago: 0.0,
        attempts: Vec::new(),
    };
    bench.with(|| {
        let metrics = FleetMetrics::new();
        metrics.observe(&[
            view("joined", 4, 1),
            view("silent", 4, 4),
            view("draining", 8, 2),
            view("lost", 16, 3),
            view("left", 32, 0),
        ]);
        assert_eq!(bench.value("cairn_agents{state=\"joined\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_agents{state=\"lost\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_agents{state=\"left\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_agent_slots{state=\"used\"}"), Some(7.0));
        assert_eq!(bench.value("cairn_agent_slots{state=\"free\"}"), Some(3.0), "not those that drain");
        metrics.leases_expired(2);
        metrics.stale_reports(3);
        assert_eq!(bench.value("cairn_leases_expired_total"), Some(2.0));
        assert_eq!(bench.value("cairn_stale_reports_total"), Some(3.0));
        metrics.transport(&Health::Up("RabbitMQ 3.10.8".into()));
        assert_eq!(bench.value("cairn_transport_up"), Some(1.0));
        metrics.transport(&Health::Blocked("memory".into()));
        assert_eq!(bench.value("cairn_transport_up"), Some(0.0));
        metrics.observe(&[]);
        assert_eq!(bench.value("cairn_agent_slots{state=\"used\"}"), Some(0.0));
    });
}

#[test]
fn appends_are_told_with_their_size() {
    let bench = Bench::new();
    bench.with(|| {
        let metrics = StoreMetrics::new("file");
        metrics.appended(100, Duration::from_micros(200));
        assert_eq!(bench.value("cairn_store_info{backend=\"file\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_append_seconds_bucket{le=\"0.0001\"}"), Some(0.0));
        assert_eq!(bench.value("cairn_append_seconds_bucket{le=\"0.00025\"}"), Some(1.0));
        assert_eq!(bench.value("cairn_append_batch_events_sum"), Some(100.0));
    });
}

#[test]
fn names_keep_to_the_rules() {
    for definition in ALL {
        let name = definition.name;
        assert!(name.starts_with("cairn_"), "{name}");
        assert_eq!(name.ends_with("_total"), definition.kind == Kind::Counter, "{name}: counters only");
        assert!(definition.help.ends_with('.'), "{name}");
        assert_eq!(ALL.iter().filter(|other| other.name == name).count(), 1, "{name} stands twice");
    }
    let bench = Bench::new();
    bench.with(|| {
        describe();
        let _run = Watched::new(PLAN, "apollo.1", &Projects::new(1));
        let _fleet = FleetMetrics::new();
        StoreMetrics::new("file").appended(1, Duration::ZERO);
        let text = bench.text();
        for line in
            text.lines().filter(|line| line.starts_with("cairn_") && !line.starts_with("cairn_build_info"))
        {
            let name = line.split(['{', ' ']).next().unwrap_or_default();
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| name.strip_suffix(suffix));
            let known = |name: &str| ALL.iter().find(|definition| definition.name == name);
            let definition =
                known(name).or_else(|| known(base?)).unwrap_or_else(|| panic!("{name} is not listed"));
            let labels = line.split_once('{').map_or("", |(_, rest)| rest.split('}').next().unwrap_or(""));
            for label in labels.split(',').filter_map(|label| label.split_once('=')) {
                let is_listed = definition.labels.contains(&label.0) || label.0 == "le";
                assert!(is_listed, "{name} has the label {}, which is not listed", label.0);
            }
        }
    });
}

#[test]
fn tasks_that_no_agent_could_run_are_counted_and_told_once() {
    let plan =
        "{version: 1, project: apollo, tasks: [{id: a, run: x, requires: {gpu: a100}}, {id: b, run: x}]}";
    let (bench, run) = (Bench::new(), RunId::new("apollo", 1));
    let mut state = submitted_state(plan);
    let at = |second: i64| Timestamp(second * 1_000_000);
    bench.with(|| {
        let mut watch = Unplaceable::new(&run);
        let value = || bench.value("cairn_tasks_unplaceable");
        assert!(!watch.observe(&state, at(100)), "nobody is there");
        command(&mut state, 1, agent("a1", 1, 1_000));
        assert!(!watch.observe(&state, at(101)) && value() == Some(1.0), "others may join yet");
        assert!(!watch.observe(&state, at(110)));
        assert!(watch.observe(&state, at(111)));
        assert!(!watch.observe(&state, at(200)), "once");
        command(&mut state, 2, Command::Pause { scope: Scope::Run, reason: "".into() });
        assert!(!watch.observe(&state, at(201)) && value() == Some(0.0), "it waits for somebody else");
        command(&mut state, 3, Command::Resume { scope: Scope::Run });
        assert!(!watch.observe(&state, at(202)) && value() == Some(1.0));
        drop(watch);
        assert_eq!(value(), Some(0.0));
    });
}
