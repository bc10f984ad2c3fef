//! NICs' rules, compiled for the cores.

use std::sync::Arc;

use flowtable::Policy;

use super::ports::PortSpec;

/// The rules of every port, by its id; an id that no port has, has none. `ports`: in the order of
/// ids.
pub(crate) fn policies(ports: &[PortSpec]) -> Vec<Option<Arc<Policy>>> {
    let n_ids = ports.last().map_or(0, |port| usize::from(port.id()) + 1);
    let mut policies = vec![None; n_ids];
    for port in ports.iter().filter(|port| !port.rules.is_empty()) {
        if let Some(place) = policies.get_mut(usize::from(port.id())) {
            *place = Some(Arc::new(Policy::new(&port.rules)));
        }
    }
    policies
}

#[cfg(test)]
mod tests {
    use flowtable::rules::rule::{Cidr, Direction, Proto, Rule, Verdict};

    use super::super::ports::tests::planned;
    use super::*;

    #[test]
    fn rule_of_the_file_is_the_rule_that_is_asked() {
        let text = r#"
cores: [0]
networks: { b: {} }
vms:
  a:
    nics:
      n0: { network: b, vhost-user: { path: /a } }
      n1:
        network: b
        vhost-user: { path: /b }
        rules:
          - deny: { to-vm: { proto: udp, port: 53-54, cidr: 10.0.0.0/8 } }
          - allow: { from-vm: { proto: icmp6 } }
          - deny: { from-vm: { proto: non-ip } }
"#;
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
            policies(&planned(&topology)),
            [None, Some(Arc::new(Policy::new(&expected)))]
        );
    }
}
