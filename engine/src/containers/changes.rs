//! `commit --change`: instructions of a Dockerfile that change an image's configuration, read as a build reads them.

use cache::{Image, ImageConfig, Reference, RunConfig};
use grammar::{Instruction, Severity, Source};

use crate::error::{Error, Result};

/// The image that the instructions stand on, for the planner alone.
const BASE: &str = "committed";

/// The configuration with the changes made.
pub(crate) fn changed(config: &ImageConfig, changes: &[String]) -> Result<RunConfig> {
    let refused = |message: &str| Error::Usage(format!("--change: {message}"));
    let parsed = grammar::parse(&Source::new("--change", format!("FROM {BASE}\n{}\n", changes.join("\n"))));
    if let Some(error) = parsed.diagnostics.iter().find(|diagnostic| diagnostic.severity == Severity::Error) {
        return Err(refused(&error.message));
    }
    let stages = &parsed.dockerfile.stages;
    let mut instructions = stages.iter().flat_map(|stage| &stage.instructions);
    if stages.len() != 1 || instructions.any(|located| !is_configuration(&located.value)) {
        return Err(refused(
            "only CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME and WORKDIR change an image",
        ));
    }
    // What the image asks of builds on it is not asked of this.
    let mut base = config.clone();
    base.config.on_build.clear();
    let name: Reference = BASE.parse().map_err(|_| refused("the base has no name"))?;
    let images = [(name, Image::from_config(base)?)].into();
    let plan =
        builder::plan(&parsed.dockerfile, &builder::Options::default(), &images).map_err(|error| match error {
            builder::Error::Dockerfile(diagnostics) => {
                refused(diagnostics.first().map_or("it cannot be read", |diagnostic| diagnostic.message.as_str()))
            }
            other => other.into(),
        })?;
    let mut changed = plan.run_config().clone();
    changed.on_build = [config.config.on_build.clone(), changed.on_build].concat();
    Ok(changed)
}

fn is_configuration(instruction: &Instruction) -> bool {
    matches!(
        instruction,
        Instruction::Cmd(_)
            | Instruction::Entrypoint(_)
            | Instruction::Env(_)
            | Instruction::Expose(_)
            | Instruction::Healthcheck(_)
            | Instruction::Label(_)
            | Instruction::Onbuild(_)
            | Instruction::Stopsignal(_)
            | Instruction::User(_)
            | Instruction::Volume(_)
            | Instruction::Workdir(_)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn instructions_change_the_configuration_and_others_are_refused() {
        let mut config = ImageConfig::default();
        config.config.env = vec!["A=1".to_owned()];
        config.config.on_build = vec!["RUN no".to_owned()];
        let change =
            |lines: &[&str]| changed(&config, &lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>());
        let done =
            change(&["CMD [\"a\", \"b\"]", "env A=2 B=$A", "LABEL x=y", "WORKDIR /w", "EXPOSE 80", "ONBUILD RUN x"])
                .unwrap();
        assert_eq!(done.cmd.unwrap(), ["a", "b"]);
        assert!(done.env.contains(&"A=2".to_owned()) && done.env.contains(&"B=1".to_owned()), "{:?}", done.env);
        assert_eq!((done.working_dir.as_str(), done.labels["x"].as_str()), ("/w", "y"));
        assert_eq!(done.on_build, ["RUN no", "RUN x"]);
        for bad in ["RUN x", "COPY a b", "FROM x", "CDM x", "EXPOSE x", "STOPSIGNAL 12345", ""] {
            let lines: &[&str] = if bad.is_empty() { &["CMD"] } else { &[bad] };
            let message = change(lines).map(drop);
            assert!(bad.is_empty() || message.unwrap_err().to_string().starts_with("--change: "), "{bad}");
        }
    }
}
