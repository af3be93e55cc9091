//! What settings must hold by themselves and together.

use figment::Figment;
use figment::providers::Serialized;
use figment::value::Dict;

use super::{Config, ConfigError, LOG_SEGMENT_BYTES, one_line};

/// The most instances: what the address space of a process has room for, less a tenth for everything else.
const MAX_INSTANCES: u32 = 28_000;

/// The most of all instances that may wait for a call.
const MAX_IDLE_PERCENT: u32 = 90;

/// The most threads that serve requests: far more than a machine has processors.
const MAX_WORKER_THREADS: usize = 1_024;

impl Config {
    /// Refuses numbers so large that adding to them, or making room for them, would go wrong.
    fn check_sizes(&self) -> Result<(), ConfigError> {
        const MAX: u128 = 1 << 60;
        let settings = self.settings()?;
        let too_large = settings
            .iter()
            .find_map(|(name, value)| Some((name, value.to_u128().filter(|it| *it > MAX)?)));
        if let Some((name, value)) = too_large {
            return Err(ConfigError(format!("{name} of {value} exceeds {MAX}")));
        }
        let (bytes, bounds) = (self.log_segment_bytes, LOG_SEGMENT_BYTES);
        if !bounds.contains(&bytes) {
            let (least, most) = (bounds.start(), bounds.end());
            return Err(ConfigError(format!(
                "log_segment_bytes of {bytes} is outside of {least} to {most}"
            )));
        }
        Ok(())
    }

    /// Refuses what can't be an address, whatever names there are; which there are is seen where it is served.
    fn check_addresses(&self) -> Result<(), ConfigError> {
        let addresses = [
            ("listen", &self.listen, luge_protocol::DEFAULT_PORT),
            ("metrics", &self.metrics, 9843),
        ];
        for (name, address, usual_port) in addresses {
            let is_unset = name == "metrics" && address.is_empty();
            let parts = address.rsplit_once(':');
            let is_address =
                parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
            if !is_unset && !is_address {
                return Err(ConfigError(format!(
                    "the address `{address}` of --{name} should be a host and a port, such as 127.0.0.1:{usual_port}"
                )));
            }
        }
        Ok(())
    }

    fn check_tls(&self) -> Result<(), ConfigError> {
        match self.tls_cert.as_os_str().is_empty() == self.tls_key.as_os_str().is_empty() {
            true => Ok(()),
            false => {
                let what = "of tls_cert and tls_key one is empty; TLS needs both";
                Err(ConfigError(what.to_owned()))
            }
        }
    }

    /// Refuses less than what is never dropped.
    fn check_versions(&self) -> Result<(), ConfigError> {
        const MIN_MODULE_VERSIONS: usize = 3;
        if self.max_module_versions < MIN_MODULE_VERSIONS {
            return Err(ConfigError(format!(
                "max_module_versions is {}, and must be at least {MIN_MODULE_VERSIONS}: a new version, the active one and the one that a rollback returns to",
                self.max_module_versions
            )));
        }
        Ok(())
    }

    /// Refuses more instances than the address space has room for, more threads than any machine serves by, and to have calls
    /// find nothing but instances that wait.
    fn check_instances(&self) -> Result<(), ConfigError> {
        if self.max_instances > MAX_INSTANCES {
            return Err(ConfigError(format!(
                "max_instances is {}, and must be at most {MAX_INSTANCES}: each reserves 4 GiB of a process' 128 TiB of addresses",
                self.max_instances
            )));
        }
        if self.worker_threads > MAX_WORKER_THREADS {
            return Err(ConfigError(format!(
                "worker_threads is {}, and must be at most {MAX_WORKER_THREADS}",
                self.worker_threads
            )));
        }
        let percent = self.max_idle_instances_percent;
        if percent > MAX_IDLE_PERCENT {
            return Err(ConfigError(format!(
                "max_idle_instances_percent is {percent}, and must be at most {MAX_IDLE_PERCENT}: calls need instances, too"
            )));
        }
        Ok(())
    }

