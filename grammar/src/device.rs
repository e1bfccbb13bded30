//! `RUN --device=NAME[,required]`: a device of the Container Device Interface, by its name.

use crate::rules::comma_separated;
use crate::values::{ValueError, parse_bool};

/// A device that a RUN asks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct DeviceRequest {
    /// `VENDOR/CLASS=DEVICE`, `VENDOR/CLASS=*` for all, `VENDOR/CLASS` for the first, or the class of an annotation.
    pub name: String,
    /// The step fails where there is none.
    pub required: bool,
}

impl DeviceRequest {
    /// Reads the value of the flag.
    ///
    /// # Errors
    /// When it has no name, or a key that is not known.
    pub fn parse(text: &str) -> Result<DeviceRequest, ValueError> {
        let mut request = DeviceRequest { name: String::new(), required: false };
        for field in
            comma_separated(text).ok_or_else(|| ValueError(format!("a quote stands where none may: {text}")))?
        {
            match field.split_once('=') {
                None if field == "required" => request.required = true,
                Some(("required", value)) => {
                    let bad = || ValueError(format!("invalid value for required: {value:?}"));
                    request.required = parse_bool(value).ok_or_else(bad)?;
                }
                Some(("name", name)) if request.name.is_empty() => request.name = name.to_owned(),
                // The name itself has a `=` in it.
                _ if request.name.is_empty() => request.name = field,
                _ => return Err(ValueError(format!("unexpected key {field:?}: name and required are known"))),
            }
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.:*/=".contains(c);
        if request.name.is_empty() || !request.name.chars().all(plain) {
            return Err(ValueError(format!("{:?} is no name of a device: write VENDOR/CLASS=DEVICE", request.name)));
        }
        Ok(request)
    }

    /// `VENDOR/CLASS`, or all of the name where it has no device in it.
    pub fn kind(&self) -> &str {
        self.name.split_once('=').map_or(self.name.as_str(), |(kind, _)| kind)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_whether_they_must_be_there() {
        let read = |text: &str| DeviceRequest::parse(text).map(|device| (device.name, device.required));
        let wanted = |name: &str, required| Ok((name.to_owned(), required));
        assert_eq!(read("v.com/c=d"), wanted("v.com/c=d", false));
        assert_eq!(read("v.com/c=*,required"), wanted("v.com/c=*", true));
        assert_eq!(read("name=v.com/c=d,required=true"), wanted("v.com/c=d", true));
        assert_eq!(read("required=false,v.com/c"), wanted("v.com/c", false));
        for bad in ["", "required", "v.com/c,other", "v.com/c=d,required=often", "a b", "v/c=d,name=x"] {
            assert!(read(bad).is_err(), "{bad}");
        }
        assert_eq!(DeviceRequest::parse("v.com/c=d").unwrap().kind(), "v.com/c");
    }
}
