//! `dunnage debug`: a command in the sandbox of a step of the last build, before it or after it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use testdata::{BASE, Dunnage};

const FILE: &str = "FROM base AS tools
RUN mkdir /t && echo tool > /t/tool
FROM base
ARG TOKEN
ENV WHO=step
WORKDIR /w
COPY f /f
RUN --mount=from=tools,source=/t,target=/mnt --mount=type=secret,id=s,env=S echo made > made
USER 7
RUN test -e /nothing && echo \"$TOKEN\"
";

fn dunnage() -> Option<Dunnage> {
    let dunnage = Dunnage::with_base(env!("CARGO_BIN_EXE_dunnage"), &BASE)?;
    dunnage.write("context/Dockerfile", FILE);
    dunnage.write("context/f", "of the context\n");
    dunnage.write("secret", "hidden");
    Some(dunnage)
}

fn debug(dunnage: &Dunnage, args: &[&str], script: &str) -> String {
    let mut all = vec!["debug", "--context", "context", "--progress", "quiet"];
    all.extend_from_slice(args);
    all.extend(["--", "sh", "-c", script]);
    dunnage.run(all).ok().stdout
}

#[test]
fn a_command_runs_where_a_step_failed_and_before_and_after_others() {
    let Some(dunnage) = dunnage() else { return };
    let args = ["build", "--secret", "id=s,src=secret", "--build-arg", "TOKEN=swordfish", "context"];
    dunnage.run(args).fails(1, "`dunnage debug` opens a shell in the state before it");

    // The step that failed, as its user.
    assert_eq!(debug(&dunnage, &[], "id -u; pwd; cat made; echo $WHO"), "7\n/w\nmade\nstep\n");
    // A named one, with its mounts and its secret, in the state before it.
    let script = "cat /mnt/tool; echo $S; cat /f; ls; id -u; echo lost > /f";
    let seen = "tool\nhidden\nof the context\n0\n";
    assert_eq!(debug(&dunnage, &["RUN --mount"], script), seen);
    assert_eq!(debug(&dunnage, &["RUN --mount", "--before"], script), seen, "nothing is kept");
    assert_eq!(debug(&dunnage, &["--after", "RUN --mount"], "cat made; cat /mnt/tool"), "made\ntool\n");
    // One that is no RUN lends the looks of its neighbour.
    assert_eq!(debug(&dunnage, &["--after", "COPY"], "cat /f; ls /w"), "of the context\n");
    assert_eq!(debug(&dunnage, &["tools/1"], "ls /t || echo none"), "none\n");
    // The exit code is the command's own.
    dunnage.run(["debug", "--context", "context", "1", "--", "sh", "-c", "exit 9"]).fails_with(9);

    let record = dunnage.run(["builds", "show", "--format", "json"]).ok().stdout;
    assert!(!record.contains("swordfish") && !record.contains("hidden"), "{record}");
    assert_eq!(dunnage.leftovers(), Vec::<std::path::PathBuf>::new());
}

#[test]
fn what_is_gone_is_made_again_and_what_changed_is_told() {
    let Some(dunnage) = dunnage() else { return };
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo one > /one\nRUN false\n");
    dunnage.run(["build", "context"]).fails_with(1);
    dunnage.run(["builder", "prune", "-af"]).ok();
    assert_eq!(debug(&dunnage, &[], "cat /one"), "one\n");
    dunnage.write("context/Dockerfile", "FROM base\nRUN echo one > /one\nRUN true\n");
    let args = ["debug", "--context", "context", "--", "true"];
    dunnage.run(args).fails(2, "the Dockerfile has changed: step 2 is no longer `RUN false`");
    dunnage.run(["debug", "--context", "context"]).fails(2, "a shell needs a terminal");
    dunnage.run(["debug", "9", "--context", "context", "--", "true"]).fails(2, "has no step 9");
    dunnage.write("context/Dockerfile", "FROM base\nWORKDIR /x\n");
    dunnage.run(["build", "context"]).ok();
    dunnage.run(["debug", "--context", "context", "--", "true"]).fails(1, "a stage without RUN");
}
