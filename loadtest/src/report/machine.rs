//! What a machine is, as far as `/proc` tells: figures without it can't be compared.

use std::{fs, path::Path};

use serde::{Deserialize, Serialize};

/// A machine. What could not be found out is absent.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Machine {
    /// The processor, as it calls itself.
    pub cpu: Option<String>,
    /// Cores that this process may use.
    pub cores: Option<usize>,
    /// The kernel's name and release.
    pub kernel: Option<String>,
    /// Memory, in bytes.
    pub memory_bytes: Option<u64>,
    /// The filesystem under the data: its type, device and mount options.
    pub filesystem: Option<String>,
    /// What else kept it busy when it was asked: the load average over a minute.
    pub load: Option<f64>,
}

impl Machine {
    /// This machine, with the filesystem that this path is on.
    pub fn read(data: &Path) -> Self {
        Self::read_from(Path::new("/proc"), data)
    }

    fn read_from(proc: &Path, data: &Path) -> Self {
        let text = |name: &str| fs::read_to_string(proc.join(name)).ok();
        let data = fs::canonicalize(data).unwrap_or_else(|_| data.to_owned());
        Self {
            cpu: text("cpuinfo").and_then(|cpuinfo| cpu(&cpuinfo)),
            cores: std::thread::available_parallelism().ok().map(usize::from),
            kernel: text("sys/kernel/osrelease").and_then(|release| {
                let name = text("sys/kernel/ostype")?;
                Some(format!("{} {}", name.trim(), release.trim()))
            }),
            memory_bytes: text("meminfo").and_then(|meminfo| memory_bytes(&meminfo)),
            filesystem: text("self/mounts").and_then(|mounts| filesystem(&mounts, &data)),
            load: text("loadavg").and_then(|load| load.split(' ').next()?.parse().ok()),
        }
    }
}

fn cpu(cpuinfo: &str) -> Option<String> {
    let value = |key: &str| {
        let line =
            cpuinfo.lines().find(|line| line.split(':').next().unwrap_or("").trim() == key)?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    // Arm's processors don't name their model; their part number does.
    value("model name").or_else(|| {
        Some(format!("implementer {}, part {}", value("CPU implementer")?, value("CPU part")?))
    })
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()?.checked_mul(1_024)
}

/// The mount that lies closest above a path; the last one of those at the same place covers the others.
fn filesystem(mounts: &str, path: &Path) -> Option<String> {
    let fields = |line: &str| {
        let mut fields = line.split(' ').map(unescape);
        Some((fields.next()?, fields.next()?, fields.next()?, fields.next()?))
    };
    let above = mounts.lines().filter_map(fields).filter(|(_, at, ..)| path.starts_with(at));
    let (device, at, kind, options) = above.max_by_key(|(_, at, ..)| at.len())?;
    Some(format!("{kind} on {device}, mounted at {at} ({options})"))
}

/// The kernel writes blanks and backslashes of names as octal numbers.
fn unescape(field: &str) -> String {
    let octal = [("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")];
    octal.iter().fold(field.to_owned(), |text, (code, c)| text.replace(code, c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(proc: &Path, name: &str, text: &str) {
        let path = proc.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    #[test]
    fn a_machine_is_read_from_proc() {
        let folder = tempfile::tempdir().expect("a folder");
        let proc = folder.path();
        write(proc, "cpuinfo", "processor\t: 0\nmodel name\t: Fast 9000 @ 3.1GHz\ncpu MHz\t: 1\n");
        write(proc, "sys/kernel/osrelease", "6.18.1\n");
        write(proc, "sys/kernel/ostype", "Linux\n");
        write(proc, "meminfo", "MemTotal:        8000000 kB\nMemFree: 1 kB\n");
        let data = proc.join("big disk/data");
        fs::create_dir_all(&data).expect("a folder");
        let at = fs::canonicalize(proc).expect("a path");
        let mounts = format!(
            "/dev/a / ext4 rw 0 0\n/dev/b {0} xfs rw 0 0\n/dev/c {0}/big\\040disk ext4 rw,noatime 0 0\n\
             /dev/d {0}/big btrfs rw 0 0\n",
            at.display()
        );
        write(proc, "self/mounts", &mounts);
        write(proc, "loadavg", "1.25 0.5 0.1 1/200 77\n");

        let machine = Machine::read_from(proc, &data);
        assert_eq!(machine.cpu.as_deref(), Some("Fast 9000 @ 3.1GHz"));
        assert_eq!(machine.kernel.as_deref(), Some("Linux 6.18.1"));
        assert_eq!(machine.memory_bytes, Some(8_192_000_000));
        let filesystem = machine.filesystem.expect("a filesystem");
        assert!(filesystem.starts_with("ext4 on /dev/c, "), "{filesystem}");
        assert!(filesystem.ends_with("(rw,noatime)"), "{filesystem}");
        assert_eq!(machine.load, Some(1.25));
    }

    #[test]
    fn what_is_not_there_is_absent() {
        let folder = tempfile::tempdir().expect("a folder");
        let machine = Machine::read_from(folder.path(), Path::new("/"));
        let nothing = Machine { cores: machine.cores, ..Machine::default() };
        assert_eq!(machine, nothing);
    }

    #[test]
    fn a_processor_without_a_model_is_named_by_its_part() {
        let arm = "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd0c\n";
        assert_eq!(cpu(arm).as_deref(), Some("implementer 0x41, part 0xd0c"));
    }
}
