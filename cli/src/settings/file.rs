//! Settings files: the project's and the user's.
//!
//! A project's file comes with the project, perhaps from strangers: it may choose among the profiles of the user, and
//! never say where a coordinator is or which token is sent to it.

use super::{KEYS, nearest};
use crate::exit::{Exit, Failure};
use serde_json::Value;
use serde_saphyr::Spanned;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

/// The name of a project file.
pub const PROJECT_FILE: &str = ".cairn.yaml";
/// Most bytes of a settings file: they have a handful of keys.
const MAX_FILE_BYTES: u64 = 1 << 20;
/// The key of the profiles.
const PROFILES: &str = "profiles";

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The project's.
    Project,
    /// The user's.
    User,
}

/// A coordinator that is known by a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// Where it is.
    pub url: String,
    /// The file of the token for it.
    pub token_file: Option<PathBuf>,
}

/// A settings file that was read.
#[derive(Clone, Debug)]
pub struct SettingsFile {
    /// Which file.
    pub path: PathBuf,
    /// Texts with their lines.
    pub values: HashMap<&'static str, (String, u64)>,
    /// Coordinators by name.
    pub profiles: BTreeMap<String, Profile>,
}

/// Where the user's file would be.
pub fn user_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("cairn").join("config.yaml"))
}

/// A settings file, if it is there.
///
/// # Errors
/// It cannot be read, or is wrong.
pub fn read_file(path: &Path, owner: Owner) -> Result<Option<SettingsFile>, Failure> {
    let failed = |error: &io::Error| {
        let message = format!("cannot read the settings in {}: {error}", path.display());
        Failure::new(Exit::Usage, message)
    };
    match std::fs::metadata(path) {
        Ok(metadata) if metadata.len() > MAX_FILE_BYTES => {
            return Err(failed(&io::Error::new(io::ErrorKind::FileTooLarge, "it has more than 1 MiB")));
        }
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(&error)),
    }
    let text = std::fs::read_to_string(path).map_err(|error| failed(&error))?;
    parse_file(path, &text, owner).map(Some)
}

/// Reads the text of a settings file.
///
/// # Errors
/// It is wrong: in which line, and what to write instead.
pub fn parse_file(path: &Path, text: &str, owner: Owner) -> Result<SettingsFile, Failure> {
    let wrong = |line: u64, message: String| {
        Failure::new(Exit::Usage, format!("{}:{line}: {message}", path.display()))
    };
    let read: Option<HashMap<Spanned<String>, Value>> = serde_saphyr::from_str(text).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let text = error.without_snippet().to_string();
        wrong(line, format!("this is no file of settings: {text}"))
    })?;
    let mut file = SettingsFile { path: path.to_owned(), values: HashMap::new(), profiles: BTreeMap::new() };
    for (name, value) in read.unwrap_or_default() {
        let line = name.referenced.line();
        if name.value == PROFILES {
            if owner == Owner::Project {
                let message = "the file of a project cannot say where coordinators are".to_owned();
                return Err(wrong(line, message).help(
                    "put `profiles` into your own file (~/.config/cairn/config.yaml), and `profile: NAME` here",
                ));
            }
            file.profiles =
                profiles(path, value).map_err(|(message, help)| wrong(line, message).help(help))?;
            continue;
        }
        let Some(key) = KEYS.iter().filter(|key| key.is_in_files).find(|key| key.name == name.value) else {
            let names = KEYS.iter().filter(|key| key.is_in_files).map(|key| key.name).chain([PROFILES]);
            let help = match nearest(&name.value, names.clone()) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("the keys are {}", names.collect::<Vec<_>>().join(", ")),
            };
            let message = format!("`{}` is not a setting", name.value.escape_debug());
            return Err(wrong(line, message).help(help));
        };
        let text = match value {
            Value::String(text) => text,
            Value::Number(number) => number.to_string(),
            // Nothing is like no line at all.
            Value::Null => continue,
            _ => return Err(wrong(line, format!("`{}` is to be {}", key.name, key.values))),
        };
        file.values.insert(key.name, (text, line));
    }
    Ok(file)
}

/// Reads `profiles`; what is wrong with it, and what to write instead.
fn profiles(path: &Path, value: Value) -> Result<BTreeMap<String, Profile>, (String, String)> {
    let form = || "write it as `NAME: {url: https://…, token_file: …}`".to_owned();
    let entries = match value {
        Value::Object(entries) => entries,
        Value::Null => return Ok(BTreeMap::new()),
        _ => return Err(("`profiles` is to have a profile for each name".to_owned(), form())),
    };
    let mut profiles = BTreeMap::new();
    for (name, entry) in entries {
        let wrong = |message: &str| (format!("profile `{}`: {message}", name.escape_debug()), form());
        let Value::Object(mut fields) = entry else { return Err(wrong("this is no profile")) };
        let mut text = |field: &str| match fields.remove(field) {
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
            Some(_) => Err(wrong(&format!("`{field}` is to be a text"))),
            None => Ok(None),
        };
        let Some(url) = text("url")? else { return Err(wrong("it has no `url`")) };
        let directory = path.parent().unwrap_or(Path::new(""));
        let token_file = text("token_file")?.map(|file| directory.join(file));
        if let Some(unknown) = fields.keys().next() {
            return Err(wrong(&format!("`{}` is not a key of a profile", unknown.escape_debug())));
        }
        profiles.insert(name, Profile { url, token_file });
    }
    Ok(profiles)
}

