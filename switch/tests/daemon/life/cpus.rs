//! Which CPUs are polled on, and which threads may run there.

use super::*;

#[test]
fn cpu_that_is_not_there_is_refused_with_those_that_are() {
    let why = refusal(&topology(&["a"], "weir").replace("[CPU]", "[1000]"));
    assert!(why.contains("no CPU 1000"), "{why}");
}

/// Name and affinity of each of its threads.
fn threads(daemon: &Daemon) -> Vec<(String, String)> {
    let tasks = fs::read_dir(format!("/proc/{}/task", daemon.pid().as_raw_nonzero())).unwrap();
    let of = |task: fs::DirEntry| {
        let status = fs::read_to_string(task.path().join("status")).unwrap();
        let field = |name: &str| {
            let value = status.lines().find_map(|line| line.strip_prefix(name));
            value.unwrap().trim().to_owned()
        };
        (field("Name:"), field("Cpus_allowed_list:"))
    };
    tasks.map(|task| of(task.unwrap())).collect()
}

#[test]
fn polling_thread_has_its_cpu_and_the_others_leave_it_alone() {
    let daemon = Daemon::start(&topology(&["a"], "weir"));
    let n_cpus = core_affinity::get_core_ids().unwrap().len();
    for (name, allowed) in threads(&daemon) {
        let has_polled_cpu = allowed.split(',').any(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            (first.parse().unwrap()..=last.parse().unwrap()).contains(&cpu())
        });
        if name.starts_with("poll-") {
            assert_eq!(allowed, cpu().to_string(), "{name}");
        } else if n_cpus > 1 {
            assert!(!has_polled_cpu, "{name} may run on {allowed}");
        }
    }
}

/// The polling thread's affinity, and that of every other one.
fn affinities(daemon: &Daemon) -> (String, Vec<String>) {
    let (polling, others): (Vec<_>, Vec<_>) = threads(daemon)
        .into_iter()
        .partition(|(name, _)| name.starts_with("poll-"));
    let cpus = |threads: Vec<(String, String)>| threads.into_iter().map(|(_, cpus)| cpus);
    (
        cpus(polling).next_back().unwrap_or_default(),
        cpus(others).collect(),
    )
}

/// As under `isolcpus`, where no process is started on the CPUs that are meant for polling.
#[test]
fn cpu_that_the_affinity_leaves_out_is_polled_on() {
    let cpus = core_affinity::get_core_ids().unwrap();
    let [first, .., last] = &cpus[..] else {
        assert!(
            std::env::var("CI").as_deref() != Ok("true"),
            "in CI nothing may be skipped: there is but one CPU"
        );
        return eprintln!("NOT TESTED: there is but one CPU");
    };
    let mut confined = std::process::Command::new("taskset");
    confined.args(["-c", &first.id.to_string(), env!("CARGO_BIN_EXE_weir")]);
    let daemon = Daemon::start_by(Arc::new(folder()), &topology(&["a"], "weir"), confined);
    let (polling, others) = affinities(&daemon);
    assert_eq!(polling, last.id.to_string());
    assert!(
        others.len() > 3 && others.iter().all(|cpus| *cpus == first.id.to_string()),
        "{others:?}"
    );
    daemon.guest("a.sock", Options::default()).stop().unwrap();
}

/// A control group of this test's own with one CPU; none: this needs root and a mounted cpuset of
/// version 1.
struct OneCpu(std::path::PathBuf);

impl OneCpu {
    fn new(cpu: usize) -> Option<Self> {
        let root = std::path::Path::new("/sys/fs/cgroup/cpuset");
        let group = Self(root.join(format!("weir-test-{}", std::process::id())));
        fs::create_dir(&group.0).ok()?;
        fs::copy(root.join("cpuset.mems"), group.0.join("cpuset.mems")).ok()?;
        fs::write(group.0.join("cpuset.cpus"), cpu.to_string()).ok()?;
        Some(group)
    }
}

impl Drop for OneCpu {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

#[test]
fn cpu_outside_of_the_cpuset_is_refused_and_the_cpuset_named() {
    let cpus = core_affinity::get_core_ids().unwrap();
    let group = if let [first, _, ..] = &cpus[..] {
        OneCpu::new(first.id)
    } else {
        None
    };
    let Some(group) = group else {
        return eprintln!("NOT TESTED: this needs two CPUs, root, and a cpuset of version 1");
    };
    let (dir, file) = (folder(), topology(&["a"], "weir"));
    let mut shell = std::process::Command::new("sh");
    shell.args([
        "-c",
        "echo $$ > \"$1\"/cgroup.procs && exec \"$2\" run \"$3\"",
        "sh",
    ]);
    let output = shell
        .arg(&group.0)
        .arg(env!("CARGO_BIN_EXE_weir"))
        .arg(write(&dir, &file))
        .output()
        .unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{why}");
    assert!(
        why.contains(&format!("CPU {}", cpu())) && why.contains(&text(&group.0)),
        "{why}"
    );
    // The same file is fine on the machine that it is meant for.
    let checked = weir()
        .arg("check")
        .arg(write(&dir, &file.replace("[CPU]", "[1000]")))
        .output()
        .unwrap();
    let said = String::from_utf8(checked.stdout).unwrap();
    assert!(
        checked.status.success()
            && said.contains("note: on this machine, cores: there is no CPU 1000"),
        "{said}"
    );
}
