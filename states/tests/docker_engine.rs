//! Container states against a real Docker Engine and a real registry, each of its own, as
//! `tests/parts/` starts them. Where no engine can run, set `DROVER_TESTS_WITHOUT_DOCKER=1`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use drover_states::docker::{BollardEngine, ContainerEngine, ps};
use drover_states::render::Context;
use drover_states::{Compiler, DirectoryRoots, FileSource, Host, Run, RunOptions};
use serde_json::{Map, Value, json};

const RFID: &str = "
{% set image = pillar['registry'] ~ '/fleet/rfid:' ~ grains['channel'] %}
{{ image }}:
  docker_image.present:
    - force: True
rfid:
  docker_container.running:
    - image: {{ image }}
    - binds:
      - {{ pillar['rfid_device'] }}:{{ pillar['rfid_device'] }}
    - environment:
      - RCAGGREGATOR: aggregator:9091
      - POWER_API: power:80
    - restart_policy: unless-stopped
    - require:
      - docker_image: {{ image }}
";

/// Ends and removes what was started, whatever became of the test.
struct Device {
    dir: tempfile::TempDir,
    port: u16,
}

fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/parts").join(name)
}

fn run(program: &Path, arguments: &[&str]) -> Result<String, String> {
    let path = format!("/usr/sbin:/usr/bin:/bin:{}", std::env::var("PATH").unwrap_or_default());
    let output = Command::new(program).args(arguments).env("PATH", path).output();
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

impl Device {
    /// A device with an engine and a registry; `None` where the environment says to go without.
    fn start(id: &str) -> Option<Self> {
        if std::env::var_os("DROVER_TESTS_WITHOUT_DOCKER").is_some_and(|value| value == "1") {
            return None;
        }
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let device = Self { dir: tempfile::tempdir().unwrap(), port };
        let id = format!("{id}-{}", std::process::id());
        if let Err(error) = run(&script("docker-engine"), &["start", &device.path("engine"), &id]) {
            panic!("{error}set DROVER_TESTS_WITHOUT_DOCKER=1 to go without these tests");
        }
        run(&script("registry"), &["start", &device.path("registry"), &port.to_string()]).unwrap();
        Some(device)
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).to_str().unwrap().to_owned()
    }

    /// Pushes new images; they say `started TAG` and stay up unless `program` is another one.
    fn push(&self, images: &[&str], program: &[&str]) {
        let (engine, port) = (self.path("engine"), self.port.to_string());
        let mut arguments = vec!["push", engine.as_str(), port.as_str()];
        arguments.extend(images);
        if !program.is_empty() {
            arguments.push("--");
            arguments.extend(program);
        }
        run(&script("image"), &arguments).unwrap();
    }

    /// Docker's own client, as somebody at the device would use it.
    fn docker(&self, arguments: &[&str]) -> String {
        let socket = format!("unix://{}", self.path("engine/docker.sock"));
        let mut all = vec!["-H", socket.as_str()];
        all.extend(arguments);
        run(Path::new("docker"), &all)
            .unwrap_or_else(|error| panic!("docker {arguments:?}: {error}"))
    }

    fn inspect(&self, container: &str) -> Value {
        serde_json::from_str::<Value>(&self.docker(&["inspect", container])).unwrap()[0].take()
    }

    fn engine(&self) -> Arc<BollardEngine> {
        Arc::new(BollardEngine::new(&format!("unix://{}", self.path("engine/docker.sock"))))
    }

    /// Applies one SLS, and gives Salt's return, by state ID.
    async fn apply(&self, sls: &str, channel: &str) -> Map<String, Value> {
        self.run(sls, channel, false).await
    }

    async fn run(&self, sls: &str, channel: &str, test: bool) -> Map<String, Value> {
        let states = self.dir.path().join("states");
        fs::create_dir_all(&states).unwrap();
        fs::write(states.join("rfid.sls"), sls).unwrap();
        let registry = format!("127.0.0.1:{}", self.port);
        let object = |value: Value| value.as_object().unwrap().clone();
        let grains = object(json!({"channel": channel}));
        let pillar = object(json!({"registry": registry, "rfid_device": "/dev/null"}));
        let files: Arc<dyn FileSource> = Arc::new(DirectoryRoots::base(states));
        let context = Context::new(grains.clone(), pillar.clone());
        let low = Compiler::new(Arc::clone(&files), context)
            .sls("base", &["rfid"])
            .unwrap_or_else(|errors| panic!("{errors:?}"));
        let host = Host::new(files, grains, pillar).with_engine(self.engine());
        let options = RunOptions { test, failhard: false };
        let returned = Run::new(low, options).execute(&host, |_, _| ()).await;
        let by_id = |state: Value| (state["__id__"].as_str().unwrap().to_owned(), state);
        returned.0.into_iter().map(|(_, state)| by_id(state)).collect()
    }

    /// Applies the container's state, and expects that it succeeds with this comment.
    async fn expect(&self, sls: &str, comment: &str) -> Value {
        let mut returned = self.apply(sls, "live").await;
        let state = returned.shift_remove("rfid").unwrap();
        assert_eq!((&state["result"], &state["comment"]), (&json!(true), &json!(comment)));
        state
    }

    /// The state of the container `rfid` from the image with `tag`, with more options.
    fn sls(&self, tag: &str, more: &str) -> String {
        let port = self.port;
        format!(
            "rfid:\n  docker_container.running:\n    - image: 127.0.0.1:{port}/fleet/rfid:{tag}\n    \
             - settle: 1\n    - shutdown_timeout: 2\n{more}"
        )
    }

    fn names(&self) -> String {
        self.docker(&["ps", "-a", "--format", "{{.Names}}"])
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        for part in ["docker-engine", "registry"] {
            let dir = self.path(if part == "registry" { part } else { "engine" });
            if let Err(error) = run(&script(part), &["stop", &dir]) {
                eprintln!("{part} in {dir} did not stop: {error}");
            }
        }
    }
}

