//! What the coordinator and its answers tell.

use super::Check;
use crate::client::Client;
use crate::exit::Failure;
use crate::style::duration;
use cairn_coordinator::http::model::{AgentList, HealthBody, RunPage};
use cairn_model::Timestamp;
use cairn_shared::clock::Clock;
use reqwest::StatusCode;
use serde_json::Value;
use std::time::Duration;

/// A difference of clocks that is told: leases count time by themselves, but logs and estimates look wrong.
const CLOCK_WARNING: Duration = Duration::from_secs(5);
/// A version's place in the OpenAPI document.
const VERSION: &str = "/info/version";

/// All checks; the first is whether the coordinator answers at all.
pub async fn checks(client: &Client, checks: &mut Vec<Check>) {
    let target = client.target();
    let place = format!("{} (from {})", target.url, target.named_by);
    let clock = Clock::start(Timestamp(0));
    let answer = match client.probe("livez", &[]).await {
        Ok(answer) if answer.status().is_success() => answer,
        Ok(answer) => {
            let message = format!("{place} answered {}", answer.status());
            checks.push(Check::fail("coordinator", message, "check that the URL is that of a coordinator"));
            return;
        }
        Err(failure) => {
            checks.push(Check::failed("coordinator", failure));
            return;
        }
    };
    checks.push(Check::ok("coordinator", format!("{place} answers")));
    checks.extend(time(&clock, &answer));
    checks.push(token(client).await);
    health(client, checks).await;
    checks.push(version(client).await);
    checks.push(agents(client).await);
}

fn time(clock: &Clock, answer: &reqwest::Response) -> Option<Check> {
    const NAME: &str = "clock";
    let date = answer.headers().get(reqwest::header::DATE)?.to_str().ok()?;
    let (there, here) = (parse_date(date)?, clock.now());
    // The header has whole seconds.
    let difference = there.since(here).max(here.since(there)).saturating_sub(Duration::from_secs(1));
    Some(match difference {
        difference if difference > CLOCK_WARNING => Check::warn(
            NAME,
            format!("the coordinator's clock differs from the one here by {}", duration(difference)),
            "set both by NTP: times in logs and estimates are those of the coordinator",
        ),
        _ => Check::ok(NAME, "the coordinator has the same time"),
    })
}

/// The time of an HTTP header: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn parse_date(text: &str) -> Option<Timestamp> {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let mut parts = text.split_once(", ")?.1.split(' ');
    let (day, month, year, time) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let month = MONTHS.iter().position(|name| *name == month)? + 1;
    Timestamp::parse(&format!("{year}-{month:02}-{day}T{time}Z"))
}

async fn token(client: &Client) -> Check {
    const NAME: &str = "token";
    let from = client.target().token.as_ref().map(|token| token.from.clone());
    match client.get::<RunPage>(&["runs"], &[("limit", "1")]).await {
        Ok(_) => match from {
            Some(from) => Check::ok(NAME, format!("that of {from} is good")),
            None => Check::ok(NAME, "none is needed"),
        },
        Err(failure) => Check::failed(NAME, failure),
    }
}

async fn health(client: &Client, checks: &mut Vec<Check>) {
    const NAME: &str = "health";
    let body: Result<HealthBody, Failure> = match client.probe("readyz", &[("verbose", "true")]).await {
        // It answers 503 with its checks if one of them is not good.
        Ok(answer) if matches!(answer.status(), StatusCode::OK | StatusCode::SERVICE_UNAVAILABLE) => {
            client.read(answer).await
        }
        Ok(answer) => {
            let message = format!("/readyz?verbose answered {}", answer.status());
            checks.push(Check::warn(NAME, message, "use a token that may look: `cairn token create`"));
            return;
        }
        Err(failure) => Err(failure),
    };
    match body {
        Ok(health) => {
            if health.is_ready != health.checks.iter().all(|check| check.is_good) || health.checks.is_empty()
            {
                let message = if health.is_ready { "it is ready" } else { "it is not ready" };
                checks.push(match health.is_ready {
                    true => Check::ok(NAME, message),
                    false => Check::fail(NAME, message, "its log says why"),
                });
            }
            checks.extend(health.checks.into_iter().map(|check| match check.is_good {
                true => Check::ok(&check.name, check.message),
                false => Check::fail(&check.name, check.message, "the coordinator's log says more"),
            }));
        }
        Err(failure) => checks.push(Check::failed(NAME, failure)),
    }
}

async fn version(client: &Client) -> Check {
    const NAME: &str = "version";
    let here = env!("CARGO_PKG_VERSION");
    match client.get::<Value>(&["openapi.json"], &[]).await {
        Ok(document) => match document.pointer(VERSION).and_then(Value::as_str) {
            Some(there) if there == here => Check::ok(NAME, format!("both are {here}")),
            Some(there) => Check::warn(
                NAME,
                format!("the coordinator is {there}, this command {here}"),
                "use the same release on both sides",
            ),
            None => Check::warn(NAME, "the coordinator does not tell its version", "check the URL"),
        },
        Err(failure) => Check::failed(NAME, failure),
    }
}

async fn agents(client: &Client) -> Check {
    const NAME: &str = "agents";
    let list = match client.get::<AgentList>(&["agents"], &[]).await {
        Ok(list) => list.agents,
        Err(failure) => return Check::failed(NAME, failure),
    };
    let having = |state: &str| list.iter().filter(|agent| agent.state == state).count();
    let joined = list.iter().filter(|agent| agent.state == "joined");
    let slots: u64 = joined.map(|agent| u64::from(agent.slots)).sum();
    let (joined, silent, lost) = (having("joined"), having("silent"), having("lost"));
    let message = format!("{joined} joined with {slots} slots, {silent} silent, {lost} lost");
    match (joined, silent + lost) {
        (0, _) => Check::warn(NAME, message, "nothing can run: start one with `cairn agent`"),
        (_, 0) => Check::ok(NAME, message),
        _ => Check::warn(NAME, message, "`cairn agents` shows which; look at their machines"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_of_an_answer_is_read() {
        let read = |text: &str| parse_date(text).map(|at| at.to_string());
        assert_eq!(read("Sun, 06 Nov 1994 08:49:37 GMT").as_deref(), Some("1994-11-06T08:49:37.000000Z"));
        assert_eq!(read("Sunday, 06-Nov-94 08:49:37 GMT"), None);
        assert_eq!(read(""), None);
    }
}
