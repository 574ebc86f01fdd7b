//! What is chosen by flags, environment, files and defaults, in this order, and which of them chose it.
//!
//! A project file is `.cairn.yaml` in the working directory or the nearest one above; a user file is
//! `$XDG_CONFIG_HOME/cairn/config.yaml`, or `~/.config/cairn/config.yaml`. Both have the keys of [`KEYS`]; the user's
//! file also has `profiles`. A relative path in a file is relative to the file's directory.
//!
//! A token is never a value here: only which file or variable holds it.

mod file;

use crate::context::{ColorChoice, Format};
use crate::exit::{Exit, Failure};
use cairn_coordinator::store::{StoreUrl, StoreUrlError};
use clap::ValueEnum;
use file::{Owner, PROJECT_FILE, SettingsFile, find_profile, read_file, user_file};
use serde::Serialize;
use std::collections::HashMap;
use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The state directory if nobody says anything.
pub const DEFAULT_STATE: &str = ".milestones";

/// One thing that can be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Its name in a file.
    pub name: &'static str,
    /// Its variable.
    pub variable: &'static str,
    /// Its flag.
    pub flag: &'static str,
    /// What can be written.
    pub values: &'static str,
    /// It can be said in a file, too.
    pub is_in_files: bool,
}

/// All that can be set.
pub const KEYS: [Key; 9] = [STATE, STORE, STORE_FILE, OUTPUT, COLOR, JOBS, PROFILE, URL, TOKEN_FILE];
const STATE: Key = key("state", "CAIRN_STATE", "--state", "a directory");
const STORE: Key = key("store", "CAIRN_STORE", "--store", STORES);
const STORE_FILE: Key =
    key("store_file", "CAIRN_STORE_FILE", "--store", "a file that holds the address of a store");
const OUTPUT: Key = key("output", "CAIRN_OUTPUT_FORMAT", "--output", "text, json, jsonl or yaml");
const COLOR: Key = key("color", "CAIRN_COLOR", "--color", "auto, always or never");
const JOBS: Key = key("jobs", "CAIRN_JOBS", "--jobs", "a whole number from 1");
const PROFILE: Key = key("profile", "CAIRN_PROFILE", "--profile", "the name of a profile");
const URL: Key = Key { is_in_files: false, ..key("url", "CAIRN_URL", "--url", "the URL of a coordinator") };
const TOKEN_FILE: Key =
    Key { is_in_files: false, ..key("token_file", "CAIRN_TOKEN_FILE", "--token-file", "a file") };

/// How stores are written.
const STORES: &str =
    "file:///DIRECTORY, sqlite:///DIRECTORY/cairn.db or postgres://USER:PASSWORD@HOST/DATABASE";

/// The variable that holds a token itself.
pub const TOKEN_VARIABLE: &str = "CAIRN_TOKEN";

const fn key(name: &'static str, variable: &'static str, flag: &'static str, values: &'static str) -> Key {
    Key { name, variable, flag, values, is_in_files: true }
}

/// Who chose a value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Origin {
    /// A flag of the command line.
    Flag {
        /// Which one.
        name: &'static str,
    },
    /// A variable.
    Environment {
        /// Which one.
        name: &'static str,
    },
    /// The project's file.
    ProjectFile {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// The user's file.
    UserFile {
        /// Which file.
        path: PathBuf,
        /// The line, from 1.
        line: u64,
    },
    /// Nobody.
    Default,
}

/// A value with who chose it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting<T> {
    /// The value.
    pub value: T,
    /// Who chose it.
    pub origin: Origin,
}

/// What is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The state directory.
    pub state: Setting<PathBuf>,
    /// Where events are to be kept, if that is said.
    pub store: Setting<Option<StoreUrl>>,
    /// The form of what is printed.
    pub output: Setting<Format>,
    /// When to use colours.
    pub color: Setting<ColorChoice>,
    /// Processes at a time; without a value one for each core.
    pub jobs: Setting<Option<NonZeroUsize>>,
    /// The coordinator, if one is named.
    pub coordinator: Setting<Option<Coordinator>>,
    /// What holds the token, if that is named.
    pub token: Setting<Option<TokenSource>>,
}

/// A coordinator that is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coordinator {
    /// Where it is.
    pub url: String,
    /// The profile that says so.
    pub profile: Option<String>,
}