const UNCHANGED: &str = "Container 'rfid' is already configured as specified";

fn is_unchanged(returned: &Map<String, Value>) -> bool {
    returned.values().all(|state| state["result"] == true && state["changes"] == json!({}))
}

#[tokio::test]
async fn the_grain_chooses_the_tag_and_a_second_apply_changes_nothing() {
    let Some(device) = Device::start("grain") else { return };
    device.push(&["fleet/rfid:staging", "fleet/rfid:live"], &[]);
    let image = |tag: &str| format!("127.0.0.1:{}/fleet/rfid:{tag}", device.port);

    let told = device.run(RFID, "staging", true).await;
    assert!(told.values().all(|state| state["result"].is_null()), "{told:?}");
    assert_eq!(device.names(), "");

    let made = device.apply(RFID, "staging").await;
    assert_eq!(made["rfid"]["comment"], "Created container 'rfid'", "{made:?}");
    let container = device.inspect("rfid");
    assert_eq!(container["Config"]["Image"], image("staging"));
    assert_eq!(container["State"]["Running"], true);
    assert_eq!(container["HostConfig"]["Binds"], json!(["/dev/null:/dev/null"]));
    assert_eq!(container["HostConfig"]["RestartPolicy"]["Name"], "unless-stopped");
    let environment = container["Config"]["Env"].as_array().unwrap();
    assert!(environment.contains(&json!("RCAGGREGATOR=aggregator:9091")));
    assert!(environment.contains(&json!("POWER_API=power:80")));
    assert_eq!(device.docker(&["logs", "rfid"]), "started staging");

    assert!(is_unchanged(&device.apply(RFID, "staging").await));
    assert!(is_unchanged(&device.run(RFID, "staging", true).await));
    assert_eq!(device.inspect("rfid")["Id"], container["Id"]);

    let changed = device.apply(RFID, "live").await;
    assert_eq!(changed["rfid"]["comment"], "Replaced container 'rfid'", "{changed:?}");
    assert_eq!(
        changed["rfid"]["changes"]["container"]["Config"]["Image"],
        json!({"old": image("staging"), "new": image("live")})
    );
    assert_eq!(device.docker(&["logs", "rfid"]), "started live");
    assert_eq!(device.names(), "rfid");

    // The registry gets a newer image under the same tag.
    let before = device.inspect("rfid")["Image"].clone();
    device.push(&["fleet/rfid:live"], &[]);
    let told = device.run(RFID, "live", true).await;
    let newer = "Container 'rfid' would be replaced: its image would be a newer one";
    assert_eq!(told["rfid"]["comment"], newer, "{told:?}");
    assert_eq!(told["rfid"]["result"], Value::Null, "{told:?}");
    let moved = device.apply(RFID, "live").await;
    assert_eq!(moved[&image("live")]["changes"]["image"]["old"], before, "{moved:?}");
    assert_eq!(moved["rfid"]["changes"]["image"]["old"], before, "{moved:?}");
    assert_ne!(device.inspect("rfid")["Image"], before);
    assert!(is_unchanged(&device.apply(RFID, "live").await));

    let rows = ps(&*device.engine(), false).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!((rows[0].name.as_str(), rows[0].image.as_str()), ("rfid", image("live").as_str()));
    assert_eq!(rows[0].state, "running");
}

