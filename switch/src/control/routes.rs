//! What can be read: a handler for each path.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::{StatusCode, Uri};
use axum::routing::get;
use flowtable::mac::entry::Row;

use super::answer::{Answered, Reading, Refused};
use super::query::{PageParams, Query, shown};
use super::sources::Sources;
use super::{cores, flows, macs, networks, ports, queues, version, vms};
use crate::api::core::{Also, CoreReport};
use crate::api::envelope::{Data, List};
use crate::api::flows::FlowReport;
use crate::api::mac::MacReport;
use crate::api::network::NetworkReport;
use crate::api::port::{PortReport, PortRow};
use crate::api::problem::Code;
use crate::api::queue::RxQueueReport;
use crate::api::state::State as PortState;
use crate::api::version::VersionReport;
use crate::api::vm::{VmDetail, VmReport};

pub(super) type Names<T> = Result<Path<T>, PathRejection>;

/// The paths under which reports are read.
pub(crate) fn reads() -> Router<Arc<Sources>> {
    Router::new()
        .route("/v1/version", get(read_version))
        .route("/v1/vms", get(list_vms))
        .route("/v1/vms/{vm}", get(read_vm))
        .route("/v1/vms/{vm}/nics/{nic}", get(read_nic))
        .route("/v1/ports", get(list_ports))
        .route("/v1/uplinks", get(list_uplinks))
        .route("/v1/uplinks/{uplink}", get(read_uplink))
        .route("/v1/networks", get(list_networks))
        .route("/v1/macs", get(list_macs))
        .route("/v1/flows", get(read_flows))
        .route("/v1/cores", get(list_cores))
        .route("/v1/queues", get(list_queues))
}

/// The program, its process, and since when it runs.
#[utoipa::path(get, tag = "reports", path = "/v1/version", responses(
    (status = 200, description = "the answer", body = Data<VersionReport>),
    Refused,
))]
pub(super) async fn read_version(reading: Reading, uri: Uri) -> Answered<Data<VersionReport>> {
    Query::none(&uri)?;
    Ok(reading.data(version::version(reading.started)))
}

/// VMs, in the topology's order.
#[utoipa::path(get, tag = "reports", path = "/v1/vms", params(PageParams), responses(
    (status = 200, description = "the answer", body = List<VmReport>),
    Refused,
))]
pub(super) async fn list_vms(reading: Reading, uri: Uri) -> Answered<List<VmReport>> {
    let page = Query::of_list(&uri, &[])?.page()?;
    page.of(&reading, vms::vms(&reading), |vm| vm.name.clone())
}

/// A VM, with its NICs.
#[utoipa::path(get, tag = "reports", path = "/v1/vms/{vm}", params(
    ("vm" = String, Path),
), responses(
    (status = 200, description = "the answer", body = Data<VmDetail>),
    Refused,
))]
pub(super) async fn read_vm(
    reading: Reading,
    path: Names<String>,
    uri: Uri,
) -> Answered<Data<VmDetail>> {
    Query::none(&uri)?;
    let Path(name) = path.map_err(bad_path)?;
    match vms::vm(&reading, &name) {
        Some(vm) => Ok(reading.data(vm)),
        None => Err(no_vm(&reading, &name, &format!("VM {}", plain(&name)))),
    }
}

/// A NIC of a VM: counters, drops by reason, addresses, rules, queues, connection or device.
#[utoipa::path(get, tag = "reports", path = "/v1/vms/{vm}/nics/{nic}", params(
    ("vm" = String, Path),
    ("nic" = String, Path),
), responses(
    (status = 200, description = "the answer", body = Data<PortReport>),
    Refused,
))]
pub(super) async fn read_nic(
    reading: Reading,
    path: Names<(String, String)>,
    uri: Uri,
) -> Answered<Data<PortReport>> {
    Query::none(&uri)?;
    let Path((vm, nic)) = path.map_err(bad_path)?;
    let name = format!("{vm}/{nic}");
    if let Some(port) = ports::port(&reading, &name) {
        return Ok(reading.data(port));
    }
    let what = format!("port {}", plain(&name));
    let Some(known) = vms::vm(&reading, &vm) else {
        return Err(no_vm(&reading, &vm, &what));
    };
    let nics: Vec<_> = known.nics.into_iter().filter_map(|port| port.nic).collect();
    let why = format!("there is no {what}: NICs of {vm} are {}", nics.join(", "));
    Err(Refused::new(StatusCode::NOT_FOUND, Code::NoSuchNic, why).at("nic"))
}

