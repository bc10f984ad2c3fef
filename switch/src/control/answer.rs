//! Answers: a value as JSON, or a problem.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Deref;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::FromRequestParts;
use axum::http::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use axum::http::request::Parts;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::IntoResponses;
use utoipa::openapi::{self, ContentBuilder, Ref, RefOr, ResponseBuilder};

use super::sources::Sources;
use crate::api::envelope::{Data, List};
use crate::api::problem::{Code, Mistake, Problem};

/// What a handler gives: the value that is sent as JSON, or why there is none.
pub(crate) type Answered<T> = Result<Json<T>, Refused>;

/// An answer of status 200.
#[derive(Debug)]
pub(crate) struct Json<T>(pub(crate) T);

/// A request that is refused. Boxed, since it is rare and large.
#[derive(Debug)]
pub(crate) struct Refused(Box<Problem>);

/// What a handler reports from. The topology's number was read first: if another topology comes
/// into force meanwhile, an answer may have the older number beside newer values, so that a change
/// that rests on it is refused; never the reverse.
#[derive(Debug)]
pub(crate) struct Reading {
    topology: u64,
    sources: Arc<Sources>,
}

impl Reading {
    /// Number of the topology.
    pub(super) fn topology(&self) -> u64 {
        self.topology
    }

    /// One thing in its envelope.
    pub(crate) fn data<T>(&self, data: T) -> Json<Data<T>> {
        Json(Data {
            topology: self.topology,
            data,
        })
    }

    /// A short list, which has one page.
    pub(crate) fn list<T>(&self, items: Vec<T>) -> Json<List<T>> {
        Json(List {
            topology: self.topology,
            total: items.len(),
            items,
            next: None,
        })
    }
}

impl Deref for Reading {
    type Target = Sources;

    fn deref(&self) -> &Sources {
        &self.sources
    }
}

impl FromRequestParts<Arc<Sources>> for Reading {
    type Rejection = Infallible;

    async fn from_request_parts(_: &mut Parts, sources: &Arc<Sources>) -> Result<Self, Infallible> {
        Ok(Self {
            topology: sources.topology_number(),
            sources: sources.clone(),
        })
    }
}

impl Refused {
    /// With HTTP's number, a word for programs and a sentence for people.
    pub(crate) fn new(status: StatusCode, code: Code, detail: impl Into<String>) -> Self {
        Self(Box::new(Problem {
            status: status.as_u16(),
            title: status.canonical_reason().unwrap_or("Refused").to_owned(),
            detail: detail.into(),
            code: code.text(),
            at: None,
            mistakes: Vec::new(),
            report: None,
        }))
    }

    /// The same of one part of the request: a parameter, a header, or a JSON pointer into the body.
    pub(crate) fn at(mut self, part: impl Into<String>) -> Self {
        self.0.at = Some(part.into());
        self
    }

    /// The same with the mistakes of the topology that is wanted.
    pub(super) fn with_mistakes(mut self, mistakes: Vec<Mistake>) -> Self {
        self.0.mistakes = mistakes;
        self
    }

    /// The same with lines for a terminal.
    pub(super) fn with_report(mut self, report: String) -> Self {
        self.0.report = Some(report);
        self
    }

    /// As lines for a log or a terminal.
    pub(crate) fn into_text(self) -> String {
        self.0.into_text()
    }

    /// As JSON.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// HTTP's number for it.
    pub(super) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

/// Media type of a problem.
pub(super) const PROBLEM: &str = "application/problem+json";

/// For the description: every request may be refused.
impl IntoResponses for Refused {
    fn responses() -> BTreeMap<String, RefOr<openapi::Response>> {
        let problem = ContentBuilder::new().schema(Some(Ref::from_schema_name("Problem")));
        let refused = ResponseBuilder::new()
            .description("the request is refused, and nothing was changed")
            .content(PROBLEM, problem.build());
        let refused = RefOr::from(refused.build());
        [
            ("4XX".to_owned(), refused.clone()),
            ("5XX".to_owned(), refused),
        ]
        .into()
    }
}

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response<Body> {
        match serde_json::to_vec(&self.0) {
            Ok(json) => response(StatusCode::OK, "application/json", json),
            Err(e) => Refused::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                Code::Internal,
                format!("the answer can't be written as JSON: {e}"),
            )
            .into_response(),
        }
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response<Body> {
        response(self.status(), PROBLEM, self.to_json().into_bytes())
    }
}

fn response(status: StatusCode, media_type: &'static str, mut body: Vec<u8>) -> Response<Body> {
    // For terminals.
    body.push(b'\n');
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// The methods that a response's header `Allow` lists, for a sentence.
pub(super) fn allowed(response: &Response<Body>) -> String {
    let allowed = response.headers().get(ALLOW);
    allowed
        .and_then(|allowed| allowed.to_str().ok())
        .unwrap_or("no method")
        .replace(',', ", ")
}
