//! What is chosen by flags, environment, files and defaults, in this order, and which of them chose it.
//!
//! A project file is `.cairn.yaml` in the working directory or the nearest one above; a user file is
//! `$XDG_CONFIG_HOME/cairn/config.yaml`, or `~/.config/cairn/config.yaml`. Both have the keys of [`KEYS`]. A relative
//! path in a file is relative to the file's directory.

use crate::context::{ColorChoice, Format};
use crate::exit::{Exit, Failure};
use clap::ValueEnum;
use serde::Serialize;
use serde_saphyr::Spanned;
use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};

/// The name of a project file.
const PROJECT_FILE: &str = ".cairn.yaml";
/// Most bytes of a settings file: they have a handful of keys.
const MAX_FILE_BYTES: u64 = 1 << 20;
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
}

/// All that can be set.
pub const KEYS: [Key; 4] = [STATE, OUTPUT, COLOR, JOBS];
const STATE: Key = Key { name: "state", variable: "CAIRN_STATE", flag: "--state", values: "a directory" };
const OUTPUT: Key = Key {
    name: "output",
    variable: "CAIRN_OUTPUT_FORMAT",
    flag: "--output",
    values: "text, json, jsonl or yaml",
};
const COLOR: Key =
    Key { name: "color", variable: "CAIRN_COLOR", flag: "--color", values: "auto, always or never" };
const JOBS: Key =
    Key { name: "jobs", variable: "CAIRN_JOBS", flag: "--jobs", values: "a whole number from 1" };

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
    /// The form of what is printed.
    pub output: Setting<Format>,
    /// When to use colours.
    pub color: Setting<ColorChoice>,
    /// Processes at a time; without a value one for each core.
    pub jobs: Setting<Option<NonZeroUsize>>,
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
}

/// A settings file that was read.
#[derive(Clone, Debug)]
pub struct SettingsFile {
    path: PathBuf,
    /// Texts with their lines.
    values: HashMap<&'static str, (String, u64)>,
}

/// Where settings come from besides the command line.
#[derive(Debug, Default)]
pub struct Sources {
    /// The variables of [`KEYS`] that are set.
    pub environment: HashMap<&'static str, OsString>,
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
        let project =
            above.find_map(|directory| read_file(&directory.join(PROJECT_FILE)).transpose()).transpose()?;
        let user =
            user_file(|name| std::env::var_os(name)).map(|path| read_file(&path)).transpose()?.flatten();
        Ok(Self { environment, project, user })
    }
}

/// Where the user's file would be.
fn user_file(variable: impl Fn(&str) -> Option<OsString>) -> Option<PathBuf> {
    let set = |name| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CONFIG_HOME").filter(|path| path.is_absolute());
    let base = base.or_else(|| Some(set("HOME")?.join(".config")))?;
    Some(base.join("cairn").join("config.yaml"))
}

/// A settings file, if it is there.
fn read_file(path: &Path) -> Result<Option<SettingsFile>, Failure> {
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
    parse_file(path, &text).map(Some)
}

/// Reads the text of a settings file.
fn parse_file(path: &Path, text: &str) -> Result<SettingsFile, Failure> {
    let wrong = |line: u64, message: String| {
        Failure::new(Exit::Usage, format!("{}:{line}: {message}", path.display()))
    };
    let read: Option<HashMap<Spanned<String>, serde_json::Value>> =
        serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(1, |location| location.line());
            let text = error.without_snippet().to_string();
            wrong(line, format!("this is no file of settings: {text}"))
        })?;
    let mut values = HashMap::new();
    for (name, value) in read.unwrap_or_default() {
        let line = name.referenced.line();
        let Some(key) = KEYS.iter().find(|key| key.name == name.value) else {
            let help = match nearest(&name.value) {
                Some(key) => format!("did you mean `{key}`?"),
                None => format!("the keys are {}", KEYS.map(|key| key.name).join(", ")),
            };
            let message = format!("`{}` is not a setting", name.value.escape_debug());
            return Err(wrong(line, message).help(help));
        };
        let text = match value {
            serde_json::Value::String(text) => text,
            serde_json::Value::Number(number) => number.to_string(),
            // Nothing is like no line at all.
            serde_json::Value::Null => continue,
            _ => return Err(wrong(line, format!("`{}` is to be {}", key.name, key.values))),
        };
        values.insert(key.name, (text, line));
    }
    Ok(SettingsFile { path: path.to_owned(), values })
}

/// The least likeness (Jaro-Winkler) at which a word is taken for a misspelt key.
const LIKENESS: f64 = 0.7;

fn nearest(word: &str) -> Option<&'static str> {
    let likeness = |key: &Key| strsim::jaro_winkler(word, key.name);
    let best = KEYS.iter().max_by(|one, other| likeness(one).total_cmp(&likeness(other)))?;
    (likeness(best) >= LIKENESS).then_some(best.name)
}

/// What is in force.
///
/// # Errors
/// A value cannot be read: who says it, and what can be said.
pub fn resolve(flags: Flags, sources: &Sources) -> Result<Settings, Failure> {
    let from = |key| look_up(key, sources);
    let path = |text: &OsString, origin: &Origin| match origin {
        Origin::ProjectFile { path, .. } | Origin::UserFile { path, .. } => {
            Some(path.parent().unwrap_or(Path::new("")).join(text))
        }
        Origin::Flag { .. } | Origin::Environment { .. } | Origin::Default => Some(PathBuf::from(text)),
    };
    let word = |text: &OsString| text.to_str().map(str::to_owned);
    Ok(Settings {
        state: choose(STATE, flags.state, from(STATE), path, DEFAULT_STATE.into())?,
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
    })
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

    fn file(text: &str) -> SettingsFile {
        parse_file(Path::new("/p/.cairn.yaml"), text).unwrap_or_else(|failure| panic!("{failure}"))
    }

    fn failure(text: &str) -> (String, Option<String>) {
        let failure = parse_file(Path::new("/p/.cairn.yaml"), text).expect_err("wrong");
        (failure.message, failure.help)
    }

    #[test]
    fn flags_go_before_the_environment_and_that_before_files() {
        let mut sources = Sources {
            environment: HashMap::from([("CAIRN_STATE", "from-environment".into())]),
            project: Some(file("# mine\noutput: yaml\nstate: from-project\njobs: 3\n")),
            user: Some(file("output: json\ncolor: never\n")),
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
        assert_eq!(settings.jobs.value, None);
    }

    #[test]
    fn a_key_that_is_not_known_is_named_with_its_line_and_the_nearest_one() {
        let (message, help) = failure("state: x\njbos: 3\n");
        assert_eq!(message, "/p/.cairn.yaml:2: `jbos` is not a setting");
        assert_eq!(help.as_deref(), Some("did you mean `jobs`?"));
        assert_eq!(failure("zebra: 3").1.as_deref(), Some("the keys are state, output, color, jobs"));
    }

    #[test]
    fn what_is_no_mapping_is_refused_with_its_line() {
        assert!(failure("- a\n").0.starts_with("/p/.cairn.yaml:1: this is no file of settings"));
        assert!(failure("state: a\nstate: b\n").0.starts_with("/p/.cairn.yaml:2: "));
        assert_eq!(failure("jobs: [1]\n").0, "/p/.cairn.yaml:1: `jobs` is to be a whole number from 1");
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
