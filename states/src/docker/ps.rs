//! `docker.ps`: the containers of an engine as rows, for the execution function of that name.

use bollard::models::{ContainerSummary, PortSummary};
use jiff::Timestamp;
use serde::Serialize;

use super::engine::{ContainerEngine, EngineError};

/// One container, as `docker ps` lists it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerRow {
    /// Its name.
    pub name: String,
    /// Its id in full.
    pub id: String,
    /// The image as it was named when the container was made, or the id of one that lost its name.
    pub image: String,
    /// The image's id.
    pub image_id: String,
    /// The command.
    pub command: String,
    /// `created`, `running`, `paused`, `restarting`, `exited` or `dead`.
    pub state: String,
    /// The engine's words: `Up 3 hours (healthy)`.
    pub status: String,
    /// When it was made.
    pub created: Option<Timestamp>,
    /// Its ports: `0.0.0.0:8080->80/tcp`.
    pub ports: Vec<String>,
}

/// The containers that run, or all of them, by name.
///
/// # Errors
/// When the engine does not answer.
pub async fn ps(engine: &dyn ContainerEngine, all: bool) -> Result<Vec<ContainerRow>, EngineError> {
    let mut rows: Vec<_> = engine.containers(all).await?.into_iter().map(row).collect();
    rows.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(rows)
}

fn row(container: ContainerSummary) -> ContainerRow {
    // A container that is linked has more names, with slashes inside: the plain one is its own.
    let names = container.names.unwrap_or_default();
    let names: Vec<&str> = names.iter().map(|name| name.trim_start_matches('/')).collect();
    let name = names.iter().find(|name| !name.contains('/')).or(names.first());
    let mut ports: Vec<String> = container.ports.iter().flatten().map(port).collect();
    ports.sort();
    ports.dedup();
    ContainerRow {
        name: name.copied().unwrap_or_default().to_owned(),
        id: container.id.unwrap_or_default(),
        image: container.image.unwrap_or_default(),
        image_id: container.image_id.unwrap_or_default(),
        command: container.command.unwrap_or_default(),
        state: container.state.map(|state| state.to_string()).unwrap_or_default(),
        status: container.status.unwrap_or_default(),
        created: container.created.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        ports,
    }
}

fn port(port: &PortSummary) -> String {
    let protocol = port.typ.map_or_else(|| "tcp".to_owned(), |protocol| protocol.to_string());
    let inside = format!("{}/{protocol}", port.private_port);
    match (&port.ip, port.public_port) {
        (Some(address), Some(public)) => format!("{address}:{public}->{inside}"),
        (None, Some(public)) => format!("{public}->{inside}"),
        (_, None) => inside,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn row_has_the_containers_own_name_and_its_ports() {
        let summary = serde_json::from_value(json!({
            "Id": "abc", "Names": ["/web/db", "/db"], "Image": "postgres:16", "ImageID": "sha256:1",
            "Command": "postgres", "Created": 0, "State": "running", "Status": "Up 3 hours",
            "Ports": [{"IP": "0.0.0.0", "PrivatePort": 80, "PublicPort": 8080, "Type": "tcp"},
                      {"PrivatePort": 53, "Type": "udp"}]}))
        .unwrap();
        let row = row(summary);
        assert_eq!((row.name.as_str(), row.state.as_str()), ("db", "running"));
        assert_eq!(row.ports, ["0.0.0.0:8080->80/tcp", "53/udp"]);
        assert_eq!(row.created, Some(Timestamp::UNIX_EPOCH));
    }
}
