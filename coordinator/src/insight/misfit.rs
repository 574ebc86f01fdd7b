//! Why no agent that is there could ever run a task.

use cairn_engine::{State, TaskStatus, could_ever_run, describe_amount, takers};
use cairn_model::TaskIndex;

/// What agents lack for a task that is ready; nothing if one of them could run it, or none is there.
#[must_use]
pub fn misfit(state: &State, task: TaskIndex) -> Option<String> {
    let is_ready = state.task(task).status == TaskStatus::Ready;
    if !is_ready || could_ever_run(state, task) || takers(state).next().is_none() {
        return None;
    }
    let class = &state.order().classes()[state.order().class_of(task)];
    let mut lacks = Vec::new();
    for label in &class.requires {
        if !takers(state).any(|agent| agent.spec.labels.contains(label)) {
            lacks.push(format!("no agent has label {}={}", label.0, label.1));
        }
    }
    for (name, wanted) in &class.resources {
        let has = takers(state).flat_map(|agent| &agent.spec.resources).filter(|(has, _)| has == name);
        let most = has.map(|(_, amount)| *amount).max().unwrap_or(0);
        if most < *wanted {
            let most =
                if most > 0 { format!(", at most {}", describe_amount(name, most)) } else { String::new() };
            lacks.push(format!("no agent has {}{most}", describe_amount(name, *wanted)));
        }
    }
    if class.takes_slot && !takers(state).any(|agent| agent.spec.slots > 0) {
        lacks.push("no agent has slots".to_owned());
    }
    if !class.takes_slot && !takers(state).any(|agent| agent.spec.timers > 0) {
        lacks.push("no agent keeps timers".to_owned());
    }
    if lacks.is_empty() {
        lacks.push(format!("no single agent has all of {}", class.describe()));
    }
    Some(lacks.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::insight::tests::{agent, command, submitted_state};
    use cairn_model::{AgentIndex, Command};

    const PLAN: &str = "{version: 1, project: apollo, tasks: [
        {id: fits, run: x}, {id: label, run: x, requires: {gpu: a100}}, {id: much, run: x, resources: {cpus: 8}},
        {id: other, run: x, resources: {licence: 1}, requires: {os: beos}}]}";

    #[test]
    fn what_agents_lack_is_named_while_agents_are_there() {
        let mut state = submitted_state(PLAN);
        let says = |state: &State| state.plan().tasks().map(|task| misfit(state, task)).collect::<Vec<_>>();
        assert_eq!(says(&state), [const { None }; 4], "nobody is there");
        command(&mut state, 1, agent("a1", 1, 2_000));
        let lacks = [
            None,
            Some("no agent has label gpu=a100".to_owned()),
            Some("no agent has cpus 8, at most cpus 2".to_owned()),
            Some("no agent has label os=beos; no agent has licence 1".to_owned()),
        ];
        assert_eq!(says(&state), lacks);
        let counts: Vec<_> = cairn_engine::unplaceable(&state).into_iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 1, 1]);
        command(&mut state, 2, Command::AgentLost { agent: AgentIndex(0), reason: "".into() });
        assert_eq!(says(&state), [const { None }; 4]);
        assert!(cairn_engine::unplaceable(&state).is_empty());
    }
}
