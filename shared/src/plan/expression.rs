//! `${{ … }}`: parameters put into text. One pass, so that a value never brings in another expression.

use super::words::{nearest, quoted};
use cairn_model::plan::Parameter;
use std::borrow::Cow;

/// How an expression starts.
pub(crate) const OPEN: &str = "${{";
const CLOSE: &str = "}}";

/// What is wrong with an expression.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Which of the text's expressions it is, from 0.
    pub nth: usize,
    /// The expression as written.
    pub written: String,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub help: String,
}

/// The text with its parameters put in.
///
/// # Errors
/// The first expression that is not understood.
pub(crate) fn expand<'v>(text: &'v str, parameters: &[Parameter]) -> Result<Cow<'v, str>, Fault> {
    if !text.contains(OPEN) {
        return Ok(Cow::Borrowed(text));
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut nth = 0;
    while let Some(start) = rest.find(OPEN) {
        out.push_str(&rest[..start]);
        rest = &rest[start..];
        let Some(end) = rest.find(CLOSE) else {
            let written = rest.lines().next().unwrap_or_default().to_string();
            let message = "this expression is not closed".to_string();
            return Err(Fault { nth, written, message, help: "write `${{ params.NAME }}`".into() });
        };
        let written = &rest[..end + CLOSE.len()];
        let name = rest[OPEN.len()..end].trim();
        match value(name, parameters) {
            Ok(value) => out.push_str(value),
            Err((message, help)) => return Err(Fault { nth, written: written.into(), message, help }),
        }
        rest = &rest[written.len()..];
        nth += 1;
    }
    out.push_str(rest);
    Ok(Cow::Owned(out))
}

fn value<'p>(name: &str, parameters: &'p [Parameter]) -> Result<&'p str, (String, String)> {
    if let Some(parameter) = name.strip_prefix("params.") {
        if let Some(found) = parameters.iter().find(|candidate| candidate.name == parameter) {
            return Ok(&found.value);
        }
        let message = format!("there is no parameter {}", quoted(parameter));
        let help = match nearest(parameter, parameters.iter().map(|parameter| parameter.name.as_str())) {
            Some(name) => format!("did you mean `params.{name}`?"),
            None => "declare it: `parameters: {NAME: {default: VALUE}}`".to_string(),
        };
        return Err((message, help));
    }
    if name.starts_with("tasks.") {
        let message = "outputs of tasks are not there yet".to_string();
        let help = "they come with a later release; until then let tasks share a file".to_string();
        return Err((message, help));
    }
    let message = format!("the expression {} is not known", quoted(name));
    Err((message, "there is `${{ params.NAME }}`".to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parameters() -> Vec<Parameter> {
        vec![
            Parameter { name: "region".into(), value: "eu".into() },
            Parameter { name: "nested".into(), value: "${{ params.region }}".into() },
        ]
    }

    #[test]
    fn parameters_are_put_in_once() {
        let expand = |text: &str| expand(text, &parameters()).map(Cow::into_owned);
        assert_eq!(expand("plain $x ${y}"), Ok("plain $x ${y}".into()));
        assert_eq!(expand("a-${{ params.region }}-${{params.region}}"), Ok("a-eu-eu".into()));
        assert_eq!(expand("${{ params.nested }}"), Ok("${{ params.region }}".into()), "no recursion");
    }

    #[test]
    fn faults_name_the_expression() {
        let fault = |text: &str| expand(text, &parameters()).expect_err(text);
        let unknown = fault("${{ params.region }} ${{ params.regoin }}");
        assert_eq!((unknown.nth, unknown.help.as_str()), (1, "did you mean `params.region`?"));
        assert!(fault("${{ tasks.a.outputs.b }}").message.contains("not there yet"));
        assert!(fault("${{ secrets.a }}").message.contains("not known"));
        assert!(fault("x ${{ params.region").message.contains("not closed"));
        assert!(fault("${{ params.region } }").message.contains("not closed"));
    }

    proptest! {
        #[test]
        fn never_panics(text in "([${} .a]|params|region|é){0,40}") {
            let _ = expand(&text, &parameters());
        }
    }
}
