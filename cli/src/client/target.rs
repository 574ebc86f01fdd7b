//! Which coordinator is meant, and with which token.

use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::settings::{Origin, TOKEN_VARIABLE, TokenSource};
use reqwest::Url;
use reqwest::header::HeaderValue;
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

/// The file of a state directory that says where its coordinator listens.
pub const URL_FILE: &str = "coordinator.url";
/// The file of a state directory with the token that its coordinator wrote at its first start.
const ADMIN_TOKEN_FILE: &str = "admin.token";
/// Most bytes of a file that holds a URL or a token: a token has less than 100.
const MAX_FILE_BYTES: u64 = 4 << 10;

/// A coordinator, and the right to speak to it.
pub struct Target {
    /// Where it is.
    pub url: Url,
    /// Who says that it is there.
    pub named_by: String,
    /// The header that proves who we are.
    pub token: Option<Token>,
}

/// A token. Shows itself to nobody.
pub struct Token {
    /// `Bearer …`.
    pub header: HeaderValue,
    /// Where it was found.
    pub from: String,
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token(from {})", self.from)
    }
}

impl Target {
    /// The coordinator that a flag, a variable or a profile names.
    ///
    /// # Errors
    /// That is no URL, or its token cannot be read.
    pub fn named(context: &Context) -> Result<Option<Self>, Failure> {
        let setting = &context.coordinator;
        let Some(coordinator) = &setting.value else { return Ok(None) };
        let named_by = match (&coordinator.profile, &setting.origin) {
            (Some(profile), _) => format!("profile {profile}"),
            (None, Origin::Flag { name } | Origin::Environment { name }) => (*name).to_owned(),
            (None, origin) => origin.to_string(),
        };
        let url = parse_url(&coordinator.url)
            .map_err(|why| Failure::new(Exit::Usage, format!("{named_by}: {why}")).help(URL_HELP))?;
        let token = find_token(context, &url)?;
        Ok(Some(Self { url, named_by, token }))
    }

    /// The one that is named, else the one that serves the state directory.
    ///
    /// # Errors
    /// There is none, or as [`named`](Self::named).
    pub fn required(context: &Context) -> Result<Self, Failure> {
        if let Some(target) = Self::named(context)? {
            return Ok(target);
        }
        let path = context.state.join(URL_FILE);
        let Some(text) = read_small(&path).map_err(|error| unreadable(&path, &error))? else {
            let message = format!("no coordinator serves {}", context.state.display());
            return Err(Failure::new(Exit::OutOfReach, message).help(
                "start one with `cairn coordinator`, or name one with --url URL, --profile NAME or CAIRN_URL",
            ));
        };
        let url = parse_url(&text).map_err(|why| {
            Failure::new(Exit::OutOfReach, format!("{}: {why}", path.display()))
                .help("start the coordinator again, or name it with --url URL")
        })?;
        // A file that came with a directory from elsewhere must not lead our token out of this machine.
        if !is_loopback(&url) {
            let message = format!("{} names another machine: {url}", path.display());
            return Err(Failure::new(Exit::OutOfReach, message)
                .help("if that is the coordinator that you mean, name it with --url URL"));
        }
        let token = find_token(context, &url)?;
        Ok(Self { url, named_by: path.display().to_string(), token })
    }

    /// Whether a token would cross a network in the clear.
    pub fn is_open(&self) -> bool {
        self.token.is_some() && self.url.scheme() == "http" && !is_loopback(&self.url)
    }
}

const URL_HELP: &str = "write it like http://127.0.0.1:7420 or https://cairn.example.org";

