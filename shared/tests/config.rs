//! Reading a configuration: layers, errors, secrets.

use cairn_shared::config::{ConfigError, Loaded, Origin, SecretUrl, duration, load, optional_duration};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    name: String,
    port: u16,
    share: f64,
    open: bool,
    #[serde(with = "duration")]
    lease: Duration,
    #[serde(with = "optional_duration")]
    grace: Option<Duration>,
    slots: Option<u32>,
    url: Option<SecretUrl>,
    mode: Mode,
    labels: BTreeMap<String, String>,
    hosts: Vec<String>,
    tls: Tls,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            name: "cairn".into(),
            port: 7420,
            share: 0.5,
            open: false,
            lease: Duration::from_secs(10),
            grace: None,
            slots: None,
            url: None,
            mode: Mode::Slow,
            labels: BTreeMap::new(),
            hosts: Vec::new(),
            tls: Tls::default(),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Tls {
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Slow,
    VeryFast,
}

struct Given {
    directory: tempfile::TempDir,
}

impl Given {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().expect("a directory") }
    }

    fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(
    text: Option<&str>,
    environment: &[(&str, &str)],
    flags: &[(&str, &str)],
) -> Result<Loaded<Config>, ConfigError> {
    let given = Given::new();
    let file = text.map(|text| given.file("c.yaml", text));
    load(file.as_deref(), pairs(environment).into_iter(), &pairs(flags))
}

fn refused(text: &str) -> String {
    let given = Given::new();
    let path = given.file("c.yaml", text);
    let error = load::<Config>(Some(&path), std::iter::empty(), &[]).expect_err("wrong");
    error.to_string().replace(&path.display().to_string(), "c.yaml")
}

#[test]
fn nobody_has_to_say_anything() {
    for text in [None, Some(""), Some("# nothing\n"), Some("tls:\nlabels:\nhosts:\n")] {
        assert_eq!(read(text, &[], &[]).expect("sound").value, Config::default());
    }
}

#[test]
fn flags_go_before_variables_and_those_before_the_file() {
    let text = "port: 1\nname: file\nshare: 0.25\ntls: {key: k.pem}\n";
    let environment =
        [("CAIRN_PORT", "2"), ("CAIRN_NAME", "environment"), ("CAIRN_TLS__CERTIFICATE", "c.pem")];
    let loaded = read(Some(text), &environment, &[("port", "3")]).expect("sound");
    let config = &loaded.value;
    assert_eq!((config.port, config.name.as_str(), config.share), (3, "environment", 0.25));
    assert_eq!(config.tls.key, Some("k.pem".into()), "a variable beside it does not hide it");
    assert_eq!(config.tls.certificate, Some("c.pem".into()));
    let origin = |key: &str| {
        let setting = loaded.settings.iter().find(|setting| setting.key == key).expect("listed");
        setting.origin.to_string()
    };
    assert_eq!(origin("port"), "--port");
    assert_eq!(origin("name"), "CAIRN_NAME");
    assert!(origin("share").ends_with("c.yaml:3:8"), "{}", origin("share"));
    assert!(origin("tls.key").ends_with("c.yaml:4:12"), "{}", origin("tls.key"));
    assert_eq!(origin("lease"), "default");
    assert_eq!(loaded.settings.len(), 13, "each key once");
}

