//! Read models in memory: for files, which have no tables. Made from the log when the process starts.

use super::fold::{Batch, RunChange};
use super::query::{
    Direction, Key, MAX_PAGE_ROWS, MAX_TREE_DEPTH, MAX_TREE_NODES, MilestoneFilter, MilestoneSort, Page,
    Paging, RunFilter, RunSort, TreeNode,
};
use super::rows::{DayTotals, MilestoneOverview, NeedRow, RunRows};
use super::{Known, ModelError, ReadModels};
use crate::projection::RunOverview;
use cairn_engine::RunStatus;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Tables in memory.
#[derive(Debug, Default)]
pub struct MemoryModels {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    known: Known,
    runs: HashMap<String, RunChange>,
    milestones: HashMap<String, BTreeMap<String, MilestoneOverview>>,
    needs: HashMap<String, Vec<NeedRow>>,
    days: BTreeMap<(String, i64), DayTotals>,
}

impl MemoryModels {
    fn read(&self) -> RwLockReadGuard<'_, Tables> {
        // A batch is put in without anything that can panic half-way.
        self.tables.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Tables> {
        self.tables.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ReadModels for MemoryModels {
    fn known(&self) -> Result<Known, ModelError> {
        Ok(self.read().known)
    }

    fn apply(&self, batch: &Batch) -> Result<bool, ModelError> {
        let mut tables = self.write();
        if tables.known.position + 1 != batch.from {
            return Ok(false);
        }
        tables.known = Known { position: batch.to, mark: batch.mark };
        for change in &batch.runs {
            tables.runs.insert(change.run.run.to_string(), change.clone());
        }
        for row in &batch.milestones {
            tables.milestones.entry(row.run.clone()).or_default().insert(row.id.clone(), row.clone());
        }
        for (run, needs) in &batch.needs {
            tables.needs.insert(run.clone(), needs.clone());
        }
        for (day, totals) in &batch.days {
            tables.days.entry(day.clone()).or_default().merge(totals);
        }
        Ok(true)
    }

    fn clear(&self) -> Result<(), ModelError> {
        *self.write() = Tables::default();
        Ok(())
    }

    fn load(&self, run: &str) -> Result<Option<RunRows>, ModelError> {
        let tables = self.read();
        Ok(tables.runs.get(run).map(|change| {
            let mut needs = BTreeMap::<_, Vec<_>>::new();
            for need in tables.needs(run).iter().filter(|need| !need.node.contains('/')) {
                needs.entry(need.node.clone()).or_default().push(need.needs.clone());
            }
            let milestones = tables.milestones.get(run).cloned().unwrap_or_default();
            let RunChange { run, first, memory } = change.clone();
            RunRows { run, first, milestones, needs, memory }
        }))
    }

    fn runs(&self, filter: &RunFilter, paging: &Paging<RunSort>) -> Result<Page<RunOverview>, ModelError> {
        let tables = self.read();
        let wanted = tables.runs.values().filter(|change| filter.is_wanted(&change.run));
        let keyed = wanted.map(|RunChange { run, first, .. }| {
            let value = paging.sort.value(run, *first);
            (Key { value, first: first.cast_signed(), place: 0 }, run)
        });
        Ok(page(keyed, paging))
    }

    fn milestones(
        &self,
        filter: &MilestoneFilter,
        paging: &Paging<MilestoneSort>,
    ) -> Result<Page<MilestoneOverview>, ModelError> {
        let tables = self.read();
        let all = tables.runs.iter().flat_map(|(name, change)| {
            let rows = tables.milestones.get(name).into_iter().flat_map(BTreeMap::values);
            rows.map(move |row| (change, row))
        });
        let wanted = all.filter(|(change, row)| filter.is_wanted(change.run.run.project(), row));
        let keyed = wanted.map(|(change, row)| {
            let value = paging.sort.value(row, change.first);
            (Key { value, first: change.first.cast_signed(), place: row.place.cast_signed() }, row)
        });
        Ok(page(keyed, paging))
    }

    fn dependency_tree(
        &self,
        run: &str,
        node: &str,
        direction: Direction,
        depth: u32,
    ) -> Result<Vec<TreeNode>, ModelError> {
        Ok(self.read().tree(run, node, direction, depth.min(MAX_TREE_DEPTH)))
    }

    fn days(&self, project: &str, from: i64, to: i64) -> Result<Vec<(i64, DayTotals)>, ModelError> {
        if from > to {
            return Ok(Vec::new());
        }
        let tables = self.read();
        let days = tables.days.range((project.to_owned(), from)..=(project.to_owned(), to));
        Ok(days.map(|((_, day), totals)| (*day, totals.clone())).collect())
    }

    fn run_counts(&self, project: &str) -> Result<Vec<(RunStatus, u64)>, ModelError> {
        let tables = self.read();
        let count = |status: &RunStatus| {
            let runs = tables.runs.values().map(|change| &change.run);
            runs.filter(|run| run.run.project() == project && run.status == *status).count() as u64
        };
        let counts = RunStatus::ALL.iter().map(|status| (*status, count(status)));
        Ok(counts.filter(|(_, count)| *count > 0).collect())
    }
}

/// The page of rows that are given in any order.
fn page<'a, T: Clone + 'a, S>(rows: impl Iterator<Item = (Key, &'a T)>, paging: &Paging<S>) -> Page<T> {
    let limit = paging.limit.min(MAX_PAGE_ROWS);
    let is_behind = |key: Key| match paging.after {
        None => true,
        Some(after) if paging.descending => key < after,
        Some(after) => key > after,
    };
    let mut found: Vec<_> = rows.filter(|(key, _)| is_behind(*key)).collect();
    found.sort_unstable_by_key(|(key, _)| *key);
    if paging.descending {
        found.reverse();
    }
    found.truncate(limit + 1);
    Page::of(found.into_iter().map(|(key, row)| (key, row.clone())).collect(), limit)
}

/// The milestone that a node is, or is of.
fn milestone_of(node: &str) -> &str {
    node.split_once('/').map_or(node, |(milestone, _)| milestone)
}

impl Tables {
    fn needs(&self, run: &str) -> &[NeedRow] {
        self.needs.get(run).map_or(&[], Vec::as_slice)
    }

    fn tree(&self, run: &str, node: &str, direction: Direction, depth: u32) -> Vec<TreeNode> {
        let index = Index::new(self.needs(run), direction);
        let (mut seen, mut nodes) = (BTreeSet::from([node.to_owned()]), Vec::new());
        let mut level = BTreeSet::from([node]);
        for depth in 1..=depth {
            let next: BTreeSet<_> = level.iter().flat_map(|from| index.steps(from)).collect();
            level = next.into_iter().filter(|node| !seen.contains(*node)).collect();
            if level.is_empty() || nodes.len() >= MAX_TREE_NODES {
                break;
            }
            seen.extend(level.iter().map(|node| (*node).to_owned()));
            nodes.extend(level.iter().map(|node| TreeNode { node: (*node).to_owned(), depth }));
        }
        nodes.truncate(MAX_TREE_NODES);
        nodes
    }
}

/// Needs by the end that they are followed from.
struct Index<'a> {
    by_node: HashMap<&'a str, Vec<&'a str>>,
    by_milestone: HashMap<&'a str, Vec<&'a str>>,
}

impl<'a> Index<'a> {
    fn new(rows: &'a [NeedRow], direction: Direction) -> Self {
        let (mut by_node, mut by_milestone) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for row in rows {
            let (near, far) = match direction {
                Direction::Needs => (row.node.as_str(), row.needs.as_str()),
                Direction::NeededBy => (row.needs.as_str(), row.node.as_str()),
            };
            by_node.entry(near).or_default().push(far);
            // What tasks of a milestone need of each other is no need of the milestone.
            if milestone_of(near) != milestone_of(far) {
                by_milestone.entry(milestone_of(near)).or_default().push(far);
            }
        }
        Self { by_node, by_milestone }
    }

    /// Where needs lead from a node. A task stands for itself and, with the others, for its milestone.
    fn steps(&self, from: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        let (milestone, is_task) = (milestone_of(from), from.contains('/'));
        let own = if is_task { self.by_node.get(from) } else { self.by_milestone.get(from) };
        let of_milestone = if is_task { self.by_node.get(milestone) } else { None };
        let all = own.into_iter().chain(of_milestone).flatten().copied();
        all.collect::<Vec<_>>().into_iter()
    }
}
