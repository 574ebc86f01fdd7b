//! What the plan language survives: no input panics, and what it costs is bounded.

use cairn_shared::plan::{Limits, Options, Source, parse};
use proptest::prelude::*;

const VALID: &str = "version: 1
project: apollo
title: größer 日本
parameters: {region: {default: eu, enum: [eu, us]}}
defaults: {timeout: 10m, retry: {max_attempts: 3, jitter: 0.2}}
env: {LOG: info, R: \"${{ params.region }}\"}
milestones:
  - id: build
    due: 2026-12-01T12:00:00Z
    tasks:
      - &a {id: compile, run: 'cargo build', resources: {cpus: 2, memory: 2GiB}, estimate: 4m}
      - id: unit
        needs: &n [compile]
        exec: [cargo, test]
      - {id: settle, needs: *n, wait: 5s}
  - id: ship
    needs: [build]
    tasks:
      - id: publish
        run: |
          ./publish.sh
        at_most_once: true
";

const VALID_JSON: &str = r#"{"version": 1, "project": "apollo", "env": {"A": "\u00e9"}, "milestones": [{"id": "m", "tasks":
  [{"id": "a", "run": "x", "resources": {"cpus": 0.5}}, {"id": "b", "needs": ["a", "m/a"], "priority": -5}]}]}"#;

/// Reads a text as a user would; whatever comes, it can be shown.
fn survive(text: &str) {
    let source = Source::new("p.yaml", text);
    match parse(&source, &Options { limits: Limits::http(), ..Options::default() }) {
        Ok(parsed) => {
            if let Err(cycle) = parsed.graph(&source) {
                assert!(cycle.render(true).contains("wait for each other"));
            }
        }
        Err(diagnostics) => {
            assert!(!diagnostics.is_empty());
            let text = diagnostics.render(false);
            assert!(text.contains("error: ") && text.contains("--> p.yaml"));
            let lines = source.text.matches('\n').count() + 1;
            for place in diagnostics.diagnostics.iter().filter_map(|diagnostic| diagnostic.place.as_ref()) {
                assert!(
                    place.line >= 1 && place.line as usize <= lines && place.column >= 1 && place.length >= 1
                );
            }
        }
    }
}

/// The text with some of its parts cut out, doubled or replaced.
fn mutated(text: &str, changes: &[(usize, usize, String)]) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for (at, len, put) in changes {
        let at = at % (characters.len() + 1);
        let end = (at + len).min(characters.len());
        characters.splice(at..end, put.chars());
    }
    characters.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn any_text_is_survived(text in "\\PC{0,200}|[\\x00-\\x7f]{0,200}") {
        survive(&text);
    }

    #[test]
    fn anything_like_yaml_is_survived(text in "(version|project|tasks|milestones|id|needs|run|env|a|1|: |- |\n|  |\\[|\\]|\\{|\\}|,|&x |\\*x|\"|'|\\||>|\\$\\{\\{|\\}\\}|!!str |~|#|\t|é){0,60}") {
        survive(&text);
    }

    #[test]
    fn mutated_plans_are_survived(
        json in any::<bool>(),
        changes in proptest::collection::vec((0_usize..1_000, 0_usize..6, "[\\[\\]{}:,\"'&*!|>#~ \n\ta-z0-9é\\-]{0,3}"), 1..6),
    ) {
        survive(&mutated(if json { VALID_JSON } else { VALID }, &changes));
    }
}

