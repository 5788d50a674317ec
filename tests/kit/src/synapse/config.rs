//! The configuration of a Synapse that only this process's tests talk to.

use std::{fs, io, path::Path};

use rand::{Rng, distr::Alphanumeric};

/// The limits on what users do with rooms, which a test may want as they are by default.
const ROOM_LIMITS: [&str; 5] =
    ["rc_message", "rc_joins_per_room", "rc_room_creation", "rc_joins", "rc_invites"];
/// The limits to lift: tests are not abuse. `rc_message` and the like.
const RATE_LIMITS: [&str; 14] = [
    "rc_message",
    "rc_registration",
    "rc_registration_token_validity",
    "rc_admin_redaction",
    "rc_joins_per_room",
    "rc_3pid_validation",
    "rc_third_party_invite",
    "rc_media_create",
    "rc_key_requests",
    "rc_delayed_event_mgmt",
    "rc_room_creation",
    "rc_reports",
    "rc_user_directory",
    "rc_profile",
];
/// Those with limits inside.
const NESTED_RATE_LIMITS: [(&str, &[&str]); 4] = [
    ("rc_login", &["address", "account", "failed_attempts"]),
    ("rc_joins", &["local", "remote"]),
    ("rc_invites", &["per_room", "per_user", "per_issuer"]),
    ("rc_presence", &["per_user"]),
];

/// What distinguishes one server from another.
pub(super) struct Setup<'a> {
    /// The server's name, as it is in its users' ids.
    pub server_name: &'a str,
    /// The port for clients.
    pub client_port: u16,
    /// The port for other servers; without one it federates with nobody.
    pub federation_port: Option<u16>,
    /// Whether users send, join, invite and create rooms within Synapse's default limits.
    pub limited: bool,
}

/// Federation with servers on this machine. A request to another server is tried once, and a server
/// that could not be reached is left alone for half a second at most (Synapse's defaults: ten tries
/// over twenty minutes, then from ten minutes to a week).
const FEDERATION: &str = r#"
tls_certificate_path: {certificate}
tls_private_key_path: {key}
federation_verify_certificates: false
ip_range_blacklist: []
federation_ip_range_blacklist: []
federation:
  client_timeout: 10s
  max_short_retries: 0
  max_long_retries: 0
  destination_min_retry_interval: 200
  destination_retry_multiplier: 1
  destination_max_retry_interval: 500
rc_federation:
  window_size: 1000
  sleep_limit: 1000000
  sleep_delay: 1
  reject_limit: 1000000
  concurrent: 100
"#;

/// Writes `homeserver.yaml` and what it names into `directory`. Uploads are limited to less than
/// the 13 MB that any request may have: an upload beyond both has its connection reset, and beyond
/// its own limit alone it is answered.
///
/// Writes `homeserver.yaml` and what it names into `directory`.
pub(super) fn write(directory: &Path, setup: &Setup<'_>) -> io::Result<()> {
    // JSON strings are YAML strings, so a path with any letters in it is safe.
    let path = |name: &str| serde_json::Value::from(directory.join(name).to_string_lossy());
    let federation_listener = setup.federation_port.map(|port| {
        format!(
            r#"
  - port: {port}
    bind_addresses: ["127.0.0.1"]
    type: http
    tls: true
    resources:
      - names: [federation]
        compress: false"#
        )
    });
    let mut yaml = format!(
        r#"server_name: "{server_name}"
pid_file: {pid}
listeners:{federation_listener}
  - port: {client_port}
    bind_addresses: ["127.0.0.1"]
    type: http
    tls: false
    resources:
      - names: [client]
        compress: false
database:
  name: sqlite3
  args:
    database: {database}
log_config: {log_config}
media_store_path: {media}
max_upload_size: 12M
signing_key_path: {signing_key}
macaroon_secret_key: "{macaroon}"
form_secret: "{form}"
report_stats: false
trusted_key_servers: []
suppress_key_server_warning: true
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence:
  enabled: false
experimental_features:
  msc4222_enabled: true
"#,
        server_name = setup.server_name,
        client_port = setup.client_port,
        federation_listener = federation_listener.unwrap_or_default(),
        pid = path("homeserver.pid"),
        database = path("homeserver.db"),
        log_config = path("log.yaml"),
        media = path("media"),
        signing_key = path("signing.key"),
        macaroon = secret(),
        form = secret(),
    );
    yaml.push_str(&match setup.federation_port {
        Some(_) => FEDERATION
            .replace("{certificate}", &path("tls.crt").to_string())
            .replace("{key}", &path("tls.key").to_string()),
        None => "federation_domain_whitelist: []\n".to_owned(),
    });
    let limit = "{per_second: 1000000, burst_count: 1000000}";
    let is_lifted = |name: &&str| !(setup.limited && ROOM_LIMITS.contains(name));
    for name in RATE_LIMITS.iter().filter(|name| is_lifted(name)) {
        yaml.push_str(&format!("{name}: {limit}\n"));
    }
    for (name, parts) in NESTED_RATE_LIMITS.iter().filter(|(name, _)| is_lifted(name)) {
        yaml.push_str(&format!("{name}:\n"));
        for part in *parts {
            yaml.push_str(&format!("  {part}: {limit}\n"));
        }
    }
    fs::write(directory.join("homeserver.yaml"), yaml)?;
    fs::write(directory.join("signing.key"), format!("ed25519 a_test {}\n", signing_seed()))?;
    let log = format!(
        r#"version: 1
formatters:
  plain:
    format: '%(asctime)s %(levelname)s %(name)s %(request)s %(message)s'
handlers:
  file:
    class: logging.FileHandler
    filename: {log}
    formatter: plain
    encoding: utf8
root:
  level: INFO
  handlers: [file]
loggers:
  synapse.storage.SQL:
    level: WARNING
disable_existing_loggers: false
"#,
        log = path("homeserver.log"),
    );
    fs::write(directory.join("log.yaml"), log)
}

fn secret() -> String {
    rand::rng().sample_iter(Alphanumeric).take(40).map(char::from).collect()
}

/// 32 random bytes in unpadded base64: 43 letters, of which the last holds four bits only.
fn signing_seed() -> String {
    let mut seed: String = rand::rng().sample_iter(Alphanumeric).take(42).map(char::from).collect();
    seed.push('A');
    seed
}
