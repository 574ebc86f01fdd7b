//! Databases of a PostgreSQL server that the tests of this process share.

use super::support::told;
use crate::cluster::Cluster;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

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

    /// Its name, which no other test's has.
    pub fn name(&self) -> &str {
        &self.name
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
        let psql = psql(&self.server, statement);
        assert!(psql.status.success(), "{statement}: {}", told(&psql));
    }

    /// Runs statements in it, as its owner.
    pub fn run(&self, statements: &str) -> Output {
        psql(&self.url(), statements)
    }

    /// Its address for another login.
    pub fn url_of(&self, user: &str, password: &str) -> String {
        format!("postgres://{user}:{password}@{}", self.url().rsplit_once('@').expect("it has a user").1)
    }
}

/// Runs statements, one by one, until one fails. Prints rows alone.
pub fn psql(url: &str, statements: &str) -> Output {
    let psql = Command::new("psql")
        .args(["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set=ON_ERROR_STOP=1"])
        .arg(url)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut psql = psql.expect("psql comes with the server");
    let mut stdin = psql.stdin.take().expect("a pipe");
    stdin.write_all(statements.as_bytes()).expect("it reads");
    drop(stdin);
    psql.wait_with_output().expect("it ends")
}