/// What holds a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenSource {
    /// [`TOKEN_VARIABLE`].
    Variable,
    /// A file.
    File(PathBuf),
}

/// What the command line says.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// `--state`.
    pub state: Option<PathBuf>,
    /// `--output`.
    pub output: Option<Format>,
    /// `--color`.
    pub color: Option<ColorChoice>,
    /// `--url`.
    pub url: Option<String>,
    /// `--profile`.
    pub profile: Option<String>,
    /// `--token-file`.
    pub token_file: Option<PathBuf>,
}

/// Where settings come from besides the command line.
#[derive(Debug, Default)]
pub struct Sources {
    /// The variables of [`KEYS`] that are set.
    pub environment: HashMap<&'static str, OsString>,
    /// [`TOKEN_VARIABLE`] is set.
    pub has_token: bool,
    /// The project's file.
    pub project: Option<SettingsFile>,
    /// The user's file.
    pub user: Option<SettingsFile>,
}

impl Sources {
    /// The environment and the files of this process.
    ///
    /// # Errors
    /// A file cannot be read, or is wrong.
    pub fn gather() -> Result<Self, Failure> {
        let variable = |key: &Key| Some((key.variable, std::env::var_os(key.variable)?));
        let environment = KEYS.iter().filter_map(variable).filter(|(_, value)| !value.is_empty()).collect();
        let here = std::env::current_dir().ok();
        let mut above = here.iter().flat_map(|here| here.ancestors());
        let read_project = |directory: &Path| read_file(&directory.join(PROJECT_FILE), Owner::Project);
        let project = above.find_map(|directory| read_project(directory).transpose()).transpose()?;
        let user = user_file(|name| std::env::var_os(name));
        let user = user.map(|path| read_file(&path, Owner::User)).transpose()?.flatten();
        let has_token = std::env::var_os(TOKEN_VARIABLE).is_some_and(|token| !token.is_empty());
        Ok(Self { environment, has_token, project, user })
    }
}

/// The least likeness (Jaro-Winkler) at which a word is taken for a misspelt name.
const LIKENESS: f64 = 0.7;

fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let likeness = |name: &str| strsim::jaro_winkler(word, name);
    let best = names.max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= LIKENESS).then_some(best)
}

/// What is in force.
///
/// # Errors
/// A value cannot be read: who says it, and what can be said.
pub fn resolve(flags: Flags, sources: &Sources) -> Result<Settings, Failure> {
    let from = |key| look_up(key, sources);
    let path = |text: &OsString, origin: &Origin| Some(relative_to(text, origin));
    let word = |text: &OsString| text.to_str().map(str::to_owned);
    let coordinator = coordinator(&flags, sources)?;
    let token = token(&flags, sources, &coordinator)?;
    Ok(Settings {
        state: choose(STATE, flags.state, from(STATE), path, DEFAULT_STATE.into())?,
        store: store(sources)?,
        output: choose(
            OUTPUT,
            flags.output,
            from(OUTPUT),
            |text, _| Format::from_str(&word(text)?, false).ok(),
            Format::default(),
        )?,
        color: choose(
            COLOR,
            flags.color,
            from(COLOR),
            |text, _| ColorChoice::from_str(&word(text)?, false).ok(),
            ColorChoice::default(),
        )?,
        jobs: choose(JOBS, None, from(JOBS), |text, _| Some(Some(word(text)?.parse().ok()?)), None)?,
        coordinator,
        token,
    })
}

