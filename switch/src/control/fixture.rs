//! The state of a switch that nobody polls, for tests and the fuzz target.

use std::path::Path;
use std::sync::{Arc, Mutex};

use config::{NoVmFile, Topology};
use pmd::Cores;
use pmd::control::CoresOptions;
use pmd::stats::CoreCounters;
use pmd::time::Clock;

use super::changes::{Asked, Changed, Changes, NotChanged, Wanted};
use super::limits::Vms;
use super::loads::Loads;
use super::polled::{PolledCpu, PolledCpus};
use super::queue_loads::QueueLoads;
use super::rates::Rates;
use super::sources::{Present, Sources};
use super::version::Started;
use crate::api::change::ChangeReport;
use crate::base::folder::Folder;
use crate::device::port::DevicePort;
use crate::pins::Pins;
use crate::plan::difference::difference;
use crate::plan::ids::Ids;
use crate::plan::names::Names;
use crate::plan::networks::networks;
use crate::plan::ports::ports;
use crate::plan::room::n_macs;
use crate::vhost_user::port::Port;

/// The state of a switch with this topology, all of whose guests are awaited.
pub(crate) fn sources(text: &str) -> Arc<Sources> {
    let topology = config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
    let ids = Ids::of(&topology).expect("enough ids");
    let specs = ports(&topology, &ids);
    let options = CoresOptions {
        n_cores: topology.cores.len(),
        n_ports: topology.ports,
        n_flows: topology.flows,
        n_macs: n_macs(
            specs.iter().map(|port| port.ingress.source),
            topology.networks.len(),
            topology.ports,
        ),
        networks: Arc::new(networks(&topology, &ids, &specs)),
        seeds: [1, 2],
    };
    // The halves that would poll are dropped.
    let (cores, _) = Cores::new(&options).expect("memory for small tables");
    let cores = Arc::new(cores);
    for spec in &specs {
        cores.add_port(&spec.ingress).expect("an id that is free");
    }
    let names = Arc::new(Names {
        ports: ids.port_names(),
        networks: ids.network_names(),
    });
    let vms = Vms::new(&specs);
    vms.limit(&cores);
    // No pin is read or saved.
    let folder = Arc::new(Folder::open(Path::new("/")).expect("a folder of root's"));
    let ingresses = specs.iter().map(|spec| &spec.ingress);
    let macs = cores.macs().clone();
    let pins = Pins::restore(macs, &folder, String::new(), names.clone(), ingresses);
    let guests = specs.iter().filter_map(Port::new);
    let devices = specs.iter().filter_map(DevicePort::new);
    let cpus = topology.cores.iter().map(|core| core.index()).enumerate();
    let polled = cpus.map(|(core, cpu)| PolledCpu::new(cpu, core, CoreCounters::default()));
    let present = Present {
        number: 1,
        ports: guests.map(Arc::new).collect(),
        devices: devices.map(Arc::new).collect(),
        names,
        cores: PolledCpus::default().next(polled, &[]),
        vms,
        topology: Arc::new(topology),
    };
    Arc::new(Sources {
        pins: Arc::new(pins),
        cores,
        rates: Rates::default(),
        loads: Loads::default(),
        queue_loads: QueueLoads::default(),
        clock: Clock::calibrate(),
        started: Started::now(),
        present: Mutex::new(Arc::new(present)),
    })
}

/// `n` VMs of one NIC each, on two networks, and an uplink.
pub(crate) fn topology(n: usize) -> String {
    use std::fmt::Write;
    let mut text =
        "cores: [0]\nflows: 1024\nports: 512\nuplinks: { up0: { device: eth1 } }\nnetworks: { \
        blue: { uplink: up0, vlan: 100 }, red: {} }\nvms:\n"
            .to_owned();
    for vm in 0..n {
        let network = ["blue", "red"][vm % 2];
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "  vm{vm}: {{ limit: {{ from-vm: {{ rate: 1gbit }} }}, nics: {{ net0: {{ network: \
            {network}, vhost-user: {{ path: /run/weir/vm{vm}.sock }} }} }} }}"
        );
    }
    text
}

/// `n` VMs of two NICs each, and an uplink.
#[cfg(test)]
pub(crate) fn two_nics_each(n: usize) -> String {
    use std::fmt::Write;
    let mut text = format!(
        "cores: [0]\nflows: 1024\nports: {}\nuplinks: {{ up0: {{ device: eth1 }} }}\nnetworks: {{ \
        blue: {{ uplink: up0 }}, red: {{}} }}\nvms:\n",
        2 * n + 16
    );
    for vm in 0..n {
        let nic = |nic, network| {
            let path = format!("/run/weir/vm{vm}-{nic}.sock");
            format!("{nic}: {{ network: {network}, vhost-user: {{ path: {path} }} }}")
        };
        let nics = [nic("net0", "blue"), nic("net1", "red")].join(", ");
        // Writing to a string can't fail.
        let _ = writeln!(
            text,
            "  vm{vm}: {{ limit: {{ from-vm: {{ rate: 1gbit }} }}, nics: {{ {nics} }} }}"
        );
    }
    text
}

/// Checks what is asked against a topology, and changes nothing.
#[derive(Debug)]
struct Checks(Topology);

/// What a switch with this topology says of changes that nobody makes.
pub(crate) fn changes(text: &str) -> Arc<dyn Changes> {
    let topology = config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
    Arc::new(Checks(topology))
}

impl Changes for Checks {
    fn change(&self, asked: &Asked) -> Result<Changed, NotChanged> {
        let Self(running) = self;
        match asked.topology {
            Some(expected) if expected != 1 => {
                return Err(NotChanged::Topology { expected, found: 1 });
            }
            _ => {}
        }
        let file = Path::new("vms.d/vm.yaml");
        let known = |name: &str| running.vms.iter().any(|vm| vm.name == name);
        let wanted = match &asked.wanted {
            Wanted::Reload => running.clone(),
            Wanted::Vm { name, is_new, .. } if *is_new && known(name) => {
                return Err(NotChanged::VmExists { name: name.clone() });
            }
            Wanted::Vm { name, body, .. } => {
                if let Err(why @ NoVmFile::NoName { .. }) = running.vm_file(name) {
                    return Err(NotChanged::NoFile(why));
                }
                let written = running.with_vm(name, body, "request", file);
                written.map_err(NotChanged::Mistakes)?.topology
            }
            Wanted::Limit { name, body } => {
                let written = running.with_limit(name, body, "request", file);
                let written = written.ok_or_else(|| NotChanged::no_vm(name, running))?;
                written.map_err(NotChanged::Mistakes)?.topology
            }
            Wanted::NoVm { name } => running
                .without_vm(name)
                .ok_or_else(|| NotChanged::no_vm(name, running))?,
        };
        let report = ChangeReport {
            is_dry_run: asked.is_dry_run,
            difference: difference(running, &wanted),
            pending: Vec::new(),
        };
        Ok(Changed {
            topology: 1,
            report,
        })
    }
}

/// Answers of a switch with this topology that nobody polls, and that changes nothing.
pub(crate) fn router(text: &str) -> axum::Router {
    super::server::router(sources(text), changes(text))
}
