//! What the plan language means.

use cairn_model::plan::{Action, Backoff, Need};
use cairn_model::{MilestoneIndex, TaskIndex, Timestamp};
use cairn_shared::plan::{Options, Parsed, Source, json_schema, parse};
use std::time::Duration;

/// The plan of the contract.
const APOLLO: &str = r#"
version: 1
project: apollo                 # [a-z0-9][a-z0-9-]{0,62}
title: Apollo release
parameters:
  region: {default: eu, enum: [eu, us]}        # ${{ params.region }}
defaults:
  timeout: 10m
  retry: {max_attempts: 3, backoff: exponential, initial: 1s, max: 1m, jitter: 0.2}
env: {LOG: info}
milestones:
  - id: build
    title: Everything compiles
    due: 2026-12-01T12:00:00Z
    tasks:
      - id: compile
        run: cargo build --release             # a shell script, passed to the shell unchanged
        resources: {cpus: 2, memory: 2GiB}
        requires: {os: linux}                  # agent labels
        estimate: 4m                           # or {optimistic: 2m, likely: 4m, pessimistic: 10m}
      - id: unit
        needs: [compile]
        exec: [cargo, test]                    # argv, no shell
        timeout: 20m
      - id: settle
        needs: [unit]
        wait: 5s                               # a timer kept by the agent, no process; 0s does nothing
  - id: ship
    needs: [build]                             # a milestone, or milestone/task
    tasks:
      - id: publish
        needs: [build/compile]
        run: ./publish.sh
        at_most_once: true
      - id: announced                          # a checkpoint, done when its needs are
        needs: [publish]
"#;

fn read_with(text: &str, params: &[(&str, &str)]) -> Parsed {
    let params: Vec<_> = params.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    let source = Source::new("plan.yaml", text);
    let parsed =
        parse(&source, &Options { params: &params, ..Options::default() }).unwrap_or_else(|e| panic!("{e}"));
    assert!(parsed.graph(&source).is_ok());
    parsed
}

fn read(text: &str) -> Parsed {
    read_with(text, &[])
}

/// A plan of one task with these keys, and what it says about settings.
fn task_of(keys: &str) -> Parsed {
    read(&format!("version: 1\nproject: p\ntasks:\n  - id: a\n{keys}"))
}

const A: TaskIndex = TaskIndex(0);

#[test]
fn the_plan_of_the_contract_is_read() {
    let Parsed { plan, warnings, .. } = read(APOLLO);
    assert!(warnings.is_empty());
    assert_eq!((plan.project.as_str(), plan.title.as_deref()), ("apollo", Some("Apollo release")));
    assert_eq!((plan.milestones().len(), plan.task_count(), plan.edge_count()), (2, 5, 5));
    let find = |name: &str| plan.find_task_name(name).expect(name);
    let (compile, unit, publish) = (find("build/compile"), find("build/unit"), find("ship/publish"));
    assert_eq!(plan.action(compile), Action::Run("cargo build --release"));
    assert_eq!(plan.action(unit), Action::Exec(vec!["cargo", "test"]));
    assert_eq!(plan.action(find("build/settle")), Action::Wait(Duration::from_secs(5)));
    assert_eq!(plan.action(find("ship/announced")), Action::Checkpoint);
    assert_eq!(plan.needs(publish), [Need::Task(compile)]);
    assert_eq!(plan.milestone_needs(MilestoneIndex(1)), [Need::Milestone(MilestoneIndex(0))]);
    let settings = plan.settings(compile);
    let of = |name: &str, value: u64| (name.to_string(), value);
    assert_eq!(settings.resources, [of("cpus", 2_000), of("memory", (2 << 30) * 1_000)]);
    assert_eq!(settings.requires, [("os".to_string(), "linux".to_string())]);
    assert_eq!(settings.env, [("LOG".to_string(), "info".to_string())]);
    assert_eq!(settings.timeout, Some(Duration::from_secs(600)));
    assert_eq!((settings.retry.max_attempts, settings.retry.jitter_permille), (3, 200));
    assert_eq!(plan.settings(unit).timeout, Some(Duration::from_secs(1_200)));
    assert!(plan.settings(publish).at_most_once && !settings.at_most_once);
    assert_eq!(plan.estimate(compile).map(|estimate| estimate.mean()), Some(Duration::from_secs(240)));
    assert_eq!(plan.milestone(MilestoneIndex(0)).due, Timestamp::parse("2026-12-01T12:00:00Z"));
    assert_eq!(plan.all_settings().len(), 4, "equal settings are stored once");
}

