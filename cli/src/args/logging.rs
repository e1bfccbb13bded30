//! `--log-driver` and `--log-opt`.

use engine::LogDriver;

use super::lent::size;

/// One `--log-opt`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogOption {
    MaxSize(u64),
    MaxFile(u32),
    Compress(bool),
    Tag(String),
    Labels(Vec<String>),
    LabelsRegex(String),
    Env(Vec<String>),
    EnvRegex(String),
}

pub(super) fn log_driver(text: &str) -> Result<LogDriver, String> {
    match text {
        "json-file" => Ok(LogDriver::JsonFile),
        "local" => Ok(LogDriver::Local),
        "none" => Ok(LogDriver::None),
        _ => Err("drivers are json-file, local and none".to_owned()),
    }
}

pub(super) fn log_option(text: &str) -> Result<LogOption, String> {
    match text.split_once('=') {
        Some(("max-size", "-1")) => Ok(LogOption::MaxSize(0)),
        Some(("max-size", bytes)) => size(bytes).map(LogOption::MaxSize),
        Some(("max-file", count)) => match count.parse() {
            Ok(count @ 1..) => Ok(LogOption::MaxFile(count)),
            _ => Err(format!("`{count}` is no number of files")),
        },
        Some(("compress", "true")) => Ok(LogOption::Compress(true)),
        Some(("compress", "false")) => Ok(LogOption::Compress(false)),
        Some(("tag", text)) => engine::check_log_tag(text).map(|()| LogOption::Tag(text.to_owned())),
        Some(("labels", list)) => Ok(LogOption::Labels(names(list))),
        Some(("env", list)) => Ok(LogOption::Env(names(list))),
        Some(("labels-regex", text)) => {
            engine::check_log_pattern(text).map(|()| LogOption::LabelsRegex(text.to_owned()))
        }
        Some(("env-regex", text)) => engine::check_log_pattern(text).map(|()| LogOption::EnvRegex(text.to_owned())),
        _ => Err(
            "options are max-size=BYTES, max-file=NUMBER, compress=true|false, tag=TEMPLATE, labels=, labels-regex=, \
                  env= and env-regex="
                .to_owned(),
        ),
    }
}

fn names(list: &str) -> Vec<String> {
    list.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_those_of_json_file() {
        assert!(log_option("max-file=0").is_err() && log_option("max-size=10k").is_ok() && log_option("x=1").is_err());
        assert_eq!(log_option("compress=true"), Ok(LogOption::Compress(true)));
        assert_eq!(log_option("labels=a,,b"), Ok(LogOption::Labels(vec!["a".to_owned(), "b".to_owned()])));
        assert!(log_option("tag={{.Name}}").is_ok() && log_option("tag={{.X}}").is_err());
        assert!(log_option("env-regex=(").is_err() && log_option("compress=").is_err());
    }
}
