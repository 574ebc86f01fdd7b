//! Cairn's one binary: reads the command line, and hands over to a command.
#![forbid(unsafe_code)]

mod arguments;
mod client;
mod commands;
mod context;
mod exit;
mod output;
mod plan_file;
mod settings;
mod state_directory;
mod style;
mod view;

use arguments::{Arguments, Glance};
use clap::Parser as _;
use context::Context;
use exit::{Exit, Failure};
use std::process::ExitCode;
use style::Style;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(tell_of_bug));
    let glance = Glance::of_process();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return code(arguments::refuse(&error, glance)),
    };
    // Daemons have a log of their own.
    if !arguments.command.is_daemon() {
        start_log(arguments.global.verbose);
    }
    let context = match context_of(&arguments) {
        Ok(context) => context,
        Err(failure) => {
            output::report(&failure, glance.format, &glance.style());
            return code(failure.exit);
        }
    };
    match commands::execute(&arguments.command, &arguments.global, &context) {
        Ok(exit) => code(exit),
        Err(failure) => {
            output::report(&failure, context.format, &Style::stderr(&context));
            code(failure.exit)
        }
    }
}

fn code(exit: Exit) -> ExitCode {
    ExitCode::from(exit as u8)
}

fn context_of(arguments: &Arguments) -> Result<Context, Failure> {
    let settings = arguments.global.settings()?;
    let words = std::env::args_os().map(|word| without_password(&word.to_string_lossy()));
    Ok(Context {
        format: settings.output.value,
        color: settings.color.value,
        state: settings.state.value,
        store: settings.store.value,
        jobs: settings.jobs.value,
        coordinator: settings.coordinator,
        token: settings.token.value,
        command_line: words.collect::<Vec<_>>().join(" "),
    })
}

/// A word of the command line as others may see it: an address without the password in it.
fn without_password(word: &str) -> String {
    let hidden = || {
        let (scheme, rest) = word.split_once("://")?;
        let (user, host) = rest.rsplit_once('@')?;
        let (user, _) = user.split_once(':')?;
        Some(format!("{scheme}://{user}:…@{host}"))
    };
    hidden().unwrap_or_else(|| word.to_owned())
}

/// A panic anywhere is our bug. The process ends at once: nothing that it would still do can be trusted, and all
/// that it has promised is on disk.
fn tell_of_bug(panic: &std::panic::PanicHookInfo<'_>) {
    let place =
        panic.location().map_or_else(String::new, |place| format!(" ({}:{})", place.file(), place.line()));
    let what = panic.payload_as_str().unwrap_or("it did not say why");
    output::say(&format!(
        "error: cairn {} has met a bug of its own: {what}{place}\n\
         help: please report it with the command that you typed and the lines above; \
         a run that was under way can be continued with `cairn run PLAN --resume`",
        env!("CARGO_PKG_VERSION"),
    ));
    std::process::exit(i32::from(Exit::Bug as u8));
}

/// Logs go to stderr: warnings, more with `-v`; `CAIRN_LOG` has the last word (`debug`, `cairn_coordinator=trace`).
fn start_log(verbose: u8) {
    use tracing_subscriber::EnvFilter;
    let level = match verbose {
        0 => "warn",
        1 => "info",
        2 => "debug",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_env("CAIRN_LOG").unwrap_or_else(|_| EnvFilter::new(level));
    let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(|| AbovePicture)
        .with_ansi(is_terminal)
        .init();
}

/// Where log lines go: to stderr, and not into the live picture.
struct AbovePicture;

impl std::io::Write for AbovePicture {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        view::write_above(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
