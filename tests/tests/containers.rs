//! The two state files that a fleet's operator writes, as written, against a real Docker Engine and a real registry:
//! the grain chooses the tag, a second apply changes nothing, a changed grain changes the container.

#![allow(clippy::unwrap_used, reason = "a scenario that cannot be set up has failed")]

use std::{fs, path::Path};

use drover_tests::{
    fleet::Fleet,
    parts::{DockerEngine, Registry, script},
};
use serde_json::Value;

struct Site {
    // Dropped in this order: the engines and the registry end before the directory that they lie in goes.
    engines: Vec<DockerEngine>,
    registry: Registry,
    fleet: Fleet,
}

impl Site {
    fn new() -> Self {
        let mut fleet = Fleet::new();
        let registry = Registry::start(fleet.path("registry"));
        let states = Path::new(env!("CARGO_MANIFEST_DIR")).join("../demo/states");
        for name in ["top.sls", "rfid.sls"] {
            let text = fs::read_to_string(states.join(name)).unwrap();
            fleet.write(&format!("master/states/{name}"), &text);
        }
        fleet.write("master/pillar/top.sls", "base:\n  '*':\n    - fleet\n");
        fleet.write(
            "master/pillar/fleet.sls",
            &format!("registry: {}\nrfid_device: /dev/null\n", registry.address()),
        );
        fleet.start_master();
        let mut engines = Vec::new();
        for (id, channel) in [("rfid-1", "staging"), ("rfid-2", "live")] {
            fleet.enrol(id, &["role=rfid"]);
            let engine = DockerEngine::start(
                fleet.path(&format!("minions/{id}/engine")),
                &format!("{id}-{}", std::process::id()),
            );
            let url = engine.url();
            fleet.configure_minion(id, &format!("docker: {url}\ngrains: {{channel: {channel}}}\n"));
            engines.push(engine);
            fleet.start_minion(id);
        }
        fleet.register();
        fleet.wait_connected(&["rfid-1", "rfid-2"]);
        let site = Self { engines, registry, fleet };
        site.release();
        site
    }

    /// Pushes new images under the tags `staging` and `live`.
    fn release(&self) {
        let engine = self.fleet.path("minions/rfid-1/engine");
        let address = self.registry.address();
        let port = address.rsplit(':').next().unwrap();
        script(
            "image",
            &["push", engine.to_str().unwrap(), port, "fleet/rfid:staging", "fleet/rfid:live"],
        );
    }

    fn inspect(&self, engine: usize, format: &str) -> String {
        self.engines[engine].docker(&["inspect", "--format", format, "rfid"])
    }

    /// Applies the highstate on everything and gives each minion's return.
    fn highstate(&self) -> Value {
        let outcome = self.fleet.drover(&["--out", "json", "-G", "role:rfid", "state.highstate"]);
        assert_eq!(outcome.status, 0, "{}\n{}", outcome.stdout, self.fleet.logs());
        outcome.json()
    }
}

fn unchanged(states: &Value) -> bool {
    let states = states.as_object().expect("a map of states");
    !states.is_empty()
        && states.values().all(|state| {
            state["result"] == true
                && state["changes"].as_object().is_some_and(serde_json::Map::is_empty)
        })
}

#[test]
fn the_grain_chooses_the_tag_and_nothing_changes_twice() {
    let site = Site::new();
    let first = site.highstate();
    let states = first["rfid-1"].as_object().unwrap();
    assert!(states.keys().any(|key| key.ends_with("_|-running")), "{states:?}");
    for (engine, tag) in [(0, "staging"), (1, "live")] {
        let image = format!("{}/fleet/rfid:{tag}", site.registry.address());
        assert_eq!(site.inspect(engine, "{{.Config.Image}}"), image, "made by the image's name");
        assert_eq!(site.inspect(engine, "{{.State.Running}}"), "true");
        assert_eq!(site.inspect(engine, "{{.HostConfig.RestartPolicy.Name}}"), "unless-stopped");
        assert_eq!(site.inspect(engine, "{{.HostConfig.Binds}}"), "[/dev/null:/dev/null]");
        let environment = site.inspect(engine, "{{.Config.Env}}");
        assert!(environment.contains("RCAGGREGATOR=aggregator:9091"), "{environment}");
        assert!(environment.contains("POWER_API=power:80"), "{environment}");
    }
    let id = site.inspect(0, "{{.Id}}");

    let second = site.highstate();
    assert!(unchanged(&second["rfid-1"]) && unchanged(&second["rfid-2"]), "{second}");
    assert_eq!(site.inspect(0, "{{.Id}}"), id, "the container is the same");

    let listed = site.fleet.json(&["-L", "rfid-1", "docker.ps"]);
    assert!(listed["rfid-1"].to_string().contains("rfid"), "{listed}");

    // A changed grain changes the container.
    let _ = site.fleet.drover(&["-L", "rfid-1", "grains.setval", "channel", "live"]).ok();
    let _ = site.highstate();
    assert_eq!(
        site.inspect(0, "{{.Config.Image}}"),
        format!("{}/fleet/rfid:live", site.registry.address())
    );

    // A new image under the same tag changes both, and a preview says so without doing it.
    let before = site.inspect(1, "{{.Image}}");
    site.release();
    let preview = site.fleet.json(&["-L", "rfid-2", "state.apply", "rfid", "test=True"]);
    assert!(
        preview["rfid-2"].as_object().unwrap().values().any(|state| state["result"].is_null()),
        "{preview}"
    );
    assert_eq!(site.inspect(1, "{{.Image}}"), before, "a preview changes nothing");
    let _ = site.highstate();
    assert_ne!(site.inspect(1, "{{.Image}}"), before);
}
