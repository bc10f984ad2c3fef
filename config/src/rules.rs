//! Checks a NIC's `rules`.
//!
//! A rule that can't match because an earlier one covers it is a mistake; its message names that
//! rule and its line.

use std::net::IpAddr;

use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};

use crate::address;
use crate::context::Mistakes;
use crate::diagnostics::{At, shown};
use crate::nearest::nearest;
use crate::node::{Node, Value};
use crate::scalar;

/// Rules of one NIC; each new flow is matched against all of them.
const RULES_MAX: usize = 256;
/// Ports and ranges of one rule.
const RANGES_MAX: usize = 64;

/// The rules, in order. None: `mistakes` says why.
pub(crate) fn rules(node: &Node, mistakes: &mut Mistakes) -> Option<Vec<Rule>> {
    let items = node.items()?;
    let mut check = RuleCheck { mistakes };
    let mut found: Vec<(Rule, At)> = Vec::new();
    let mut is_sound = true;
    for item in items {
        match check.item(item) {
            Some(rules) => found.extend(rules.into_iter().map(|rule| (rule, item.at))),
            None => is_sound = false,
        }
    }
    if let Some((_, at)) = found.get(RULES_MAX) {
        return check.wrong(
            *at,
            format!("more than {RULES_MAX} rules"),
            "put several ports into one rule, or several addresses into one `cidr`",
        );
    }
    for k in 0..found.len() {
        let (earlier, [later, ..]) = found.split_at(k) else {
            continue;
        };
        is_sound &= check.is_reached(later, earlier);
    }
    is_sound.then(|| found.into_iter().map(|(rule, _)| rule).collect())
}

struct RuleCheck<'m> {
    mistakes: &'m mut Mistakes,
}