    /// Refuses a default that no push could ask for: a setting above the one of its name behind `max_`.
    fn check_ceilings(&self) -> Result<(), ConfigError> {
        let settings = self.settings()?;
        let number = |name: &str| settings.get(name)?.to_u128();
        let above = Self::FIELDS.iter().find_map(|field| {
            let ceiling = format!("max_{}", field.name);
            let (value, most) = (number(field.name)?, number(&ceiling)?);
            (value > most).then_some((field.name, value, ceiling, most))
        });
        match above {
            None => Ok(()),
            Some((name, value, ceiling, most)) => Err(ConfigError(format!(
                "{name} is {value}, and must be at most {ceiling}, which is {most}"
            ))),
        }
    }

    /// Every setting's value, by its name.
    fn settings(&self) -> Result<Dict, ConfigError> {
        Figment::from(Serialized::defaults(self))
            .extract()
            .map_err(|error| ConfigError(one_line(&error)))
    }

    /// Checks what settings must hold together.
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| Err(ConfigError(what));
        self.check_sizes()?;
        self.check_addresses()?;
        self.check_tls()?;
        self.check_versions()?;
        self.check_instances()?;
        self.check_ceilings()?;
        // A larger frame could not be told from the first bytes of HTTP or TLS.
        const MAX_FRAME_BYTES: usize = 256 << 20;
        const FRAME_OVERHEAD_BYTES: usize = 4_096;
        if self.max_frame_bytes > MAX_FRAME_BYTES {
            return wrong(format!(
                "max_frame_bytes of {} exceeds {MAX_FRAME_BYTES}",
                self.max_frame_bytes
            ));
        }
        let largest = [
            ("max_value_bytes", self.max_value_bytes + self.max_key_bytes),
            ("max_module_bytes", self.max_module_bytes),
            ("max_page_bytes", self.max_page_bytes + self.max_value_bytes),
            ("max_call_output_bytes", self.max_call_output_bytes),
        ];
        for (name, bytes) in largest {
            if bytes + FRAME_OVERHEAD_BYTES > self.max_frame_bytes {
                let frame = self.max_frame_bytes;
                return wrong(format!(
                    "{name} of {bytes} with its overhead does not fit into max_frame_bytes of {frame}"
                ));
            }
        }
        // A key's length is stored in 2 bytes, beside a few of the store's own.
        if self.max_key_bytes > 32 << 10 || self.max_key_bytes == 0 {
            return wrong(format!(
                "max_key_bytes of {} is outside of 1 to 32768",
                self.max_key_bytes
            ));
        }
        // A request and its reply must fit in together, or they would wait for each other.
        if self.max_buffered_bytes < 4 * self.max_frame_bytes
            || self.max_buffered_bytes > u32::MAX as usize
        {
            return wrong(format!(
                "max_buffered_bytes of {} is outside of 4 times max_frame_bytes, {}, to {}",
                self.max_buffered_bytes,
                4 * self.max_frame_bytes,
                u32::MAX
            ));
        }
        if self.max_unread_bytes < self.max_frame_bytes {
            return wrong(format!(
                "max_unread_bytes of {} is less than max_frame_bytes of {}: a reply could not be sent",
                self.max_unread_bytes, self.max_frame_bytes
            ));
        }
        self.check_counts()
    }

    fn check_counts(&self) -> Result<(), ConfigError> {
        let progress_ms = usize::try_from(self.watch_progress_ms).unwrap_or(usize::MAX);
        let greeting_ms = usize::try_from(self.greeting_timeout_ms).unwrap_or(usize::MAX);
        let at_least_one = [
            ("watch_progress_ms", progress_ms),
            ("greeting_timeout_ms", greeting_ms),
            ("max_connections", self.max_connections),
            ("max_unread_replies", self.max_unread_replies),
            ("max_unfolded_bytes", self.max_unfolded_bytes),
            ("max_running_calls", self.max_running_calls),
            ("module_running_calls", self.module_running_calls),
            ("max_module_running_calls", self.max_module_running_calls),
            ("max_instances", self.max_instances as usize),
            ("max_streams", self.max_streams),
            ("max_all_streams", self.max_all_streams),
            ("max_page_entries", self.max_page_entries),
            ("max_request_keys", self.max_request_keys),
        ];
        for (name, value) in at_least_one {
            if value == 0 {
                let what = format!("{name} is 0, and must be at least 1");
                return Err(ConfigError(what));
            }
        }
        Ok(())
    }
}