#[tokio::test]
async fn failed_new_container_leaves_the_old_one_running() {
    let Some(device) = Device::start("failed") else { return };
    device.push(&["fleet/rfid:live"], &[]);
    device.push(&["fleet/rfid:broken"], &["echo cannot open the reader; exit 3"]);
    device
        .expect(&device.sls("live", ""), &device.pulled("live", "Created container 'rfid'"))
        .await;
    let old = device.inspect("rfid")["Id"].clone();

    let broken = device.apply(&device.sls("broken", ""), "live").await;
    let comment = broken["rfid"]["comment"].as_str().unwrap();
    assert_eq!(broken["rfid"]["result"], false);
    assert!(comment.contains("it ended with status 3. The one before was put back"), "{comment}");
    assert!(comment.contains("cannot open the reader"), "{comment}");
    assert_eq!(device.inspect("rfid")["Id"], old);
    assert_eq!(device.inspect("rfid")["State"]["Running"], true);
    assert_eq!(device.names(), "rfid");

    // One that keeps restarting, and one that never turns healthy, are no better.
    let restarts = device.sls("broken", "    - restart_policy: always\n");
    let comment = device.apply(&restarts, "live").await["rfid"]["comment"].to_string();
    assert!(comment.contains("was put back"), "{comment}");
    let check = "    - healthcheck: {test: 'echo not ready; false', interval: 200ms, retries: 2}\n";
    let sick = device.apply(&device.sls("live", check), "live").await;
    let comment = sick["rfid"]["comment"].as_str().unwrap();
    assert!(comment.contains("it turned unhealthy (the last probe said: not ready)"), "{comment}");
    assert_eq!(device.inspect("rfid")["Id"], old);
    assert_eq!(device.inspect("rfid")["State"]["Running"], true);

    let check = "    - healthcheck: {test: 'true', interval: 200ms}\n";
    device.expect(&device.sls("live", check), "Replaced container 'rfid'").await;
    assert_eq!(device.inspect("rfid")["State"]["Health"]["Status"], "healthy");
    device.expect(&device.sls("live", check), UNCHANGED).await;
}

