//! `dunnage build`.

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use engine::{Annotation, AttestFlag, CacheFrom, CacheTo, Entitlement, Output, Platform, Rlimit};

use super::StorageArgs;
use super::lent::{self, SecretSpec, SshSpec};

/// Build an image from a Dockerfile
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  dunnage build -t app .                     build the directory and name the image app:latest
  dunnage build -f deploy/Dockerfile src     another Dockerfile, another context
  dunnage build https://host/repo.git#v1:app one directory of a repository
  dunnage build - < context.tar.gz           an archive, or a lone Dockerfile
  dunnage build --target test --no-cache .   one stage, and nothing from the cache
  dunnage build -o out .                     the files of the last stage into the directory out
  dunnage build --watch --run='--network host' .  build and run, again after every change")]
pub(crate) struct BuildArgs {
    #[command(flatten)]
    pub(crate) storage: StorageArgs,
    /// Name of the image, as NAME or NAME:TAG; can be repeated
    #[arg(short, long, value_name = "NAME")]
    pub(crate) tag: Vec<String>,
    /// The Dockerfile: a path, a URL, or - for standard input [default: CONTEXT/Dockerfile, else CONTEXT/Containerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// Value of an ARG, as NAME=VALUE, or NAME for the environment's; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = lent::named)]
    pub(crate) build_arg: Vec<String>,
    /// What a name of FROM, --from and mounts stands for, as NAME=VALUE: a directory, an archive's URL, a git
    /// repository, docker-image://IMAGE, oci-layout://DIR[:TAG|@DIGEST] or target:STAGE; can be repeated
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) build_context: Vec<String>,
    /// Stage to build [default: the last]
    #[arg(long, value_name = "STAGE")]
    pub(crate) target: Option<String>,
    /// Perform every step, whatever the cache has
    #[arg(long)]
    pub(crate) no_cache: bool,
    /// Perform the steps of these stages, whatever the cache has; others may hit
    #[arg(long, value_name = "STAGE", value_delimiter = ',')]
    pub(crate) no_cache_filter: Vec<String>,
    /// Ask the registries for all base images, also for those that are here
    #[arg(long)]
    pub(crate) pull: bool,
    /// Push the image under its names when it is built
    #[arg(long)]
    pub(crate) push: bool,
    /// Platform of the image, as linux/arm64; several with commas between, or repeated [default: this machine's]
    #[arg(long, value_name = "PLATFORM", value_delimiter = ',', value_parser = lent::platform)]
    pub(crate) platform: Vec<Platform>,
    /// Annotation of OCI outputs, as [PLACE:]KEY=VALUE; PLACE is manifest (the default) or manifest-descriptor, either
    /// with [PLATFORM] for one, index or index-descriptor; can be repeated
    #[arg(long, value_name = "ANNOTATION")]
    pub(crate) annotation: Vec<Annotation>,
    /// What is attested in OCI outputs, as type=sbom or type=provenance[,mode=min|max]; can be repeated
    #[arg(long, value_name = "ATTESTATION")]
    pub(crate) attest: Vec<AttestFlag>,
    /// Attest the packages of the image: --attest type=sbom
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = AttestFlag::sbom)]
    pub(crate) sbom: Option<AttestFlag>,
    /// Attest how the image was built: --attest type=provenance
    #[arg(long, value_name = "BOOL|mode=MODE", num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = AttestFlag::provenance)]
    pub(crate) provenance: Option<AttestFlag>,
    /// Secret for RUN --mount=type=secret, as id=ID,src=FILE or id=ID,env=NAME; can be repeated
    #[arg(long, value_name = "SPEC", value_parser = lent::secret)]
    pub(crate) secret: Vec<SecretSpec>,
    /// Agent for RUN --mount=type=ssh, as ID or ID=SOCKET [socket: $SSH_AUTH_SOCK]; can be repeated
    #[arg(long, value_name = "SPEC", value_parser = lent::ssh)]
    pub(crate) ssh: Vec<SshSpec>,
    /// What RUN may ask for: network.host, security.insecure, device for every device, device=NAME for one or all of
    /// its kind; can be repeated
    #[arg(long, value_name = "WHAT", value_delimiter = ',', value_parser = lent::allow)]
    pub(crate) allow: Vec<Entitlement>,
    /// Line of /etc/hosts in RUN steps, as NAME:ADDRESS or NAME:host-gateway; can be repeated
    #[arg(long, value_name = "HOST", value_parser = lent::host)]
    pub(crate) add_host: Vec<(String, IpAddr)>,
    /// Limit of RUN steps, as NAME=SOFT[:HARD]; can be repeated
    #[arg(long, value_name = "LIMIT", value_parser = lent::limit)]
    pub(crate) ulimit: Vec<Rlimit>,
    /// Size of /dev/shm in RUN steps [default: 64m]
    #[arg(long, value_name = "BYTES", value_parser = lent::size)]
    pub(crate) shm_size: Option<u64>,
    /// Control group that RUN steps are below: its limits are theirs together
    #[arg(long, value_name = "PATH", value_parser = lent::cgroup_parent)]
    pub(crate) cgroup_parent: Option<String>,
    /// Open a shell in the state of a RUN that fails
    #[arg(long)]
    pub(crate) debug: bool,
    /// Build again whenever a file changes that the build reads, until Ctrl-C
    #[arg(long, conflicts_with_all = ["debug", "check", "call"])]
    pub(crate) watch: bool,
    /// With --watch: run the image, and start it anew after each build; FLAGS are those of `dunnage run`, with blanks between
    #[arg(long, value_name = "FLAGS", num_args = 0..=1, require_equals = true, default_missing_value = "", requires = "watch")]
    pub(crate) run: Option<String>,
    /// Label of the image, as NAME=VALUE; can be repeated
    #[arg(long, value_name = "NAME=VALUE", value_parser = lent::named)]
    pub(crate) label: Vec<String>,
    /// Network of RUN steps: none is a loopback device only; default is this machine's, as host is
    #[arg(long, value_name = "MODE", default_value = "default")]
    pub(crate) network: BuildNetwork,
    /// How to show progress [default: $DUNNAGE_PROGRESS, else auto]
    #[arg(long, value_name = "MODE")]
    pub(crate) progress: Option<Progress>,
    /// Print nothing but the image's id
    #[arg(short, long)]
    pub(crate) quiet: bool,
    /// Look for mistakes, as `dunnage check` does, and build nothing
    #[arg(long, conflicts_with = "call")]
    pub(crate) check: bool,
    /// Build nothing and tell of the Dockerfile: `check`, `outline` or `targets`, with `,format=json` for programs
    #[arg(long, value_name = "METHOD", value_parser = Call::parse)]
    pub(crate) call: Option<Call>,
    /// File to write the image's id to
    #[arg(long, value_name = "FILE")]
    pub(crate) iidfile: Option<PathBuf>,
    /// Where the result goes, as DIRECTORY, - for a tar, or type=local|tar|oci|docker|image|registry|cacheonly,dest=PATH; without
    /// dest, type=docker is the store; can be repeated [default: an image of the store]
    #[arg(short, long, value_name = "OUTPUT")]
    pub(crate) output: Vec<Output>,
    /// Keep the image in the store, as is done without --output
    #[arg(long)]
    pub(crate) load: bool,
    /// Cache beyond the store to look steps up in: NAME or type=registry,ref=NAME, type=local,src=DIR, type=s3,bucket=NAME;
    /// can be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_from: Vec<CacheFrom>,
    /// Cache beyond the store to write the steps to: type=registry,ref=NAME, type=local,dest=DIR, type=s3,bucket=NAME, each
    /// with mode=min|max and mounts=ID for cache mounts, or type=inline; can be repeated
    #[arg(long, value_name = "CACHE")]
    pub(crate) cache_to: Vec<CacheTo>,
    /// File to write what was built to, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) metadata_file: Option<PathBuf>,
    /// Write a page of where the time went, and a trace beside it [default FILE: dunnage-timings.html]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true, default_missing_value = "dunnage-timings.html")]
    pub(crate) timings: Option<PathBuf>,
    /// Steps to perform at once [default: by the machine]
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    pub(crate) jobs: Option<u16>,
    /// What COPY and ADD read: a directory, a git repository, the URL of an archive or Dockerfile, or - for either of
    /// these on standard input
    #[arg(default_value = ".", value_parser = context)]
    pub(crate) context: PathBuf,
}