/// Ports: NICs in the topology's order, then uplinks.
#[utoipa::path(get, tag = "reports", path = "/v1/ports", params(
    ("vm" = Option<String>, Query, description = "only NICs of this VM"),
    ("network" = Option<String>, Query, description = "only ports of this network"),
    ("state" = Option<PortState>, Query, description = "only ports in this state"),
    PageParams,
), responses(
    (status = 200, description = "the answer", body = List<PortRow>),
    Refused,
))]
pub(super) async fn list_ports(reading: Reading, uri: Uri) -> Answered<List<PortRow>> {
    let query = Query::of_list(&uri, &["vm", "network", "state"])?;
    let (page, vm, network) = (query.page()?, query.get("vm"), query.get("network"));
    let state = query.one_of("state", &PortState::ALL.map(|state| (state.text(), state)))?;
    let mut ports = ports::ports(&reading);
    ports.retain(|port| {
        vm.is_none_or(|vm| port.vm.as_deref() == Some(vm))
            && network.is_none_or(|network| port.networks.iter().any(|name| name == network))
            && state.is_none_or(|state| port.state == state)
    });
    page.of(&reading, ports, |port| port.name.clone())
}

/// Uplinks, in the topology's order.
#[utoipa::path(get, tag = "reports", path = "/v1/uplinks", responses(
    (status = 200, description = "the answer", body = List<PortReport>),
    Refused,
))]
pub(super) async fn list_uplinks(reading: Reading, uri: Uri) -> Answered<List<PortReport>> {
    Query::none(&uri)?;
    Ok(reading.list(ports::uplinks(&reading)))
}

/// An uplink: counters, drops by reason, addresses, device.
#[utoipa::path(get, tag = "reports", path = "/v1/uplinks/{uplink}", params(
    ("uplink" = String, Path),
), responses(
    (status = 200, description = "the answer", body = Data<PortReport>),
    Refused,
))]
pub(super) async fn read_uplink(
    reading: Reading,
    path: Names<String>,
    uri: Uri,
) -> Answered<Data<PortReport>> {
    Query::none(&uri)?;
    let Path(name) = path.map_err(bad_path)?;
    if let Some(uplink) = ports::uplink(&reading, &name) {
        return Ok(reading.data(uplink));
    }
    let present = reading.present();
    let known = present
        .topology
        .uplinks
        .iter()
        .map(|uplink| uplink.name.as_str());
    let help = help(&name, known, "GET /v1/uplinks lists all");
    let why = format!("there is no uplink {}: {help}", plain(&name));
    Err(Refused::new(StatusCode::NOT_FOUND, Code::NoSuchUplink, why).at("uplink"))
}

/// Networks, in the topology's order.
#[utoipa::path(get, tag = "reports", path = "/v1/networks", params(PageParams), responses(
    (status = 200, description = "the answer", body = List<NetworkReport>),
    Refused,
))]
pub(super) async fn list_networks(reading: Reading, uri: Uri) -> Answered<List<NetworkReport>> {
    let page = Query::of_list(&uri, &[])?.page()?;
    let networks = networks::networks(&reading);
    page.of(&reading, networks, |network| network.name.clone())
}

