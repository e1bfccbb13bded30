//! `registry serve`.

use std::path::PathBuf;
use std::time::Duration;

use engine::{Cancel, ServeEvent, ServeOptions};

use super::{Outcome, open};
use crate::args::ServeArgs;
use crate::ui;

/// How long requests under way may take to end: a little longer than the server itself waits.
const PATIENCE: Duration = Duration::from_secs(13);

pub(super) fn serve(root: Option<PathBuf>, args: &ServeArgs) -> Outcome {
    let options = ServeOptions {
        address: args.addr,
        tls: args.tls_cert.clone().zip(args.tls_key.clone()),
        users: args.htpasswd.clone(),
        read_only: args.read_only,
    };
    let engine = open(root)?;
    let cancel = Cancel::default();
    // Held to the end: after a second signal it does not wait.
    let _interrupt = ui::interrupt::watch_for(&cancel, PATIENCE)?;
    warn(&options);
    let (scheme, quiet, store) =
        (if options.tls.is_some() { "https" } else { "http" }, args.quiet, engine.root().display().to_string());
    let tell = move |event| match event {
        ServeEvent::Listening(address) => {
            // Who reads it and has seen enough does not end the server.
            let _ = ui::line(&format!("{scheme}://{address}"));
            if !quiet {
                ui::say(&format!("serving {store}; stop it with Ctrl-C"));
            }
        }
        ServeEvent::Note(sentence) => ui::note(&sentence),
        ServeEvent::Pushed { .. } | ServeEvent::Removed(_) if quiet => {}
        ServeEvent::Pushed { name, digest, is_image } => {
            let kind = if is_image { "" } else { ", which is no image of this store" };
            ui::say(&format!("pushed {} {digest}{kind}", name.familiar()));
        }
        ServeEvent::Removed(name) => ui::say(&format!("removed {}", name.familiar())),
    };
    engine.serve(&options, &cancel, Box::new(tell))?;
    Ok(0)
}

fn warn(options: &ServeOptions) {
    if options.address.ip().is_loopback() {
        return;
    }
    if options.users.is_none() && !options.read_only {
        ui::note(
            "everybody who reaches this address can push and remove images: --htpasswd or --read-only prevents it",
        );
    }
    if options.users.is_some() && options.tls.is_none() {
        ui::note("passwords come over the network as they are: --tls-cert and --tls-key encrypt them");
    }
}
