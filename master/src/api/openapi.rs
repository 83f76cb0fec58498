//! The API's own description, written by hand beside docs/api.md; a test holds it to the routes.

use axum::{Router, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};

use crate::master::Master;

const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn routes() -> Router<Master> {
    Router::new().route("/v1/openapi.json", get(document))
}

async fn document() -> impl IntoResponse {
    ([(CONTENT_TYPE, "application/json")], DOCUMENT)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;
    use serde_json::Value;

    use super::DOCUMENT;

    /// The sources that have routes; one that is missing here fails the count below.
    const SOURCES: [&str; 14] = [
        include_str!("authorities.rs"),
        include_str!("backup.rs"),
        include_str!("crl.rs"),
        include_str!("events.rs"),
        include_str!("jobs.rs"),
        include_str!("keys.rs"),
        include_str!("minions.rs"),
        include_str!("openapi.rs"),
        include_str!("pending.rs"),
        include_str!("states.rs"),
        include_str!("stations.rs"),
        include_str!("../api.rs"),
        include_str!("../bridge/routes.rs"),
        include_str!("../status/routes.rs"),
    ];

    #[test]
    fn every_route_is_described_and_every_description_is_a_route() {
        let route = Regex::new(
            r#"\.route\(\s*"(/v1/[^"]*)",\s*((?:\.?(?:get|post|delete|put)\([a-z_]+\))+)"#,
        )
        .unwrap();
        let method = Regex::new(r"(get|post|delete|put)\(").unwrap();
        let mut served = BTreeSet::new();
        for found in SOURCES.iter().flat_map(|source| route.captures_iter(source)) {
            for verb in method.captures_iter(&found[2]) {
                served.insert(format!("{} {}", &verb[1], &found[1]));
            }
        }
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let mut described = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            described.extend(item.as_object().unwrap().keys().map(|verb| format!("{verb} {path}")));
        }
        assert_eq!(served, described);
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: Value = serde_json::from_str(DOCUMENT).unwrap();
        let reference = Regex::new(r##""\$ref":\s*"#([^"]*)""##).unwrap();
        for found in reference.captures_iter(DOCUMENT) {
            assert!(document.pointer(&found[1]).is_some(), "{}", &found[1]);
        }
    }
}
