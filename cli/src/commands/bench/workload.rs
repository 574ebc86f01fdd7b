//! Plans to measure with.

use std::fmt::Write as _;
use std::time::Duration;

/// How the tasks hang together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    /// None needs another
    #[default]
    Independent,
    /// Each needs the one before
    Chain,
    /// Layers of 100, each task needs three of the layer before
    Layered,
}

/// What a task does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Nothing: `wait: 0s`.
    Nothing,
    /// A process that ends at once.
    True,
}

/// Tasks of a layer.
const LAYER: u32 = 100;

/// The text of a plan in JSON, a task a line.
pub fn plan(tasks: u32, shape: Shape, work: Work) -> String {
    let mut text = String::with_capacity(tasks as usize * 80 + 64);
    text.push_str("{\"version\":1,\"project\":\"bench\",\"tasks\":[\n");
    for task in 0..tasks {
        let _ = write!(text, "{{\"id\":\"t{task:06}\"");
        let mut separator = ",\"needs\":[";
        needs(shape, task).iter().flatten().for_each(|need| {
            let _ = write!(text, "{separator}\"t{need:06}\"");
            separator = ",";
        });
        if separator == "," {
            text.push(']');
        }
        text.push_str(match work {
            Work::Nothing => ",\"wait\":\"0s\"}",
            Work::True => ",\"exec\":[\"/bin/true\"]}",
        });
        text.push_str(if task + 1 < tasks { ",\n" } else { "\n]}\n" });
    }
    text
}

fn needs(shape: Shape, task: u32) -> [Option<u32>; 3] {
    match shape {
        Shape::Independent => [None; 3],
        Shape::Chain => [task.checked_sub(1), None, None],
        Shape::Layered if task < LAYER => [None; 3],
        Shape::Layered => {
            let above = task / LAYER * LAYER - LAYER;
            [0, 1, 2].map(|step| Some(above + (task + step) % LAYER))
        }
    }
}

/// The text of a plan whose processes start one at a time, each some time after the one before has ended.
pub fn paced(tasks: u32, pause: Duration) -> String {
    let mut text = String::from("{\"version\":1,\"project\":\"bench\",\"tasks\":[\n");
    for task in 0..tasks {
        let _ = write!(text, "{{\"id\":\"p{task:06}\",\"wait\":\"{}ms\"", pause.as_millis());
        if let Some(before) = task.checked_sub(1) {
            let _ = write!(text, ",\"needs\":[\"t{before:06}\"]");
        }
        let _ = write!(
            text,
            "}},\n{{\"id\":\"t{task:06}\",\"needs\":[\"p{task:06}\"],\"exec\":[\"/bin/true\"]}}"
        );
        text.push_str(if task + 1 < tasks { ",\n" } else { "\n]}\n" });
    }
    text
}
