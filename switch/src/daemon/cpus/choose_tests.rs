//! Which CPUs are chosen, as a function of what the kernel says.

use super::super::host::Cpuset;
use super::*;

fn cores(numbers: &[u16]) -> Vec<CoreId> {
    numbers
        .iter()
        .map(|&number| CoreId::new(number).unwrap())
        .collect()
}

/// A machine of eight CPUs and a process that may use all of them.
fn host() -> Host {
    let all: Vec<_> = (0..8).collect();
    Host {
        started_on: all.clone(),
        granted: all.clone(),
        online: all.clone(),
        present: all,
        isolated: Vec::new(),
        cpuset: None,
    }
}

fn chosen(polled: &[u16], host: &Host) -> (Vec<usize>, Control) {
    let cpus = choose(&cores(polled), host).unwrap();
    (
        cpus.polling.iter().map(|core| core.id).collect(),
        cpus.control,
    )
}

#[test]
fn control_gets_what_polling_leaves() {
    assert_eq!(
        chosen(&[3, 1], &host()),
        (vec![3, 1], Control::Given(vec![0, 2, 4, 5, 6, 7]))
    );
}

#[test]
fn cpus_isolated_for_polling_are_polled_on_and_control_stays_where_the_process_was_started() {
    // As with isolcpus=4-7: every process is started without them.
    let isolated = Host {
        started_on: vec![0, 1, 2, 3],
        isolated: vec![4, 5, 6, 7],
        ..host()
    };
    assert_eq!(
        chosen(&[4, 5], &isolated),
        (vec![4, 5], Control::Given(vec![0, 1, 2, 3]))
    );
    // As with nohz_full=4-7 alone, which no affinity leaves out.
    let tickless = Host {
        isolated: vec![4, 5, 6, 7],
        ..host()
    };
    assert_eq!(
        chosen(&[4], &tickless),
        (vec![4], Control::Given(vec![0, 1, 2, 3]))
    );
}

#[test]
fn control_leaves_the_affinity_only_where_nothing_is_left_in_it() {
    let one = Host {
        started_on: vec![2],
        ..host()
    };
    assert_eq!(chosen(&[3], &one).1, Control::Given(vec![2]));
    assert_eq!(
        chosen(&[2], &one).1,
        Control::Outside(vec![0, 1, 3, 4, 5, 6, 7])
    );
    let among_isolated = Host {
        started_on: vec![6, 7],
        isolated: vec![6, 7],
        ..host()
    };
    assert_eq!(
        chosen(&[6], &among_isolated).1,
        Control::Outside(vec![0, 1, 2, 3, 4, 5])
    );
    let confined = Host {
        granted: vec![6, 7],
        ..among_isolated
    };
    assert_eq!(chosen(&[6], &confined).1, Control::Isolated(vec![7]));
    assert_eq!(chosen(&[6, 7], &confined).1, Control::Shared(vec![6, 7]));
    let others_are_isolated = Host {
        started_on: vec![0],
        isolated: vec![1, 2, 3, 4, 5, 6, 7],
        ..host()
    };
    assert_eq!(
        chosen(&[0], &others_are_isolated).1,
        Control::Shared(vec![0]),
        "what is somebody else's is left alone"
    );
}

#[test]
fn control_never_gets_what_the_kernel_does_not_grant() {
    let host = Host {
        granted: vec![0, 1],
        ..host()
    };
    assert_eq!(chosen(&[0], &host).1, Control::Given(vec![1]));
}

fn refusal(cpu: u16, host: &Host) -> String {
    choose(&cores(&[cpu]), host).unwrap_err()
}

#[test]
fn cpu_that_does_not_exist_is_refused_with_those_that_do() {
    let why = refusal(9, &host());
    assert!(why.contains("no CPU 9") && why.contains("0-7"), "{why}");
}

#[test]
fn cpu_that_is_offline_is_refused_with_the_command_that_brings_it_up() {
    let host = Host {
        granted: vec![0, 1],
        online: vec![0, 1, 2],
        ..host()
    };
    let why = refusal(3, &host);
    assert!(
        why.contains("CPU 3 is offline") && why.contains("cpu3/online"),
        "{why}"
    );
}

#[test]
fn cpuset_is_named_where_it_is_the_reason_and_not_where_it_isnt() {
    let file = "/sys/fs/cgroup/cpuset/machine/cpuset.effective_cpus";
    let cpuset = |cpus: &[usize]| {
        Some(Cpuset {
            file: file.into(),
            cpus: cpus.to_vec(),
        })
    };
    let confined = Host {
        granted: vec![0, 1],
        cpuset: cpuset(&[0, 1]),
        ..host()
    };
    let why = refusal(3, &confined);
    assert!(
        why.contains("CPU 3") && why.contains("CPUs 0-1") && why.contains(file),
        "{why}"
    );
    let why = refusal(
        3,
        &Host {
            cpuset: cpuset(&[0, 1, 2, 3]),
            ..confined.clone()
        },
    );
    assert!(!why.contains(file) && why.contains("0-1 alone"), "{why}");
    let why = refusal(
        3,
        &Host {
            cpuset: None,
            ..confined
        },
    );
    assert!(
        why.contains("CPU 3 is online") && why.contains("0-1 alone"),
        "{why}"
    );
}
