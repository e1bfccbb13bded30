//! The environment: the only place that reads it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use engine::{
    FetchOptions, HttpOptions, Owner, Proxies, RegistryFiles, S3Credentials, S3Environment, SearchPath, SettingsFiles,
    StorageChoice,
};

use crate::args::StorageDriver;

/// The store's directory: `$DUNNAGE_ROOT`, else where the system or the user keeps such data.
pub(crate) fn store_root(flag: Option<PathBuf>) -> PathBuf {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(root) = flag.or_else(|| set("DUNNAGE_ROOT")) {
        return root;
    }
    if engine::is_superuser() {
        return PathBuf::from("/var/lib/dunnage");
    }
    let data = set("XDG_DATA_HOME").or_else(|| Some(set("HOME")?.join(".local/share")));
    data.unwrap_or_else(|| PathBuf::from("/var/tmp")).join("dunnage")
}

/// Arms what DUNNAGE_FAILPOINTS asks for, in a binary that has failpoints: those of the tests.
///
/// # Errors
/// The sentence to show when it asks for what there is not.
pub(crate) fn arm_failpoints() -> Result<(), String> {
    engine::FAILPOINTS_VARIABLE.and_then(variable).map_or(Ok(()), |text| engine::arm_failpoints(&text))
}

/// Who runs this process: what it writes for the user belongs to them.
pub(crate) fn owner() -> Owner {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").map_or(Owner::default(), |me| Owner { uid: me.uid(), gid: me.gid() })
}

/// What makes snapshots: the flag, else `$DUNNAGE_STORAGE_DRIVER`.
///
/// # Errors
/// The sentence to show when the variable names none.
pub(crate) fn storage(flag: Option<StorageDriver>) -> Result<StorageChoice, String> {
    let variable = variable("DUNNAGE_STORAGE_DRIVER").filter(|value| !value.is_empty());
    let driver = match (flag, variable) {
        (Some(driver), _) => driver,
        (None, Some(text)) => StorageDriver::from_str(&text, false)
            .map_err(|_| format!("DUNNAGE_STORAGE_DRIVER is `{text}` and must be auto, overlay or copy"))?,
        (None, None) => StorageDriver::Auto,
    };
    Ok(match driver {
        StorageDriver::Auto => StorageChoice::Auto,
        StorageDriver::Overlay => StorageChoice::Overlay,
        StorageDriver::Copy => StorageChoice::Copy,
    })
}

/// This program, for processes of its own. Its file may have no path: one that starts containers runs by a mount that nobody
/// can reach.
pub(crate) const OWN_PROGRAM: &str = "/proc/self/exe";

/// The words of this process's command line behind its name; those that are no text are replaced.
pub(crate) fn words() -> impl Iterator<Item = String> {
    std::env::args_os().skip(1).map(|word| word.to_string_lossy().into_owned())
}

/// The directory that relative paths are of.
pub(crate) fn directory() -> Option<PathBuf> {
    std::env::current_dir().ok()
}

/// Makes relative paths be of another directory.
///
/// # Errors
/// The sentence to show when it cannot be entered.
pub(crate) fn enter(directory: &Path) -> Result<(), String> {
    std::env::set_current_dir(directory).map_err(|error| format!("cannot enter {}: {error}", directory.display()))
}

/// Where programs of this machine are.
pub(crate) fn search_path() -> SearchPath {
    let path = std::env::var_os("PATH").unwrap_or_default();
    SearchPath(std::env::split_paths(&path).filter(|directory| directory.is_absolute()).collect())
}