/// Of each source the address, or else the file that holds it. What is wrong is told without the address, which may hold a
/// password.
fn store(sources: &Sources) -> Result<Setting<Option<StoreUrl>>, Failure> {
    let in_file = |file: &Option<SettingsFile>| {
        let is_said = |key: Key| file.as_ref().is_some_and(|file| file.values.contains_key(key.name));
        (is_said(STORE), is_said(STORE_FILE))
    };
    let in_environment = |key: Key| sources.environment.contains_key(key.variable);
    let said = [
        (in_environment(STORE), in_environment(STORE_FILE)),
        in_file(&sources.project),
        in_file(&sources.user),
    ];
    let Some((is_address, is_file)) = said.into_iter().find(|(address, file)| *address || *file) else {
        return Ok(Setting { value: None, origin: Origin::Default });
    };
    let key = if is_file { STORE_FILE } else { STORE };
    let Some((text, origin)) = look_up(key, sources) else {
        return Ok(Setting { value: None, origin: Origin::Default });
    };
    if is_address && is_file {
        let message = format!("{origin}: `{}` and `{}` are both set", STORE.name, STORE_FILE.name);
        return Err(Failure::new(Exit::Usage, message).help("keep one of them"));
    }
    let wrong = |error: &dyn std::error::Error| {
        let why = Failure::because(Exit::Usage, error).message;
        Failure::new(Exit::Usage, format!("{origin}: `{}`: {why}", key.name))
    };
    let address = match is_file {
        true => {
            let path = relative_to(&text, &origin);
            let read = cairn_shared::config::read_secret(&path).map_err(|error| wrong(&error))?;
            OsString::from(read)
        }
        false => text,
    };
    let url: Result<StoreUrl, StoreUrlError> = address.to_string_lossy().parse();
    match url {
        Ok(url) => Ok(Setting { value: Some(url), origin }),
        Err(error) => Err(wrong(&error)),
    }
}

/// A path as it is meant where it is said: in a file, relative to that.
fn relative_to(text: &OsString, origin: &Origin) -> PathBuf {
    match origin {
        Origin::ProjectFile { path, .. } | Origin::UserFile { path, .. } => {
            path.parent().unwrap_or(Path::new("")).join(text)
        }
        Origin::Flag { .. } | Origin::Environment { .. } | Origin::Default => PathBuf::from(text),
    }
}

/// Flags go before the environment, that before files; at each of them a URL goes before a profile.
fn coordinator(flags: &Flags, sources: &Sources) -> Result<Setting<Option<Coordinator>>, Failure> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    let variable = |key: Key| {
        let value = text(sources.environment.get(key.variable)?.clone());
        Some((value, Origin::Environment { name: key.variable }))
    };
    let flag = |key: Key, value: &Option<String>| Some((value.clone()?, Origin::Flag { name: key.flag }));
    let found = [
        (flag(URL, &flags.url), false),
        (flag(PROFILE, &flags.profile), true),
        (variable(URL), false),
        (look_up(PROFILE, sources).map(|(value, origin)| (text(value), origin)), true),
    ];
    let found = found.into_iter().find_map(|(found, is_profile)| Some((found?, is_profile)));
    let Some(((value, origin), is_profile)) = found else {
        return Ok(Setting { value: None, origin: Origin::Default });
    };
    let value = if is_profile {
        let profile = find_profile(sources.user.as_ref(), &value)
            .map_err(|failure| Failure { message: format!("{origin}: {}", failure.message), ..failure })?;
        Coordinator { url: profile.url.clone(), profile: Some(value) }
    } else {
        Coordinator { url: value, profile: None }
    };
    Ok(Setting { value: Some(value), origin })
}

/// The flag, then the variable with the token, then the one with its file, then the profile in force.
fn token(
    flags: &Flags,
    sources: &Sources,
    coordinator: &Setting<Option<Coordinator>>,
) -> Result<Setting<Option<TokenSource>>, Failure> {
    let setting = |value, origin| Ok(Setting { value: Some(value), origin });
    if let Some(path) = &flags.token_file {
        return setting(TokenSource::File(path.clone()), Origin::Flag { name: TOKEN_FILE.flag });
    }
    if sources.has_token {
        return setting(TokenSource::Variable, Origin::Environment { name: TOKEN_VARIABLE });
    }
    if let Some(path) = sources.environment.get(TOKEN_FILE.variable) {
        let origin = Origin::Environment { name: TOKEN_FILE.variable };
        return setting(TokenSource::File(path.into()), origin);
    }
    if let Some(name) = coordinator.value.as_ref().and_then(|coordinator| coordinator.profile.as_ref())
        && let Some(path) = &find_profile(sources.user.as_ref(), name)?.token_file
    {
        return setting(TokenSource::File(path.clone()), coordinator.origin.clone());
    }
    Ok(Setting { value: None, origin: Origin::Default })
}