#[tokio::test]
async fn drift_by_hand_and_a_replacement_cut_short_are_mended() {
    let Some(device) = Device::start("drift") else { return };
    device.push(&["fleet/rfid:live", "fleet/rfid:staging"], &[]);
    let sls = device.sls("live", "    - network_mode: host\n");
    let image = format!("127.0.0.1:{}/fleet/rfid:live", device.port);
    device.expect(&sls, &device.pulled("live", "Created container 'rfid'")).await;

    device.docker(&["stop", "-t", "1", "rfid"]);
    device.expect(&sls, "State changed from 'stopped' to 'running'").await;
    device.docker(&["rm", "-f", "rfid"]);
    device.expect(&sls, "Created container 'rfid'").await;
    device.docker(&["rm", "-f", "rfid"]);
    device.docker(&["run", "-d", "--name", "rfid", "--network", "host", &image]);
    device.expect(&sls, "Replaced container 'rfid'").await;
    device.docker(&["update", "--restart", "always", "rfid"]);
    device.expect(&sls, "Replaced container 'rfid'").await;
    device.docker(&["pause", "rfid"]);
    device.expect(&sls, "State changed from 'paused' to 'running'").await;

    // Somebody moves the tag on the device itself.
    let staging = image.replace(":live", ":staging");
    device.docker(&["pull", "-q", &staging]);
    device.docker(&["tag", &staging, &image]);
    let moved = device.expect(&sls, "Replaced container 'rfid'").await;
    assert!(moved["changes"]["image"]["new"].as_str().unwrap().starts_with("sha256:"));
    device.expect(&sls, UNCHANGED).await;

    // What an agent leaves that dies after it renamed the old one aside.
    device.docker(&["stop", "-t", "1", "rfid"]);
    device.docker(&["rename", "rfid", "rfid.drover-previous"]);
    device.docker(&["create", "--name", "rfid.drover-next", &image]);
    let mended = device.apply(&sls, "live").await;
    assert_eq!(mended["rfid"]["result"], true, "{mended:?}");
    assert_eq!(device.inspect("rfid")["State"]["Running"], true);
    assert_eq!(device.names(), "rfid");
    device.expect(&sls, UNCHANGED).await;
}

#[tokio::test]
async fn replacement_given_up_at_any_moment_is_finished_by_the_next_apply() {
    let Some(device) = Device::start("moments") else { return };
    device.push(&["fleet/rfid:live", "fleet/rfid:staging"], &[]);
    device
        .expect(&device.sls("live", ""), &device.pulled("live", "Created container 'rfid'"))
        .await;
    for (round, milliseconds) in [5, 20, 60, 120, 250, 500, 900].into_iter().enumerate() {
        let sls = device.sls(if round % 2 == 0 { "staging" } else { "live" }, "");
        // An agent that is killed asks nothing more; what it asked last the engine still does.
        let bound = Duration::from_millis(milliseconds);
        let _ = tokio::time::timeout(bound, device.apply(&sls, "live")).await;
        let mended = device.apply(&sls, "live").await;
        assert_eq!(mended["rfid"]["result"], true, "after {milliseconds} ms: {mended:?}");
        assert_eq!(device.names(), "rfid", "after {milliseconds} ms");
        assert_eq!(device.inspect("rfid")["State"]["Running"], true, "after {milliseconds} ms");
        device.expect(&sls, UNCHANGED).await;
    }
}

