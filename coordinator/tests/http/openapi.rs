//! The OpenAPI document.

use crate::support::Bench;
use axum::body::Body;
use serde_json::Value;
use std::fs;
use std::path::Path;

#[tokio::test]
async fn the_committed_document_is_what_is_served() {
    let bench = Bench::new().await;
    let request = bench.request_by("", "GET", "/api/v1/openapi.json").body(Body::empty()).expect("a request");
    let served = bench.send(request).await.json();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("openapi.json");
    let mut text = serde_json::to_string_pretty(&served).expect("JSON");
    text.push('\n');
    if std::env::var_os("CAIRN_UPDATE_OPENAPI").is_some() {
        fs::write(&path, &text).expect("written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "coordinator/openapi.json is not what is served: look at the change, then write it with \
         CAIRN_UPDATE_OPENAPI=1 cargo test -p cairn-coordinator --test http openapi"
    );
}

#[tokio::test]
async fn every_route_is_described() {
    let document = serde_json::to_value(cairn_coordinator::http::openapi()).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    for (path, methods) in document["paths"].as_object().expect("paths") {
        for (method, operation) in methods.as_object().expect("methods") {
            let said = |what: &str| operation[what].as_str().unwrap_or_default();
            assert!(!said("summary").is_empty() && !said("operationId").is_empty(), "{method} {path}");
            for parameter in operation["parameters"].as_array().into_iter().flatten() {
                let text = parameter["description"].as_str().unwrap_or_default();
                assert!(!text.is_empty(), "{method} {path}: {}", parameter["name"]);
            }
        }
    }
    references(&document, &document);
}

/// Whatever is referred to is there.
fn references(value: &Value, document: &Value) {
    match value {
        Value::Object(map) => {
            if let Some(Value::String(to)) = map.get("$ref") {
                let pointer = to.strip_prefix('#').expect("in this document");
                assert!(document.pointer(pointer).is_some(), "{to}");
            }
            map.values().for_each(|value| references(value, document));
        }
        Value::Array(all) => all.iter().for_each(|value| references(value, document)),
        _ => {}
    }
}
