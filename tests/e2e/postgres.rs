//! Databases of a PostgreSQL server that the tests of this process share.

use super::support::told;
use crate::cluster::Cluster;
use std::process::Command;

/// A database that nobody else uses.
pub struct Database {
    server: String,
    name: String,
}

impl Database {
    /// An empty one. None where PostgreSQL is missing and may be.
    pub fn new() -> Option<Self> {
        let database = Self { server: Cluster::shared()?.url(), name: Cluster::schema() };
        database.create();
        Some(database)
    }

    /// Its address, with the password.
    pub fn url(&self) -> String {
        let (server, _) = self.server.rsplit_once('/').expect("an address has a database");
        format!("{server}/{}", self.name)
    }

    /// Its address, as people may see it.
    pub fn shown(&self) -> String {
        format!("postgres://cairn@{}", self.url().rsplit_once('@').expect("it has a user").1)
    }

    /// Its password.
    pub fn password(&self) -> String {
        let (login, _) = self.server.rsplit_once('@').expect("it has a user");
        login.rsplit_once(':').expect("it has a password").1.to_owned()
    }

    /// Loses all that was in it.
    pub fn lose(&self) {
        self.sql(&format!("DROP DATABASE {} WITH (FORCE)", self.name));
        self.create();
    }

    fn create(&self) {
        self.sql(&format!("CREATE DATABASE {}", self.name));
    }

    fn sql(&self, statement: &str) {
        let psql = Command::new("psql")
            .args(["--no-psqlrc", "--quiet", "--command", statement])
            .arg(&self.server)
            .output();
        let psql = psql.expect("psql comes with the server");
        assert!(psql.status.success(), "{statement}: {}", told(&psql));
    }
}
