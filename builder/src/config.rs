//! The configuration and history that a stage builds up while its instructions are read.
//!
//! Follows the OCI image configuration and Docker's rules on top of it: an ENTRYPOINT clears an inherited CMD, ENV keeps
//! its place, EXPOSE and VOLUME add up, labels merge.

use cache::{HealthConfig, History, ImageConfig, Platform, RunConfig};

/// PATH of an image whose base sets none (as every builder of the field defaults it on Linux).
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The default SHELL on Linux.
pub(crate) fn default_shell() -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned()]
}

/// One history entry; whether it has a layer is known when it was planned.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HistoryLine {
    pub(crate) created_by: String,
    pub(crate) author: Option<String>,
    pub(crate) empty_layer: bool,
}

/// The image configuration in the making.
#[derive(Debug, Clone)]
pub(crate) struct ConfigState {
    /// As inherited and changed; `rootfs` and `history` are filled at assembly.
    pub(crate) image: ImageConfig,
    /// History of the base image, kept as it is.
    pub(crate) base_history: Vec<History>,
    /// What this file adds.
    pub(crate) history: Vec<HistoryLine>,
    /// CMD was given in this stage, so ENTRYPOINT keeps it.
    pub(crate) cmd_set: bool,
}

impl ConfigState {
    pub(crate) fn scratch(platform: &Platform) -> Self {
        let image = ImageConfig {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            config: RunConfig { working_dir: "/".to_owned(), ..RunConfig::default() },
            ..ImageConfig::default()
        };
        let mut state = ConfigState { image, base_history: Vec::new(), history: Vec::new(), cmd_set: false };
        state.default_path();
        state
    }

    pub(crate) fn from_base(image: &ImageConfig) -> Self {
        let mut image = image.clone();
        let base_history = std::mem::take(&mut image.history);
        image.rootfs.diff_ids.clear();
        image.created = None;
        image.config.on_build.clear();
        let mut state = ConfigState { image, base_history, history: Vec::new(), cmd_set: false };
        state.default_path();
        state
    }

    /// `FROM stage`: everything goes on, but CMD counts as inherited.
    pub(crate) fn from_stage(parent: &ConfigState) -> Self {
        let mut state = ConfigState { cmd_set: false, ..parent.clone() };
        state.image.config.on_build.clear();
        state
    }

    fn default_path(&mut self) {
        if !self.image.config.env.iter().any(|entry| entry.starts_with("PATH=")) {
            self.image.config.env.push(format!("PATH={DEFAULT_PATH}"));
        }
    }

    pub(crate) fn config(&mut self) -> &mut RunConfig {
        &mut self.image.config
    }

    pub(crate) fn shell(&self) -> Vec<String> {
        self.image.config.shell.clone().unwrap_or_else(default_shell)
    }

    pub(crate) fn working_dir(&self) -> &str {
        match self.image.config.working_dir.as_str() {
            "" => "/",
            set => set,
        }
    }

    /// Sets one variable in place, or appends it.
    pub(crate) fn set_env(&mut self, name: &str, value: &str) {
        let entry = format!("{name}={value}");
        let prefix = format!("{name}=");
        match self.image.config.env.iter_mut().find(|known| known.starts_with(&prefix)) {
            Some(known) => *known = entry,
            None => self.image.config.env.push(entry),
        }
    }

    pub(crate) fn set_entrypoint(&mut self, entrypoint: Vec<String>) {
        if !self.cmd_set {
            self.image.config.cmd = None;
        }
        self.image.config.entrypoint = if entrypoint.is_empty() { None } else { Some(entrypoint) };
    }

    pub(crate) fn set_cmd(&mut self, cmd: Vec<String>) {
        self.cmd_set = true;
        self.image.config.cmd = Some(cmd);
        self.image.config.args_escaped = true;
    }

    /// A line of history without a layer.
    pub(crate) fn record(&mut self, created_by: String) {
        self.push_history(created_by, true);
    }

    /// A line of history whose step makes a layer.
    pub(crate) fn record_layer(&mut self, created_by: String) {
        self.push_history(created_by, false);
    }

    fn push_history(&mut self, created_by: String, empty_layer: bool) {
        let author = self.image.author.clone();
        self.history.push(HistoryLine { created_by, author, empty_layer });
    }
}

/// `HEALTHCHECK` as history shows it: Go's `%v`-like picture of the structure, which tools already parse.
pub(crate) fn describe_healthcheck(health: &HealthConfig) -> String {
    let seconds = |nanos: Option<i64>| go_duration(nanos.unwrap_or(0));
    format!(
        "{{Test:[{}] Interval:{} Timeout:{} StartPeriod:{} StartInterval:{} Retries:{}}}",
        health.test.join(" "),
        seconds(health.interval),
        seconds(health.timeout),
        seconds(health.start_period),
        seconds(health.start_interval),
        health.retries.unwrap_or(0),
    )
}

/// A duration in Go's notation (`1m30s`, `500ms`, `0s`), from nanoseconds.
fn go_duration(nanos: i64) -> String {
    const SECOND: i64 = 1_000_000_000;
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < SECOND {
        return match nanos {
            n if n < 1_000 => format!("{n}ns"),
            n if n < 1_000_000 => format!("{}µs", decimal(n, 1_000)),
            n => format!("{}ms", decimal(n, 1_000_000)),
        };
    }
    let (hours, rest) = (nanos / (3600 * SECOND), nanos % (3600 * SECOND));
    let (minutes, rest) = (rest / (60 * SECOND), rest % (60 * SECOND));
    let seconds = decimal(rest, SECOND);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

fn decimal(value: i64, unit: i64) -> String {
    let whole = value / unit;
    let rest = value % unit;
    if rest == 0 {
        return whole.to_string();
    }
    let width = unit.ilog10() as usize;
    let digits = format!("{rest:0width$}");
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_print_as_go_prints_them() {
        let cases = [
            (0, "0s"),
            (1_000_000, "1ms"),
            (1_500_000, "1.5ms"),
            (30_000_000_000, "30s"),
            (90_000_000_000, "1m30s"),
            (3_600_000_000_000, "1h0m0s"),
            (2_500_000_000, "2.5s"),
        ];
        for (nanos, text) in cases {
            assert_eq!(go_duration(nanos), text);
        }
    }

    #[test]
    fn builder_w05_entrypoint_clears_only_an_inherited_cmd() {
        let platform = Platform::host();
        let mut state = ConfigState::scratch(&platform);
        state.image.config.cmd = Some(vec!["inherited".to_owned()]);
        state.set_entrypoint(vec!["/e".to_owned()]);
        assert_eq!(state.image.config.cmd, None);
        state.set_cmd(vec!["own".to_owned()]);
        state.set_entrypoint(vec!["/f".to_owned()]);
        assert_eq!(state.image.config.cmd, Some(vec!["own".to_owned()]));
    }
}
