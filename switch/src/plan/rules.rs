//! A NIC's rules, from the topology's values to what cores decide by.

use std::sync::Arc;

use flowtable::Policy;
use flowtable::rules::policy::{Cidr, Direction, Proto, Rule, Verdict};

use super::ports::PortSpec;

/// The rules of every port, by its id.
pub(crate) fn policies(ports: &[PortSpec]) -> Vec<Option<Arc<Policy>>> {
    let policy = |port: &PortSpec| {
        let rules: Vec<Rule> = port.rules.iter().map(rule).collect();
        (!rules.is_empty()).then(|| Arc::new(Policy::new(&rules)))
    };
    ports.iter().map(policy).collect()
}

fn rule(rule: &config::Rule) -> Rule {
    Rule {
        direction: match rule.direction {
            config::Direction::FromVm => Direction::FromVm,
            config::Direction::ToVm => Direction::ToVm,
        },
        verdict: match rule.verdict {
            config::Verdict::Allow => Verdict::Allow,
            config::Verdict::Deny => Verdict::Deny,
        },
        proto: match rule.proto {
            config::Proto::Ip => Proto::Ip,
            config::Proto::Number(number) => Proto::Number(number),
            config::Proto::Icmp => Proto::Icmp,
            config::Proto::Icmp6 => Proto::Icmp6,
            config::Proto::Arp => Proto::Arp,
            config::Proto::NonIp => Proto::NonIp,
        },
        cidr: rule
            .cidr
            .map(|config::Cidr { addr, len }| Cidr { addr, len }),
        numbers: rule.numbers.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ports::ports;
    use super::*;

    #[test]
    fn rule_of_the_file_is_the_rule_that_is_asked() {
        let text = "cores: [0]\nnetworks: { b: {} }\nvms:\n  a:\n    nics:\n      \
                    n0: { network: b, vhost-user: { path: /a } }\n      \
                    n1: { network: b, vhost-user: { path: /b }, rules: [ { deny: { to-vm: { proto: \
                    udp, port: 53-54, cidr: 10.0.0.0/8 } } }, \
                    { allow: { from-vm: { proto: icmp6 } } }, { deny: { from-vm: { proto: non-ip } \
                    } } ] }\n";
        let topology = config::parse(text, "weir.yaml").unwrap_or_else(|report| panic!("{report}"));
        let direction = Direction::FromVm;
        let (cidr, numbers) = (None, Vec::new());
        let expected = [
            Rule {
                direction: Direction::ToVm,
                verdict: Verdict::Deny,
                proto: Proto::Number(17),
                cidr: Some(Cidr {
                    addr: [10, 0, 0, 0].into(),
                    len: 8,
                }),
                numbers: vec![(53, 54)],
            },
            Rule {
                direction,
                verdict: Verdict::Allow,
                proto: Proto::Icmp6,
                cidr,
                numbers: numbers.clone(),
            },
            Rule {
                direction,
                verdict: Verdict::Deny,
                proto: Proto::NonIp,
                cidr,
                numbers,
            },
        ];
        assert_eq!(
            policies(&ports(&topology)),
            [None, Some(Arc::new(Policy::new(&expected)))]
        );
    }
}