#[test]
fn values_of_every_kind_are_read_from_files_and_variables_alike() {
    let text = "open: true\nlease: 1m30s\ngrace: 500ms\nslots: 4\nmode: very_fast\nlabels: {os: linux, n: 1.10}\n\
                hosts: [a, b]\nname: \"0755\"\n";
    let environment = [
        ("CAIRN_OPEN", "true"),
        ("CAIRN_LEASE", "1m30s"),
        ("CAIRN_GRACE", "500ms"),
        ("CAIRN_SLOTS", "4"),
        ("CAIRN_MODE", "very_fast"),
        ("CAIRN_LABELS", "{os: linux, n: 1.10}"),
        ("CAIRN_HOSTS", "[a, b]"),
        ("CAIRN_NAME", "0755"),
    ];
    let expected = Config {
        open: true,
        lease: Duration::from_secs(90),
        grace: Some(Duration::from_millis(500)),
        slots: Some(4),
        mode: Mode::VeryFast,
        labels: BTreeMap::from([("os".into(), "linux".into()), ("n".into(), "1.10".into())]),
        hosts: vec!["a".into(), "b".into()],
        name: "0755".into(),
        ..Config::default()
    };
    assert_eq!(read(Some(text), &[], &[]).expect("sound").value, expected);
    assert_eq!(read(None, &environment, &[]).expect("sound").value, expected);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_place_and_what_to_write() {
    for (text, expected) in [
        ("prot: 1\n", "c.yaml:1:1: unknown key `prot`; did you mean `port`?"),
        ("tls:\n  zebra: 1\n", "c.yaml:2:3: unknown key `zebra`; the keys here are `certificate` and `key`"),
        ("port: 70000\n", "c.yaml:1:7: `port`: `70000` stands where a whole number from 0 to 65535 belongs"),
        ("open: yes\n", "c.yaml:1:7: `open`: `yes` stands where `true` or `false` belongs"),
        ("tls:\n  key: [a]\n", "c.yaml:2:8: `tls.key`: a list stands where path string belongs"),
        ("tls: 1\n", "c.yaml:1:6: `tls`: `1` stands where a mapping of keys belongs"),
        ("mode: fast\n", "c.yaml:1:7: `mode`: `fast` is not known; write `slow` or `very_fast`"),
        ("name: a\nname: b\n", "c.yaml:2:1: `name` is set twice"),
        ("- a\n", "c.yaml:1:1: this is no mapping of keys; write `key: value`"),
        ("hosts: [a\n", "c.yaml:1:8: this `[` is not closed; close it with `]`"),
        ("url: broker\n", "c.yaml:1:6: `url`: an address begins with its scheme, like `amqp://`"),
    ] {
        assert_eq!(refused(text), expected);
    }
    let told = refused("\n\nlease: 10\n");
    assert!(told.starts_with("c.yaml:3:8: `lease`: this duration has no unit; write `10s`"), "{told}");
}

#[test]
fn a_file_that_is_not_there_or_too_large_is_named() {
    let given = Given::new();
    let missing = given.directory.path().join("absent.yaml");
    let error = load::<Config>(Some(&missing), std::iter::empty(), &[]).expect_err("absent");
    assert!(matches!(&error, ConfigError::Unreadable { path, .. } if *path == missing), "{error}");
    let large = given.file("large.yaml", &"#".repeat(cairn_shared::config::MAX_FILE_BYTES as usize + 1));
    let error = load::<Config>(Some(&large), std::iter::empty(), &[]).expect_err("large");
    assert!(matches!(error, ConfigError::TooLarge { .. }), "{error}");
    // An alias bomb meets the limit of values, not the memory of the machine.
    let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..9 {
        let below = level - 1;
        bomb.push_str(&format!(
            "a{level}: &a{level} [*a{below}, *a{below}, *a{below}, *a{below}, *a{below}]\n"
        ));
    }
    assert!(refused(&bomb).contains("the limit `nodes`"), "{}", refused(&bomb));
}

#[test]
fn variables_with_other_readers_are_left_alone() {
    let others = [
        ("CAIRN_TOKEN", "x"),
        ("CAIRN_TOKEN_FILE", "/nowhere"),
        ("CAIRN_URL_OF_OTHERS", "x"),
        ("CAIRN_OUTPUT_FORMAT", "json"),
        ("CAIRN_PROJECT", "x"),
        ("CAIRN_WORK", "/w"),
        ("CAIRN_PORT", ""),
        ("PATH", "/bin"),
    ];
    let loaded = read(None, &others, &[]).expect("sound");
    assert_eq!(loaded.value, Config::default());
    assert_eq!(loaded.notices, Vec::<String>::new());
}

#[test]
fn a_variable_that_looks_like_a_misspelt_key_is_told() {
    let loaded = read(None, &[("CAIRN_LEASEE", "10s")], &[]).expect("sound");
    assert_eq!(loaded.notices, ["CAIRN_LEASEE is no key; CAIRN_LEASE is"]);
    let error = read(None, &[("CAIRN_DATABASE__HOST", "x")], &[]).expect_err("nested");
    assert_eq!(error.to_string(), "CAIRN_DATABASE__HOST: there is no such key");
    let error = read(None, &[("CAIRN_PORT", "x")], &[]).expect_err("no number");
    assert!(error.to_string().starts_with("CAIRN_PORT: `port`: `x` stands where"), "{error}");
    let error = read(None, &[], &[("tls.kye", "x")]).expect_err("unknown");
    assert_eq!(error.to_string(), "--tls.kye: there is no such key; did you mean `tls.key`?");
}

#[test]
fn a_secret_comes_from_a_file_and_is_not_shown() {
    let given = Given::new();
    let secret = given.file("secret", "amqp://u:s3cret@broker\n");
    let name = secret.display().to_string();
    let in_file = given.file("c.yaml", &format!("url_file: {name}\n"));
    let both = given.file("both.yaml", &format!("url_file: {name}\nurl: amqp://other\n"));
    let from_file = load::<Config>(Some(&in_file), std::iter::empty(), &[]).expect("sound");
    let from_variable = read(None, &[("CAIRN_URL_FILE", &name)], &[]).expect("sound");
    for loaded in [&from_file, &from_variable] {
        assert_eq!(loaded.value.url.as_ref().map(SecretUrl::expose), Some("amqp://u:s3cret@broker"));
        let shown = format!("{:?} {}", loaded.value, serde_json::to_string(&loaded.settings).expect("JSON"));
        assert!(!shown.contains("s3cret") && shown.contains("amqp://u:***@broker"), "{shown}");
    }
    let setting = from_file.settings.iter().find(|setting| setting.key == "url").expect("listed");
    assert!(matches!(setting.origin, Origin::File { line: 1, .. }));
    let error = load::<Config>(Some(&both), std::iter::empty(), &[]).expect_err("both");
    assert!(error.to_string().contains("are both set"), "{error}");
    let error = read(None, &[("CAIRN_URL_FILE", &name), ("CAIRN_URL", "amqp://b")], &[]).expect_err("both");
    assert!(error.to_string().contains("CAIRN_URL is set too"), "{error}");
    let empty = given.file("empty", "\n").display().to_string();
    assert!(
        read(None, &[("CAIRN_URL_FILE", &empty)], &[]).expect_err("empty").to_string().contains("is empty")
    );
    // A variable goes before the file's secret.
    let other = load::<Config>(Some(&in_file), pairs(&[("CAIRN_URL", "amqp://other")]).into_iter(), &[]);
    assert_eq!(other.expect("sound").value.url.as_ref().map(SecretUrl::expose), Some("amqp://other"));
}
