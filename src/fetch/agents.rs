//! Connections of this process to all servers: TLS, proxies, bounds in time.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use ureq::Agent;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use super::proxy::Proxy;
use super::retry::Patience;
use super::{FetchError, Surroundings};
use crate::limits;
use crate::url::Scheme;

pub(super) struct Agents {
    ca_file: Option<PathBuf>,
    /// Without a proxy, for http through one, for https through one.
    agents: [OnceLock<Agent>; 3],
    roots: OnceLock<Arc<Vec<Certificate<'static>>>>,
}

impl Agents {
    pub(super) fn new(ca_file: Option<PathBuf>) -> Agents {
        Agents { ca_file, agents: Default::default(), roots: OnceLock::new() }
    }

    /// The agent for addresses of this scheme that go through this proxy.
    pub(super) fn of(
        &self,
        scheme: Scheme,
        proxy: Option<&Proxy>,
        patience: &Patience,
        surroundings: &dyn Surroundings,
    ) -> Result<&Agent, FetchError> {
        let slot = match (proxy, scheme) {
            (None, _) => &self.agents[0],
            (Some(_), Scheme::Http) => &self.agents[1],
            (Some(_), Scheme::Https) => &self.agents[2],
        };
        if let Some(agent) = slot.get() {
            return Ok(agent);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = TlsConfig::builder()
            .unversioned_rustls_crypto_provider(provider)
            .root_certs(RootCerts::Specific(self.roots(surroundings)?))
            .build();
        let config = Agent::config_builder()
            .tls_config(tls)
            // Without this line ureq would look into the environment.
            .proxy(proxy.map(|proxy| proxy.inner.clone()))
            .max_redirects(0)
            .http_status_as_error(false)
            .user_agent(concat!("dmoci/", env!("CARGO_PKG_VERSION")))
            .max_response_header_size(limits::HTTP_HEAD_BYTES)
            .max_idle_connections_per_host(limits::CONNECTIONS)
            .timeout_resolve(Some(patience.connect))
            .timeout_connect(Some(patience.connect))
            .timeout_send_request(Some(patience.connect))
            .timeout_recv_response(Some(patience.answer))
            .timeout_per_read(Some(patience.silence))
            .timeout_per_write(Some(patience.silence))
            .build();
        Ok(slot.get_or_init(|| config.new_agent()))
    }

    /// The authorities that are trusted: the system's and those of the user's own file.
    fn roots(&self, surroundings: &dyn Surroundings) -> Result<Arc<Vec<Certificate<'static>>>, FetchError> {
        if let Some(roots) = self.roots.get() {
            return Ok(roots.clone());
        }
        let mut roots: Vec<Certificate<'static>> =
            surroundings.roots().iter().map(|der| Certificate::from_der(der).to_owned()).collect();
        if let Some(path) = &self.ca_file {
            let failed = |source| FetchError::CaFile { path: path.clone(), source };
            let mut pem = Vec::new();
            std::fs::File::open(path)
                .and_then(|file| file.take(limits::CA_FILE_BYTES).read_to_end(&mut pem))
                .map_err(|error| failed(Some(error)))?;
            let own: Vec<CertificateDer<'static>> =
                CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().map_err(|_| failed(None))?;
            let usable = rustls::RootCertStore::empty().add_parsable_certificates(own.iter().cloned()).0;
            if usable == 0 {
                return Err(failed(None));
            }
            roots.extend(own.iter().map(|der| Certificate::from_der(der).to_owned()));
        }
        Ok(self.roots.get_or_init(|| Arc::new(roots)).clone())
    }
}