/// The MAC table, by network, port and address.
#[utoipa::path(get, tag = "reports", path = "/v1/macs", params(PageParams), responses(
    (status = 200, description = "the answer", body = List<MacReport>),
    Refused,
))]
pub(super) async fn list_macs(reading: Reading, uri: Uri) -> Answered<List<MacReport>> {
    let page = Query::of_list(&uri, &[])?.page()?;
    let (rows, names) = (macs::rows(&reading), reading.present().names.clone());
    // An address may leave the table between two pages, so its place is found by comparison.
    let begin = page.begin(|after| {
        let key = macs::key_of(&names, after)?;
        Some(rows.partition_point(|row| macs::key(row) <= key))
    })?;
    let cursor = |row: &Row| macs::cursor(&names, row);
    Ok(page.list(&reading, rows, begin, cursor, |rows| {
        macs::report(&reading, &names, &rows)
    }))
}

/// The flow table: flows by port, cache hits and misses, evictions.
#[utoipa::path(get, tag = "reports", path = "/v1/flows", responses(
    (status = 200, description = "the answer", body = Data<FlowReport>),
    Refused,
))]
pub(super) async fn read_flows(reading: Reading, uri: Uri) -> Answered<Data<FlowReport>> {
    Query::none(&uri)?;
    Ok(reading.data(flows::flows(&reading)))
}

/// Polling cores, in the topology's order.
#[utoipa::path(get, tag = "reports", path = "/v1/cores", params(
    ("also" = Option<Also>, Query, description = "these too"),
), responses(
    (status = 200, description = "the answer", body = List<CoreReport>),
    Refused,
))]
pub(super) async fn list_cores(reading: Reading, uri: Uri) -> Answered<List<CoreReport>> {
    let query = Query::of(&uri, &["also"])?;
    Ok(match query.one_of("also", &[("gone", Also::Gone)])? {
        None => reading.list(cores::cores(&reading)),
        Some(Also::Gone) => reading.list(cores::cores_and_gone(&reading)),
    })
}

/// Receive queues of ports that are up, by port in the topology's order, with the CPUs that poll
/// them.
#[utoipa::path(get, tag = "reports", path = "/v1/queues", params(PageParams), responses(
    (status = 200, description = "the answer", body = List<RxQueueReport>),
    Refused,
))]
pub(super) async fn list_queues(reading: Reading, uri: Uri) -> Answered<List<RxQueueReport>> {
    let page = Query::of_list(&uri, &[])?.page()?;
    let cursor = |queue: &RxQueueReport| format!("{},{}", queue.port, queue.index);
    page.of(&reading, queues::queues(&reading), cursor)
}

pub(super) fn bad_path(rejection: PathRejection) -> Refused {
    let why = format!("the path can't be read: {rejection}");
    Refused::new(StatusCode::BAD_REQUEST, Code::Malformed, why)
}

/// There is no `what`, since there is no VM of this name.
fn no_vm(sources: &Sources, name: &str, what: &str) -> Refused {
    let present = sources.present();
    let known = present.vms.iter().map(|vm| vm.name.as_str());
    let why = format!("there is no {what}: {}", help_for_vm(name, known));
    Refused::new(StatusCode::NOT_FOUND, Code::NoSuchVm, why).at("vm")
}

/// What to do about a name that no VM has; these have one.
pub(super) fn help_for_vm<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    help(name, known, "GET /v1/vms lists all VMs")
}

fn help<'a>(name: &str, known: impl Iterator<Item = &'a str>, otherwise: &str) -> String {
    match config::nearest(name, known) {
        Some(meant) => format!("did you mean {meant}?"),
        None => otherwise.to_owned(),
    }
}

/// A name as it is, if it can be printed.
fn plain(name: &str) -> String {
    let is_plain = name.len() <= 129 && name.bytes().all(|byte| byte.is_ascii_graphic());
    if is_plain {
        name.to_owned()
    } else {
        shown(name)
    }
}

#[cfg(test)]
#[path = "routes_tests.rs"]
mod tests;