#[test]
fn json_is_the_same_plan() {
    let json = r#"{"version": 1, "project": "p", "env": {"A": "\u00e9"}, "milestones": [
        {"id": "m", "needs": [], "tasks": [{"id": "a", "run": "x\ny"}, {"id": "b", "needs": ["a"], "priority": 5}]}]}"#;
    let yaml = "version: 1\nproject: p\nenv: {A: é}\nmilestones:\n- id: m\n  needs: []\n  tasks:\n  - id: a\n    run: |-\n      x\n      y\n  - {id: b, needs: [a], priority: 5}\n";
    for text in [json, yaml] {
        let plan = read(text).plan;
        assert_eq!(plan.action(A), Action::Run("x\ny"));
        assert_eq!(plan.settings(A).env, [("A".to_string(), "é".to_string())]);
        assert_eq!((plan.needs(TaskIndex(1)), plan.priority(TaskIndex(1))), (&[Need::Task(A)][..], 5));
    }
}

#[test]
fn tasks_at_the_top_form_the_milestone_main() {
    let plan = read("version: 1\nproject: p\ntasks: [{id: a}, {id: b, needs: [a]}]").plan;
    assert_eq!(plan.milestones()[0].id, "main");
    assert_eq!(plan.find_task_name("main/b"), Some(TaskIndex(1)));
}

