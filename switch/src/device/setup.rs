//! Sets a device up for the switch, and restores it: promiscuous, without offloads that hide what
//! was on the wire, with the topology's number of queues.

use std::io;
use std::sync::Arc;

use pmd::sys::link::{Channels, Ethtool, Feature, Promiscuous};
use tracing::warn;

use super::channels;
use super::netlink::link::Device;
use super::offloads::{OFF, OFF_IN_SKB_MODE};
use super::restore::SavedState;
use crate::base::folder::Folder;

/// A device that is set up; restored on drop. Promiscuous mode ends with the process at the latest,
/// the rest is saved for the next start.
#[derive(Debug)]
pub(crate) struct Prepared {
    ethtool: Ethtool,
    /// None once it is restored.
    saved: Option<SavedState>,
    device: String,
    _promiscuous: Promiscuous,
    /// The driver's name; empty: unknown.
    pub(crate) driver: String,
    /// Queues to serve.
    pub(crate) n_queues: u32,
    /// What could not be done, for the operator.
    pub(crate) remarks: Vec<String>,
}

impl Prepared {
    /// Sets the device up, after saving its state in the run directory.
    ///
    /// # Errors
    /// A sentence; the device is as it was before.
    pub(crate) fn prepare(
        run_dir: &Arc<Folder>,
        device: &Device,
        queues: Option<u16>,
    ) -> Result<Self, String> {
        let name = device.name.as_str();
        let ethtool =
            Ethtool::new().map_err(|e| format!("cannot ask {name} for its offloads: {e}"))?;
        let promiscuous = Promiscuous::make(device.index).map_err(|e| not_promiscuous(name, &e))?;
        let mut prepared = Self {
            driver: ethtool.driver(name).unwrap_or_default(),
            ethtool,
            saved: Some(SavedState::new(run_dir, device)),
            device: name.to_owned(),
            _promiscuous: promiscuous,
            n_queues: 1,
            remarks: Vec::new(),
        };
        prepared.provide_queues(device, queues)?;
        prepared.switch_off(OFF)?;
        Ok(prepared)
    }

    /// Sets up what skb mode needs beyond that.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn prepare_skb_mode(&mut self) -> Result<(), String> {
        self.switch_off(OFF_IN_SKB_MODE)
    }

    fn switch_off(&mut self, names: &[&str]) -> Result<(), String> {
        let features = self.features()?;
        let is_on = |feature: &&Feature| {
            names.contains(&feature.name.as_str()) && feature.is_wanted && feature.is_settable
        };
        let to_change: Vec<_> = features
            .iter()
            .filter(is_on)
            .map(|feature| feature.name.clone())
            .collect();
        if !to_change.is_empty() {
            if let Some(saved) = &mut self.saved {
                saved.save_features(to_change.iter().cloned())?;
            }
            let changes: Vec<_> = to_change
                .iter()
                .map(|name| (name.as_str(), false))
                .collect();
            let done = self.ethtool.set_features(&self.device, &changes);
            done.map_err(|e| {
                not_permitted(
                    &format!(
                        "cannot switch {} of {} off",
                        to_change.join(", "),
                        self.device
                    ),
                    &e,
                )
            })?;
        }
        // Fixed by the driver: frames will differ from those on the wire.
        let left: Vec<_> = self
            .features()?
            .into_iter()
            .filter(|feature| feature.is_active && names.contains(&feature.name.as_str()))
            .collect();
        self.remarks.extend(
            left.iter().map(|feature| {
                format!("{} of {} can't be switched off", feature.name, self.device)
            }),
        );
        Ok(())
    }

    fn features(&self) -> Result<Vec<Feature>, String> {
        self.ethtool
            .features(&self.device)
            .map_err(|e| format!("cannot ask {} for its offloads: {e}", self.device))
    }

    fn provide_queues(&mut self, device: &Device, queues: Option<u16>) -> Result<(), String> {
        let now = match self.ethtool.channels(&self.device) {
            Ok(now) => now,
            // A driver without channels has one queue.
            Err(_) => Channels {
                rx: 1,
                tx: 1,
                rx_max: 1,
                tx_max: 1,
                ..Channels::default()
            },
        };
        let wanted = channels::wanted(&device.name, &now, queues)?;
        self.n_queues = channels::count(&wanted);
        if wanted == now {
            return Ok(());
        }
        if let Some(saved) = &mut self.saved {
            saved.save_channels(&now)?;
        }
        let set = self.ethtool.set_channels(&self.device, &wanted);
        set.map_err(|e| {
            not_permitted(
                &format!("cannot give {} {} queues", self.device, self.n_queues),
                &e,
            )
        })
    }
}

impl Drop for Prepared {
    /// Restores the device.
    fn drop(&mut self) {
        if let Some(Err(why)) = self.saved.take().map(SavedState::restore) {
            warn!("{why}");
        }
    }
}

fn not_promiscuous(device: &str, error: &io::Error) -> String {
    not_permitted(
        &format!("cannot make {device} take frames to any address"),
        error,
    )
}

fn not_permitted(what: &str, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{what}: not permitted; {}", super::capabilities::HELP)
        }
        _ => format!("{what}: {error}"),
    }
}
