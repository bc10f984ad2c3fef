//! What every core knows of a port that is up.

use std::sync::Arc;

use flowtable::{DropReason, Ingress};

use super::lock::TxLock;
use super::txq::{TxKind, TxQueue};
use crate::limit::flood_budget::FloodBudget;
use crate::limit::{Limit, VmLimits, VmQueue};
use crate::time::Nanos;

/// What every core knows of a port that is up. Immutable but for the queues behind their locks;
/// replaced as a whole.
#[derive(Debug)]
pub struct PortView {
    /// What decisions about its frames need.
    pub ingress: Ingress,
    /// Its transmit queues.
    pub(crate) txqs: Arc<Vec<TxLock>>,
    /// What its floods may copy.
    pub(crate) copies: Arc<FloodBudget>,
    /// Those of its VM, if it has any.
    limits: Option<Arc<VmLimits>>,
    /// Which of its transmit queues frames go to is up to the receive queue that they came in by,
    /// so that cores rarely meet; else a flow decides.
    pub(crate) is_by_sender: bool,
    /// What a frame is dropped for that could not wait for room.
    pub(crate) reason_full: DropReason,
}

impl PortView {
    /// With all the queues that the guest has enabled, or the device has.
    pub(crate) fn new(
        ingress: Ingress,
        mut txqs: Vec<TxQueue>,
        limits: Option<Arc<VmLimits>>,
        copies: Arc<FloodBudget>,
    ) -> Self {
        let mut is_device = false;
        for txq in &mut txqs {
            if let TxKind::AfXdp(queue) = &mut txq.kind {
                // Whoever knew that it has to be flushed let go of it.
                queue.forget_flush();
                is_device = true;
            }
        }
        let reason_full = if is_device {
            DropReason::UplinkFull
        } else {
            DropReason::ReceiverFull
        };
        let txqs = Arc::new(txqs.into_iter().map(TxLock::new).collect());
        Self {
            ingress,
            txqs,
            copies,
            limits,
            is_by_sender: is_device,
            reason_full,
        }
    }

    /// The same port with the same queues, which has changed otherwise.
    pub(crate) fn renewed(
        before: &PortView,
        ingress: Ingress,
        limits: Option<Arc<VmLimits>>,
        copies: Arc<FloodBudget>,
    ) -> Self {
        Self {
            ingress,
            txqs: before.txqs.clone(),
            copies,
            limits,
            ..*before
        }
    }

    /// The limit on what its VM gets.
    #[inline(always)]
    pub(crate) fn to_vm(&self) -> Option<&Limit> {
        self.limits.as_ref()?.to_vm()
    }

    /// What is held at that limit; none: what is over it is dropped.
    #[inline(always)]
    pub(crate) fn limit_queue(&self) -> Option<&VmQueue> {
        self.limits.as_ref()?.queue()
    }

    /// Whether a flood's copy of so many bytes may pass although there is no allowance.
    #[cold]
    pub(crate) fn may_pass_ahead(&self, now: Nanos, n_bytes: u32) -> bool {
        self.limit_queue()
            .is_some_and(|queue| queue.may_pass_ahead(now, n_bytes))
    }

    /// Those of its VM, if it has any.
    pub(crate) fn limits(&self) -> Option<&Arc<VmLimits>> {
        self.limits.as_ref()
    }
}