#[tokio::test]
async fn container_with_many_options_is_left_alone_by_a_second_apply() {
    let Some(device) = Device::start("options") else { return };
    device.push(&["fleet/rfid:live"], &[]);
    let sls = device.sls(
        "live",
        "    - command: [sh, /bin/app]
    - environment: A=1,B=2
    - labels: [{site: bne}, {empty: ''}]
    - network_mode: none
    - hostname: reader
    - extra_hosts: ['power:10.0.0.1']
    - dns: 1.1.1.1
    - ports: 80,443/tcp
    - mem_limit: 64m
    - memswap_limit: 128m
    - cpu_shares: 512
    - pids_limit: 64
    - oom_score_adj: 100
    - cap_add: [net_admin, CAP_SYS_TIME]
    - cap_drop: mknod
    - devices: ['/dev/null:/dev/reader:rw']
    - tmpfs: '/run:rw,size=64k'
    - volumes: /data
    - binds: ['/etc/hostname:/etc/device-name:ro', '/tmp:/host-tmp:rw']
    - ulimits: nofile=1024:2048
    - log_driver: json-file
    - log_opt: [{max-size: 1m}, {max-file: 2}]
    - restart_policy: on-failure:5
    - read_only: True
    - security_opt: no-new-privileges
    - group_add: [audio, 44]
    - shm_size: 8m
    - working_dir: /tmp
    - user: '0'
    - stop_signal: SIGTERM
    - stop_timeout: 2
    - tty: False
    - entrypoint: ''
    - privileged: False
    - healthcheck: {disable: True}
",
    );
    let returned = device.apply(&sls.replace("audio, ", ""), "live").await;
    assert_eq!(returned["rfid"]["result"], true, "{returned:?}");
    let sls = sls.replace("audio, ", "");
    device.expect(&sls, UNCHANGED).await;
    let container = device.inspect("rfid");
    assert_eq!(container["HostConfig"]["Memory"], 64 << 20);
    assert_eq!(container["HostConfig"]["RestartPolicy"]["MaximumRetryCount"], 5);
    // A setting that is dropped from the state goes from the container.
    let fewer = sls.replace("    - cap_drop: mknod\n", "");
    device.expect(&fewer, "Replaced container 'rfid'").await;
    device.expect(&fewer, UNCHANGED).await;
}

#[tokio::test]
async fn containers_and_images_are_stopped_and_removed() {
    let Some(device) = Device::start("ended") else { return };
    device.push(&["fleet/rfid:live"], &[]);
    let image = format!("127.0.0.1:{}/fleet/rfid:live", device.port);
    device
        .expect(&device.sls("live", ""), &device.pulled("live", "Created container 'rfid'"))
        .await;

    let stopped = "rfid:\n  docker_container.stopped:\n    - shutdown_timeout: 1\n";
    let state = device.expect(stopped, "Stopped container 'rfid'").await;
    assert_eq!(state["changes"], json!({"rfid": {"old": "running", "new": "stopped"}}));
    device.expect(stopped, "Container 'rfid' is stopped already").await;

    device.docker(&["start", "rfid"]);
    let gone = "rfid:\n  docker_container.absent";
    let refused = device.apply(&format!("{gone}: []\n"), "live").await;
    assert_eq!(refused["rfid"]["result"], false);
    let forced = format!("{gone}:\n    - force: True\n    - shutdown_timeout: 1\n");
    device.expect(&forced, "Removed container 'rfid'").await;
    device.expect(&forced, "Container 'rfid' does not exist").await;

    let gone = format!("rfid:\n  docker_image.absent:\n    - images: ['{image}']\n");
    device.expect(&gone, &format!("Removed {image}")).await;
    device.expect(&gone, &format!("Image '{image}' is not present")).await;
    let lost = "rfid:\n  docker_image.present:\n    - name: 127.0.0.1:1/fleet/rfid\n";
    let refused = device.apply(lost, "live").await;
    assert_eq!(refused["rfid"]["result"], false);
    let comment = refused["rfid"]["comment"].as_str().unwrap();
    assert!(
        comment.starts_with("cannot pull image `127.0.0.1:1/fleet/rfid:latest`: "),
        "{comment}"
    );
}

#[tokio::test]
async fn engine_that_does_not_answer_is_named_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("docker.sock");
    let engine = BollardEngine::new(&format!("unix://{}", socket.display()));
    let error = engine.containers(true).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no Docker Engine answers on `{}`", socket.display()));
    assert!(error.hint().unwrap().contains("systemctl status docker"));
    // A socket that nobody serves any more.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let error = engine.containers(true).await.unwrap_err();
    assert_eq!(error.to_string(), format!("no Docker Engine answers on `{}`", socket.display()));
}

impl Device {
    /// A comment that follows a pull.
    fn pulled(&self, tag: &str, comment: &str) -> String {
        format!("Image '127.0.0.1:{}/fleet/rfid:{tag}' was pulled\n{comment}", self.port)
    }
}
