//! A build of six steps in three stages, and empty stores beside it: what tests of caches beyond the store begin with.

use crate::{BASE, Dunnage, copy_tree};

/// Its Dockerfile. One step gives other content each time that it runs.
pub const CACHED_BUILD: &str = "FROM base AS make
COPY src /src
RUN cat /src/* /src/* > /out && date +%s%N > /stamp
FROM base AS other
RUN mkdir /d && echo other > /d/other
FROM base
COPY --from=make /out /out
COPY --from=other /d/other /other
RUN cat /out /other > /both
";

impl Dunnage {
    /// A store with the image `base`, and the build in `context`; `None`, with a word of why, where the machine lacks something.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn with_cached_build(binary: &str) -> Option<Dunnage> {
        let dunnage = Dunnage::with_base(binary, &BASE)?;
        dunnage.write("context/Dockerfile", CACHED_BUILD);
        dunnage.write("context/src/a", "a".repeat(300_000));
        dunnage.run(["save", "-o", "base.tar", "base"]).ok();
        Some(dunnage)
    }

    /// A store with nothing but the base image, and the same files beside it: the context, and a cache in `cache`.
    ///
    /// # Panics
    /// When it cannot be made.
    pub fn elsewhere(&self) -> Dunnage {
        let other = self.beside();
        for name in ["context", "cache"] {
            copy_tree(&self.dir(name), &other.dir(name));
        }
        other.write("base.tar", std::fs::read(self.dir("").join("base.tar")).unwrap());
        other.run(["load", "-i", "base.tar"]).ok();
        other
    }

    /// Builds `context` with these flags. What the build told, and the id of the image.
    ///
    /// # Panics
    /// When it fails.
    #[track_caller]
    pub fn build_context(&self, args: &[&str]) -> (String, String) {
        let mut all = vec!["build", "--iidfile", "iid", "--progress", "plain"];
        all.extend_from_slice(args);
        all.push("context");
        let told = self.run(all).ok().stderr;
        (told, std::fs::read_to_string(self.dir("").join("iid")).unwrap())
    }

    /// All steps of the last build were hits.
    ///
    /// # Panics
    /// When they were not so many.
    #[track_caller]
    pub fn all_cached(&self, of: usize) {
        assert_eq!(self.statuses(), vec!["cached"; of]);
    }
}
