//! All that can be asked, and what is answered.

use cairn_coordinator::projection::models::{
    Direction, Key, MilestoneFilter, MilestoneSort, Page, Paging, ReadModels, RunFilter, RunSort, statistics,
};
use cairn_engine::{MilestoneStatus, RunStatus};
use cairn_model::Timestamp;
use std::fmt::{Debug, Write as _};

const PROJECTS: [&str; 3] = ["apollo", "zeus", "hera"];

/// The answers to many questions, as text.
pub fn answers(models: &dyn ReadModels) -> String {
    let mut out = format!("{:?}\n", models.known().expect("known"));
    for project in PROJECTS {
        let told = statistics(models, project).expect("statistics");
        let days = models.days(project, i64::MIN, i64::MAX).expect("days");
        let some = days.get(1).map(|(day, _)| models.days(project, *day, *day).expect("a day"));
        writeln!(out, "{project}: {told:?}\n{days:?}\n{some:?}").expect("written");
    }
    let text = |text: &str| Some(text.to_owned());
    let time = |time: &str| Timestamp::parse(time);
    let own = Some(vec!["zeus".to_owned(), "hera".to_owned()]);
    let filters = [
        RunFilter::default(),
        RunFilter { projects: own.clone(), ..RunFilter::default() },
        RunFilter { status: Some(RunStatus::Failed), ..RunFilter::default() },
        RunFilter { text: text("APOLLO.1"), ..RunFilter::default() },
        RunFilter {
            from: time("2026-11-01T00:00:00Z"),
            until: time("2026-11-20T00:00:00Z"),
            ..RunFilter::default()
        },
    ];
    for filter in filters {
        for sort in [RunSort::Submitted, RunSort::Started, RunSort::Finished, RunSort::Duration] {
            pages(&mut out, sort, |paging| models.runs(&filter, paging).expect("runs"));
        }
    }
    let none = MilestoneFilter::default;
    let filters = [
        none(),
        MilestoneFilter { projects: own, ..none() },
        MilestoneFilter { run: text("apollo.1"), ..none() },
        MilestoneFilter { status: Some(MilestoneStatus::Completed), ..none() },
        MilestoneFilter { owner: text("ada"), ..none() },
        MilestoneFilter { text: text("people, äöÜ"), ..none() },
        MilestoneFilter { text: text("50%_"), ..none() },
        MilestoneFilter { due_from: time("2026-11-15T00:00:00Z"), ..none() },
        MilestoneFilter { due_until: time("2026-11-15T00:00:00Z"), ..none() },
    ];
    for filter in filters {
        let sorts =
            [MilestoneSort::Submitted, MilestoneSort::Due, MilestoneSort::Started, MilestoneSort::Finished];
        for sort in sorts {
            pages(&mut out, sort, |paging| models.milestones(&filter, paging).expect("milestones"));
        }
    }
    for node in ["build", "build/a", "ship", "ship/s", "test/u", "docs/write", "main/b", "nothing"] {
        for direction in [Direction::Needs, Direction::NeededBy] {
            for (run, depth) in [("apollo.1", 1), ("apollo.1", 64), ("zeus.1", 64), ("hera.1", 64)] {
                let tree = models.dependency_tree(run, node, direction, depth).expect("a tree");
                writeln!(out, "{run} {node} {direction:?} {depth}: {tree:?}").expect("written");
            }
        }
    }
    out
}

/// All rows at once and page by page, in both directions.
fn pages<S: Copy, T: Debug + PartialEq>(out: &mut String, sort: S, ask: impl Fn(&Paging<S>) -> Page<T>) {
    for descending in [false, true] {
        let all = ask(&Paging { sort, descending, after: None, limit: 1_000 });
        assert_eq!(all.next, None, "there are few rows");
        for limit in [1, 2, 7] {
            let (mut rows, mut after) = (Vec::new(), None::<Key>);
            loop {
                let page = ask(&Paging { sort, descending, after, limit });
                assert!(page.rows.len() <= limit && (page.rows.len() == limit || page.next.is_none()));
                rows.extend(page.rows);
                match page.next {
                    Some(key) => after = Some(key.to_string().parse().expect("its own text")),
                    None => break,
                }
            }
            assert_eq!(rows, all.rows, "pages of {limit}");
        }
        writeln!(out, "{:?}", all.rows).expect("written");
    }
}