impl RuleCheck<'_> {
    /// An item of the list is one rule, or one for each direction.
    fn item(&mut self, item: &Node) -> Option<Vec<Rule>> {
        if !item.is_map() {
            return None;
        }
        let (verdict, node) = match (item.get("allow"), item.get("deny")) {
            (Some(node), None) => (Verdict::Allow, node),
            (None, Some(node)) => (Verdict::Deny, node),
            (None, None) => {
                let help = "write what it does, as in `deny: { to-vm: { proto: tcp, port: 25 } }`";
                return self.wrong(item.at, "a rule that neither allows nor denies", help);
            }
            (Some(_), Some(_)) => {
                let help = "make two rules of it, in the order in which they are to be checked: \
                    the first match decides";
                return self.wrong(item.at, "a rule that allows and denies", help);
            }
        };
        if !node.is_map() {
            return None;
        }
        let directions = [("from-vm", Direction::FromVm), ("to-vm", Direction::ToVm)];
        let directed: Vec<_> = directions
            .into_iter()
            .filter_map(|(key, direction)| Some((direction, node.get(key)?)))
            .collect();
        if directed.is_empty() {
            let help = "write `from-vm` or `to-vm` below it, as in `deny: { to-vm: { proto: tcp, \
                port: 25 } }`";
            return self.wrong(node.at, "a rule without a direction", help);
        }
        let rules: Vec<_> = directed
            .iter()
            .map(|(direction, node)| self.rule(verdict, *direction, node))
            .collect();
        rules.into_iter().collect()
    }

    fn rule(&mut self, verdict: Verdict, direction: Direction, node: &Node) -> Option<Rule> {
        if !node.is_map() {
            return None;
        }
        let proto = match node.get("proto") {
            None => Some(Proto::Ip),
            Some(node) => self.proto(node),
        };
        let cidr = match node.get("cidr") {
            None => Some(None),
            Some(node) => scalar::read(node, address::cidr, self.mistakes).map(Some),
        };
        let ports = self.numbers(node.get("port"), "port", u16::MAX);
        let types = self.numbers(node.get("icmp-type"), "icmp-type", u16::from(u8::MAX));
        let proto = proto?;
        let fits_proto = [
            self.fit_numbers(node, proto),
            self.fit_cidr(node, proto, cidr.flatten()),
        ];
        let numbers = [ports?, types?].concat();
        let rule = Rule {
            verdict,
            direction,
            proto,
            cidr: cidr?,
            numbers,
        };
        fits_proto.iter().all(|&fits| fits).then_some(rule)
    }

    fn proto(&mut self, node: &Node) -> Option<Proto> {
        let text = node.text()?;
        if let Some((_, proto)) = Proto::NAMED.iter().find(|(name, _)| *name == text) {
            return Some(*proto);
        }
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let number = scalar::number(node, "proto", 0..=u64::from(u8::MAX), self.mistakes)?;
            return u8::try_from(number).ok().map(Proto::of_number);
        }
        let names = || Proto::NAMED.iter().map(|(name, _)| *name);
        let help = match nearest(text, names()) {
            _ if ["ip", "any", "all"].contains(&text) => {
                "leave `proto` out: the rule then matches all IP".to_owned()
            }
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!(
                "write one of {}, or the IP protocol's number",
                names().collect::<Vec<_>>().join(", ")
            ),
        };
        self.wrong(
            node.at,
            format!("there is no protocol `{}`", shown(text)),
            help,
        )
    }

    /// Ports or ICMP types: a number, a range, or a list of both. Sorted; adjacent ranges are
    /// joined.
    fn numbers(&mut self, node: Option<&Node>, key: &str, max: u16) -> Option<Vec<(u16, u16)>> {
        let Some(node) = node else {
            return Some(Vec::new());
        };
        let items = match &node.value {
            Value::List(items) => items.as_slice(),
            Value::Text { .. } => std::slice::from_ref(node),
            _ => return None,
        };
        if items.is_empty() {
            return self.wrong(
                node.at,
                format!("`{key}` is an empty list"),
                format!("write one, or leave `{key}` out"),
            );
        }
        if items.len() > RANGES_MAX {
            let message = format!("more than {RANGES_MAX} values in one `{key}`");
            return self.wrong(
                items[RANGES_MAX].at,
                message,
                "make another rule for the rest",
            );
        }
        let ranges: Vec<_> = items
            .iter()
            .map(|item| Some((self.range(item, key, max)?, item.at)))
            .collect();
        let mut ranges = ranges.into_iter().collect::<Option<Vec<_>>>()?;
        ranges.sort_by_key(|((first, _), at)| (*first, at.line, at.column));
        let mut joined: Vec<(u16, u16)> = Vec::new();
        for ((first, last), at) in ranges {
            match joined.last_mut() {
                Some(before) if first <= before.1 => {
                    return self.wrong(
                        at,
                        format!("`{key}` {first} is in the list twice"),
                        "remove one of them",
                    );
                }
                Some(before) if first == before.1 + 1 => before.1 = last,
                _ => joined.push((first, last)),
            }
        }
        Some(joined)
    }

    fn range(&mut self, node: &Node, key: &str, max: u16) -> Option<(u16, u16)> {
        let text = node.text()?;
        let number = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit())
                && (text == "0" || !text.starts_with('0'));
            text.parse().ok().filter(|&n| is_plain && n <= max)
        };
        let ends = match text.split_once('-') {
            None => number(text).map(|n| (n, n)),
            Some((first, last)) => number(first).zip(number(last)),
        };
        match ends {
            Some((first, last)) if first > last => {
                let message = format!("`{key}` runs backwards: {first}-{last}");
                self.wrong(node.at, message, format!("write {last}-{first}"))
            }
            Some(ends) => Some(ends),
            None => {
                let message = format!("`{key}` can't be `{}`", shown(text));
                let help = format!(
                    "write numbers up to {max}, as in `{key}: 8`, `{key}: 8-15` or `{key}: [8, \
                    10-12]`"
                );
                self.wrong(node.at, message, help)
            }
        }
    }

    /// Whether `port` and `icmp-type` belong to the protocol.
    fn fit_numbers(&mut self, node: &Node, proto: Proto) -> bool {
        let mut fits = true;
        if let Some(port) = node.get("port").filter(|_| !proto.has_ports()) {
            let help = "write `proto: tcp`, `udp` or `sctp` beside it, or remove `port`";
            self.mistakes
                .add(port.at, "`port` without a protocol that has ports", help);
            fits = false;
        }
        if let Some(icmp) = node.get("icmp-type").filter(|_| !proto.has_types()) {
            let help = "write `proto: icmp` (IPv4) or `proto: icmp6` (IPv6) beside it, or remove \
                `icmp-type`";
            self.mistakes.add(icmp.at, "`icmp-type` without ICMP", help);
            fits = false;
        }
        fits
    }

    /// Whether `cidr` is of the protocol's address family.
    fn fit_cidr(&mut self, node: &Node, proto: Proto, cidr: Option<Cidr>) -> bool {
        let Some(cidr_node) = node.get("cidr") else {
            return true;
        };
        if !proto.has_addresses() {
            let help = "remove `cidr`: only IPv4 and IPv6 are told apart by addresses";
            self.mistakes.add(
                cidr_node.at,
                "`cidr` beside a protocol without IP addresses",
                help,
            );
            return false;
        }
        let (message, help) = match (proto, cidr.map(|cidr| cidr.addr)) {
            (Proto::Icmp, Some(IpAddr::V6(_))) => (
                "IPv6 addresses beside ICMP of IPv4",
                "did you mean `proto: icmp6`?",
            ),
            (Proto::Icmp6, Some(IpAddr::V4(_))) => (
                "IPv4 addresses beside ICMP of IPv6",
                "did you mean `proto: icmp`?",
            ),
            _ => return true,
        };
        self.mistakes.add(cidr_node.at, message, help);
        false
    }

    /// Whether the rule can match: no earlier one covers it.
    fn is_reached(&mut self, (rule, at): &(Rule, At), earlier: &[(Rule, At)]) -> bool {
        let Some((first, first_at)) = earlier.iter().find(|(earlier, _)| earlier.covers(rule))
        else {
            return true;
        };
        let place = self.mistakes.place(*first_at, *at);
        let done = if first.verdict == Verdict::Allow {
            "allows"
        } else {
            "denies"
        };
        let message = format!(
            "this rule is never reached: the one {place} {done} all that it matches (`{first}`)"
        );
        let help = if first.verdict == rule.verdict {
            "remove it"
        } else {
            "move it above that one if it is an exception to it, else remove it"
        };
        self.mistakes.add(*at, message, help);
        false
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