#[test]
fn the_nearest_setting_wins_and_environments_are_merged() {
    let plan = read(
        "version: 1
project: p
env: {A: plan, B: plan, C: plan, D: plan}
defaults: {env: {B: defaults, C: defaults}, timeout: 1m, working_dir: one, requires: {os: linux, zone: a}}
milestones:
  - id: m
    priority: 7
    defaults: {env: {C: milestone}, timeout: 2m, retry: {max_attempts: 2}, continue_on_error: true}
    tasks:
      - id: plain
      - id: own
        env: {D: task, E: task}
        timeout: 3m
        requires: {os: bsd}
        priority: -3
        continue_on_error: false
  - id: n
    tasks: [{id: other}]
",
    )
    .plan;
    let task = |name: &str| plan.find_task_name(name).expect(name);
    let env = |name: &str| {
        let pairs = plan.settings(task(name)).env.iter().map(|(name, value)| format!("{name}={value}"));
        pairs.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(env("m/plain"), "A=plan B=defaults C=milestone D=plan");
    assert_eq!(env("m/own"), "A=plan B=defaults C=milestone D=task E=task");
    assert_eq!(env("n/other"), "A=plan B=defaults C=defaults D=plan");
    let plain = plan.settings(task("m/plain"));
    assert_eq!(plain.timeout, Some(Duration::from_secs(120)));
    assert_eq!((plain.working_dir.as_deref(), plain.retry.max_attempts), (Some("one"), 2));
    assert!(plain.continue_on_error);
    let own = plan.settings(task("m/own"));
    assert_eq!(own.requires, [("os".to_string(), "bsd".to_string())], "replaced, not merged");
    assert!(!own.continue_on_error);
    assert_eq!((plan.priority(task("m/plain")), plan.priority(task("m/own"))), (7, -3));
    assert_eq!((plan.priority(task("n/other")), plan.settings(task("n/other")).retry.max_attempts), (0, 1));
}

#[test]
fn scalars_are_text_where_text_is_expected() {
    let plan = task_of(
        "    title: 2026\n    run: true\n    env: {PORT: 8080, HEX: 0x1F, ON: on, NO: no, T: true, F: 1.50, EMPTY: '', NULL: 'null'}\n",
    )
    .plan;
    assert_eq!(plan.task_title(A), Some("2026"));
    assert_eq!(plan.action(A), Action::Run("true"));
    let env: Vec<_> = plan.settings(A).env.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(env, ["EMPTY=", "F=1.50", "HEX=0x1F", "NO=no", "NULL=null", "ON=on", "PORT=8080", "T=true"]);
    assert_eq!(
        task_of("    exec: [sleep, 5, 1e3, no]\n").plan.action(A),
        Action::Exec(vec!["sleep", "5", "1e3", "no"])
    );
}

#[test]
fn scripts_are_passed_unchanged() {
    let script = "    run: |\n      set -e\n      echo \"$NAME ${OTHER} $((1 + 2))\"  # é\n\n      cat <<'END'\n        x\n      END\n";
    let expected = "set -e\necho \"$NAME ${OTHER} $((1 + 2))\"  # é\n\ncat <<'END'\n  x\nEND\n";
    assert_eq!(task_of(script).plan.action(A), Action::Run(expected));
}

#[test]
fn parameters_are_put_in_where_it_is_safe() {
    let text = "version: 1
project: p
title: to ${{ params.region }}
parameters:
  region: {default: eu, enum: [eu, us], description: where to}
  tag: {}
env: {REGION: '${{ params.region }}-${{ params.tag }}'}
tasks:
  - id: a
    title: deploy ${{params.tag}}
    exec: [deploy, '--to=${{ params.region }}', '${{ params.tag }}']
    working_dir: sites/${{ params.region }}
    requires: {zone: '${{ params.region }}'}
";
    let plan =
        read_with(text, &[("tag", "old"), ("region", "us"), ("tag", "${{ params.region }}; rm -rf /")]).plan;
    assert_eq!(plan.title.as_deref(), Some("to us"));
    let tag = "${{ params.region }}; rm -rf /";
    assert_eq!(
        plan.action(A),
        Action::Exec(vec!["deploy", "--to=us", tag]),
        "the last given counts, put in once"
    );
    let settings = plan.settings(A);
    assert_eq!(settings.env[0].1, format!("us-{tag}"));
    assert_eq!(settings.working_dir.as_deref(), Some("sites/us"));
    assert_eq!(settings.requires[0].1, "us");
    let values: Vec<_> =
        plan.parameters.iter().map(|parameter| (parameter.name.as_str(), parameter.value.as_str())).collect();
    assert_eq!(values, [("region", "us"), ("tag", tag)]);
}

#[test]
fn names_are_tasks_first_and_needs_count_once() {
    let plan = read(
        "version: 1
project: p
milestones:
  - id: a
    tasks: [{id: x}]
  - id: b
    tasks:
      - id: a
      - id: y
        needs: [a, a/x, b/a, a]
      - id: z
        needs: [a/x]
  - id: c
    needs: [b, a/x, b]
    tasks: [{id: w, needs: [a]}]
",
    )
    .plan;
    let task = |name: &str| plan.find_task_name(name).expect(name);
    assert_eq!(plan.needs(task("b/y")), [Need::Task(task("b/a")), Need::Task(task("a/x"))]);
    assert_eq!(plan.needs(task("c/w")), [Need::Milestone(MilestoneIndex(0))]);
    assert_eq!(
        plan.milestone_needs(MilestoneIndex(2)),
        [Need::Milestone(MilestoneIndex(1)), Need::Task(task("a/x"))]
    );
}

#[test]
fn many_needs_and_variables_count_once_too() {
    let tasks: String = (0..100).map(|index| format!("  - id: t{index}\n")).collect();
    let names: Vec<_> = (0..100).chain(0..100).map(|index| format!("t{index}")).collect();
    let variables: Vec<_> = (0..100).map(|index| format!("V{}: {index}", 99 - index)).collect();
    let text = format!(
        "version: 1\nproject: p\nenv: {{{}}}\ntasks:\n{tasks}  - id: last\n    needs: [{}]\n",
        variables.join(", "),
        names.join(", ")
    );
    let plan = read(&text).plan;
    assert_eq!(plan.needs(TaskIndex(100)).len(), 100);
    let env = &plan.settings(A).env;
    assert!(env.len() == 100 && env.is_sorted());
}

#[test]
fn estimates_resources_and_retries_have_their_defaults() {
    let plan = task_of(
        "    estimate: {optimistic: 1m, likely: 2m, pessimistic: 9m}\n    resources: {gpu: 0, cpus: 0.25}\n    retry: {max_attempts: 4, backoff: linear, initial: 2m}\n",
    )
    .plan;
    assert_eq!(plan.expected_duration(A), Some(Duration::from_secs(180)));
    let settings = plan.settings(A);
    assert_eq!(settings.resources, [("cpus".to_string(), 250)], "an amount of zero is none");
    assert_eq!((settings.retry.backoff, settings.retry.max), (Backoff::Linear, Duration::from_secs(120)));
}

#[test]
fn aliases_tags_and_documents_of_one_are_read() {
    let plan = read(
        "%YAML 1.2
---
version: !!int 1
project: p
tasks:
  - &base
    id: a
    env: &env {A: 1}
    needs: &none []
  - {id: b, env: *env, needs: *none, run: !!str 5}
...
",
    )
    .plan;
    assert_eq!(plan.settings(TaskIndex(1)).env, plan.settings(A).env);
    assert_eq!(plan.action(TaskIndex(1)), Action::Run("5"));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_do_no_harm() {
    let plan = read(
        "\u{feff}version: 1\r\nproject: p\r\ntasks:\r\n  - id: a\r\n    run: |\r\n      one\r\n      two\r\n",
    )
    .plan;
    assert_eq!(plan.action(A), Action::Run("one\ntwo\n"));
}

#[test]
fn positions_lead_to_what_is_written() {
    let text = "version: 1\nproject: p\nmilestones:\n  - id: m\n    tasks:\n      - id: a\n      - id: b\n        needs: [a]\n  - id: n\n    needs: [m/a, m]\n    tasks: [{id: c, needs: [m/b]}]\n";
    let Parsed { plan, positions, .. } = read(text);
    let at = |offset: u32| &text[offset as usize..];
    assert!(at(positions.task(TaskIndex(1))).starts_with("b\n"));
    assert!(at(positions.milestone(MilestoneIndex(1))).starts_with("n\n"));
    assert!(at(positions.task_need(&plan, TaskIndex(1), 0)).starts_with("a]\n  - id: n"));
    assert!(at(positions.task_need(&plan, TaskIndex(2), 0)).starts_with("m/b]"));
    assert!(at(positions.milestone_need(&plan, MilestoneIndex(1), 1)).starts_with("m]\n"));
}

#[test]
fn diagnostics_are_data_too() {
    let source = Source::new("p.yaml", "version: 1\nproject: p\ntasks: [{id: a}, {id: a, wait: 5}]\n");
    let diagnostics = parse(&source, &Options::default()).expect_err("two errors");
    let value = serde_json::to_value(&diagnostics).expect("data");
    let expected = serde_json::json!({
        "file": "p.yaml",
        "omitted": 0,
        "diagnostics": [
            {
                "severity": "error",
                "message": "the task `a` is defined twice",
                "place": {"line": 3, "column": 23, "length": 1},
                "label": null,
                "help": "give one of them another id",
                "notes": [{"message": "first defined here", "place": {"line": 3, "column": 14, "length": 1}}],
            },
            {
                "severity": "error",
                "message": "`wait: 5`: this duration has no unit",
                "place": {"line": 3, "column": 32, "length": 1},
                "label": null,
                "help": "write `5s` if seconds are meant, `5m` for minutes",
                "notes": [],
            },
        ],
    });
    assert_eq!(value, expected);
    assert_eq!(diagnostics.len(), 2);
}

#[test]
fn the_schema_is_json_schema() {
    let schema = json_schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["$defs"]["task"]["additionalProperties"], false);
}
