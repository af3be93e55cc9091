//! A server's process: started in a folder of its own, watched through `/proc`, and ended.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::client::{Client, Dialect};

/// How long a start may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long a server may go on with what it put off, before the next one has its turn.
const MAX_SETTLE: Duration = Duration::from_secs(3);

/// How long a server has to end by itself when it is dropped.
const PATIENCE_AT_END: Duration = Duration::from_secs(5);

/// A process, which is ended when it is dropped.
pub struct Server {
    /// What it is called in the tables.
    pub process: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
    child: Child,
}

impl Server {
    /// Starts a program, and waits until it takes connections. What it says goes to `output` in the folder.
    ///
    /// # Errors
    /// It ends, or does not listen in time.
    pub fn start(
        process: &'static str,
        mut command: Command,
        address: SocketAddr,
        folder: &Path,
        dialect: &Dialect,
    ) -> Result<Self, String> {
        let cannot = |error| format!("can't start {process}: {error}");
        let output = fs::File::create(folder.join("output")).map_err(cannot)?;
        let errors = output.try_clone().map_err(cannot)?;
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        let child = command.spawn().map_err(cannot)?;
        let mut server = Self {
            process,
            address,
            child,
        };
        let end = Instant::now() + PATIENCE;
        while let Err(error) = Client::connect(dialect, address) {
            let has_ended = server.child.try_wait().is_ok_and(|it| it.is_some());
            if has_ended || Instant::now() > end {
                let said = fs::read_to_string(folder.join("output")).unwrap_or_default();
                return Err(format!("{process} does not answer: {error}\n{said}"));
            }
            std::thread::sleep(Duration::from_micros(100));
        }
        Ok(server)
    }

    /// Tells it to stop, and waits until it has.
    ///
    /// # Errors
    /// It does not stop in order.
    pub fn stop(mut self) -> Result<(), String> {
        let failed = |error| format!("can't stop {}: {error}", self.process);
        let process = Pid::from_child(&self.child);
        kill_process(process, Signal::TERM).map_err(|error| failed(error.into()))?;
        let status = self.child.wait().map_err(failed)?;
        match status.success() {
            true => Ok(()),
            false => Err(format!("{} stopped with {status}", self.process)),
        }
    }

    /// The processor time that all its threads have had, and its children that have ended.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration, String> {
        let stat = self.proc("stat")?;
        let ticks = cpu_ticks(&stat).ok_or_else(|| format!("no processor time in {stat:?}"))?;
        let each = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        Ok(Duration::from_nanos(ticks * each))
    }

    /// The most memory that it has had, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn peak_memory(&self) -> Result<u64, String> {
        let status = self.proc("status")?;
        kibibytes(&status, "VmHWM:").ok_or_else(|| format!("no peak of memory in {status:?}"))
    }

    /// The memory that it has now, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> Result<u64, String> {
        let status = self.proc("status")?;
        kibibytes(&status, "VmRSS:").ok_or_else(|| format!("no memory in {status:?}"))
    }

    /// The parts of its address space that the kernel counts, of which a process has a limited number.
    ///
    /// # Errors
    /// It is gone.
    pub fn mappings(&self) -> Result<usize, String> {
        Ok(self.proc("maps")?.lines().count())
    }

    /// Waits until it does nothing, so that what it put off is not at the cost of the next one.
    ///
    /// # Errors
    /// It is gone.
    pub fn settle(&self) -> Result<(), String> {
        self.settle_within(MAX_SETTLE)
    }

    /// As [`Self::settle`], within another time.
    ///
    /// # Errors
    /// It is gone.
    pub fn settle_within(&self, patience: Duration) -> Result<(), String> {
        let end = Instant::now() + patience;
        let step = Duration::from_millis(50);
        let mut before = self.cpu()?;
        while Instant::now() < end {
            std::thread::sleep(step);
            let now = self.cpu()?;
            if now.saturating_sub(before) <= step / 5 {
                break;
            }
            before = now;
        }
        Ok(())
    }

    fn proc(&self, file: &str) -> Result<String, String> {
        let path = format!("/proc/{}/{file}", self.child.id());
        fs::read_to_string(&path)
            .map_err(|error| format!("{} is gone: {path}: {error}", self.process))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself. Asked to, it writes what a build for profiling has counted.
        let process = Pid::from_child(&self.child);
        let _ = kill_process(process, Signal::TERM);
        let end = Instant::now() + PATIENCE_AT_END;
        while let Ok(None) = self.child.try_wait()
            && Instant::now() < end
        {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// User and system time, its own and that of its children that have ended.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name, in parentheses, may have spaces; the state follows it, and is the third field of all.
    let (_, fields) = stat.rsplit_once(") ")?;
    let numbers: Vec<&str> = fields.split(' ').collect();
    numbers
        .get(11..15)?
        .iter()
        .map(|it| it.parse::<u64>().ok())
        .sum()
}

/// What stands behind this name, in bytes.
fn kibibytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|it| it.strip_prefix(name))?;
    let kibibytes: u64 = line.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "7 (a ) b) S 1 2 3 4 5 6 7 8 9 10 100 20 3 1 15 16 17";
        assert_eq!(cpu_ticks(stat), Some(124));
        assert_eq!(cpu_ticks("7 (short) S 1"), None);
    }

    #[test]
    fn memory_is_in_bytes() {
        let status = "Name:\tx\nVmHWM:\t    12 kB\nVmRSS:\t 3 kB\n";
        assert_eq!(kibibytes(status, "VmHWM:"), Some(12 << 10));
        assert_eq!(kibibytes(status, "VmRSS:"), Some(3 << 10));
        assert_eq!(kibibytes("Name:\tx\n", "VmRSS:"), None);
    }
}
