//! The two front ends against each other, and places in the text.

use super::diagnostic::Findings;
use super::limits::Limits;
use super::tree::{NodeId, Style, Tree, TreeBuilder, Value};
use super::{json, yaml};
use proptest::prelude::*;

fn by_yaml(text: &str) -> Result<Tree<'_>, String> {
    let limits = Limits::local();
    let mut builder = TreeBuilder::new(text, &limits);
    let mut findings = Findings::default();
    yaml::read(text, &limits, &mut builder, &mut findings).map_err(|finding| format!("{finding:?}"))?;
    Ok(builder.finish())
}

fn by_json(text: &str) -> Option<Tree<'_>> {
    let limits = Limits::local();
    let mut builder = TreeBuilder::new(text, &limits);
    json::read(text, &mut builder).is_ok().then(|| builder.finish())
}

/// The tree as text: values with their places.
fn told(tree: &Tree<'_>) -> String {
    fn tell(tree: &Tree<'_>, node: NodeId, out: &mut String) {
        let span = tree.span(node);
        out.push_str(&format!("{}+{}", span.start, span.len));
        match tree.value(node) {
            Value::Null => out.push_str(" null"),
            Value::Scalar(text, style) => out.push_str(&format!(" {style:?} {text:?}")),
            Value::Sequence => out.push_str(" list"),
            Value::Mapping => out.push_str(" mapping"),
        }
        out.push('(');
        for child in tree.children(node) {
            tell(tree, child, out);
            out.push(' ');
        }
        out.push(')');
    }
    let mut out = String::new();
    if let Some(root) = tree.root() {
        tell(tree, root, &mut out);
    }
    out
}

/// Values of JSON as text, with spaces, escapes and names of many kinds.
fn any_json() -> impl Strategy<Value = String> {
    let space = || "[ \n]{0,2}";
    let string = prop_oneof![
        "[a-z${}:#,\\[\\] é日🚀'-]{0,8}".prop_map(|text| format!("\"{text}\"")),
        Just("\"\\n\\t\\\"\\\\\\/\\u00e9\\ud83d\\ude80\"".to_string()),
    ];
    let leaf = prop_oneof![
        string.clone(),
        Just("null".to_string()),
        Just("true".to_string()),
        "-?(0|[1-9][0-9]{0,5})(\\.[0-9]{1,3})?([eE][+-]?[0-9])?",
    ];
    let inner = leaf.prop_recursive(5, 40, 5, move |inner| {
        let list = proptest::collection::vec((inner.clone(), space(), space()), 0..5).prop_map(|items| {
            let items: Vec<_> =
                items.into_iter().map(|(item, left, right)| format!("{left}{item}{right}")).collect();
            format!("[{}]", items.join(","))
        });
        let entry = ("[a-z]{1,4}", inner, space())
            .prop_map(|(key, value, space)| format!("{space}\"{key}\":{space}{value}"));
        let mapping =
            proptest::collection::vec(entry, 0..5).prop_map(|entries| format!("{{{}}}", entries.join(",")));
        prop_oneof![list, mapping]
    });
    (inner, space()).prop_map(|(value, space)| format!("{{\"a\":{value}{space}}}{space}"))
}

proptest! {
    #[test]
    fn json_gives_the_same_tree_by_both_ways(text in any_json()) {
        let fast = by_json(&text).expect("JSON");
        prop_assert_eq!(told(&fast), told(&by_yaml(&text).expect("YAML")));
        let value: serde_json::Result<serde_json::Value> = serde_json::from_str(&text);
        prop_assert!(value.is_ok());
    }

    #[test]
    fn what_is_not_json_is_left_to_yaml(text in any_json(), at in 0_usize..200, put in "[\\]}\\[{,:\"a0\\\\]") {
        let mut broken = text;
        let at = (0..=at.min(broken.len())).rev().find(|&at| broken.is_char_boundary(at)).unwrap_or(0);
        broken.insert_str(at, &put);
        let is_json = serde_json::from_str::<serde_json::Value>(&broken).is_ok();
        prop_assert_eq!(by_json(&broken).is_some(), is_json, "{}", broken);
    }

    #[test]
    fn places_are_within_the_text(text in "([a-z]{1,3}: |- |\\[|\\]|\\{|\\}|,|\n|  |é|\"|'|\\||&a |\\*a|#|1){0,40}") {
        if let Ok(tree) = by_yaml(&text) {
            for node in tree.root().into_iter().flat_map(|root| nodes(&tree, root)) {
                let span = tree.span(node);
                let (start, end) = (span.start as usize, (span.start + span.len) as usize);
                prop_assert!(text.get(start..end).is_some(), "{start}..{end} of {text:?}");
                if let Value::Scalar(value, Style::Plain) = tree.value(node) && !tree.raw(node).contains('\n') {
                    prop_assert_eq!(value, tree.raw(node));
                }
            }
        }
    }
}

/// A value and all that it holds; aliases are not followed.
fn nodes(tree: &Tree<'_>, node: NodeId) -> Vec<NodeId> {
    let mut found = vec![node];
    if tree.target(node) == node {
        tree.children(node).for_each(|child| found.extend(nodes(tree, child)));
    }
    found
}

#[test]
fn scalars_are_copied_only_where_the_text_does_not_spell_them_out() {
    let text = "a: plain é\nb: \"qu é oted\"\nc: 'it''s'\nd: |\n  one\ne: >\n  two\n  lines\nf: \"\\u00e9\"\ng:\nh: ~\ni: 'null'\n";
    let tree = by_yaml(text).expect("YAML");
    let root = tree.root().expect("a mapping");
    let values: Vec<Value<'_>> = tree.entries(root).map(|(_, value)| tree.value(value)).collect();
    let expected = [
        Value::Scalar("plain é", Style::Plain),
        Value::Scalar("qu é oted", Style::Text),
        Value::Scalar("it's", Style::Text),
        Value::Scalar("one\n", Style::Text),
        Value::Scalar("two lines\n", Style::Text),
        Value::Scalar("é", Style::Text),
        Value::Null,
        Value::Null,
        Value::Scalar("null", Style::Text),
    ];
    assert_eq!(values, expected);
}

#[test]
fn aliases_stand_for_what_they_refer_to() {
    let tree = by_yaml("a: &x [1, &y 2]\nb: *x\nc: *y\n").expect("YAML");
    let values: Vec<NodeId> = tree.entries(tree.root().expect("a mapping")).map(|(_, value)| value).collect();
    assert_eq!(tree.value(values[1]), Value::Sequence);
    assert_eq!(tree.children(values[1]).count(), 2);
    assert_eq!(tree.span(values[1]).start, 19, "where the alias stands");
    assert_eq!(tree.value(values[2]), Value::Scalar("2", Style::Plain));
}
