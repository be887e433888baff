//! The description of the control API (OpenAPI 3.1), made of the routes and the types themselves.
//!
//! Not here: what the routes do ([`routes`]).

use std::sync::OnceLock;

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{logs, routes};
use crate::control::model::{EVENT_VERSION, Event};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Warren control API",
        description = "What a daemon does for its person, on its Unix socket: \
            curl --unix-socket control.sock http://warren/v1/status. \
            Every answer is one event, an array of them, or server-sent events, one in each data line.",
        version = "1"
    ),
    paths(
        routes::register,
        routes::download,
        routes::preview,
        routes::follow,
        routes::unfollow,
        routes::open,
        routes::select,
        routes::status,
        routes::peers,
        routes::attempts,
        routes::doctor,
        routes::shares,
        routes::events,
        logs::logs,
        routes::pause,
        routes::resume,
        routes::verify,
        routes::relocate,
        routes::expire,
        routes::revoke,
        routes::link,
        routes::contents,
        routes::cancel,
        routes::remove,
        routes::limit,
        routes::stop,
        routes::openapi,
    ),
    components(schemas(Event))
)]
struct Description;

/// The description as JSON.
pub(super) fn json() -> &'static str {
    static JSON: OnceLock<String> = OnceLock::new();
    JSON.get_or_init(|| describe().to_string())
}

fn describe() -> Value {
    let described = serde_json::to_value(Description::openapi());
    let mut described = described.expect("a description holds only text, numbers and flags");
    // The version is written by hand, beside what is derived.
    let events = described.pointer_mut("/components/schemas/Event/oneOf");
    let kinds = events.and_then(Value::as_array_mut);
    for kind in kinds.into_iter().flatten() {
        let parts = kind.pointer_mut("/allOf").and_then(Value::as_array_mut);
        let own = parts.and_then(|parts| parts.last_mut());
        if let Some(own) = own {
            own["properties"]["v"] = json!({ "type": "integer", "const": EVENT_VERSION });
            let required = own.get_mut("required").and_then(Value::as_array_mut);
            required.into_iter().for_each(|it| it.push(json!("v")));
        }
    }
    described
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_route_is_described_and_every_described_one_exists() {
        let source = include_str!("routes.rs");
        let routes = source.split(".route(\"").skip(1);
        let routes: BTreeSet<String> = routes
            .filter_map(|rest| rest.split('"').next())
            .map(|route| format!("/v1{route}"))
            .collect();
        let described = describe();
        let paths = described["paths"].as_object().unwrap();
        assert_eq!(paths.keys().cloned().collect::<BTreeSet<_>>(), routes);
        for (path, methods) in paths {
            let (method, of) = methods.as_object().unwrap().iter().next().unwrap();
            let called = format!(".route(\"{}\", {method}(", path.trim_start_matches("/v1"));
            assert!(source.contains(&called), "{called}");
            assert!(
                of["summary"].as_str().is_some_and(|it| !it.is_empty()),
                "{path}"
            );
        }
    }

    #[test]
    fn every_reference_leads_somewhere_and_events_have_their_version_and_type() {
        let described = describe();
        let text = described.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(described.pointer(pointer).is_some(), "{pointer}");
        }
        let kinds = described
            .pointer("/components/schemas/Event/oneOf")
            .unwrap();
        let words: BTreeSet<&str> = kinds
            .as_array()
            .unwrap()
            .iter()
            .map(|kind| {
                let own = kind["allOf"].as_array().unwrap().last().unwrap();
                assert_eq!(own["properties"]["v"]["const"], EVENT_VERSION);
                own["properties"]["type"]["enum"][0].as_str().unwrap()
            })
            .collect();
        assert!(
            words.contains("port_mapping") && words.contains("done"),
            "{words:?}"
        );
        assert_eq!(words.len(), 19);
    }
}
