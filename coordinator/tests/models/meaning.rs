//! What rows mean.

use crate::fixtures::Fixture;
use crate::history::History;
use cairn_coordinator::projection::models::{
    Direction, Feeder, MilestoneFilter, MilestoneSort, Paging, RunFilter, RunSort, Span, statistics,
};
use cairn_engine::{RunStatus, TaskStatus};
use cairn_model::{MilestoneIndex, Timestamp};

/// After each decision every row of its run is what the engine's state says.
pub async fn rows_say_what_the_engine_says(place: &dyn Fixture) {
    for seed in 1..6 {
        let mut history = History::new(seed + 60);
        let models = place.open();
        models.clear().expect("cleared");
        let mut feeder = None;
        for decision in 0..200 {
            let run = history.grow().await;
            let feeder =
                feeder.get_or_insert_with(|| Feeder::new(models.clone(), history.reader(), history.plans()));
            feeder.catch_up().expect("fed");
            let (state, what) = (&history.runs[run], format!("seed {seed}, decision {decision}"));
            let id = &state.run().id;
            let filter = MilestoneFilter { run: Some(id.clone()), ..MilestoneFilter::default() };
            let rows =
                models.milestones(&filter, &Paging::<MilestoneSort>::default()).expect("milestones").rows;
            assert_eq!(rows.len(), state.plan().milestones().len(), "{what}");
            for (place, row) in rows.iter().enumerate() {
                let index = MilestoneIndex::new(place);
                let of_state = state.milestone(index);
                let found = (row.id.as_str(), row.status, row.started_at, row.finished_at);
                let plan = &state.plan().milestone(index).id;
                let wanted = (plan.as_str(), of_state.status, of_state.started_at, of_state.finished_at);
                assert_eq!(found, wanted, "{what}");
                let tasks = || state.plan().tasks_of(index).map(|task| state.task(task).status);
                let count = |status: TaskStatus| tasks().filter(|found| *found == status).count() as u64;
                let found = (row.tasks, row.completed, row.failed, row.skipped, row.cancelled);
                let wanted = (
                    tasks().count() as u64,
                    count(TaskStatus::Completed),
                    count(TaskStatus::Failed),
                    count(TaskStatus::Skipped),
                    count(TaskStatus::Cancelled),
                );
                assert_eq!(found, wanted, "{what}: {}", row.id);
            }
            let filter = RunFilter { text: Some(id.clone()), ..RunFilter::default() };
            let runs = models.runs(&filter, &Paging::<RunSort>::default()).expect("runs").rows;
            let row = runs.iter().find(|row| row.run.to_string() == *id).expect("the run");
            let found = (row.status, row.started_at.is_some(), row.finished_at);
            let run = state.run();
            assert_eq!(found, (run.status, run.started_at.is_some(), run.finished_at), "{what}");
        }
    }
}

/// One run of one project, told by hand.
pub async fn a_small_history_by_hand(place: &dyn Fixture) {
    let mut history = History::new(3);
    let models = place.open();
    while history.runs.iter().all(|run| run.run().status != RunStatus::Completed) {
        history.grow().await;
    }
    Feeder::new(models.clone(), history.reader(), history.plans()).catch_up().expect("fed");
    let done = history.runs.iter().find(|run| run.run().status == RunStatus::Completed).expect("one");
    let project = &done.plan().project;
    let told = statistics(&*models, project).expect("statistics").expect("there are runs");
    let completed = told.runs.iter().find(|(status, _)| *status == RunStatus::Completed).expect("one");
    assert_eq!((completed.1, told.totals.runs_completed), (1, 1));
    let took = done.run().finished_at.expect("it has ended").since(done.run().submitted_at).as_secs_f64();
    let spread = told.spread(Span::Run);
    assert_eq!((spread.count, spread.mean_seconds), (1, Some(took)));
    assert!((spread.p50_seconds.expect("one") - took).abs() <= took / 16.0, "{spread:?} {took}");
    assert_eq!(told.spread(Span::Task).count, told.spread(Span::Wait).count, "what ran has waited");
    assert!(told.tasks_per_day.expect("days") > 0.0 && told.task_success_ratio.expect("some") > 0.0);

    while !history.runs.iter().any(|run| run.plan().project == "apollo") {
        history.grow().await;
    }
    Feeder::new(models.clone(), history.reader(), history.plans()).catch_up().expect("fed");
    let tree = |node, direction, depth| {
        let tree = models.dependency_tree("apollo.1", node, direction, depth).expect("a tree");
        tree.into_iter().map(|node| format!("{} {}", node.depth, node.node)).collect::<Vec<_>>()
    };
    let all = ["1 build", "1 docs/write", "1 test", "2 build/a"];
    assert_eq!(tree("ship", Direction::Needs, 64), all);
    assert_eq!(tree("ship/w", Direction::Needs, 64), ["1 build", "1 test", "2 build/a", "2 docs/write"]);
    assert_eq!(tree("ship", Direction::Needs, 1), all[..3]);
    let by = ["1 build/b", "1 ship", "1 test", "2 build/checked"];
    assert_eq!(tree("build/a", Direction::NeededBy, 64), by);
    let search = |text: &str| {
        let filter = MilestoneFilter {
            run: Some("apollo.1".into()),
            text: Some(text.into()),
            ..MilestoneFilter::default()
        };
        let found = models.milestones(&filter, &Paging::default()).expect("milestones").rows;
        found.into_iter().map(|row| row.id).collect::<Vec<_>>()
    };
    assert_eq!(search("COMPILES"), ["build"]);
    assert_eq!(search("äöü"), ["docs"]);
    assert_eq!(search("ada"), ["build", "ship"]);
    assert!(search("%").is_empty());
    let filter = MilestoneFilter {
        run: Some("apollo.1".into()),
        due_until: Timestamp::parse("2026-11-15T00:00:00Z"),
        ..MilestoneFilter::default()
    };
    let late = models.milestones(&filter, &Paging::default()).expect("milestones").rows;
    assert_eq!(late.iter().map(|row| row.id.as_str()).collect::<Vec<_>>(), ["test"]);
}
