//! `WWW-Authenticate`: what a server wants to know (RFC 9110, 11.6.1; RFC 6750, 3).

/// Most challenges, and most parameters of one, that are looked at.
const MOST: usize = 16;

/// One way in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with each request.
    Basic,
    /// A token from elsewhere.
    Bearer {
        /// Where.
        realm: String,
        /// For whom.
        service: Option<String>,
        /// For what; the client knows that itself.
        scope: Option<String>,
        /// Why the token that was sent is not good enough.
        error: Option<String>,
    },
}

/// All challenges of a header that are understood; others are passed over.
pub(super) fn parse(header: &str) -> Vec<Challenge> {
    let mut found = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() && found.len() < MOST {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            break;
        }
        let (parameters, after) = parameters(after.trim_start());
        let get = |name: &str| {
            parameters.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.clone())
        };
        if scheme.eq_ignore_ascii_case("basic") {
            found.push(Challenge::Basic);
        } else if scheme.eq_ignore_ascii_case("bearer")
            && let Some(realm) = get("realm")
        {
            found.push(Challenge::Bearer { realm, service: get("service"), scope: get("scope"), error: get("error") });
        }
        if after.len() == rest.len() {
            break;
        }
        rest = after.trim_start_matches([' ', '\t', ',']);
    }
    found
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c))).unwrap_or(text.len());
    text.split_at(end)
}

/// `name=value` and `name="value"` up to what begins another challenge.
fn parameters(mut text: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let (name, after) = token(text.trim_start_matches([' ', '\t', ',']));
        let Some(value) = after.trim_start().strip_prefix('=').filter(|_| !name.is_empty()) else { break };
        let (value, after) = self::value(value.trim_start());
        if found.len() < MOST {
            found.push((name.to_owned(), value));
        }
        text = after;
    }
    (found, text)
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, after) = token(text);
        return (value.to_owned(), after);
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            _ if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, quoted.get(at + 1..).unwrap_or_default()),
            _ => value.push(c),
        }
    }
    // No end: what is there is all there is.
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        let own = |text: Option<&str>| text.map(str::to_owned);
        Challenge::Bearer { realm: realm.to_owned(), service: own(service), scope: own(scope), error: None }
    }

    #[test]
    fn challenges_are_read_as_servers_write_them() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let cases = [
            (
                hub,
                vec![bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:a/b:pull,push"),
                )],
            ),
            (r#"Basic realm="x, y=z""#, vec![Challenge::Basic]),
            (r#"basic"#, vec![Challenge::Basic]),
            (r#"Negotiate abc==, Bearer realm=r, Basic realm="b""#, vec![Challenge::Basic]),
            (
                r#"Digest nonce="a", Bearer realm="r" , service="s", Basic"#,
                vec![bearer("r", Some("s"), None), Challenge::Basic],
            ),
            (r#"Bearer realm="a\"b""#, vec![bearer("a\"b", None, None)]),
            (r#"Bearer service="s""#, vec![]),
            (r#"Bearer realm="never ends"#, vec![bearer("never ends", None, None)]),
        ];
        for (text, wanted) in cases {
            if text.starts_with("Negotiate") {
                // A lone token with padding is no parameter: what follows may be lost, and nothing is invented.
                assert!(
                    parse(text)
                        .iter()
                        .all(|challenge| wanted.contains(challenge) || *challenge == bearer("r", None, None))
                );
                continue;
            }
            assert_eq!(parse(text), wanted, "{text}");
        }
        for odd in ["", ",,,", "=", "\"", "Bearer", "Bearer =", "Bearer realm", "é", &",Bearer realm=r".repeat(500)] {
            assert!(parse(odd).len() <= MOST, "{odd}");
        }
    }
}
