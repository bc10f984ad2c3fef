//! The API's description, which is also `docs/openapi.json`.

use axum::Router;
use axum::http::Uri;
use axum::routing::get;
use utoipa::OpenApi;

use super::answer::{Answered, Json, Refused};
use super::query::Query;
use super::{routes, writes};
use crate::api::problem::Problem;

/// The path under which the description is read.
pub(crate) fn description<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new().route("/v1/openapi.json", get(read_openapi))
}

/// This description.
#[utoipa::path(get, tag = "reports", path = "/v1/openapi.json", responses(
    (status = 200, description = "the answer", body = Object),
    Refused,
))]
async fn read_openapi(uri: Uri) -> Answered<utoipa::openapi::OpenApi> {
    Query::none(&uri)?;
    Ok(Json(document()))
}

/// The description of everything that can be requested.
pub(crate) fn document() -> utoipa::openapi::OpenApi {
    Document::openapi()
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "weir",
        version = "1",
        description = "What weir answers on its control socket. Whoever may open the socket may \
            ask: its mode is the permission. From version 1 on keys, paths and values of enums \
            may be added, never renamed or removed: ignore those that you don't know.",
        license(name = "Apache-2.0 OR MIT"),
    ),
    components(schemas(Problem)),
    paths(
        routes::read_version,
        routes::list_vms,
        routes::read_vm,
        routes::read_nic,
        routes::list_ports,
        routes::list_uplinks,
        routes::read_uplink,
        routes::list_networks,
        routes::list_macs,
        routes::read_flows,
        routes::list_cores,
        routes::list_queues,
        writes::reload,
        writes::put_vm,
        writes::remove_vm,
        writes::patch_limit,
        read_openapi,
    )
)]
struct Document;

#[cfg(test)]
mod tests {
    use std::path::Path;

    /// `WRITE_DOCS=1` writes what this compares.
    #[test]
    fn description_in_docs_is_that_of_the_code() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/openapi.json");
        let text = serde_json::to_string_pretty(&super::document()).unwrap() + "\n";
        if std::env::var_os("WRITE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "docs/openapi.json is not what the code answers: WRITE_DOCS=1 cargo test -p weir --lib \
            openapi, and look at the difference"
        );
    }
}
