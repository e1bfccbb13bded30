//! The root of a RUN is begun while the RUN below it still goes on; nobody sees it but by the clock.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs)]

use testdata::{Dunnage, Need, skipped};

const NEEDS: [Need; 2] = [Need::Root, Need::Program("busybox")];

/// Whatever one step can leave to the next: files, nothing, a tree that is there already, whiteouts, a directory in place of
/// another, links, places of mounts, other users.
const CHAIN: &str = "\
FROM base
RUN mkdir -p /d/in && echo 1 > /d/a && echo 1 > /d/in/b
RUN true
RUN true
RUN rm /d/a && echo 2 > /d/c && test -f /d/in/b
RUN rm -r /d && mkdir /d && echo 3 > /d/e
RUN test ! -e /d/in && cat /d/e > /f && ln /f /g && chmod 700 /d
RUN --mount=type=tmpfs,target=/m echo x > /m/x && ls / > /h
RUN test ! -e /m && mkdir /w && chown 1000:1000 /w
USER 1000
WORKDIR /w
RUN id -u > who && ! touch /d/e
USER 0
COPY file /w/
RUN cat /w/file /w/who > /all && rm /w/who
RUN <<end
cat /all > /again
end
RUN cmp /all /again && rm /again
CMD cat /all /f && ls /d /w
";

fn chain(text: &str) -> Dunnage {
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.busybox();
    dunnage.write("context/Dockerfile", text);
    dunnage.write("context/file", "copied\n");
    dunnage
}

fn layers(dunnage: &Dunnage) -> Vec<String> {
    let listed = dunnage.run(["inspect", "--format", "{{json .RootFS.Layers}}", "app"]).ok().stdout;
    listed.split('"').filter(|part| part.starts_with("sha256:")).map(str::to_owned).collect()
}

#[test]
fn a_chain_gives_the_same_layers_whether_its_roots_are_begun_before_or_not() {
    if skipped(&NEEDS) {
        return;
    }
    let dunnage = chain(CHAIN);
    dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
    let begun = layers(&dunnage);
    assert_eq!(
        dunnage.run(["run", "--rm", "--network", "none", "app"]).ok().stdout,
        "copied\n1000\n3\n/d:\ne\n\n/w:\nfile\n"
    );
    // Nothing is begun before its time with this driver. What is the same keeps its times.
    dunnage.run(["build", "-q", "-t", "app", "--no-cache", "--storage-driver", "copy", "context"]).ok();
    assert_eq!(layers(&dunnage), begun);
    dunnage.run(["system", "check"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}

#[test]
fn a_root_is_begun_while_the_step_below_runs_and_is_made_once() {
    if skipped(&NEEDS) {
        return;
    }
    let dunnage = chain("FROM base\nRUN sleep 1; echo 1 > /1\nRUN sleep 1; cat /1 > /2\nRUN cat /2 > /3\nCMD cat /3\n");
    let hits = dunnage.dir("").join("hits");
    let mut command = dunnage.command(["build", "-q", "-t", "app", "context"]);
    command.env("DUNNAGE_FAILPOINTS", format!("*=record:{}", hits.display()));
    testdata::Ran::from(command.output().unwrap()).ok();
    let text = std::fs::read_to_string(&hits).unwrap();
    std::fs::remove_file(hits).unwrap();
    let hits: Vec<&str> =
        text.lines().filter(|hit| ["step.start", "step.exit", "snapshot.make"].contains(hit)).collect();
    let step = ["step.start", "snapshot.make", "step.exit"];
    let last = ["step.start", "step.exit"];
    assert_eq!(hits, [&["snapshot.make"][..], &step, &step, &last].concat(), "{text}");
}

#[test]
fn what_was_begun_in_vain_leaves_nothing() {
    if skipped(&NEEDS) {
        return;
    }
    let dunnage = chain(CHAIN);
    dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
    let first = layers(&dunnage);
    // The steps behind the one that changed find their layers again: its tree is the same.
    dunnage.write("context/Dockerfile", CHAIN.replace("RUN rm /d/a &&", "RUN rm -f /d/a &&"));
    dunnage.run(["build", "-q", "-t", "app", "context"]).ok();
    assert_eq!(layers(&dunnage), first);
    // One fails while the next is begun.
    dunnage.write("context/Dockerfile", CHAIN.replace("test ! -e /d/in", "test -e /d/in"));
    dunnage.run(["build", "-q", "-t", "app", "context"]).fails(1, "/d/in");
    dunnage.run(["system", "check"]).ok();
    assert!(dunnage.leftovers().is_empty(), "{:?}", dunnage.leftovers());
}
