//! A peer's process and folder: looked for, started, waited for, ended.

use std::{
    fs,
    io::ErrorKind,
    os::unix::{
        fs::{PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use super::{Error, io};

/// How long one may take to come up, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one may take to end that is dropped.
const LEAVE: Duration = Duration::from_secs(5);
/// Between two looks.
const GLANCE: Duration = Duration::from_millis(10);
/// How much is told of what one said.
const TOLD_BYTES: usize = 2_000;
/// What it writes what it says into.
const SAID: &str = "said";

/// The folder of a peer; goes when dropped.
#[derive(Debug)]
pub(super) struct Folder(TempDir);

impl Folder {
    /// A fresh one in `data`, else where the system has what is temporary.
    pub fn new(data: Option<&Path>) -> Result<Self, Error> {
        let made = match data {
            Some(data) => TempDir::with_prefix_in("loadtest-", data),
            None => TempDir::with_prefix("loadtest-"),
        };
        Ok(Self(made.map_err(io("making a folder for a peer"))?))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Gives it to a user.
    pub fn give_to(&self, user: User) -> Result<(), Error> {
        let given = chown(self.path(), Some(user.uid), Some(user.gid))
            .and_then(|()| fs::set_permissions(self.path(), fs::Permissions::from_mode(0o700)));
        given.map_err(io("giving a folder to the peer's user"))
    }

    /// The end of what was said in it.
    pub fn said(&self) -> String {
        let bytes = fs::read(self.path().join(SAID)).unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(TOLD_BYTES)..]);
        if text.trim().is_empty() { "it said nothing".to_owned() } else { text.trim().to_owned() }
    }
}

/// A user of this machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Who runs what must not run as root: this one, else the user whose name is given.
    pub fn unless_root(name: &str) -> Result<Option<Self>, Error> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd").map_err(io("reading /etc/passwd"))?;
        let found = users.lines().find_map(|line| Self::of_line(line, name));
        let absent = || std::io::Error::new(ErrorKind::NotFound, format!("no user `{name}`"));
        found.map(Some).ok_or_else(|| io("looking for the peer's user")(absent()))
    }

    fn of_line(line: &str, name: &str) -> Option<Self> {
        let mut fields = line.split(':');
        (fields.next()? == name).then_some(())?;
        fields.next()?;
        let (uid, gid) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Self { uid, gid })
    }

    /// Has a command run as this user, and in no group but his.
    pub fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

/// A program in one of the folders of `PATH`.
pub(super) fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// A running process; ended when dropped.
#[derive(Debug)]
pub(super) struct Process {
    name: &'static str,
    child: Child,
    /// What ends it when it is dropped.
    end: Signal,
}

impl Process {
    /// Starts one that says what it says into its folder.
    pub fn start(
        name: &'static str,
        command: &mut Command,
        folder: &Folder,
    ) -> Result<Self, Error> {
        let said = fs::File::create(folder.path().join(SAID)).map_err(io("making a file"))?;
        let errors = said.try_clone().map_err(io("making a file"))?;
        command.stdin(Stdio::null()).stdout(said).stderr(errors).current_dir(folder.path());
        let child = command.spawn().map_err(io(format!("starting {name}")))?;
        Ok(Self { name, child, end: Signal::TERM })
    }

    /// Has another signal end it when it is dropped.
    pub fn end_by(&mut self, signal: Signal) {
        self.end = signal;
    }

    /// Waits until it is ready, as `is_ready` finds.
    pub fn await_ready(
        &mut self,
        folder: &Folder,
        mut is_ready: impl FnMut() -> bool,
    ) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end && !self.has_ended()? {
            if is_ready() {
                return Ok(());
            }
            thread::sleep(GLANCE);
        }
        Err(Error::Server { name: self.name, what: "come up", said: folder.said() })
    }

    /// Waits for its end.
    pub fn await_end(&mut self, folder: &Folder) -> Result<(), Error> {
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            if self.has_ended()? {
                let good = self.child.wait().is_ok_and(|status| status.success());
                let failed =
                    || Error::Server { name: self.name, what: "end in order", said: folder.said() };
                return if good { Ok(()) } else { Err(failed()) };
            }
            thread::sleep(GLANCE);
        }
        Err(Error::Server { name: self.name, what: "end in time", said: folder.said() })
    }

    /// Asks it to stop, and waits until it has.
    pub fn stop(&mut self, signal: Signal, folder: &Folder) -> Result<(), Error> {
        self.signal(signal);
        self.await_end(folder)
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // One that has ended already can't be told, and needn't.
            let _ = kill_process(pid, signal);
        }
    }

    fn has_ended(&mut self) -> Result<bool, Error> {
        let ended = self.child.try_wait().map_err(io(format!("waiting for {}", self.name)))?;
        Ok(ended.is_some())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.has_ended().is_ok_and(|ended| ended) {
            return;
        }
        // It leaves nothing behind if it may end by itself.
        self.signal(self.end);
        let end = Instant::now() + LEAVE;
        while Instant::now() < end && self.has_ended().is_ok_and(|ended| !ended) {
            thread::sleep(GLANCE);
        }
        // One that has ended can't be killed, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_a_line_of_the_table() {
        let line = "postgres:x:105:113:PostgreSQL administrator,,,:/var/lib/postgresql:/bin/bash";
        let user = User::of_line(line, "postgres").unwrap();
        assert_eq!((user.uid, user.gid), (105, 113));
        assert!(User::of_line(line, "post").is_none());
        assert!(User::of_line("postgres:x:", "postgres").is_none());
    }

    #[test]
    fn one_that_ends_before_it_is_ready_is_told_with_what_it_said() {
        let folder = Folder::new(None).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "echo no room >&2; exit 3"]);
        let mut process = Process::start("sh", &mut command, &folder).unwrap();
        let said = process.await_ready(&folder, || false).unwrap_err().to_string();
        assert!(said.contains("did not come up: no room"), "{said}");
        assert!(process.await_end(&folder).is_err());
    }

    #[test]
    fn one_that_runs_is_stopped_in_order() {
        let folder = Folder::new(None).unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", "trap 'exit 0' TERM; while :; do sleep 0.01; done"]);
        let mut process = Process::start("sh", &mut command, &folder).unwrap();
        process.await_ready(&folder, || true).unwrap();
        // The trap is set once the shell has read its line.
        thread::sleep(Duration::from_millis(100));
        process.stop(Signal::TERM, &folder).unwrap();
    }
}
