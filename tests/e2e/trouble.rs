//! What a user meets when something is wrong round the run: the state directory, the size of scripts and plans.

use super::support::{Place, binary, told};
use std::process::{Command, Output};

#[test]
fn a_state_directory_that_a_task_removes_is_missed() {
    let place = Place::new();
    place.write(
        "plan.yaml",
        "version: 1\nproject: broom\ntasks:\n  - {id: sweep, run: 'rm -rf .milestones'}\n  \
         - {id: after, needs: [sweep], run: echo}\n",
    );
    let output = place.run(["run", "plan.yaml"]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains(".milestones was removed while broom.1 went on"), "{}", told(&output));
}

#[test]
fn output_that_cannot_be_stored_is_told_and_harms_no_task() {
    let place = Place::new();
    place.write("plan.yaml", "version: 1\nproject: mute\ntasks:\n  - {id: a, run: echo lost}\n");
    std::fs::create_dir(place.path().join(".milestones")).expect("a directory");
    // A file where the directory of the logs is to be.
    place.write(".milestones/logs", "");
    let output = place.run(["run", "plan.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", told(&output));
    assert!(told(&output).contains("the output of a task is not stored in full"), "{}", told(&output));
}

#[test]
fn a_script_of_nearly_a_mebibyte_runs() {
    let place = Place::new();
    let comments = format!("      # {}\n", "x".repeat(91)).repeat(10_000);
    place.write(
        "plan.yaml",
        &format!("version: 1\nproject: long\ntasks:\n  - id: a\n    run: |\n{comments}      echo reached\n"),
    );
    place.ok(["run", "plan.yaml"]);
    assert_eq!(place.ok(["logs", "long", "main/a"]), "reached\n");
}

#[test]
fn what_fail_fast_cancels_is_explained_and_large_counts_are_grouped() {
    let place = Place::new();
    let many = "  - {id: done-%, wait: 0s}\n";
    let many: String = (0..1000).map(|number| many.replace('%', &number.to_string())).collect();
    place.write(
        "plan.yaml",
        &format!(
            "version: 1\nproject: fast\nmilestones:\n- id: all\n  tasks:\n{many}- id: then\n  needs: [all]\n  tasks:\n  \
             - {{id: bad, run: exit 3}}\n  - {{id: long, run: sleep 600}}\n"
        ),
    );
    let output = place.run(["run", "plan.yaml", "--fail-fast", "--jobs", "2"]);
    assert_eq!(output.status.code(), Some(1), "{}", told(&output));
    assert!(
        told(&output).contains("1,000 of 1,002 tasks completed, 1 failed, 1 cancelled"),
        "{}",
        told(&output)
    );
    let explained = place.ok(["explain", "fast", "then/long"]);
    assert!(explained.contains("another task had failed"), "{explained}");
}

/// Runs `cairn validate` with no more than 200 MB of memory to address.
fn validate_in_200_megabytes(place: &Place, plan: &str) -> Output {
    let line = format!("ulimit -v 204800; exec {} validate {plan}", binary().display());
    Command::new("bash").args(["-c", &line]).current_dir(place.path()).output().expect("bash")
}

#[test]
fn a_plan_over_the_limit_is_refused_before_it_is_read() {
    let place = Place::new();
    let file = std::fs::File::create(place.path().join("huge.yaml")).expect("a file");
    file.set_len(300 << 20).expect("a file without blocks");
    let output = validate_in_200_megabytes(&place, "huge.yaml");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
    assert!(told(&output).contains("more than the limit `plan_bytes`"), "{}", told(&output));
}

#[test]
fn an_alias_bomb_is_refused_in_little_memory() {
    let place = Place::new();
    let mut text = "version: 1\nproject: bomb\nx0: &x0 [a, a, a, a, a, a, a, a, a]\n".to_owned();
    for level in 1..12 {
        let below = vec![format!("*x{}", level - 1); 9].join(", ");
        text.push_str(&format!("x{level}: &x{level} [{below}]\n"));
    }
    place.write("bomb.yaml", &(text + "tasks: *x11\n"));
    let output = validate_in_200_megabytes(&place, "bomb.yaml");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}