/// How the network is reached: the field's proxy variables, and the certificates of the machine.
pub(crate) fn fetch() -> FetchOptions {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let proxies = Proxies {
        // `HTTP_PROXY` in capitals can be set by a request where this runs below a web server.
        http: first(&["http_proxy"])
            .or_else(|| first(&["HTTP_PROXY"]).filter(|_| variable("REQUEST_METHOD").is_none())),
        https: first(&["https_proxy", "HTTPS_PROXY"]),
        all: first(&["all_proxy", "ALL_PROXY"]),
        none: first(&["no_proxy", "NO_PROXY"]),
    };
    let bundles = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];
    let certificates = first(&["SSL_CERT_FILE"])
        .map(PathBuf::from)
        .or_else(|| bundles.into_iter().map(PathBuf::from).find(|path| path.is_file()));
    FetchOptions {
        http: HttpOptions { proxies, certificates },
        programs: search_path(),
        registries: registries(),
        s3: object_stores(),
    }
}

/// What Amazon's own tools read: who we are at object stores, and where these are.
fn object_stores() -> S3Environment {
    let first = |names: &[&str]| names.iter().find_map(|name| variable(name).filter(|value| !value.is_empty()));
    let credentials = match (first(&["AWS_ACCESS_KEY_ID"]), first(&["AWS_SECRET_ACCESS_KEY"])) {
        (Some(access_key_id), Some(secret_access_key)) => {
            Some(S3Credentials { access_key_id, secret_access_key, session_token: first(&["AWS_SESSION_TOKEN"]) })
        }
        _ => None,
    };
    S3Environment {
        credentials,
        region: first(&["AWS_REGION", "AWS_DEFAULT_REGION"]),
        endpoint: first(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]),
    }
}

/// Our own files of settings, the first one first.
pub(crate) fn own_settings() -> Vec<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")));
    let of_user = config.map(|config| config.join("dunnage/config.toml"));
    [set("DUNNAGE_CONFIG"), of_user, Some(PathBuf::from("/etc/dunnage/config.toml"))].into_iter().flatten().collect()
}

/// Where the user's files about registries are: our own, docker's, and containers'.
fn registries() -> RegistryFiles {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = set("HOME");
    let config = set("XDG_CONFIG_HOME").or_else(|| Some(home.clone()?.join(".config")));
    let below = |path: &str| config.as_ref().map(|config| config.join(path));
    let docker = set("DOCKER_CONFIG").or_else(|| Some(home?.join(".docker"))).unwrap_or_default().join("config.json");
    let runtime = set("XDG_RUNTIME_DIR").map(|directory| directory.join("containers/auth.json"));
    let system = |path: &str| Some(PathBuf::from(path));
    let some = |paths: &[Option<PathBuf>]| paths.iter().flatten().cloned().collect::<Vec<_>>();
    RegistryFiles {
        settings: SettingsFiles {
            own: own_settings(),
            containers: match set("CONTAINERS_REGISTRIES_CONF") {
                Some(path) => vec![path],
                None => some(&[below("containers/registries.conf"), system("/etc/containers/registries.conf")]),
            },
            certificates: some(&[
                below("containers/certs.d"),
                system("/etc/containers/certs.d"),
                system("/etc/docker/certs.d"),
            ]),
        },
        inline: variable("DOCKER_AUTH_CONFIG").filter(|text| !text.is_empty()),
        credentials: some(&[set("REGISTRY_AUTH_FILE"), Some(docker.clone()), runtime, below("containers/auth.json")]),
        login: docker,
    }
}

/// Where this machine describes its devices (CDI): `$DUNNAGE_CDI_DIRS`, else the places that the interface names.
pub(crate) fn device_specs() -> Vec<PathBuf> {
    match std::env::var_os("DUNNAGE_CDI_DIRS").filter(|value| !value.is_empty()) {
        Some(paths) => std::env::split_paths(&paths).filter(|path| path.is_absolute()).collect(),
        None => ["/etc/cdi", "/var/run/cdi"].map(PathBuf::from).to_vec(),
    }
}

/// The value of a variable, for `--env NAME` and `--build-arg NAME`.
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The value of a variable, whatever its bytes are.
pub(crate) fn variable_bytes(name: &str) -> Option<Vec<u8>> {
    use std::os::unix::ffi::OsStringExt;
    std::env::var_os(name).map(OsStringExt::into_vec)
}

