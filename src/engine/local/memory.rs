//! How much memory can be taken, where the system tells (Linux).
//!
//! The least of what the machine has free without swapping and of what is left of every
//! limit that is set on this process: the control group that it is in and all groups
//! around it, of version 2 or 1, as a container's runtime, systemd or a job scheduler sets
//! them. Beyond such a limit the system does not refuse memory but kills. What a group
//! keeps of files, such as the weights just read, can be dropped and counts as free, as it
//! does in the machine's own figure.

use std::path::{Component, Path, PathBuf};

/// The files of one version of control groups.
struct Version {
    /// Where the groups of memory lie.
    root: &'static str,
    /// Limits; one of them may say `max`, or a number beyond any memory.
    limits: &'static [&'static str],
    usage: &'static str,
    /// Lines of `memory.stat` with what can be dropped.
    droppable: [&'static str; 2],
}

const VERSION_2: Version = Version {
    root: "sys/fs/cgroup",
    // Beyond `high` a process is slowed down until it stands still.
    limits: &["memory.max", "memory.high"],
    usage: "memory.current",
    droppable: ["inactive_file", "active_file"],
};

const VERSION_1: Version = Version {
    root: "sys/fs/cgroup/memory",
    limits: &["memory.limit_in_bytes"],
    usage: "memory.usage_in_bytes",
    droppable: ["total_inactive_file", "total_active_file"],
};

/// Memory that can be taken, where the system tells.
pub(super) fn free_memory_bytes() -> Option<u64> {
    free_below(Path::new("/"))
}

/// As [`free_memory_bytes`], with `proc` and `sys` below `root`.
fn free_below(root: &Path) -> Option<u64> {
    let left = limits_left(root);
    available(root).into_iter().chain(left).min()
}

/// What the whole machine can give without swapping.
fn available(root: &Path) -> Option<u64> {
    let text = std::fs::read_to_string(root.join("proc/meminfo")).ok()?;
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

/// What is left of each limit on this process.
fn limits_left(root: &Path) -> Vec<u64> {
    // A line per hierarchy: `0::/path` of version 2, `4:cpu,memory:/path` of version 1.
    let text = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut left = Vec::new();
    for line in text.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, Some(kinds), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let version = if kinds.is_empty() {
            &VERSION_2
        } else if kinds.split(',').any(|it| it == "memory") {
            &VERSION_1
        } else {
            continue;
        };
        let groups = root.join(version.root);
        let own = groups.join(below(path));
        // In a container the path may be that of the machine, where only the root of what
        // is mounted is there: it is the container's own group.
        let around = own.ancestors().take_while(|it| it.starts_with(&groups));
        left.extend(around.filter_map(|it| version.left(it)));
    }
    left
}

/// The path without its root and without steps up, which lead out of what is mounted.
fn below(path: &str) -> PathBuf {
    let parts = Path::new(path).components();
    parts
        .filter(|it| matches!(it, Component::Normal(_)))
        .collect()
}

