//! The commands of the README, run as they stand; what it shows as their output must be what they say, times and
//! other numbers aside.

use super::support::{binary, root};
use std::process::Command;

/// A command of the README with the lines that it is said to print.
struct Step {
    command: String,
    shown: Vec<String>,
}

/// What stands in ```console blocks: `$ command`, then its output; `…` stands for lines left out.
fn steps(readme: &str) -> Vec<Step> {
    let (mut steps, mut inside) = (Vec::<Step>::new(), false);
    for line in readme.lines() {
        match (inside, line.strip_prefix("```")) {
            (false, Some(kind)) => inside = kind == "console",
            (true, Some(_)) => inside = false,
            (true, None) => match line.strip_prefix("$ ") {
                Some(command) => steps.push(Step { command: command.to_owned(), shown: Vec::new() }),
                None => steps.last_mut().expect("output comes after a command").shown.push(line.to_owned()),
            },
            (false, None) => {}
        }
    }
    steps
}

/// A line with all that differs from run to run made alike: numbers with their units, runs of blanks.
fn alike(line: &str) -> String {
    let mut text = String::new();
    for word in line.split_whitespace() {
        let mut numbers = word.split(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | ':'));
        let is_number =
            word.starts_with(|letter: char| letter.is_ascii_digit()) && numbers.all(|part| part.len() <= 3);
        text.push_str(if is_number { "0" } else { word });
        text.push(' ');
    }
    text
}

#[test]
fn its_commands_do_what_it_shows() {
    let readme = std::fs::read_to_string(root().join("README.md")).expect("a README");
    let steps = steps(&readme);
    assert!(steps.len() >= 8, "only {} commands", steps.len());
    let state = tempfile::tempdir().expect("a temporary directory");
    let bin = binary().parent().expect("a folder").to_owned();
    let path = std::env::var("PATH").unwrap_or_default();
    for step in steps {
        // This test is part of that one.
        if step.command == "tests/run" {
            continue;
        }
        let output = Command::new("bash")
            .args(["-c", &step.command])
            .current_dir(root())
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("CAIRN_STATE", state.path())
            .env("LANG", "C.UTF-8")
            .env_remove("CAIRN_OUTPUT_FORMAT")
            .output()
            .expect("bash");
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "$ {}\n{}: {said}", step.command, output.status);
        let said: Vec<String> = said.lines().map(alike).collect();
        for line in step.shown.iter().filter(|line| line.trim() != "…" && !line.is_empty()) {
            assert!(said.contains(&alike(line)), "$ {}\ndoes not say: {line}\nbut: {said:#?}", step.command);
        }
    }
}