#[test]
fn the_plans_that_are_mutated_are_valid() {
    for text in [VALID, VALID_JSON] {
        parse(&Source::new("p.yaml", text), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    }
}

fn refusal(text: &str) -> String {
    refusal_with(text, Limits::local())
}

fn refusal_with(text: &str, limits: Limits) -> String {
    let options = Options { limits, ..Options::default() };
    parse(&Source::new("p.yaml", text), &options).expect_err("refused").to_string()
}

#[test]
fn a_bomb_of_aliases_is_refused_before_it_is_read() {
    let mut text = String::from("version: 1\nproject: p\nenv:\n  A0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..40 {
        let aliases = vec![format!("*a{}", level - 1); 10].join(", ");
        text.push_str(&format!("  A{level}: &a{level} [{aliases}]\n"));
    }
    text.push_str("tasks: [{id: a}]\n");
    let said = refusal(&text);
    assert!(said.contains("the limit `nodes` is 64,000,000"), "{said}");
    assert!(said.contains("p.yaml:11:"), "the eighth level is too much: {said}");
}

#[test]
fn aliases_multiply_neither_needs_nor_bytes() {
    let names: Vec<String> = (0..2_000).map(|index| format!("t{index}")).collect();
    let mut text = String::from("version: 1\nproject: p\ntasks:\n");
    for name in &names {
        text.push_str(&format!("  - id: {name}\n"));
    }
    text.push_str(&format!("  - id: first\n    needs: &all [{}]\n", names.join(", ")));
    for index in 0..60 {
        text.push_str(&format!("  - {{id: u{index}, needs: *all}}\n"));
    }
    let said = refusal_with(&text, Limits { edges: 100_000, ..Limits::local() });
    assert!(said.contains("the limit `edges` is 100,000"), "{said}");

    let mut text =
        format!("version: 1\nproject: p\ntasks:\n  - id: a\n    run: &script \"{}\"\n", "x".repeat(100_000));
    for index in 0..120 {
        text.push_str(&format!("  - {{id: t{index}, run: *script}}\n"));
    }
    let said = refusal_with(&text, Limits { expanded_bytes: 10_000_000, ..Limits::local() });
    assert!(said.contains("the limit `expanded_bytes` is 10,000,000"), "{said}");
}

#[test]
fn parameters_do_not_multiply_bytes() {
    let params = [("big".to_string(), "x".repeat(90_000))];
    let mut text = String::from("version: 1\nproject: p\nparameters: {big: {}}\ntasks:\n");
    for index in 0..200 {
        text.push_str(&format!("  - {{id: t{index}, exec: [echo, '${{{{ params.big }}}}']}}\n"));
    }
    let source = Source::new("p.yaml", text);
    let limits = Limits { expanded_bytes: 10_000_000, ..Limits::local() };
    let error = parse(&source, &Options { params: &params, limits }).expect_err("refused").to_string();
    assert!(error.contains("`expanded_bytes`"), "{error}");
}

#[test]
fn what_is_inherited_is_not_copied_for_each_heir() {
    // A megabyte for each of a hundred thousand would be a hundred gigabytes to copy.
    let env = format!("env: {{A: \"{}\"}}\n", "x".repeat(1_000_000));
    let tasks: String = (0..50_000).map(|index| format!("  - id: t{index}\n")).collect();
    let plan = format!("version: 1\nproject: p\n{env}tasks:\n{tasks}");
    let parsed =
        parse(&Source::new("p.yaml", plan), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parsed.plan.all_settings().len(), 1);
    let milestones: String =
        (0..50_000).map(|index| format!("  - {{id: m{index}, tasks: [{{id: a}}]}}\n")).collect();
    let plan = format!("version: 1\nproject: p\n{env}milestones:\n{milestones}");
    let parsed =
        parse(&Source::new("p.yaml", plan), &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(parsed.plan.all_settings().len(), 1);
    for own in ["tasks: [{id: a, timeout: 5s}]", "defaults: {timeout: 5s}"] {
        let milestones: String = (0..200).map(|index| format!("  - {{id: m{index}, {own}}}\n")).collect();
        let plan = format!("version: 1\nproject: p\n{env}milestones:\n{milestones}");
        let said = refusal_with(&plan, Limits { expanded_bytes: 100_000_000, ..Limits::local() });
        assert!(said.contains("`expanded_bytes`"), "{said}");
    }
}

#[test]
fn parameters_are_few() {
    let parameters: String = (0..1_001).map(|index| format!("  p{index}: {{default: x}}\n")).collect();
    let said = refusal(&format!("version: 1\nproject: p\nparameters:\n{parameters}tasks: [{{id: a}}]\n"));
    assert!(said.contains("the limit `parameters` is 1,000"), "{said}");
}

#[test]
fn depth_is_bounded_in_both_languages() {
    let deep = |open: &str, close: &str| format!("{}{}", open.repeat(100_000), close.repeat(100_000));
    for text in [
        format!("title: {}", deep("[", "]")),
        format!("title: {}", deep("{a: ", "}")),
        format!("{{\"title\": {}}}", deep("[", "]")),
        format!("{{\"title\": {}}}", deep("{\"a\": ", "}")),
        (0..1_000).map(|depth| format!("{}a:\n", " ".repeat(depth))).collect(),
        "- ".repeat(10_000),
        "? ".repeat(10_000),
    ] {
        let said = refusal(&text);
        assert!(said.contains("the limit `depth` is 64"), "{said}");
    }
}

#[test]
fn what_is_too_large_is_not_looked_at() {
    let bytes = vec![b'['; Limits::http().plan_bytes + 1];
    let said = Source::from_bytes("p.yaml", bytes, &Limits::http()).expect_err("too large").to_string();
    assert!(
        said.contains("the plan has 67,108,865 bytes, more than the limit `plan_bytes` of 67,108,864"),
        "{said}"
    );
}

#[test]
fn a_long_line_with_many_errors_is_told_quickly() {
    let tasks: Vec<String> = (0..50_000).map(|index| format!("{{\"id\": \"é{index}\"}}")).collect();
    let text = format!("{{\"version\": 1, \"project\": \"p\", \"tasks\": [{}]}}", tasks.join(","));
    let said = refusal(&text);
    assert!(said.ends_with("… and 49,980 more\n"), "{said}");
}

#[test]
fn a_cycle_of_a_hundred_thousand_is_told_shortly() {
    let tasks: String = (0..100_000)
        .map(|index| format!("- {{id: t{index}, needs: [t{}]}}\n", (index + 1) % 100_000))
        .collect();
    let source = Source::new("p.yaml", format!("version: 1\nproject: p\ntasks:\n{tasks}"));
    let parsed = parse(&source, &Options::default()).unwrap_or_else(|error| panic!("{error}"));
    let said = parsed.graph(&source).expect_err("a cycle").to_string();
    assert!(said.contains("99,988 more steps are not shown"), "{said}");
    assert!(said.len() < 10_000);
}
