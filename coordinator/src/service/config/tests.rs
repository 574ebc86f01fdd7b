//! The file with all defaults, and what does not fit together.

use super::*;
use cairn_shared::config::{self, Loaded, Origin};
use std::path::Path;

fn set(pairs: &[(&str, &str)]) -> Result<CoordinatorConfig, String> {
    let pairs: Vec<(String, String)> =
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let loaded: Loaded<CoordinatorConfig> =
        config::load(None, std::iter::empty(), &pairs).map_err(|error| error.to_string())?;
    loaded.value.check().map_err(|misfit| misfit.to_string())?;
    Ok(loaded.value)
}

#[test]
fn the_file_lists_every_key_with_its_default() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../config/coordinator.yaml");
    let loaded: Loaded<CoordinatorConfig> =
        config::load(Some(&path), std::iter::empty(), &[]).expect("the file is sound");
    assert_eq!(loaded.value, CoordinatorConfig::default());
    for setting in &loaded.settings {
        assert!(
            matches!(setting.origin, Origin::File { .. }),
            "config/coordinator.yaml does not list `{}`",
            setting.key
        );
    }
    let text = std::fs::read_to_string(&path).expect("the file");
    for setting in &loaded.settings {
        let name = setting.key.rsplit('.').next().unwrap_or_default();
        let line = text.lines().position(|line| line.trim_start().starts_with(&format!("{name}:")));
        let before = text.lines().nth(line.expect("a line").saturating_sub(1)).unwrap_or_default();
        assert!(before.trim_start().starts_with('#'), "`{}` has no word on its meaning", setting.key);
    }
}

#[test]
fn beyond_the_machine_there_is_tls_or_a_word_that_it_is_meant() {
    assert!(set(&[("listen", "127.0.0.1:0")]).is_ok() && set(&[("listen", "[::1]:7420")]).is_ok());
    let open = set(&[("listen", "0.0.0.0:7420")]).expect_err("open");
    assert!(open.contains("0.0.0.0:7420") && open.contains("insecure"), "{open}");
    assert!(set(&[("listen", "0.0.0.0:7420"), ("insecure", "true")]).is_ok());
    let both = [("listen", "[::]:7420"), ("tls.certificate", "c.pem"), ("tls.key", "k.pem")];
    assert!(set(&both).is_ok());
    assert!(set(&both[..2]).expect_err("half").contains("go together"));
}

#[test]
fn events_need_somebody_who_can_listen() {
    assert!(set(&[("events", "true")]).expect_err("alone").contains("needs a broker"));
    assert!(set(&[("events", "true"), ("transport", "amqp://broker")]).expect("sound").events);
}

#[test]
fn addresses_that_name_no_store_are_refused() {
    let config =
        set(&[("store", "sqlite:///srv/cairn/cairn.db"), ("stores", "[file:///srv]")]).expect("sound");
    assert_eq!(config.store, Some(StoreUrl::Sqlite("/srv/cairn".into())));
    assert_eq!(config.stores, [StoreUrl::File("/srv".into())]);
    for (url, word) in [
        ("sqlite:///srv/other.db", "is called cairn.db"),
        ("file://srv", "three slashes"),
        ("/srv", "`file:///DIRECTORY`"),
    ] {
        let refused = set(&[("store", url)]).expect_err(url);
        assert!(refused.starts_with("--store: `store`: ") && refused.contains(word), "{refused}");
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    assert!(set(&[("lease", "100ms")]).expect_err("short").contains("from 500ms to 3600s"));
    assert!(set(&[("lease", "2h")]).is_err() && set(&[("lease", "500ms")]).is_ok());
    assert!(set(&[("slots", "0")]).is_err());
    assert!(set(&[("slots", "4")]).is_ok());
    assert!(set(&[("slots", "4"), ("transport", "amqp://broker")]).expect_err("slots").contains("slots"));
    assert_eq!(set(&[("queue_type", "quorum"), ("route", "shared")]).expect("sound").route, Route::Shared);
    let wrong = set(&[("queue_type", "stream")]).expect_err("unknown");
    assert!(wrong.contains("write `classic` or `quorum`"), "{wrong}");
}
