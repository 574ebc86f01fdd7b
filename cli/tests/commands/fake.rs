//! A coordinator that says what a test has it say.

use serde_json::Value;
use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// A request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// `GET /api/v1/runs/apollo?tasks=false`.
    pub line: String,
    /// By name in lower case.
    pub headers: HashMap<String, String>,
    pub body: String,
    /// How many requests with the same line came before.
    pub before: usize,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }
}

/// An answer.
pub enum Answer {
    /// A status and a value.
    Json(u16, Value),
    /// More headers and a body, sent piece by piece and ended as it should be.
    Whole(Vec<(&'static str, String)>, Vec<Vec<u8>>),
    /// A body that breaks off.
    Broken(Vec<Vec<u8>>),
    /// A body that never ends.
    Open(Vec<Vec<u8>>),
    /// No answer at all: the process has died.
    None,
}

/// Listens until the test ends.
pub struct Fake {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Fake {
    pub fn start(answer: impl Fn(&Asked) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (seen, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (seen, answer) = (seen.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &seen, &*answer));
            }
        });
        Self { url, asked }
    }

    /// All requests so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().expect("sound").clone()
    }

    /// The requests whose line begins so.
    pub fn asked_for(&self, line: &str) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.line.starts_with(line)).collect()
    }
}

/// One request a connection, as if every answer said `Connection: close`.
fn serve(mut stream: TcpStream, seen: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Answer) {
    let mut reader = BufReader::new(stream.try_clone().expect("a handle"));
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim_end().is_empty() => break,
            Ok(_) => lines.push(line.trim_end().to_owned()),
        }
    }
    let headers: HashMap<String, String> = lines[1..]
        .iter()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    reader.read_exact(&mut body).expect("the body");
    let line = lines[0].trim_end_matches(" HTTP/1.1").to_owned();
    let asked = {
        let mut seen = seen.lock().expect("sound");
        let before = seen.iter().filter(|asked| asked.line == line).count();
        let body = String::from_utf8(body).expect("text");
        seen.push(Asked { line, headers, body, before });
        seen.last().expect("just added").clone()
    };
    // A client that goes away is no failure of the test.
    let _ = reply(&mut stream, answer(&asked));
}

fn reply(stream: &mut TcpStream, answer: Answer) -> std::io::Result<()> {
    let chunks = |stream: &mut TcpStream, headers: Vec<(&'static str, String)>, pieces: Vec<Vec<u8>>| {
        let mut head = String::from("HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\n");
        headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
        write!(stream, "{head}\r\n")?;
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            write!(stream, "{:x}\r\n", piece.len())?;
            stream.write_all(piece)?;
            write!(stream, "\r\n")?;
        }
        stream.flush()
    };
    match answer {
        Answer::Json(status, value) => {
            let kind = if status < 400 { "application/json" } else { "application/problem+json" };
            let body = value.to_string();
            write!(
                stream,
                "HTTP/1.1 {status} X\r\nconnection: close\r\ndate: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
                 content-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
        }
        Answer::Whole(headers, pieces) => {
            chunks(stream, headers, pieces)?;
            write!(stream, "0\r\n\r\n")
        }
        Answer::Broken(pieces) => chunks(stream, Vec::new(), pieces),
        Answer::Open(pieces) => {
            chunks(stream, Vec::new(), pieces)?;
            // Until the client goes away.
            stream.read_exact(&mut [0])
        }
        Answer::None => Ok(()),
    }
}