/// An empty argument is most often a shell variable that was not set.
fn context(text: &str) -> Result<PathBuf, String> {
    if text.is_empty() {
        return Err("the build context is an empty text: is a variable not set?".to_owned());
    }
    Ok(PathBuf::from(text))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BuildNetwork {
    /// The host's network, as long as there is no network of the build's own
    Default,
    /// The host's network, also for RUN --network=host
    Host,
    /// Loopback only
    None,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Progress {
    /// tty on a terminal, else plain
    Auto,
    /// Lines that are redrawn
    Tty,
    /// Lines that stay
    Plain,
    /// One JSON object a line
    Rawjson,
    /// Nothing
    Quiet,
}

/// What `--call` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Call {
    /// The question.
    pub(crate) method: CallMethod,
    /// The answer is for a program.
    pub(crate) json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallMethod {
    /// What `dunnage check` says.
    Check,
    /// Arguments, secrets and agents of the target.
    Outline,
    /// The stages.
    Targets,
}

impl Call {
    /// `METHOD[,format=json|text]`, as buildx has it; `build` is not a question.
    pub(super) fn parse(text: &str) -> Result<Call, String> {
        let mut parts = text.split(',');
        let method = match parts.next().unwrap_or_default() {
            "check" | "lint" => CallMethod::Check,
            "outline" => CallMethod::Outline,
            "targets" => CallMethod::Targets,
            other => return Err(format!("`{other}` is not a method: check, outline and targets are")),
        };
        let mut call = Call { method, json: false };
        for part in parts {
            match part {
                "format=json" => call.json = true,
                "format=text" => call.json = false,
                other => return Err(format!("`{other}` is not known: format=json and format=text are")),
            }
        }
        Ok(call)
    }
}
