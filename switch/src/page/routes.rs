//! The page's paths. They tell nothing of a guest that metrics don't: no address, no rule.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{AppendHeaders, IntoResponse};
use axum::routing::get;

use super::document::{PAGE, policy};
use super::shared::Shared;
use super::status::{Status, status};
use crate::control::sources::Sources;

/// The page of this switch, at `/`, and the report that it shows, at `/status.json`.
pub(crate) fn page<S: Clone + Send + Sync + 'static>(sources: Arc<Sources>) -> Router<S> {
    routes(move || status(&sources))
}

/// The same, of what `make` reports.
pub(super) fn routes<S: Clone + Send + Sync + 'static>(
    make: impl Fn() -> Status + Clone + Send + Sync + 'static,
) -> Router<S> {
    let shared = Arc::new(Shared::default());
    let report = move || {
        let json = || serde_json::to_vec(&make()).unwrap_or_default();
        let report = shared.at(Instant::now(), json);
        async { (headers("application/json", "no-store"), report) }
    };
    Router::new()
        .route("/", get(read_page))
        .route("/status.json", get(report))
}

async fn read_page() -> impl IntoResponse {
    let policy = HeaderValue::try_from(policy()).ok();
    let policy = policy.map(|policy| (CONTENT_SECURITY_POLICY, policy));
    let headers = headers("text/html; charset=utf-8", "no-cache");
    (headers, AppendHeaders(policy), PAGE)
}

fn headers(media_type: &'static str, cache: &'static str) -> [(HeaderName, HeaderValue); 5] {
    let resource_policy = HeaderName::from_static("cross-origin-resource-policy");
    [
        (CONTENT_TYPE, media_type),
        (CACHE_CONTROL, cache),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        (resource_policy, "same-origin"),
    ]
    .map(|(name, value)| (name, HeaderValue::from_static(value)))
}