/// The profile of that name.
///
/// # Errors
/// There is none: the nearest one.
pub fn find_profile<'a>(user: Option<&'a SettingsFile>, name: &str) -> Result<&'a Profile, Failure> {
    let profiles = user.map(|file| &file.profiles);
    if let Some(profile) = profiles.and_then(|profiles| profiles.get(name)) {
        return Ok(profile);
    }
    let names = profiles.into_iter().flat_map(BTreeMap::keys).map(String::as_str);
    let message = format!("there is no profile `{}`", name.escape_debug());
    let failure = Failure::new(Exit::Usage, message);
    Err(match (nearest(name, names.clone()), names.clone().next()) {
        (Some(near), _) => failure.help(format!("did you mean `{near}`?")),
        (None, Some(_)) => failure.help(format!("the profiles are {}", names.collect::<Vec<_>>().join(", "))),
        (None, None) => failure.help(format!(
            "write it into ~/.config/cairn/config.yaml: `profiles: {{{name}: {{url: https://…, {}: …}}}}`",
            "token_file"
        )),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, owner: Owner) -> Result<SettingsFile, (String, Option<String>)> {
        parse_file(Path::new("/p/c.yaml"), text, owner).map_err(|failure| (failure.message, failure.help))
    }

    #[test]
    fn a_key_that_is_not_known_is_named_with_its_line_and_the_nearest_one() {
        let (message, help) = parse("state: x\njbos: 3\n", Owner::Project).expect_err("wrong");
        assert_eq!(message, "/p/c.yaml:2: `jbos` is not a setting");
        assert_eq!(help.as_deref(), Some("did you mean `jobs`?"));
        let (_, help) = parse("zebra: 3", Owner::User).expect_err("wrong");
        assert_eq!(
            help.as_deref(),
            Some("the keys are state, store, store_file, output, color, jobs, profile, profiles")
        );
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_its_line() {
        let message = |text: &str| parse(text, Owner::Project).expect_err("wrong").0;
        assert!(message("- a\n").starts_with("/p/c.yaml:1: this is no file of settings"));
        assert!(message("state: a\nstate: b\n").starts_with("/p/c.yaml:2: "));
        assert_eq!(message("jobs: [1]\n"), "/p/c.yaml:1: `jobs` is to be a whole number from 1");
    }

    #[test]
    fn only_the_users_file_says_where_coordinators_are() {
        let text = "jobs: 2\nprofiles: {prod: {url: 'https://c', token_file: t}, dev: {url: 'http://d'}}\n";
        let user = parse(text, Owner::User).expect("sound");
        assert_eq!(user.profiles["prod"].token_file.as_deref(), Some(Path::new("/p/t")), "beside the file");
        assert_eq!(user.profiles["dev"], Profile { url: "http://d".to_owned(), token_file: None });
        let (message, _) = parse(text, Owner::Project).expect_err("not its business");
        assert_eq!(message, "/p/c.yaml:2: the file of a project cannot say where coordinators are");
        assert!(parse("url: http://x\n", Owner::Project).is_err(), "nor by any other key");
        let profile = |name| find_profile(Some(&user), name).map_err(|failure| failure.help);
        assert_eq!(profile("dev").expect("there").url, "http://d");
        assert_eq!(profile("prd").expect_err("none").as_deref(), Some("did you mean `prod`?"));
    }

    #[test]
    fn a_profile_that_is_wrong_is_named() {
        let message = |text: &str| parse(text, Owner::User).expect_err("wrong").0;
        assert_eq!(message("profiles: 3"), "/p/c.yaml:1: `profiles` is to have a profile for each name");
        assert_eq!(message("profiles: {a: {}}"), "/p/c.yaml:1: profile `a`: it has no `url`");
        assert_eq!(
            message("profiles: {a: {url: x, token: s3cret}}"),
            "/p/c.yaml:1: profile `a`: `token` is not a key of a profile"
        );
    }

    #[test]
    fn the_users_file_is_where_xdg_says() {
        let at = |pairs: &'static [(&str, &str)]| {
            user_file(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into())
            })
        };
        assert_eq!(at(&[("XDG_CONFIG_HOME", "/x"), ("HOME", "/h")]), Some("/x/cairn/config.yaml".into()));
        assert_eq!(
            at(&[("XDG_CONFIG_HOME", ""), ("HOME", "/h")]),
            Some("/h/.config/cairn/config.yaml".into())
        );
        assert_eq!(at(&[]), None);
    }
}
