//! How long reading takes: a file of 10,000 lines, and every file of the corpus where there is one.
//!
//! `cargo bench -p dunnage-grammar`; the goal is 20 ms for the one and 1 ms for each of the others.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use std::fmt::Write;

use dunnage_grammar::{Source, lint, parse};

fn main() {
    divan::main();
}

/// 10,000 lines as people write them: stages, continuations, flags, variables, a heredoc now and then.
fn long() -> Source {
    let mut text = String::from("# syntax=docker/dockerfile:1\nARG VERSION=1\n");
    let mut stage = 0;
    while text.lines().count() < 9_990 {
        stage += 1;
        writeln!(text, "FROM debian:12 AS stage-{stage}\nARG VERSION\nENV A=\"$VERSION\" B=two C=three").unwrap();
        writeln!(text, "# a comment\nWORKDIR /src/{stage}\nCOPY --chown=1000:1000 --link a.txt b.txt /dst/").unwrap();
        writeln!(text, "RUN --mount=type=cache,target=/c apt-get update && \\\n    # why\n    apt-get install -y gcc && \\\n    rm -rf /var/lib/apt/lists/*").unwrap();
        writeln!(text, "COPY <<-EOF /etc/conf\n\tname = $VERSION\n\tother = x\nEOF").unwrap();
        writeln!(text, "LABEL org.example.one=1 \\\n      org.example.two=\"2 3\"\nCMD [\"/bin/app\", \"--flag\"]\n")
            .unwrap();
    }
    Source::new("Dockerfile", text)
}

#[divan::bench]
fn ten_thousand_lines(bencher: divan::Bencher<'_, '_>) {
    let source = long();
    println!("{} lines, {} bytes", source.text().lines().count(), source.text().len());
    bencher.bench(|| parse(&source));
}

#[divan::bench]
fn ten_thousand_lines_checked(bencher: divan::Bencher<'_, '_>) {
    let source = long();
    bencher.bench(|| lint(&parse(&source)));
}

/// What no reader can beat: one pass over the bytes for the ends of lines.
#[divan::bench]
fn ten_thousand_lines_counted(bencher: divan::Bencher<'_, '_>) {
    let source = long();
    bencher.bench(|| divan::black_box(source.text()).lines().filter(|line| !line.is_empty()).count());
}

/// The file of the corpus that takes longest.
#[divan::bench]
fn slowest_of_the_corpus(bencher: divan::Bencher<'_, '_>) {
    let Some(folder) = testdata::corpus() else { return };
    let texts = testdata::files(&folder, ".Dockerfile").into_iter().map(|path| std::fs::read(path).unwrap());
    let sources = texts.map(|text| Source::new("Dockerfile", String::from_utf8_lossy(&text)));
    let slowest = sources.max_by_key(|source| {
        let start = std::time::Instant::now();
        (0..20).for_each(|_| drop(parse(source)));
        start.elapsed()
    });
    let slowest = slowest.unwrap();
    println!("{} bytes", slowest.text().len());
    bencher.bench(|| parse(&slowest));
}
