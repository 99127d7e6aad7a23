//! The options of commands that take inputs from elsewhere, and what these read of the machine.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::fetch::{Logins, Patience, Proxies, Registries, Settings, Surroundings};
use crate::ops::lock::Network;

/// Whether and how the network is used.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network options")]
pub(crate) struct NetworkArgs {
    /// Use no network: take what was fetched before, or say what is missing
    #[arg(long)]
    offline: bool,
    /// Trust the certificate authorities of this file too, in PEM form
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
}

/// How registries are spoken to, beside that.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Network options")]
pub(crate) struct RegistryArgs {
    /// Speak to registries on other machines without encryption, passwords included
    #[arg(long)]
    plain_http: bool,
    #[command(flatten)]
    network: NetworkArgs,
}

impl RegistryArgs {
    /// The network as these options and the environment want it.
    pub(crate) fn network(self) -> Network<'static> {
        self.of_project(false)
    }

    /// The same for a command that works on a project, whose lock file is complete when `locked`.
    pub(crate) fn of_project(self, locked: bool) -> Network<'static> {
        let mut network = self.network.network(locked);
        network.settings.plain_http = self.plain_http;
        network
    }
}

impl NetworkArgs {
    /// The network as these options and the environment want it.
    pub(crate) fn network(self, locked: bool) -> Network<'static> {
        let settings = Settings {
            proxies: proxies(),
            ca_file: self.ca_file,
            offline: self.offline,
            patience: Patience::default(),
            logins: logins(),
            plain_http: false,
            registries: registries(),
        };
        Network {
            settings,
            cache: cache_root(),
            surroundings: &Machine,
            locked,
            variable: |name| std::env::var(name).ok(),
        }
    }
}

/// Where caches are, by the XDG Base Directory Specification 0.8; relative paths do not count there.
pub(super) fn cache_root() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")));
    Some(base?.join("dmoci"))
}

/// The files of registries' credentials, in the order in which they count: what REGISTRY_AUTH_FILE names alone; else what
/// DOCKER_CONFIG names, those of podman and skopeo (containers-auth.json(5)), and docker's own.
fn logins() -> Logins {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    if let Some(file) = path("REGISTRY_AUTH_FILE") {
        return Logins { files: vec![file], named: true };
    }
    let home = path("HOME");
    let below = |base: Option<PathBuf>, name: &str| base.map(|base| base.join(name));
    let docker = path("DOCKER_CONFIG");
    let config = path("XDG_CONFIG_HOME").or_else(|| below(home.clone(), ".config"));
    let own = if docker.is_none() { below(home, ".docker/config.json") } else { None };
    let files = [
        below(docker, "config.json"),
        below(path("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(config, "containers/auth.json"),
        own,
    ];
    Logins { files: files.into_iter().flatten().collect(), named: false }
}

/// The files of registries' mirrors, as podman and skopeo look for them (containers-registries.conf(5)).
fn registries() -> Registries {
    let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| !path.as_os_str().is_empty());
    let system = PathBuf::from("/etc/containers");
    let own = path("XDG_CONFIG_HOME").or_else(|| path("HOME").map(|home| home.join(".config")));
    let own = own.map(|own| own.join("containers"));
    let named = path("CONTAINERS_REGISTRIES_CONF");
    let in_both = |name: &str| own.iter().chain([&system]).map(|base| base.join(name)).collect::<Vec<_>>();
    let mut directories = in_both("registries.conf.d");
    // The user's own count before the machine's.
    directories.reverse();
    match named {
        Some(file) => Registries { files: vec![file], named: true, directories: Vec::new() },
        None => Registries { files: in_both("registries.conf"), named: false, directories },
    }
}

/// The proxies of the environment. `HTTP_PROXY` in capitals is left alone, as by curl: in a CGI program it is a header of a
/// stranger.
fn proxies() -> Proxies {
    let first = |names: &[&str]| names.iter().find_map(|name| std::env::var(name).ok());
    let (http, https) = (first(&["http_proxy"]), first(&["https_proxy", "HTTPS_PROXY"]));
    let (all, none) = (first(&["all_proxy", "ALL_PROXY"]), first(&["no_proxy", "NO_PROXY"]));
    Proxies::new(http.as_deref(), https.as_deref(), all.as_deref(), none.as_deref())
}

/// This machine.
struct Machine;

impl Surroundings for Machine {
    fn now(&self) -> Duration {
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed()
    }

    fn wait(&self, time: Duration) {
        std::thread::sleep(time);
    }

    fn chance(&self) -> f64 {
        // Each state is keyed anew.
        let number = RandomState::new().build_hasher().finish();
        (number >> 11) as f64 / (1u64 << 53) as f64
    }

    /// The system's, or those of SSL_CERT_FILE and SSL_CERT_DIR. What cannot be read is missing then, and connections say so.
    fn roots(&self) -> Vec<Vec<u8>> {
        rustls_native_certs::load_native_certs().certs.iter().map(|der| der.to_vec()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_is_between_nothing_and_one_and_not_always_the_same() {
        let numbers: Vec<f64> = (0..100).map(|_| Machine.chance()).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        assert!(numbers.iter().any(|number| *number != numbers[0]));
    }
}