/// The socket of the caller's SSH agent.
pub(crate) fn agent_socket() -> Option<PathBuf> {
    std::env::var_os("SSH_AUTH_SOCK").filter(|path| !path.is_empty()).map(PathBuf::from)
}

/// `--progress` by environment: ours first, then the field's.
pub(crate) fn progress() -> Option<String> {
    variable("DUNNAGE_PROGRESS").or_else(|| variable("BUILDKIT_PROGRESS")).filter(|value| !value.is_empty())
}

/// A build service whose log has sections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BuildService {
    /// GitHub Actions.
    Github,
    /// GitLab CI.
    Gitlab,
}

/// The build service that this process runs in, where it is one of those.
pub(crate) fn build_service() -> Option<BuildService> {
    let set = |name: &str| variable(name).is_some_and(|value| value == "true");
    match (set("GITHUB_ACTIONS"), set("GITLAB_CI")) {
        (true, _) => Some(BuildService::Github),
        (false, true) => Some(BuildService::Gitlab),
        (false, false) => None,
    }
}

/// Where ports are published that name no address, by DUNNAGE_PUBLISH_ADDRESS.
///
/// # Errors
/// The sentence to show when it is no address.
pub(crate) fn publish_address() -> Result<Option<std::net::IpAddr>, String> {
    number("DUNNAGE_PUBLISH_ADDRESS", "an address such as 0.0.0.0", |text| text.parse().ok())
}

/// Bytes of a build's log that are kept, by DUNNAGE_LOG_LIMIT.
///
/// # Errors
/// The sentence to show when it is no size.
pub(crate) fn log_limit() -> Result<Option<u64>, String> {
    number("DUNNAGE_LOG_LIMIT", "a size such as 64m", |text| grammar::parse_size(text).ok())
}

/// Builds whose records are kept, by DUNNAGE_KEEP_BUILDS.
///
/// # Errors
/// The sentence to show when it is no number.
pub(crate) fn keep_builds() -> Result<Option<usize>, String> {
    number("DUNNAGE_KEEP_BUILDS", "a number from 1", |text| text.parse().ok().filter(|count| *count > 0))
}

fn number<T>(name: &str, form: &str, parse: impl Fn(&str) -> Option<T>) -> Result<Option<T>, String> {
    match variable(name).filter(|value| !value.is_empty()) {
        Some(text) => match parse(&text) {
            Some(value) => Ok(Some(value)),
            None => Err(format!("{name} is `{text}` and must be {form}")),
        },
        None => Ok(None),
    }
}

/// SOURCE_DATE_EPOCH in Unix seconds: that of `--build-arg`, else the environment's, which becomes a build argument.
///
/// # Errors
/// The sentence to show when it is no number.
pub(crate) fn source_date_epoch(build_args: &mut BTreeMap<String, String>) -> Result<Option<i64>, String> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if let Some(value) = variable(NAME).filter(|value| !value.is_empty()) {
        build_args.entry(NAME.to_owned()).or_insert(value);
    }
    match build_args.get(NAME).filter(|value| !value.is_empty()) {
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| format!("SOURCE_DATE_EPOCH is `{text}` and must be whole seconds since 1970")),
        None => Ok(None),
    }
}

/// Whether this is a build service or a terminal that cannot be redrawn.
pub(crate) fn plain_output() -> bool {
    variable("CI").is_some_and(|value| !value.is_empty() && value != "false")
        || variable("TERM").is_some_and(|term| term == "dumb")
}

/// What this machine's users are called; the number of one that has no name here.
pub(crate) fn user_name(uid: u32) -> String {
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let named = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse::<u32>().ok()? == uid).then(|| name.to_owned())
    };
    users.lines().find_map(named).unwrap_or_else(|| uid.to_string())
}