impl Version {
    /// What is left of the limit on one group; `None` where none is set.
    fn left(&self, group: &Path) -> Option<u64> {
        let number = |name: &str| -> Option<u64> {
            let text = std::fs::read_to_string(group.join(name)).ok()?;
            text.trim().parse().ok()
        };
        let limit = self.limits.iter().filter_map(|it| number(it)).min()?;
        let usage = number(self.usage)?;
        let stat = std::fs::read_to_string(group.join("memory.stat")).unwrap_or_default();
        let droppable: u64 = stat
            .lines()
            .filter_map(|it| it.split_once(' '))
            .filter(|it| self.droppable.contains(&it.0))
            .filter_map(|it| it.1.trim().parse::<u64>().ok())
            .fold(0, u64::saturating_add);
        Some(limit.saturating_sub(usage.saturating_sub(droppable)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A root in which the machine has 8 GiB free, and the files given.
    fn root(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let machine = (
            "proc/meminfo",
            "MemTotal: 9 kB\nMemAvailable:    8388608 kB\n",
        );
        for (name, text) in files.iter().chain([&machine]) {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn free_mib(files: &[(&str, &str)]) -> Option<u64> {
        free_below(root(files).path()).map(|it| it / MIB)
    }

    #[test]
    fn without_a_limit_the_machine_decides() {
        assert_eq!(free_mib(&[]), Some(8192));
        // The root of all groups has no limit; the own one says so.
        assert_eq!(
            free_mib(&[
                ("proc/self/cgroup", "0::/user.slice\n"),
                ("sys/fs/cgroup/user.slice/memory.max", "max\n"),
                ("sys/fs/cgroup/user.slice/memory.current", "123\n"),
            ]),
            Some(8192)
        );
        // Version 1 writes the greatest number of pages instead.
        assert_eq!(
            free_mib(&[
                ("proc/self/cgroup", "9:memory:/\n1:cpu:/\n"),
                (
                    "sys/fs/cgroup/memory/memory.limit_in_bytes",
                    "9223372036854771712\n"
                ),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "4096\n"),
            ]),
            Some(8192)
        );
        let nothing = tempfile::tempdir().unwrap();
        assert_eq!(free_below(nothing.path()), None);
    }

    /// 1 GiB, of which 300 MiB are in use, 200 of them files.
    #[test]
    fn what_is_left_of_a_limit_counts() {
        let files = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1073741824\n"),
            ("sys/fs/cgroup/memory.current", "314572800\n"),
            (
                "sys/fs/cgroup/memory.stat",
                "anon 104857600\nfile 209715200\ninactive_file 157286400\nactive_file 52428800\n",
            ),
        ];
        assert_eq!(free_mib(&files), Some(1024 - 100));
        let of_version_1 = [
            (
                "proc/self/cgroup",
                "5:cpuacct,cpu:/\n4:hugetlb,memory:/docker/c1\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/c1/memory.limit_in_bytes",
                "1073741824\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/c1/memory.usage_in_bytes",
                "314572800\n",
            ),
            (
                "sys/fs/cgroup/memory/docker/c1/memory.stat",
                "inactive_file 1\ntotal_inactive_file 157286400\ntotal_active_file 52428800\n",
            ),
        ];
        assert_eq!(free_mib(&of_version_1), Some(1024 - 100));
    }

    #[test]
    fn the_tightest_of_all_groups_around_decides() {
        let groups = |own: &'static str, around: &'static str| {
            free_mib(&[
                ("proc/self/cgroup", "0::/jobs/job-7\n"),
                ("sys/fs/cgroup/jobs/job-7/memory.max", own),
                ("sys/fs/cgroup/jobs/job-7/memory.current", "0\n"),
                ("sys/fs/cgroup/jobs/memory.max", around),
                ("sys/fs/cgroup/jobs/memory.high", "max\n"),
                ("sys/fs/cgroup/jobs/memory.current", "1048576\n"),
            ])
        };
        assert_eq!(groups("2147483648\n", "max\n"), Some(2048));
        assert_eq!(groups("max\n", "2147483648\n"), Some(2047));
        assert_eq!(groups("1073741824\n", "2147483648\n"), Some(1024));
        // More in use than allowed, as when a limit was lowered: nothing is left.
        assert_eq!(groups("max\n", "4096\n"), Some(0));
        // Slowed down from 256 MiB on.
        assert_eq!(
            free_mib(&[
                ("proc/self/cgroup", "0::/a\n"),
                ("sys/fs/cgroup/a/memory.max", "1073741824\n"),
                ("sys/fs/cgroup/a/memory.high", "268435456\n"),
                ("sys/fs/cgroup/a/memory.current", "0\n"),
            ]),
            Some(256)
        );
    }

    /// A container sees the path of the machine, or one outside of its own namespace, but
    /// only its own group is mounted.
    #[test]
    fn a_container_is_found_by_what_is_mounted() {
        for path in ["0::/docker/0123\n", "0::/../../other\n", "0::/\n"] {
            let free = free_mib(&[
                ("proc/self/cgroup", path),
                ("sys/fs/cgroup/memory.max", "536870912\n"),
                ("sys/fs/cgroup/memory.current", "0\n"),
            ]);
            assert_eq!(free, Some(512), "{path}");
        }
    }
}
