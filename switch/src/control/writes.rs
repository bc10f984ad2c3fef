//! What can be changed: a handler for each path. These are on the control socket alone, whose mode
//! is the permission.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{IF_MATCH, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderName, StatusCode, Uri};
use axum::routing::{patch, post, put};
use bytes::Bytes;
use tokio::task::spawn_blocking;
use utoipa::IntoParams;

use super::answer::{Json, Refused};
use super::changes::{Asked, Changed, Changes, Wanted};
use super::query::{Query, shown};
use super::routes::{Names, bad_path};
use crate::api::change::ChangeReport;
use crate::api::envelope::Data;
use crate::api::problem::Code;

type Answered = Result<(StatusCode, Json<Data<ChangeReport>>), Refused>;

/// The parameter that asks what would be changed.
const DRY_RUN: &str = "dry_run";

/// For the description: the parameter that asks.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by name")]
struct DryRun {
    /// only say what would be changed
    dry_run: Option<bool>,
}

/// For the description: the condition that every change may have.
#[derive(Debug, IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "read by name")]
struct IfMatch {
    /// only if the topology has this number
    #[param(rename = "If-Match")]
    if_match: Option<String>,
}

/// The paths under which the topology is changed.
pub(crate) fn writes() -> Router<Arc<dyn Changes>> {
    Router::new()
        .route("/v1/reload", post(reload))
        .route("/v1/vms/{vm}", put(put_vm).delete(remove_vm))
        .route("/v1/vms/{vm}/limit", patch(patch_limit))
}

/// Reads the topology's files again, and puts in force what they say: whole or not at all.
#[utoipa::path(post, tag = "changes", path = "/v1/reload", params(
    DryRun,
    IfMatch,
), responses(
    (status = 200, description = "what was changed", body = Data<ChangeReport>),
    Refused,
))]
pub(super) async fn reload(
    State(changes): State<Arc<dyn Changes>>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    if !body.is_empty() {
        let why = "POST /v1/reload has no body: what is to be is in the topology's files";
        return Err(Refused::new(
            StatusCode::BAD_REQUEST,
            Code::UnexpectedBody,
            why,
        ));
    }
    no_if_none_match(&headers)?;
    let asked = asked(Wanted::Reload, &uri, &headers)?;
    change(changes, asked).await.map(done)
}

/// Adds this VM, or puts it in the place of the one of that name. It is written to a file of its
/// own.
#[utoipa::path(put, tag = "changes", path = "/v1/vms/{vm}", params(
    ("vm" = String, Path),
    DryRun,
    IfMatch,
    ("If-None-Match" = Option<String>, Header,
        description = "`*`: only if there is no VM of this name"),
), request_body(
    description = "the VM, as below its name in the topology file: `weir schema` describes it",
    content((Object = "application/json"), (Object = "application/yaml")),
), responses(
    (status = 200, description = "what was changed", body = Data<ChangeReport>),
    (status = 201, description = "the VM was added", body = Data<ChangeReport>),
    Refused,
))]
pub(super) async fn put_vm(
    State(changes): State<Arc<dyn Changes>>,
    path: Names<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let Path(name) = path.map_err(bad_path)?;
    let wanted = Wanted::Vm {
        name,
        body: text(&body)?,
        is_new: is_new(&headers)?,
    };
    let asked = asked(wanted, &uri, &headers)?;
    let changed = change(changes, asked).await?;
    let is_added = changed.report.adds_vm();
    let (status, answer) = done(changed);
    Ok((
        if is_added {
            StatusCode::CREATED
        } else {
            status
        },
        answer,
    ))
}

/// Removes this VM, and the file that it is in.
#[utoipa::path(delete, tag = "changes", path = "/v1/vms/{vm}", params(
    ("vm" = String, Path),
    DryRun,
    IfMatch,
), responses(
    (status = 200, description = "what was changed", body = Data<ChangeReport>),
    Refused,
))]
pub(super) async fn remove_vm(
    State(changes): State<Arc<dyn Changes>>,
    path: Names<String>,
    uri: Uri,
    headers: HeaderMap,
) -> Answered {
    let Path(name) = path.map_err(bad_path)?;
    no_if_none_match(&headers)?;
    let asked = asked(Wanted::NoVm { name }, &uri, &headers)?;
    change(changes, asked).await.map(done)
}