/// Reads the URL of a coordinator: where it is, and nothing else.
fn parse_url(text: &str) -> Result<Url, String> {
    let shown = text.escape_debug();
    let url = Url::parse(text).map_err(|error| format!("`{shown}` is no URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(format!("`{shown}` is no URL of http or https"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("a URL with a password in it is shown to everybody: use a token".to_owned());
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(format!("`{shown}` is more than the place of a coordinator"));
    }
    Ok(url)
}

/// Whether a URL stays on this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// The token that is named; else, for the coordinator of the state directory, the one that is kept there.
fn find_token(context: &Context, url: &Url) -> Result<Option<Token>, Failure> {
    match &context.token {
        Some(TokenSource::Variable) => {
            let text = std::env::var(TOKEN_VARIABLE).unwrap_or_default();
            token(&text, TOKEN_VARIABLE.to_owned()).map(Some)
        }
        Some(TokenSource::File(path)) => match read_small(path) {
            Ok(Some(text)) => token(&text, path.display().to_string()).map(Some),
            Ok(None) => Err(unreadable(path, &io::ErrorKind::NotFound.into())),
            Err(error) => Err(unreadable(path, &error)),
        },
        // Another coordinator on this machine may be anybody's.
        None if is_loopback(url) && serves(&context.state, url) => {
            let path = admin_token_file(&context.state);
            match read_small(&path) {
                Ok(Some(text)) => token(&text, path.display().to_string()).map(Some),
                // It is another user's; the coordinator says whether one is needed.
                Ok(None) | Err(_) => Ok(None),
            }
        }
        None => Ok(None),
    }
}

/// Whether the coordinator of a state directory says that it answers there.
fn serves(state: &Path, url: &Url) -> bool {
    let said = read_small(&state.join(URL_FILE)).ok().flatten();
    said.and_then(|text| parse_url(&text).ok()).is_some_and(|said| {
        is_loopback(&said)
            && said.scheme() == url.scheme()
            && said.port_or_known_default() == url.port_or_known_default()
    })
}

/// Where the coordinator of a state directory leaves the token of its first start.
pub fn admin_token_file(state: &Path) -> PathBuf {
    state.join(ADMIN_TOKEN_FILE)
}

fn token(text: &str, from: String) -> Result<Token, Failure> {
    let wrong = || {
        Failure::new(Exit::NotAllowed, format!("{from} holds no token"))
            .help("a token is one word, as `cairn token create` prints it")
    };
    let text = text.trim();
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(wrong());
    }
    let mut header = HeaderValue::from_str(&format!("Bearer {text}")).map_err(|_| wrong())?;
    header.set_sensitive(true);
    Ok(Token { header, from })
}

/// The trimmed text of a small file, if it is there.
fn read_small(path: &Path) -> io::Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = String::new();
    file.take(MAX_FILE_BYTES).read_to_string(&mut text)?;
    Ok(Some(text.trim().to_owned()))
}

fn unreadable(path: &Path, error: &io::Error) -> Failure {
    Failure::new(Exit::NotAllowed, format!("cannot read {}: {error}", path.display()))
        .help("make it a file that you can read, with the token that `cairn token create` printed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_the_place_of_a_coordinator_and_nothing_else() {
        assert_eq!(parse_url("http://127.0.0.1:7420").expect("a URL").as_str(), "http://127.0.0.1:7420/");
        assert!(parse_url("https://example.org/cairn").is_ok());
        for wrong in
            ["", "127.0.0.1:7420", "localhost:7420", "ftp://x", "http://", "http://x?y", "http://x#y"]
        {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
        let message = parse_url("http://ada:s3cret@x").expect_err("a password");
        assert!(!message.contains("s3cret"), "{message}");
    }

    #[test]
    fn loopback_is_this_machine_however_it_is_written() {
        let is = |text: &str| is_loopback(&Url::parse(text).expect("a URL"));
        assert!(
            is("http://127.0.0.1:1")
                && is("http://127.9.9.9")
                && is("http://[::1]:1")
                && is("http://localhost")
        );
        assert!(!is("http://10.0.0.1") && !is("http://localhost.example.org") && !is("http://[::2]"));
    }

    #[test]
    fn a_token_is_one_word_and_never_shown() {
        let found = token(" cairn_abc\n", "X".to_owned()).expect("a token");
        assert_eq!(found.header.to_str().expect("text"), "Bearer cairn_abc");
        assert!(!format!("{found:?} {:?}", found.header).contains("abc"));
        for wrong in ["", "a b", "a\u{e4}", "a\nb"] {
            let failure = token(wrong, "X".to_owned()).expect_err("none");
            assert_eq!(failure.message, "X holds no token");
        }
    }
}
