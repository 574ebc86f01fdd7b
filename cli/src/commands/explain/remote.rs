//! What a coordinator says of a run, or of a task of it.

use super::{overview, task};
use crate::client::Client;
use crate::context::{Context, Format};
use crate::exit::{Exit, Failure};
use crate::output::{print_text, print_value};
use crate::style::Style;
use serde_json::Value;

/// Explains a run of a coordinator.
pub async fn explain(
    run: &str,
    topic: Option<&str>,
    is_size: bool,
    client: &Client,
    context: &Context,
) -> Result<(), Failure> {
    if is_size {
        let message =
            format!("a coordinator does not explain the {} of a run yet", topic.unwrap_or_default());
        return Err(Failure::new(Exit::Usage, message)
            .help("give the plan instead, or --state DIR where its state directory can be read"));
    }
    let path = ["runs", run, "explain"];
    let query: Vec<_> = topic.map(|task| ("task", task)).into_iter().collect();
    if context.format != Format::Text {
        // As it came: a later coordinator may say more than this program knows.
        return print_value(context, &client.get::<Value>(&path, &query).await?);
    }
    let style = Style::stdout(context);
    print_text(&match topic {
        None => overview::told(client.get(&path, &query).await?, &style),
        Some(_) => task::told(&client.get(&path, &query).await?, style),
    })
}