/// Changes this VM's limit: what the body has takes the place of what was there, and a key without
/// a value (`null`) is removed, as in RFC 7396.
#[utoipa::path(patch, tag = "changes", path = "/v1/vms/{vm}/limit", params(
    ("vm" = String, Path),
    DryRun,
    IfMatch,
), request_body(
    description = "what is different, as below `limit` in the topology file",
    content(
        (Object = "application/merge-patch+json"),
        (Object = "application/json"),
        (Object = "application/yaml"),
    ),
), responses(
    (status = 200, description = "what was changed", body = Data<ChangeReport>),
    Refused,
))]
pub(super) async fn patch_limit(
    State(changes): State<Arc<dyn Changes>>,
    path: Names<String>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Answered {
    let Path(name) = path.map_err(bad_path)?;
    no_if_none_match(&headers)?;
    let body = text(&body)?;
    let asked = asked(Wanted::Limit { name, body }, &uri, &headers)?;
    change(changes, asked).await.map(done)
}

/// Has it done by a thread that may wait.
async fn change(changes: Arc<dyn Changes>, asked: Asked) -> Result<Changed, Refused> {
    let changed = spawn_blocking(move || changes.change(&asked).map_err(Refused::from)).await;
    changed.map_err(|e| {
        Refused::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            Code::Internal,
            format!("the change ended by a mistake in weir, which the log describes: {e}"),
        )
    })?
}

fn done(changed: Changed) -> (StatusCode, Json<Data<ChangeReport>>) {
    let (topology, data) = (changed.topology, changed.report);
    (StatusCode::OK, Json(Data { topology, data }))
}

fn asked(wanted: Wanted, uri: &Uri, headers: &HeaderMap) -> Result<Asked, Refused> {
    let query = Query::of(uri, &[DRY_RUN])?;
    let is_dry_run = query.one_of(DRY_RUN, &[("true", true), ("false", false)])?;
    Ok(Asked {
        wanted,
        is_dry_run: is_dry_run.unwrap_or(false),
        topology: expected(headers)?,
    })
}

/// Number of the topology that must be in force.
fn expected(headers: &HeaderMap) -> Result<Option<u64>, Refused> {
    let Some(text) = header(headers, &IF_MATCH)? else {
        return Ok(None);
    };
    if text == "*" {
        return Ok(None);
    }
    let bare = text
        .strip_prefix('"')
        .and_then(|text| text.strip_suffix('"'))
        .unwrap_or(text);
    let is_number = !bare.is_empty() && bare.bytes().all(|byte| byte.is_ascii_digit());
    match bare.parse() {
        Ok(number) if is_number => Ok(Some(number)),
        _ => Err(bad_header(
            &IF_MATCH,
            text,
            "the number of a topology, as in \"7\"",
        )),
    }
}

/// Whether there must be no VM of this name.
fn is_new(headers: &HeaderMap) -> Result<bool, Refused> {
    match header(headers, &IF_NONE_MATCH)? {
        None => Ok(false),
        Some("*") => Ok(true),
        Some(text) => Err(bad_header(&IF_NONE_MATCH, text, "* (there is no such VM)")),
    }
}

fn no_if_none_match(headers: &HeaderMap) -> Result<(), Refused> {
    match header(headers, &IF_NONE_MATCH)? {
        None => Ok(()),
        Some(text) => Err(bad_header(&IF_NONE_MATCH, text, "for PUT alone")),
    }
}

/// The value of a header that is given at most once.
fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, Refused> {
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next(), values.next());
    if second.is_some() {
        return Err(bad_header(name, "given twice", "given once"));
    }
    let text = first.map(|value| value.to_str().unwrap_or("\u{fffd}"));
    Ok(text.map(str::trim))
}

fn bad_header(name: &HeaderName, found: &str, expected: &str) -> Refused {
    let name = if name == IF_MATCH {
        "If-Match"
    } else {
        "If-None-Match"
    };
    let why = format!("{name} is {expected}, and not {}", shown(found));
    Refused::new(StatusCode::BAD_REQUEST, Code::BadValue, why).at(name)
}

fn text(body: &Bytes) -> Result<String, Refused> {
    String::from_utf8(body.to_vec()).map_err(|e| {
        let why = format!("the request's body is not UTF-8: {e}");
        Refused::new(StatusCode::BAD_REQUEST, Code::Malformed, why)
    })
}

#[cfg(test)]
#[path = "writes_tests.rs"]
mod tests;
