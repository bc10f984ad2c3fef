//! What is answered where metrics are read. Nothing there changes anything.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_TYPE, HeaderValue};
use axum::http::{Response, StatusCode};
use axum::middleware;
use axum::response::IntoResponse;
use axum::routing::get;
use prometheus_client::encoding::prometheus_text::CONTENT_TYPE as PROMETHEUS_TEXT;

use super::collect::Metrics;
use super::host;
use crate::api::problem::Code;
use crate::control::admit::complete;
use crate::control::answer::Refused;
use crate::control::sources::Sources;

/// Connections at a time: a scrape of many ports is some megabytes, until it has been read.
pub(crate) const CONNECTIONS_MAX: usize = 16;

/// Answers to everything that can be read by TCP: metrics, and these other pages.
pub(crate) fn router(sources: &Arc<Sources>, pages: Router<Arc<Sources>>) -> Router {
    let metrics = Router::new()
        .route("/metrics", get(read))
        .with_state(Arc::new(Metrics::new(sources.clone())));
    let routes = metrics.merge(pages.with_state(sources.clone()));
    complete(routes, "/metrics has the metrics, / the status page")
        .layer(middleware::from_fn(host::check))
}

/// Counters are read now, not now and then.
async fn read(State(metrics): State<Arc<Metrics>>) -> Response<Body> {
    match metrics.text() {
        Ok(text) => {
            let mut response = Response::new(Body::from(text));
            let content_type = HeaderValue::from_static(PROMETHEUS_TEXT);
            response.headers_mut().insert(CONTENT_TYPE, content_type);
            response
        }
        Err(e) => {
            let why = format!("the metrics can't be written: {e}");
            Refused::new(StatusCode::INTERNAL_SERVER_ERROR, Code::Internal, why).into_response()
        }
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
