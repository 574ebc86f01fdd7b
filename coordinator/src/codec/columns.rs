//! The fields of the events of a record: what all of them share once, what differs in columns.

use cairn_model::{Plan, TaskIndex, Timestamp};
use std::fmt::Write as _;

/// JSON text of a string.
pub(super) fn write_text(out: &mut String, text: &str) {
    let plain = text.bytes().all(|byte| byte >= b' ' && byte != b'"' && byte != b'\\');
    if plain {
        out.push('"');
        out.push_str(text);
        out.push('"');
    } else {
        out.push_str(&serde_json::Value::from(text).to_string());
    }
}

pub(super) enum Pair<'a> {
    Text(&'a str),
    Thousandths(u64),
}

/// The fields of a batch: each a value that all rows share so far, or a column.
#[derive(Debug, Default)]
pub(super) struct Columns {
    columns: Vec<Column>,
    used: usize,
    at: usize,
    rows: usize,
    scratch: String,
}

#[derive(Debug, Default)]
struct Column {
    name: &'static str,
    shared: String,
    differing: String,
}

impl Columns {
    pub fn clear(&mut self) {
        (self.used, self.at, self.rows) = (0, 0, 0);
    }

    pub fn end_row(&mut self) {
        self.at = 0;
        self.rows += 1;
    }

    pub fn bytes(&self) -> usize {
        self.columns[..self.used]
            .iter()
            .map(|column| 8 + column.name.len() + column.shared.len().max(column.differing.len()))
            .sum()
    }

    pub fn write(&mut self, name: &'static str, value: impl FnOnce(&mut String)) {
        if self.rows == 0 {
            if self.used == self.columns.len() {
                self.columns.push(Column::default());
            }
            let column = &mut self.columns[self.used];
            column.name = name;
            column.shared.clear();
            column.differing.clear();
            value(&mut column.shared);
            self.used += 1;
            return;
        }
        let column = &mut self.columns[self.at];
        self.at += 1;
        debug_assert_eq!(column.name, name, "events of a type have the same fields in the same order");
        if !column.differing.is_empty() {
            column.differing.push(',');
            return value(&mut column.differing);
        }
        self.scratch.clear();
        value(&mut self.scratch);
        if self.scratch != column.shared {
            for _ in 0..self.rows {
                column.differing.push_str(&column.shared);
                column.differing.push(',');
            }
            column.differing.push_str(&self.scratch);
        }
    }

    pub fn text(&mut self, name: &'static str, text: &str) {
        self.write(name, |out| write_text(out, text));
    }

    pub fn optional(&mut self, name: &'static str, text: Option<&str>) {
        self.write(name, |out| match text {
            Some(text) => write_text(out, text),
            None => out.push_str("null"),
        });
    }

    pub fn number(&mut self, name: &'static str, number: u64) {
        self.write(name, |out| {
            let _ = write!(out, "{number}");
        });
    }

    pub fn flag(&mut self, name: &'static str, flag: bool) {
        self.write(name, |out| out.push_str(if flag { "true" } else { "false" }));
    }

    pub fn time(&mut self, name: &'static str, at: Timestamp) {
        self.write(name, |out| {
            out.push('"');
            at.write_to(out);
            out.push('"');
        });
    }

    /// Ids are of an alphabet that needs no escapes.
    pub fn task(&mut self, name: &'static str, plan: &Plan, task: TaskIndex) {
        self.write(name, |out| {
            out.push('"');
            out.push_str(&plan.milestone(plan.milestone_of(task)).id);
            out.push('/');
            out.push_str(plan.task_id(task));
            out.push('"');
        });
    }

    pub fn pairs<'a>(&mut self, name: &'static str, pairs: impl Iterator<Item = (&'a str, Pair<'a>)>) {
        self.write(name, |out| {
            out.push('{');
            for (at, (key, value)) in pairs.enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_text(out, key);
                out.push(':');
                match value {
                    Pair::Text(text) => write_text(out, text),
                    Pair::Thousandths(amount) if amount % 1000 == 0 => drop(write!(out, "{}", amount / 1000)),
                    Pair::Thousandths(amount) => drop(write!(out, "{}.{:03}", amount / 1000, amount % 1000)),
                }
            }
            out.push('}');
        });
    }

    pub fn write_to(&self, out: &mut String) {
        let columns = &self.columns[..self.used];
        let object = |out: &mut String, key: &str, differing: bool| {
            out.push_str(key);
            out.push('{');
            let mut first = true;
            for column in columns.iter().filter(|column| column.differing.is_empty() != differing) {
                if !std::mem::take(&mut first) {
                    out.push(',');
                }
                out.push('"');
                out.push_str(column.name);
                out.push_str("\":");
                if differing {
                    out.push('[');
                    out.push_str(&column.differing);
                    out.push(']');
                } else {
                    out.push_str(&column.shared);
                }
            }
            out.push('}');
        };
        object(out, "\"event_data\":", false);
        if columns.iter().any(|column| !column.differing.is_empty()) {
            object(out, ",\"each\":", true);
        }
    }
}