/// The first of environment, project file and user file that has something to say.
fn look_up(key: Key, sources: &Sources) -> Option<(OsString, Origin)> {
    if let Some(value) = sources.environment.get(key.variable) {
        return Some((value.clone(), Origin::Environment { name: key.variable }));
    }
    let in_file = |file: &Option<SettingsFile>, origin: fn(PathBuf, u64) -> Origin| {
        let file = file.as_ref()?;
        let (text, line) = file.values.get(key.name)?;
        Some((OsString::from(text), origin(file.path.clone(), *line)))
    };
    in_file(&sources.project, |path, line| Origin::ProjectFile { path, line })
        .or_else(|| in_file(&sources.user, |path, line| Origin::UserFile { path, line }))
}

fn choose<T>(
    key: Key,
    flag: Option<T>,
    other: Option<(OsString, Origin)>,
    read: impl Fn(&OsString, &Origin) -> Option<T>,
    default: T,
) -> Result<Setting<T>, Failure> {
    if let Some(value) = flag {
        return Ok(Setting { value, origin: Origin::Flag { name: key.flag } });
    }
    let Some((text, origin)) = other else { return Ok(Setting { value: default, origin: Origin::Default }) };
    match read(&text, &origin) {
        Some(value) => Ok(Setting { value, origin }),
        None => {
            let text = text.to_string_lossy();
            let message = format!("{origin}: `{}` cannot be `{}`", key.name, text.escape_debug());
            Err(Failure::new(Exit::Usage, message).help(format!("it is to be {}", key.values)))
        }
    }
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Flag { name } | Self::Environment { name } => f.write_str(name),
            Self::ProjectFile { path, line } | Self::UserFile { path, line } => {
                write!(f, "{}:{line}", path.display())
            }
            Self::Default => f.write_str("default"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, owner: Owner) -> SettingsFile {
        let path = Path::new("/p/.cairn.yaml");
        file::parse_file(path, text, owner).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn file(text: &str) -> SettingsFile {
        read(text, Owner::Project)
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_files() {
        let mut sources = Sources {
            environment: HashMap::from([("CAIRN_STATE", "from-environment".into())]),
            project: Some(file("# mine\noutput: yaml\nstate: from-project\njobs: 3\n")),
            user: Some(file("output: json\ncolor: never\n")),
            ..Sources::default()
        };
        let flags = Flags { state: Some("from-flag".into()), ..Flags::default() };
        let settings = resolve(flags, &sources).expect("sound");
        assert_eq!(settings.state.origin, Origin::Flag { name: "--state" });
        assert_eq!(settings.output.value, Format::Yaml);
        assert_eq!(settings.output.origin.to_string(), "/p/.cairn.yaml:2");
        assert_eq!(settings.color.value, ColorChoice::Never);
        assert_eq!(settings.jobs.value, NonZeroUsize::new(3));
        let settings = resolve(Flags::default(), &sources).expect("sound");
        assert_eq!(settings.state.value, Path::new("from-environment"));
        sources.environment.clear();
        let settings = resolve(Flags::default(), &sources).expect("sound");
        assert_eq!(settings.state.value, Path::new("/p/from-project"), "relative to the file");
    }

    #[test]
    fn nobody_has_to_say_anything() {
        let settings = resolve(Flags::default(), &Sources { user: Some(file("")), ..Sources::default() });
        let settings = settings.expect("sound");
        assert_eq!((settings.state.value, settings.state.origin), (".milestones".into(), Origin::Default));
        assert_eq!((settings.jobs.value, settings.store.value), (None, None));
    }

    #[test]
    fn a_store_is_named_by_its_address_or_by_a_file_that_holds_it() {
        let place = tempfile::tempdir().expect("a directory");
        std::fs::write(place.path().join("store"), "postgres://u:s3cret@db/x\n").expect("written");
        let path = place.path().join(".cairn.yaml");
        let project = file::parse_file(&path, "store_file: store\n", Owner::Project);
        let mut sources = Sources {
            project: Some(project.unwrap_or_else(|failure| panic!("{failure}"))),
            ..Sources::default()
        };
        let store = |sources: &Sources| resolve(Flags::default(), sources).map(|settings| settings.store);
        let found = store(&sources).expect("sound");
        assert_eq!(found.value, "postgres://u:s3cret@db/x".parse().ok(), "relative to the file");
        assert_eq!(found.origin, Origin::ProjectFile { path, line: 1 });
        sources.environment.insert("CAIRN_STORE", "sqlite:///srv/cairn.db".into());
        let found = store(&sources).expect("sound");
        assert_eq!(found.value, Some(StoreUrl::Sqlite("/srv".into())));
        assert_eq!(found.origin, Origin::Environment { name: "CAIRN_STORE" });
        sources.environment.insert("CAIRN_STORE_FILE", "store".into());
        assert!(store(&sources).expect_err("both").message.contains("are both set"));
        sources.environment.remove("CAIRN_STORE_FILE");
        sources.environment.insert("CAIRN_STORE", "postgres://u:s3cret@db".into());
        let message = store(&sources).expect_err("no database").message;
        assert!(message.starts_with("CAIRN_STORE: `store`: ") && !message.contains("s3cret"), "{message}");
    }

    #[test]
    fn a_value_that_cannot_be_is_told_with_who_says_it() {
        let sources = Sources { project: Some(file("jobs: 0\n")), ..Sources::default() };
        let failure = resolve(Flags::default(), &sources).expect_err("wrong");
        assert_eq!(failure.message, "/p/.cairn.yaml:1: `jobs` cannot be `0`");
        let environment = HashMap::from([("CAIRN_COLOR", "pink".into())]);
        let failure =
            resolve(Flags::default(), &Sources { environment, ..Sources::default() }).expect_err("wrong");
        assert_eq!(failure.message, "CAIRN_COLOR: `color` cannot be `pink`");
        assert_eq!(failure.help.as_deref(), Some("it is to be auto, always or never"));
    }

    #[test]
    fn a_coordinator_is_named_by_the_nearest_source_and_brings_its_own_token() {
        let user = "profile: dev\nprofiles: {dev: {url: 'http://dev', token_file: /t/dev}, prod: {url: 'https://prod'}}\n";
        let mut sources = Sources {
            environment: HashMap::from([("CAIRN_URL", "http://variable".into())]),
            project: Some(file("profile: prod\n")),
            user: Some(read(user, Owner::User)),
            ..Sources::default()
        };
        let named = |flags: Flags, sources: &Sources| {
            let settings = resolve(flags, sources).expect("sound");
            let url = settings.coordinator.value.map(|coordinator| coordinator.url).unwrap_or_default();
            (url, settings.token.value, settings.token.origin.to_string())
        };
        let flags = |url: Option<&str>, profile: Option<&str>| Flags {
            url: url.map(str::to_owned),
            profile: profile.map(str::to_owned),
            ..Flags::default()
        };
        let default = "default".to_owned();
        assert_eq!(
            named(flags(Some("http://flag"), Some("dev")), &sources),
            ("http://flag".into(), None, default.clone())
        );
        let dev = Some(TokenSource::File("/t/dev".into()));
        assert_eq!(
            named(flags(None, Some("dev")), &sources),
            ("http://dev".into(), dev.clone(), "--profile".into())
        );
        assert_eq!(named(flags(None, None), &sources), ("http://variable".into(), None, default.clone()));
        sources.environment.clear();
        assert_eq!(named(flags(None, None), &sources), ("https://prod".into(), None, default.clone()));
        sources.project = None;
        assert_eq!(named(flags(None, None), &sources), ("http://dev".into(), dev, "/p/.cairn.yaml:1".into()));
        sources.user = None;
        assert_eq!(named(flags(None, None), &sources), (String::new(), None, default));
    }

    #[test]
    fn a_token_is_taken_from_the_first_that_has_one() {
        let user = "profile: dev\nprofiles: {dev: {url: 'http://dev', token_file: /t/dev}}\n";
        let mut sources = Sources {
            environment: HashMap::from([("CAIRN_TOKEN_FILE", "/t/variable".into())]),
            has_token: true,
            user: Some(read(user, Owner::User)),
            ..Sources::default()
        };
        let token = |flags: Flags, sources: &Sources| resolve(flags, sources).expect("sound").token;
        let flags = Flags { token_file: Some("/t/flag".into()), ..Flags::default() };
        assert_eq!(token(flags, &sources).value, Some(TokenSource::File("/t/flag".into())));
        assert_eq!(token(Flags::default(), &sources).origin, Origin::Environment { name: "CAIRN_TOKEN" });
        sources.has_token = false;
        let file = |path: &str| Some(TokenSource::File(path.into()));
        assert_eq!(token(Flags::default(), &sources).value, file("/t/variable"));
        sources.environment.clear();
        assert_eq!(token(Flags::default(), &sources).value, file("/t/dev"));
    }
}
