//! Hooks on the host's side: before the container is ready, after it has started, and after it is gone.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runtime::HookCall;

use crate::said::Said;

/// Runs hooks one after the other, with the container's state as their input.
pub(super) fn run(name: &str, hooks: &[HookCall], state: &[u8]) -> Result<(), String> {
    hooks.iter().try_for_each(|hook| {
        one(hook, state).map_err(|reason| format!("{name} hook {}: {reason}", hook.path.display()))
    })
}

fn one(hook: &HookCall, state: &[u8]) -> Result<(), String> {
    let mut command = Command::new(&hook.path);
    if let Some((name, arguments)) = hook.argv.split_first() {
        command.arg0(name).args(arguments);
    }
    command.env_clear().envs(hook.env.iter().filter_map(|entry| entry.split_once('=')));
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    if let Some(mut input) = child.stdin.take() {
        // A hook need not read it.
        let _ = input.write_all(state);
    }
    let errors = child.stderr.take().map(|stderr| Said::listen(stderr, 4096));
    let begun = Instant::now();
    let status = loop {
        match child.try_wait().map_err(|error| error.to_string())? {
            Some(status) => break status,
            None if hook.seconds.is_some_and(|seconds| begun.elapsed() >= Duration::from_secs(seconds)) => {
                let _ = child.kill().and_then(|()| child.wait());
                return Err("it did not end in time".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(1)),
        }
    };
    if status.success() {
        return Ok(());
    }
    let said = errors.map(Said::all).unwrap_or_default();
    Err(format!("{status}: {}", String::from_utf8_lossy(&said).trim().escape_debug()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn shell(script: &str, seconds: Option<u64>) -> HookCall {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        HookCall { path: "/bin/sh".into(), argv, env: vec!["A=b".to_owned()], seconds }
    }

    #[test]
    fn hooks_get_the_state_and_may_fail_or_hang() {
        run("prestart", &[shell("test \"$(cat)$A\" = stateb", None)], b"state").unwrap();
        let error = run("prestart", &[shell("echo oh >&2; exit 3", None)], b"").unwrap_err();
        assert!(error.contains("prestart hook /bin/sh") && error.contains("oh"), "{error}");
        assert!(run("prestart", &[shell("exec sleep 100", Some(1))], b"").unwrap_err().contains("in time"));
    }
}
