//! First light on real input: a Debian base, a compiler installed by apt, two programs built side by side, a minimal image.
#![allow(clippy::unwrap_used, missing_docs)]

use testdata::{Dunnage, Need, copy_tree, skipped, workspace};

#[test]
fn a_debian_base_compiles_two_programs_in_parallel_stages() {
    if skipped(&[Need::Root, Need::Program("mmdebstrap")]) {
        return;
    }
    let dunnage = Dunnage::new(env!("CARGO_BIN_EXE_dunnage"));
    dunnage.run(["bootstrap", "--from", "debian:bookworm", "debian:bookworm"]).ok();
    let context = dunnage.dir("context");
    copy_tree(&workspace().join("testdata/compile"), &context);
    dunnage.run(["build", "-t", "app", "context"]).ok();
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "hello from a container\n6 * 7 = 42\n");

    let again = dunnage.run(["build", "-t", "app", "context"]).ok().stderr;
    assert!(again.contains("ran 0"), "{again}");

    let source = context.join("answer.c");
    let text = std::fs::read_to_string(&source).unwrap().replace("6, 7", "6, 8");
    std::fs::write(&source, text).unwrap();
    let changed = dunnage.run(["build", "-t", "app", "context"]).ok().stderr;
    // COPY answer.c, its compile step, and the COPY --from of its program.
    assert!(changed.contains("ran 3"), "{changed}");
    assert_eq!(dunnage.run(["run", "--rm", "app"]).ok().stdout, "hello from a container\n6 * 8 = 48\n");
}
