//! What docs/http.md shows is true: its commands are run.

use crate::support::{Bench, PLAN};
use cairn_coordinator::http::{Server, Settings};
use cairn_model::{Outcome, ReportKind, Timestamp};
use std::fs;
use std::path::Path;
use std::process::Command;

/// The shell blocks of the guide, in its order.
fn blocks() -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/http.md");
    let text = fs::read_to_string(path).expect("the guide");
    let blocks = text.split("```sh\n").skip(1);
    blocks.map(|block| block.split("```").next().unwrap_or_default().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_commands_of_the_guide_do_what_it_says() {
    let bench = Bench::new().await;
    let settings = Settings { listen: "127.0.0.1:0".parse().expect("an address"), ..Settings::default() };
    let server = Server::bind(&settings, bench.parts.clone()).await.expect("bound");
    let address = server.address().to_string();
    let serving = tokio::spawn(server.serve());
    let plan = format!("{PLAN}parameters: {{region: {{default: us}}}}\n");
    fs::write(bench.directory.path().join("plan.yaml"), &plan).expect("written");
    bench.submit(&plan).await;
    bench.submit(&plan).await;
    let mut head = String::new();
    for block in blocks() {
        if head.is_empty() {
            // The first one tells the shell whom to ask.
            head = block
                .replace("127.0.0.1:7420", &address)
                .replace(".milestones/", "./")
                .replace("curl -sS", "curl -sS --fail-with-body --max-time 50");
            continue;
        }
        if block.contains("/logs") {
            finish(&bench).await;
        }
        let script = format!("shopt -s expand_aliases\nset -e\n{head}\n{block}");
        let directory = bench.directory.path().to_owned();
        let run = move || Command::new("bash").arg("-c").arg(&script).current_dir(directory).output();
        let output = tokio::task::spawn_blocking(run).await.expect("no panic");
        let output = output.expect("bash and curl are there");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{block}\n{said}\n{}", String::from_utf8_lossy(&output.stderr));
        if let Some(shown) = block.lines().find_map(|line| line.strip_prefix("# ")) {
            assert!(said.contains(shown), "{shown} is not in {said}");
            bench.join("apollo.3").await;
        }
    }
    bench.shutdown.cancel();
    serving.await.expect("no panic").expect("no error");
}

/// What the agent does when the run is cancelled.
async fn finish(bench: &Bench) {
    let directory = bench.directory.path().join("logs/apollo.3/build");
    fs::create_dir_all(&directory).expect("made");
    fs::write(directory.join("compile.1.log"), "stopped\n").expect("written");
    let (started_at, finished_at) = (Timestamp(1_000_000), Timestamp(2_000_000));
    let outcome = Outcome::Stopped;
    let ended = ReportKind::Finished { outcome, started_at, finished_at };
    bench.report("apollo.3", "build/compile", ended).await;
}
