//! Requests to a switch that nobody polls, and its answers, for tests.

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::fixture;

/// A VM that may be there beside those of the fixture.
pub(super) const VM: &str =
    r#"{"nics":{"n":{"network":"red","vhost-user":{"path":"/run/weir/n.sock"}}}}"#;

/// Answers of a switch that nobody polls.
pub(super) struct Api(pub(super) Router);

/// An answer.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) media_type: String,
    pub(super) allow: Option<String>,
    pub(super) body: Value,
}

impl Api {
    pub(super) fn new(n_vms: usize) -> Self {
        Self(fixture::router(&fixture::topology(n_vms)))
    }

    pub(super) fn ask(&self, method: Method, target: &str, body: impl Into<Body>) -> Answer {
        self.ask_with(&[], method, target, body)
    }

    pub(super) fn ask_with(
        &self,
        headers: &[(&str, &str)],
        method: Method,
        target: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let response = self.0.clone().oneshot(request).await.unwrap();
            let header = |name| {
                let value: Option<&axum::http::HeaderValue> = response.headers().get(name);
                value.map(|value| value.to_str().unwrap().to_owned())
            };
            let (status, media_type) = (response.status().as_u16(), header("content-type"));
            let allow = header("allow");
            let body = response.into_body().collect().await.unwrap().to_bytes();
            Answer {
                status,
                media_type: media_type.unwrap(),
                allow,
                body: serde_json::from_slice(&body).unwrap(),
            }
        })
    }

    pub(super) fn get(&self, target: &str) -> Value {
        let answer = self.ask(Method::GET, target, Body::empty());
        assert_eq!(answer.status, 200, "{target}: {}", answer.body);
        assert_eq!(answer.media_type, "application/json");
        assert_eq!(answer.body["topology"], 1);
        answer.body
    }

    pub(super) fn refused(&self, method: Method, target: &str, body: impl Into<Body>) -> Answer {
        let answer = self.ask(method, target, body);
        assert_eq!(answer.media_type, "application/problem+json", "{target}");
        assert_eq!(answer.body["status"], answer.status, "{target}");
        let detail = answer.body["detail"].as_str().unwrap();
        assert!(detail.len() > 15, "{target}: {detail}");
        assert!((400..500).contains(&answer.status), "{target}: {detail}");
        answer
    }
}
