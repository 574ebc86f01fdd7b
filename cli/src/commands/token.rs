//! `cairn token`: who may speak to the coordinator.
//!
//! Through the coordinator; or on a state directory that is named, which needs no coordinator and no token, only the
//! right to write there.

use crate::client::{self, Body, Client};
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{Stdout, print_text, print_value};
use crate::style::{Cell, Paint, Style, table};
use crate::view;
use cairn_agent::runner::harmless;
use cairn_coordinator::http::model::{TokenCreated, TokenInfo, TokenList, TokenRequest};
use cairn_coordinator::http::tokens::{NewToken, Role, TokenError, Tokens};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use cairn_shared::plan::parse_duration;
use reqwest::Method;
use std::time::Duration;

/// Make, list and revoke tokens
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  cairn token create ci --role submitter --project apollo --expires 90d > ci.token
  cairn token list
  cairn token revoke ci
  cairn token create ada --role admin --state .milestones     without a coordinator, on its state directory

With --state and no --url the tokens of that directory are changed directly.";

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Make a token, and print it: the only time that it is shown
    #[command(after_help = CREATE_EXAMPLES)]
    Create {
        /// Who will have it
        name: String,
        /// What it allows: viewer, submitter, operator, admin, agent or coordinator
        #[arg(long, value_name = "ROLE", value_parser = role)]
        role: Role,
        /// A project that it is good for; may be given several times; all without one
        #[arg(long = "project", value_name = "ID")]
        projects: Vec<String>,
        /// After how long it is good for nothing; never, if that is left out
        #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
        expires: Option<Duration>,
    },
    /// List the tokens, without themselves
    List,
    /// Revoke a token: it is good for nothing at once
    Revoke {
        /// Its id or its name
        token: String,
    },
}

const CREATE_EXAMPLES: &str = "\
Examples:
  cairn token create ci --role submitter --project apollo > ci.token
  CAIRN_TOKEN_FILE=ci.token cairn submit plan.yaml

Roles: viewer looks; submitter also submits and steers runs; operator also drains agents; admin also manages tokens;
agent and coordinator are for those processes.";

fn role(text: &str) -> Result<Role, String> {
    let value = serde_json::Value::from(text);
    serde_json::from_value(value)
        .map_err(|_| "there are viewer, submitter, operator, admin, agent and coordinator".to_owned())
}

/// Where the tokens are.
enum Place {
    Coordinator(Box<Client>),
    Directory(Tokens),
}

/// Runs the command; `is_direct` if a state directory is named, and no coordinator.
pub fn execute(args: &Args, is_direct: bool, context: &Context) -> Result<Exit, Failure> {
    let place = if is_direct {
        let tokens = Tokens::open(&context.state, Clock::start(Timestamp(0)));
        Place::Directory(tokens.map_err(|error| refused(&error))?)
    } else {
        Place::Coordinator(Box::new(client::required(context)?))
    };
    match &args.command {
        Command::Create { name, role, projects, expires } => {
            let wish =
                NewToken { name: name.clone(), role: *role, projects: projects.clone(), life: *expires };
            create(&place, &wish, context)
        }
        Command::List => list(&place, context),
        Command::Revoke { token } => revoke(&place, token, context),
    }
}

fn refused(error: &TokenError) -> Failure {
    let (exit, help) = match error {
        TokenError::NameTaken { .. } => (Exit::Usage, "use another name, or revoke that token"),
        TokenError::NoSuchToken { .. } => (Exit::NotFound, "`cairn token list` shows all"),
        TokenError::Invalid { .. } => (Exit::Usage, "see `cairn token create --help`"),
        TokenError::TooMany => (Exit::Usage, "revoke those that nobody uses"),
        TokenError::Io(_) => (Exit::OutOfReach, "do it as the user who runs the coordinator"),
        TokenError::Damaged { .. } => (Exit::OutOfReach, "put the file back from a backup"),
        TokenError::Random(_) => (Exit::OutOfReach, "try again when the system is up"),
    };
    Failure::because(exit, error).help(help)
}

fn create(place: &Place, wish: &NewToken, context: &Context) -> Result<Exit, Failure> {
    let created = match place {
        Place::Directory(tokens) => {
            let (token, info) = tokens.create(wish).map_err(|error| refused(&error))?;
            TokenCreated { token, info }
        }
        Place::Coordinator(client) => {
            let body = Body::json(&TokenRequest {
                name: wish.name.clone(),
                role: wish.role,
                projects: wish.projects.clone(),
                expires_in_seconds: wish.life.map(|life| life.as_secs()),
            })?;
            client::block_on(client.write(Method::POST, &["tokens"], &[], Some(&body), None))?
        }
    };
    if context.format == Format::Text {
        print_text(&format!("{}\n", created.token))?;
        view::note(context, "keep it in a file that only its user can read: it is not shown again");
    } else {
        print_value(context, &created)?;
    }
    Ok(Exit::Done)
}

fn list(place: &Place, context: &Context) -> Result<Exit, Failure> {
    let tokens = match place {
        Place::Directory(tokens) => tokens.list().map_err(|error| refused(&error))?,
        Place::Coordinator(client) => client::block_on(client.get::<TokenList>(&["tokens"], &[]))?.tokens,
    };
    match context.format {
        Format::Text => print_text(&text(&tokens, &Style::stdout(context)))?,
        Format::Json | Format::Yaml => print_value(context, &TokenList { tokens })?,
        Format::Jsonl => {
            let mut out = Stdout::new();
            out.list(Format::Jsonl, &tokens)?;
            out.flush()?;
        }
    }
    Ok(Exit::Done)
}

fn text(tokens: &[TokenInfo], style: &Style) -> String {
    let head = ["ID", "NAME", "ROLE", "PROJECTS", "MADE", "GOOD UNTIL"];
    let mut rows = vec![head.map(|name| Cell::new(name).paint(Paint::Dim)).to_vec()];
    let day = |text: &str| text.get(..10).unwrap_or(text).to_owned();
    rows.extend(tokens.iter().map(|token| {
        let projects = if token.projects.is_empty() { "all".to_owned() } else { token.projects.join(" ") };
        vec![
            Cell::new(harmless(token.id.as_bytes())),
            Cell::new(harmless(token.name.as_bytes())),
            Cell::new(token.role.name()),
            Cell::new(harmless(projects.as_bytes())),
            Cell::new(day(&token.created_at)),
            Cell::new(token.expires_at.as_deref().map_or_else(|| "for ever".to_owned(), day)),
        ]
    }));
    table(style, "", &rows)
}

fn revoke(place: &Place, token: &str, context: &Context) -> Result<Exit, Failure> {
    let revoked: TokenInfo = match place {
        Place::Directory(tokens) => tokens.revoke(token).map_err(|error| refused(&error))?,
        Place::Coordinator(client) => {
            client::block_on(client.write(Method::DELETE, &["tokens", token], &[], None, None))?
        }
    };
    if context.format == Format::Text {
        print_text(&format!("{} is revoked\n", harmless(revoked.name.as_bytes())))?;
    } else {
        print_value(context, &revoked)?;
    }
    Ok(Exit::Done)
}
