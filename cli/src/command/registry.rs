//! `pull`, `push`, `login`, `logout`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use engine::{Cancel, Kept, Platform, PullRequest, PushRequest, Reference, Supply};

use super::{Failure, Outcome, open};
use crate::args::{LoginArgs, LogoutArgs, Pull, PullArgs, PushArgs};
use crate::ui::progress::transfers::TransferProgress;
use crate::{config, ui};

/// Most bytes of a password.
const PASSWORD_LIMIT: u64 = 64 << 10;

pub(super) fn pull(root: Option<PathBuf>, args: &PullArgs) -> Outcome {
    let engine = open(root)?;
    let fetch = config::fetch();
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    for name in &args.names {
        let request = PullRequest { name: name.clone(), all_tags: args.all_tags, platform: args.platform.clone() };
        let progress = TransferProgress::new(args.quiet);
        let pulled = engine.pull(&request, &fetch, &|event| progress.event(&event), &cancel);
        progress.finish();
        for pulled in pulled.map_err(|error| stopped(error, &interrupt))? {
            if !args.quiet {
                ui::line(&format!("Digest: {}", pulled.digest))?;
                ui::line(&format!(
                    "Status: {} for {}",
                    if pulled.up_to_date { "Image is up to date" } else { "Downloaded newer image" },
                    pulled.name.familiar()
                ))?;
            }
            ui::line(&pulled.name.to_string())?;
        }
    }
    Ok(0)
}

pub(super) fn push(root: Option<PathBuf>, args: &PushArgs) -> Outcome {
    let request = PushRequest { names: args.names.clone(), all_tags: args.all_tags, compression: args.compression };
    let engine = open(root)?;
    let cancel = Cancel::default();
    let interrupt = ui::interrupt::watch(&cancel)?;
    perform_push(&engine, &request, args.quiet, true, &cancel, &interrupt)?;
    Ok(0)
}

/// Pushes, and with `tells` says on standard output what was pushed.
pub(super) fn perform_push(
    engine: &engine::Engine,
    request: &PushRequest,
    quiet: bool,
    tells: bool,
    cancel: &Cancel,
    interrupt: &ui::interrupt::Interrupt,
) -> Result<(), Failure> {
    let progress = TransferProgress::new(quiet);
    let pushed = engine.push(request, &config::fetch(), &|event| progress.event(&event), cancel);
    progress.finish();
    let pushed = pushed.map_err(|error| stopped(error, interrupt))?;
    for pushed in pushed.iter().filter(|_| tells) {
        if quiet {
            ui::line(&pushed.name.to_string())?;
        } else {
            let tag = pushed.name.tag().unwrap_or_default();
            let place = pushed.name.familiar_name();
            ui::line(&format!("{place}:{tag}: digest: {} size: {}", pushed.digest, pushed.size))?;
        }
    }
    Ok(())
}

/// Pulls an image that a container needs, in docker's words.
pub(super) fn ensure(
    engine: &engine::Engine,
    image: &str,
    pull: Pull,
    quiet: bool,
    platform: Option<&Platform>,
) -> Result<(), Failure> {
    let (fetch, cancel) = (config::fetch(), Cancel::default());
    let progress = TransferProgress::new(quiet);
    // Only while something is pulled: what is caught once never ends this process by itself again.
    let watched = std::cell::OnceCell::new();
    let begins = |name: &Reference| {
        watched.get_or_init(|| ui::interrupt::watch(&cancel));
        if !quiet {
            ui::say(&format!("Unable to find image '{}' locally: pulling it", ui::foreign::line(&name.familiar())));
        }
    };
    let supply = Supply {
        policy: pull.into(),
        platform,
        fetch: &fetch,
        begins: &begins,
        events: &|event| progress.event(&event),
        cancel: &cancel,
    };
    let ensured = engine.ensure_image(image, &supply);
    progress.finish();
    let Some(interrupt) = watched.into_inner().transpose()? else { return Ok(ensured?) };
    ensured.map_err(|error| stopped(error, &interrupt))?;
    interrupt.code().map_or(Ok(()), |code| Err(Failure::Told(code)))
}

/// Which signal it was is known here; the engine knows only that it was asked to stop.
pub(super) fn stopped(error: engine::Error, interrupt: &ui::interrupt::Interrupt) -> Failure {
    match interrupt.code().filter(|_| error.exit_code() == 130) {
        Some(code) => Failure::Told(code),
        None => Failure::from(error),
    }
}

pub(super) fn login(args: &LoginArgs) -> Outcome {
    if args.password.is_some() {
        ui::note("others see --password in the list of processes: --password-stdin keeps it to yourself");
    }
    let terminal = std::io::stdin().is_terminal();
    let user = match &args.username {
        Some(user) => user.clone(),
        None if args.password_stdin || !terminal => {
            return Err(Failure::usage("login needs -u USER where it cannot ask for it"));
        }
        None => ui::prompt::line("Username: ")?,
    };
    let password = match &args.password {
        Some(password) => password.clone(),
        None if args.password_stdin => password_of(std::io::stdin().lock())?,
        None if terminal => ui::prompt::secret("Password: ")?,
        None => return Err(Failure::usage("login needs --password-stdin where it cannot ask for the password")),
    };
    if password.is_empty() {
        return Err(Failure::usage("the password is empty"));
    }
    if let Kept::File(path) = config::fetch().log_in(&args.server, &user, &password)? {
        ui::note(&format!("the password is in {}, not encrypted; a credential helper keeps it better", path.display()));
    }
    ui::line("Login Succeeded")?;
    Ok(0)
}

/// One line, or all of it: its end is no part of the password.
fn password_of(input: impl Read) -> Result<String, Failure> {
    let mut text = String::new();
    input
        .take(PASSWORD_LIMIT)
        .read_to_string(&mut text)
        .map_err(|error| Failure::usage(format!("cannot read the password: {error}")))?;
    let text = text.strip_suffix('\n').unwrap_or(&text);
    Ok(text.strip_suffix('\r').unwrap_or(text).to_owned())
}

pub(super) fn logout(args: &LogoutArgs) -> Outcome {
    let server = if args.server.is_empty() { "docker.io" } else { &args.server };
    match config::fetch().log_out(server)? {
        true => ui::line(&format!("Removing login credentials for {server}"))?,
        false => ui::line(&format!("Not logged in to {server}"))?,
    }
    Ok(0)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_the_line_is_no_part_of_a_password() {
        for (text, password) in [("a b\n", "a b"), ("a\r\n", "a"), ("a", "a"), ("a\n\n", "a\n"), ("", "")] {
            assert_eq!(password_of(text.as_bytes()).unwrap(), password);
        }
    }
}
