//! The command line: what can be typed, and what is said if something else is.

use crate::commands::Command;
use crate::context::{ColorChoice, Format};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::settings::{self, Flags, Settings, Sources};
use crate::style::Style;
use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, ValueEnum as _};
use std::ffi::OsString;
use std::path::PathBuf;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::White.on_default().bold())
    .usage(AnsiColor::White.on_default().bold())
    .literal(AnsiColor::Cyan.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  cairn validate plan.yaml             check a plan
  cairn graph plan.yaml                draw it
  cairn run plan.yaml                  run it here and now
  cairn status                         how the newest run stands
  cairn logs apollo build/unit         what a task wrote
  cairn explain apollo ship/publish    why it is not running
  cairn submit plan.yaml --watch       run it on a fleet: `cairn coordinator`, `cairn agent`

Exit codes: 0 done, 1 tasks failed, 2 wrong usage or invalid plan, 3 not found, 4 not allowed,
5 out of reach, 6 cancelled, 7 waited too long, 8 no agent could ever run it, 70 a bug,
130 interrupted.";

/// Runs milestone plans: tasks in the order of what they need, on one machine or a fleet
#[derive(Debug, Parser)]
#[command(
    name = "cairn",
    version,
    styles = STYLES,
    max_term_width = 100,
    after_help = EXAMPLES,
    propagate_version = true,
    subcommand_required = true,
    arg_required_else_help = true
)]
pub struct Arguments {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Options of every command")]
pub struct Global {
    #[arg(long, global = true, value_name = "FORMAT", hide_possible_values = true)]
    #[arg(help = "text, json, jsonl or yaml [env: CAIRN_OUTPUT_FORMAT] [default: text]")]
    pub output: Option<Format>,
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true)]
    #[arg(help = "Colours: auto, always or never [env: CAIRN_COLOR, NO_COLOR] [default: auto]")]
    pub color: Option<ColorChoice>,
    #[arg(long, global = true, value_name = "DIR")]
    #[arg(help = "The state directory [env: CAIRN_STATE] [default: .milestones]")]
    pub state: Option<PathBuf>,
    #[arg(long, global = true, value_name = "URL")]
    #[arg(help = "The coordinator [env: CAIRN_URL] [default: that of the state directory]")]
    pub url: Option<String>,
    #[arg(long, global = true, value_name = "NAME", conflicts_with = "url")]
    #[arg(help = "A coordinator by its name in the settings [env: CAIRN_PROFILE]")]
    pub profile: Option<String>,
    #[arg(long, global = true, value_name = "FILE")]
    #[arg(help = "The file of the token [env: CAIRN_TOKEN, CAIRN_TOKEN_FILE]")]
    pub token_file: Option<PathBuf>,
    /// Say more on stderr; twice: much more
    #[arg(long, short, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

impl Global {
    /// What is in force with these flags.
    ///
    /// # Errors
    /// Environment or files are wrong.
    pub fn settings(&self) -> Result<Settings, Failure> {
        let flags = Flags {
            state: self.state.clone(),
            output: self.output,
            color: self.color,
            url: self.url.clone(),
            profile: self.profile.clone(),
            token_file: self.token_file.clone(),
        };
        settings::resolve(flags, &Sources::gather()?)
    }
}

/// What can be told of a command line that is wrong, or of settings that are: how to say so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// The form of the output.
    pub format: Format,
    /// When to use colours.
    pub color: ColorChoice,
}

impl Glance {
    /// At the command line and the environment of this process.
    pub fn of_process() -> Self {
        Self::at(std::env::args_os().skip(1), |name| std::env::var_os(name))
    }

    fn at(words: impl Iterator<Item = OsString>, variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let read = |text: &str| Format::from_str(text, false).ok();
        let mut glance = Self {
            format: variable("CAIRN_OUTPUT_FORMAT").and_then(|text| read(text.to_str()?)).unwrap_or_default(),
            color: variable("CAIRN_COLOR")
                .and_then(|text| ColorChoice::from_str(text.to_str()?, false).ok())
                .unwrap_or_default(),
        };
        let words: Vec<_> = words.map(|word| word.to_string_lossy().into_owned()).collect();
        for (at, word) in words.iter().enumerate() {
            let value = |flag: &str| match word.strip_prefix(flag)? {
                "" => words.get(at + 1).map(String::as_str),
                rest => rest.strip_prefix('='),
            };
            if let Some(format) = value("--output").and_then(read) {
                glance.format = format;
            }
            if let Some(color) = value("--color").and_then(|text| ColorChoice::from_str(text, false).ok()) {
                glance.color = color;
            }
        }
        glance
    }

    /// How stderr looks.
    pub fn style(self) -> Style {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Style { color: self.color.is_on(is_terminal), unicode: false }
    }
}

/// Says what is wrong with the command line, or gives the help that was asked for.
pub fn refuse(error: &clap::Error, glance: Glance) -> Exit {
    let is_terminal = |stderr: bool| match stderr {
        true => std::io::IsTerminal::is_terminal(&std::io::stderr()),
        false => std::io::IsTerminal::is_terminal(&std::io::stdout()),
    };
    let text = error.render();
    let text = match glance.color.is_on(is_terminal(error.use_stderr())) {
        true => text.ansi().to_string(),
        false => text.to_string(),
    };
    if !error.use_stderr() {
        // Help or version: nothing is wrong, unless it cannot be printed.
        return match output::print_text(&text) {
            Ok(()) => Exit::Done,
            Err(failure) => failure.exit,
        };
    }
    output::say(text.trim_end());
    let plain = error.to_string();
    let lines: Vec<_> = plain.lines().collect();
    let message = lines.first().map_or("", |line| line.trim_start_matches("error: "));
    let tip = lines.iter().find_map(|line| line.trim().strip_prefix("tip: "));
    let mut failure = Failure::new(Exit::Usage, message);
    failure.help = tip.map(str::to_owned);
    output::report_value(&failure, glance.format);
    Exit::Usage
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn a_glance_finds_the_form_of_the_output() {
        let at = |line: &str| Glance::at(line.split(' ').map(OsString::from), |_| None);
        assert_eq!(at("graph --output json").format, Format::Json);
        assert_eq!(at("--output=yaml grahp").format, Format::Yaml);
        assert_eq!(at("graph --outputs json --output").format, Format::Text);
        assert_eq!(at("--color never x").color, ColorChoice::Never);
        let from = |_: &str| Some(OsString::from("jsonl"));
        assert_eq!(Glance::at(std::iter::empty(), from).format, Format::Jsonl);
    }
}
