//! `cairn submit`: a plan to a coordinator, which runs it on its fleet.

use super::watch::to_end;
use crate::client::{self, Body, Client};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::plan_file::{parameter, read_source};
use crate::view;
use cairn_coordinator::http::model::SubmittedBody;
use cairn_shared::plan::{Limits, Options, Source, parse, parse_duration};
use reqwest::Method;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Submit a plan to a coordinator, and print the run's id
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The plan, YAML or JSON; `-` reads stdin
    plan: PathBuf,
    /// The value of a parameter of the plan; may be given several times
    #[arg(long = "param", value_name = "K=V", value_parser = parameter)]
    params: Vec<(String, String)>,
    /// End the run at the first failure
    #[arg(long)]
    fail_fast: bool,
    /// Wait until the run has ended, and end like it
    #[arg(long, conflicts_with = "watch")]
    wait: bool,
    /// The same, and show how it goes
    #[arg(long)]
    watch: bool,
    /// Wait no longer than this, and end with 7
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    timeout: Option<Duration>,
    /// Submitting again with the same key makes no second run
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
}

const EXAMPLES: &str = "\
Examples:
  cairn submit plan.yaml
  cairn submit plan.yaml --watch
  cairn submit plan.yaml --wait --timeout 2h && ./release.sh
  run=$(cairn submit plan.yaml --key \"$CI_PIPELINE_ID\")
  cairn import --from wfcommons trace.json | cairn submit -

Exit codes with --wait or --watch: 0 completed, 1 tasks failed, 6 cancelled, 7 waited too long, 8 a task could never
run, 130 interrupted (the run goes on). Otherwise 0 once the run is recorded.";

/// Bytes of a plan's name that a coordinator takes.
const MAX_NAME_BYTES: usize = 200;

/// Runs the command.
pub fn execute(args: &Args, context: &Context) -> Result<Exit, Failure> {
    if args.timeout.is_some() && !args.wait && !args.watch {
        return Err(Failure::new(Exit::Usage, "--timeout is for a wait")
            .help("add --wait or --watch; the plan itself can limit how long a task takes"));
    }
    let source = read_source(&args.plan)?;
    Source::check_length(&source.name, source.text.len(), &Limits::http()).map_err(Failure::invalid_plan)?;
    let client = client::required(context)?;
    client::block_on(async {
        let submitted = submit(args, &client, source).await?;
        if !submitted.is_new {
            view::note(context, &format!("it was submitted before, as {}", submitted.run));
        }
        let printed = match context.format {
            Format::Text => print_text(&format!("{}\n", submitted.run)),
            Format::Json | Format::Jsonl | Format::Yaml => print_value(context, &submitted),
        };
        // Who cannot be told by stdout is told by stderr.
        printed.map_err(|failure| failure.help(format!("the plan was submitted, as {}", submitted.run)))?;
        match args.wait || args.watch {
            true => to_end(&client, context, &submitted.run, args.watch, args.timeout).await,
            false => Ok(Exit::Done),
        }
    })
}

async fn submit(args: &Args, client: &Client, source: Source) -> Result<SubmittedBody, Failure> {
    let params: Vec<_> = args.params.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let mut query: Vec<_> = params.iter().map(|param| ("param", param.as_str())).collect();
    if args.fail_fast {
        query.push(("fail_fast", "true"));
    }
    let name = plan_name(&args.plan, &source.name);
    query.push(("name", &name));
    let body = Body::plan(source.text.clone());
    let sent = client.write(Method::POST, &["runs"], &query, Some(&body), args.key.as_deref()).await;
    // The coordinator has judged; with the plan at hand its findings can be shown with their lines.
    sent.map_err(|failure: Failure| match failure.exit {
        Exit::Usage => diagnosed(&source, &args.params).unwrap_or(failure),
        _ => failure,
    })
}

/// The file's name without its directory, which means nothing elsewhere.
fn plan_name(path: &Path, name: &str) -> String {
    let file = path.file_name().map_or_else(|| name.to_owned(), |file| file.to_string_lossy().into_owned());
    let name = if path == Path::new("-") { name } else { &file };
    let is_fit = name.len() <= MAX_NAME_BYTES && !name.chars().any(char::is_control);
    if is_fit { name.to_owned() } else { "plan".to_owned() }
}

fn diagnosed(source: &Source, params: &[(String, String)]) -> Option<Failure> {
    let limits = Limits::http();
    let wrong = match parse(source, &Options { params, limits }) {
        Ok(parsed) => parsed.graph(source).err()?,
        Err(wrong) => wrong,
    };
    Some(Failure::invalid_plan(wrong))
}
