//! The JSON Schema of a plan, made from the table of keys, so that editors complete what the reader reads.

use super::keys::{Level, Shape, rows};
use super::reader::{MAX_ATTEMPTS, MAX_PRIORITY};
use serde_json::{Map, Value, json};

const ID: &str = "^[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}$";
const PROJECT: &str = "^[a-z0-9][a-z0-9-]{0,62}$";
const NEED: &str = "^[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127}(/[A-Za-z0-9_][A-Za-z0-9_.#-]{0,127})?$";
const DURATION: &str = "^([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+(\\.[0-9]+)?(ms|[dhms]))?$";
const SIZE: &str = "^[0-9]+(\\.[0-9]+)? ?([kKMGTP]?B|[KMGT]iB)$";
const VARIABLE: &str = "^(?!CAIRN_)[A-Za-z_][A-Za-z0-9_]*$";
const PARAMETER: &str = "^[A-Za-z_][A-Za-z0-9_-]{0,62}$";
const RESOURCE: &str = ID;
const LABEL: &str = "^[A-Za-z0-9_][A-Za-z0-9_./-]{0,127}$";

/// The JSON Schema (2020-12) of the plan language.
#[must_use]
pub fn json_schema() -> Value {
    let mut schema = object(Level::PLAN);
    schema.insert("$schema".into(), json!("https://json-schema.org/draft/2020-12/schema"));
    schema.insert("title".into(), json!("Cairn plan"));
    schema.insert("oneOf".into(), json!([{"required": ["milestones"]}, {"required": ["tasks"]}]));
    let mut task = object(Level::TASK);
    let pairs = [["run", "exec"], ["run", "wait"], ["exec", "wait"]];
    let both: Vec<Value> = pairs.iter().map(|pair| json!({"required": pair})).collect();
    task.insert("not".into(), json!({"anyOf": both}));
    let definitions = json!({
        "milestone": object(Level::MILESTONE),
        "task": task,
        "defaults": object(Level::DEFAULTS),
        "retry": object(Level::RETRY),
        "estimate": object(Level::ESTIMATE),
        "parameter": object(Level::PARAMETER),
        "duration": {"type": "string", "pattern": DURATION, "minLength": 2, "examples": ["90s", "10m", "1h30m", "2d"]},
        "text": {"type": ["string", "number", "boolean"]},
    });
    schema.insert("$defs".into(), definitions);
    Value::Object(schema)
}

fn object(level: Level) -> Map<String, Value> {
    let mut properties = Map::new();
    let mut required = Vec::new();
    for row in rows(level) {
        let Some(mut shape) = shape(row.shape) else { continue };
        shape.insert("description".into(), json!(row.doc));
        properties.insert(row.name.into(), Value::Object(shape));
        if row.required.holds(level) {
            required.push(row.name);
        }
    }
    let mut object = Map::new();
    object.insert("type".into(), json!("object"));
    object.insert("additionalProperties".into(), json!(false));
    object.insert("properties".into(), Value::Object(properties));
    if !required.is_empty() {
        object.insert("required".into(), json!(required));
    }
    object
}

/// The schema of a value; nothing for what is not there yet.
fn shape(shape: Shape) -> Option<Map<String, Value>> {
    let by_name = |names: &str, values: Value| -> Value {
        json!({"type": "object", "propertyNames": {"pattern": names}, "additionalProperties": values})
    };
    let text = || json!({"$ref": "#/$defs/text"});
    let duration = || json!({"$ref": "#/$defs/duration"});
    let schema = match shape {
        Shape::Version => json!({"const": 1}),
        Shape::Project => json!({"type": "string", "pattern": PROJECT}),
        Shape::Id => json!({"type": ["string", "integer"], "pattern": ID}),
        Shape::Text => text(),
        Shape::Needs => json!({"type": "array", "items": {"type": ["string", "integer"], "pattern": NEED}}),
        Shape::Script | Shape::Directory => json!({"type": "string", "minLength": 1}),
        Shape::Words => json!({"type": "array", "minItems": 1, "items": text()}),
        Shape::Duration { .. } => duration(),
        Shape::Retry => json!({"$ref": "#/$defs/retry"}),
        Shape::Resources => {
            let amount =
                json!({"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": SIZE}]});
            by_name(RESOURCE, amount)
        }
        Shape::Labels => by_name(LABEL, text()),
        Shape::Environment => by_name(VARIABLE, text()),
        Shape::Priority => json!({"type": "integer", "minimum": -MAX_PRIORITY, "maximum": MAX_PRIORITY}),
        Shape::Estimate => json!({"anyOf": [duration(), {"$ref": "#/$defs/estimate"}]}),
        Shape::Flag => json!({"type": "boolean"}),
        Shape::Moment => json!({"type": "string", "format": "date-time"}),
        Shape::Parameters => by_name(PARAMETER, json!({"$ref": "#/$defs/parameter"})),
        Shape::Values => json!({"type": "array", "minItems": 1, "items": text()}),
        Shape::Defaults => json!({"$ref": "#/$defs/defaults"}),
        Shape::Milestones => json!({"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/milestone"}}),
        Shape::Tasks => json!({"type": "array", "items": {"$ref": "#/$defs/task"}}),
        Shape::Attempts => json!({"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS}),
        Shape::Backoff => json!({"enum": ["constant", "linear", "exponential"]}),
        Shape::Share => json!({"type": "number", "minimum": 0, "maximum": 1}),
        Shape::Later(_) => return None,
    };
    match schema {
        Value::Object(schema) => Some(schema),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::keys::KEYS;
    use super::*;

    #[test]
    fn every_key_that_is_there_is_in_the_schema() {
        let schema = json_schema();
        let text = schema.to_string();
        for row in KEYS {
            let is_there = !matches!(row.shape, Shape::Later(_));
            assert_eq!(text.contains(&format!("\"{}\":{{", row.name)), is_there, "{}", row.name);
        }
        assert_eq!(schema["required"], json!(["version", "project"]));
        assert_eq!(schema["additionalProperties"], json!(false));
        assert_eq!(schema["$defs"]["task"]["required"], json!(["id"]));
        assert_eq!(schema["$defs"]["task"]["properties"]["needs"]["type"], json!("array"));
    }

    #[test]
    fn every_reference_leads_somewhere() {
        fn walk(value: &Value, root: &Value) {
            match value {
                Value::Object(map) => {
                    if let Some(Value::String(reference)) = map.get("$ref") {
                        let name = reference.strip_prefix("#/$defs/").expect("a local reference");
                        assert!(root["$defs"].get(name).is_some(), "{reference}");
                    }
                    map.values().for_each(|value| walk(value, root));
                }
                Value::Array(items) => items.iter().for_each(|value| walk(value, root)),
                _ => {}
            }
        }
        let schema = json_schema();
        walk(&schema, &schema);
    }
}
