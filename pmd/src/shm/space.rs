//! How much of the process's address space each guest's memory may take.

use std::sync::OnceLock;

/// Bytes that all guests' memory may take together, as far as ports are alike: a quarter of what a
/// process has, half of which is for the moment at which new memory is mapped and the old one has
/// not gone.
const OF_ALL: u64 = 1 << 45;

/// Bytes of memory that the front-end of each of so many ports may share, so that none can use up
/// what others need. Never less than twice the host's memory, whatever the number of ports: no
/// guest that has its memory here is larger.
pub fn bytes_of_a_port(n_ports: usize) -> u64 {
    (OF_ALL / (n_ports as u64).max(1)).max(host_bytes().saturating_mul(2))
}

/// The host's memory; a terabyte where the kernel doesn't tell.
fn host_bytes() -> u64 {
    static N: OnceLock<u64> = OnceLock::new();
    *N.get_or_init(|| {
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        parse(&text).unwrap_or(1 << 40)
    })
}

/// The first line of it: `MemTotal:       24689012 kB`.
fn parse(text: &str) -> Option<u64> {
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let n_kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    n_kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_port_has_its_part_and_a_guest_as_large_as_the_host_has_room() {
        assert_eq!(
            parse("MemFree: 7 kB\nMemTotal:       24689012 kB\n"),
            Some(24_689_012 << 10)
        );
        assert_eq!(parse("MemTotal: much kB"), None);
        for n_ports in [0, 1, 2, 16, 100, 4096] {
            let n_bytes = bytes_of_a_port(n_ports);
            assert!(n_bytes >= 2 * host_bytes(), "{n_ports}");
            let of_all = n_bytes.saturating_mul(n_ports as u64);
            assert!(of_all <= OF_ALL || n_bytes == 2 * host_bytes(), "{n_ports}");
        }
    }
}
