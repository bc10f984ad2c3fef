//! What every request passes: its body has arrived in time and is not too large, or there is none
//! where none belongs. Handlers are given whole bodies.

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tokio::time::timeout;

use super::answer::{Refused, allowed};
use super::query::shown;
use crate::api::problem::Code;

/// The most bytes of a request's body.
const BODY_MAX: usize = 1 << 20;
/// The time in which a request's body must arrive.
pub(super) const BODY_WITHIN: Duration = Duration::from_secs(5);

/// `routes` with answers to all other paths and methods, behind the checks of every request.
/// `help`: what a client that asks for another path should know.
pub(crate) fn complete(routes: Router, help: &'static str) -> Router {
    let no_path = move |request: Request| async move { no_path(&request, help) };
    // The checks are around a whole router, whose answer to another method lists those it has.
    Router::new()
        .fallback_service(routes.fallback(no_path))
        .layer(middleware::from_fn(admit))
}

async fn admit(request: Request, next: Next) -> Response<Body> {
    let (head, body) = request.into_parts();
    let body = match arrived(body).await {
        Ok(body) => body,
        Err(refused) => return refused.into_response(),
    };
    let takes_none = matches!(head.method, Method::GET | Method::HEAD | Method::DELETE);
    if takes_none && !body.is_empty() {
        let why = format!("a {} has no body", head.method);
        return Refused::new(StatusCode::BAD_REQUEST, Code::UnexpectedBody, why).into_response();
    }
    let (method, path) = (head.method.clone(), head.uri.path().to_owned());
    let response = next.run(Request::from_parts(head, Body::from(body))).await;
    if response.status() == StatusCode::METHOD_NOT_ALLOWED {
        return no_method(&method, &path, response);
    }
    response
}

async fn arrived(body: Body) -> Result<Bytes, Refused> {
    match timeout(BODY_WITHIN, Limited::new(body, BODY_MAX).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(e)) if is_too_long(&*e) => Err(Refused::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            Code::TooLarge,
            format!("a request's body has at most {BODY_MAX} bytes"),
        )),
        Ok(Err(e)) => Err(Refused::new(
            StatusCode::BAD_REQUEST,
            Code::Malformed,
            format!("the request's body can't be read, or ended too early: {e}"),
        )),
        Err(_) => Err(Refused::new(
            StatusCode::REQUEST_TIMEOUT,
            Code::Timeout,
            format!(
                "the request's body did not arrive within {} s",
                BODY_WITHIN.as_secs()
            ),
        )),
    }
}

fn is_too_long(error: &(dyn Error + 'static)) -> bool {
    error.is::<LengthLimitError>() || error.source().is_some_and(is_too_long)
}

fn no_path(request: &Request, help: &str) -> Refused {
    let path = request.uri().path();
    let why = format!("there is nothing at {}: {help}", shown(path));
    Refused::new(StatusCode::NOT_FOUND, Code::NoSuchPath, why)
}

/// The same answer, which has the methods that there are, with a sentence.
fn no_method(method: &Method, path: &str, response: Response<Body>) -> Response<Body> {
    let why = format!(
        "{} takes {}, and not {}",
        shown(path),
        allowed(&response),
        shown(method.as_str())
    );
    let mut refused =
        Refused::new(StatusCode::METHOD_NOT_ALLOWED, Code::NoSuchMethod, why).into_response();
    for (name, value) in response.headers() {
        if name == axum::http::header::ALLOW {
            refused.headers_mut().insert(name, value.clone());
        }
    }
    refused
}
