//! Checks a VM's `limit`.
//!
//! Refuses limits that a core could not enforce and those without effect. Bounds equal those of
//! `pmd::rate`, which a scenario checks.

use crate::context::Mistakes;
use crate::diagnostics::At;
use crate::node::{Node, Value};
use crate::scalar::{self, optional};
use crate::topology::{Limit, VmLimit};
use crate::units::{BitsPerSec, Bytes, Micros, PacketsPerSec};

/// Bits a second.
const RATE_MIN: u64 = 10_000;
const RATE_MAX: u64 = 400_000_000_000;
/// Packets a second.
const PACKETS_MAX: u64 = 1_000_000_000;
/// Bytes.
const BURST_MAX: u64 = 1 << 30;
/// A burst is at least the rate's bytes in this part of a second (250 us): a core may poll a queue
/// no more often.
const BURSTS_PER_SEC_MAX: u64 = 4_000;
/// How long frames to a VM over its limit may be queued, in microseconds.
const QUEUE_MIN: u64 = 1_000;
const QUEUE_MAX: u64 = 1_000_000;
const QUEUE_DEFAULT: u64 = 20_000;
/// Bytes.
const ETHERNET_LEN: u64 = 14;

/// Checks the `limit` of a VM. `mtu`: the largest of its networks. None: `mistakes` says why.
pub(crate) fn vm_limit(node: Option<&Node>, mtu: u16, mistakes: &mut Mistakes) -> Option<VmLimit> {
    let Some(node) = node else {
        return Some(VmLimit::default());
    };
    let mut check = LimitCheck { mistakes, mtu };
    // Where there are other keys, `walk` has reported them.
    if has_only(node, &[]) {
        return check.wrong(
            node.at,
            "this limits nothing",
            "write `from-vm` or `to-vm` below it, or remove `limit`",
        );
    }
    let from_vm = optional(node.get("from-vm"), None, |node| {
        check.limit(node, None).map(Some)
    });
    let queue = Micros::new(QUEUE_DEFAULT);
    let to_vm = optional(node.get("to-vm"), None, |node| {
        check.limit(node, queue).map(Some)
    });
    Some(VmLimit {
        from_vm: from_vm?,
        to_vm: to_vm?,
    })
}

/// Whether it is a mapping without other keys.
fn has_only(node: &Node, keys: &[&str]) -> bool {
    node.entries()
        .is_some_and(|mut entries| entries.all(|(key, ..)| keys.contains(&key)))
}

struct LimitCheck<'a> {
    mistakes: &'a mut Mistakes,
    mtu: u16,
}

impl LimitCheck<'_> {
    /// `queue`: the default; None where the key does not exist.
    fn limit(&mut self, node: &Node, queue: Option<Micros>) -> Option<Limit> {
        if !node.is_map() {
            return None;
        }
        if has_only(node, &["burst", "queue"]) {
            let help = "write `rate` or `packets`, as in `{ rate: 1gbit, packets: 200kpps }`, or \
                remove the key";
            return self.wrong(node.at, "this limits nothing", help);
        }
        let rate = optional(node.get("rate"), None, |node| self.rate(node).map(Some));
        let packets = optional(node.get("packets"), None, |node| {
            self.packets(node).map(Some)
        });
        let rate_known = rate.flatten().map(BitsPerSec::value);
        let has_rate = node.get("rate").is_some();
        let burst = optional(node.get("burst"), None, |node| {
            self.burst(node, has_rate, rate_known).map(Some)
        });
        let queue = optional(
            node.get("queue").filter(|_| queue.is_some()),
            queue,
            |node| self.queue(node),
        );
        Some(Limit {
            rate: rate?,
            packets: packets?,
            burst: burst?,
            queue: queue?,
        })
    }

    fn queue(&mut self, node: &Node) -> Option<Option<Micros>> {
        if matches!(&node.value, Value::Text { text, .. } if text == "none") {
            return Some(None);
        }
        let time = scalar::parsed::<Micros>(node, self.mistakes)?;
        match time.value() {
            ..QUEUE_MIN => {
                let help =
                    "write at least `1ms`, or `none` for what is over the limit to be dropped";
                self.wrong(
                    node.at,
                    format!("a queue of {time} is too short to hold anything"),
                    help,
                )
            }
            QUEUE_MIN..=QUEUE_MAX => Some(Some(time)),
            _ => self.wrong(
                node.at,
                format!("a queue of {time} is too long"),
                "write at most `1s`",
            ),
        }
    }

    fn rate(&mut self, node: &Node) -> Option<BitsPerSec> {
        let rate = scalar::parsed::<BitsPerSec>(node, self.mistakes)?;
        match rate.value() {
            ..RATE_MIN => self.wrong(
                node.at,
                format!("a rate of {rate} is too low to be kept to"),
                "write at least `10kbit`",
            ),
            RATE_MIN..=RATE_MAX => Some(rate),
            _ => self.wrong(
                node.at,
                format!("a rate of {rate} is more than can be kept to"),
                "write at most `400gbit`, or leave `rate` out for no limit",
            ),
        }
    }

    fn packets(&mut self, node: &Node) -> Option<PacketsPerSec> {
        let packets = scalar::parsed::<PacketsPerSec>(node, self.mistakes)?;
        if packets.value() <= PACKETS_MAX {
            return Some(packets);
        }
        let help = "write at most `1000mpps`, or leave `packets` out for no limit";
        self.wrong(
            node.at,
            format!("{packets} are more than can be kept to"),
            help,
        )
    }

    /// `rate`: the limit's rate, if it has no mistakes.
    fn burst(&mut self, node: &Node, has_rate: bool, rate: Option<u64>) -> Option<Bytes> {
        let burst = scalar::parsed::<Bytes>(node, self.mistakes)?;
        if !has_rate {
            return self.wrong(
                node.at,
                "`burst` does nothing without a `rate`",
                "add `rate`, or remove `burst`",
            );
        }
        let frame = u64::from(self.mtu) + ETHERNET_LEN;
        if burst.value() < frame {
            let message = format!(
                "a burst of {burst} is smaller than one frame of {frame} bytes (MTU {})",
                self.mtu
            );
            return self.wrong(
                node.at,
                message,
                format!("write at least `{frame}B`, or leave `burst` out"),
            );
        }
        let least = rate.map_or(0, |rate| rate / 8 / BURSTS_PER_SEC_MAX);
        if burst.value() < least {
            let message = format!(
                "a burst of {burst} is too small for this rate: it would be used up between two \
                polls"
            );
            return self.wrong(
                node.at,
                message,
                format!("write at least `{least}B`, or leave `burst` out"),
            );
        }
        if burst.value() > BURST_MAX {
            return self.wrong(
                node.at,
                format!("a burst of {burst} is too large"),
                "write at most `1024MiB`",
            );
        }
        Some(burst)
    }

    fn wrong<T>(
        &mut self,
        at: At,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Option<T> {
        self.mistakes.add(at, message, help);
        None
    }
}
