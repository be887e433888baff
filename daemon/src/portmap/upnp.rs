//! Asks a router by UPnP IGD, through the crate `igd-next`: finds it, then has it open and close ports.
//!
//! Each of these is one call that ends by itself. What is asked for when is decided in
//! [`super::mapper`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Duration;

use igd_next::aio::Gateway;
use igd_next::aio::tokio::{Tokio, search_gateway};
use igd_next::{
    AddAnyPortError, AddPortError, GatewayIpVersion, PortMappingProtocol, SearchOptions,
};

use super::mapper::{LIFETIME, Refusal};

/// How long routers may take to answer a search: we let them take up to 3 s, so that they do not all
/// answer at once, and the description is still to be fetched then.
const SEARCH_TIME: Duration = Duration::from_secs(5);

/// How long a router may take for one action.
const ACTION_TIME: Duration = Duration::from_secs(5);

/// What the router's page shows the port as.
const DESCRIPTION: &str = "warren";

/// A router that was found.
#[derive(Clone, Debug)]
pub(super) struct UpnpRouter {
    gateway: Gateway<Tokio>,
}

/// Looks for a router with UPnP from our address `client`, by asking `group`. `router` is the one that
/// is known already; it may describe itself under any of its addresses.
pub(super) async fn search(
    client: Ipv4Addr,
    group: SocketAddr,
    router: Ipv4Addr,
) -> Option<UpnpRouter> {
    let mut options = SearchOptions::default();
    options.bind_addr = (client, 0).into();
    options.broadcast_address = group;
    options.timeout = Some(SEARCH_TIME);
    options.gateway_ip_version = GatewayIpVersion::V4;
    options.allowed_gateway_ips = vec![router.into()];
    match search_gateway(options).await {
        Ok(gateway) => Some(UpnpRouter { gateway }),
        Err(error) => {
            let error: &dyn std::error::Error = &error;
            tracing::debug!(error, "no router with upnp");
            None
        }
    }
}

impl UpnpRouter {
    /// Opens the outside port `port`, or another one where that is taken, for our `inside`. For as
    /// long as the router can: where it knows no end, until it is [removed](Self::remove).
    pub(super) async fn add(
        &self,
        inside: SocketAddrV4,
        port: u16,
    ) -> Result<SocketAddrV4, Refusal> {
        within(async {
            let ip = self.outside_ip().await?;
            let lifetime_s = LIFETIME.as_secs() as u32;
            let port = match self.add_for(inside, port, lifetime_s).await {
                Err(Refused::OnlyForever) => self.add_for(inside, port, 0).await,
                other => other,
            };
            match port {
                Ok(port) => Ok(SocketAddrV4::new(ip, port)),
                Err(Refused::OnlyForever) => Err(Refusal::Useless),
                Err(Refused::For(refusal)) => Err(refusal),
            }
        })
        .await
    }

    /// Closes it again.
    pub(super) async fn remove(&self, port: u16) -> Result<(), Refusal> {
        within(async {
            let removed = self.gateway.remove_port(PortMappingProtocol::UDP, port);
            removed.await.map_err(|error| said(&error))
        })
        .await
    }

    async fn outside_ip(&self) -> Result<Ipv4Addr, Refusal> {
        let ip = self.gateway.get_external_ip().await;
        match ip.map_err(|error| said(&error))? {
            IpAddr::V4(ip) if !ip.is_unspecified() => Ok(ip),
            _ => Err(Refusal::NoAddress),
        }
    }

    async fn add_for(
        &self,
        inside: SocketAddrV4,
        port: u16,
        lifetime_s: u32,
    ) -> Result<u16, Refused> {
        let udp = PortMappingProtocol::UDP;
        let inside = SocketAddr::V4(inside);
        let added = self
            .gateway
            .add_port(udp, port, inside, lifetime_s, DESCRIPTION);
        match added.await {
            Ok(()) => return Ok(port),
            Err(AddPortError::PortInUse) => (),
            Err(AddPortError::OnlyPermanentLeasesSupported) => return Err(Refused::OnlyForever),
            Err(AddPortError::ActionNotAuthorized) => {
                return Err(Refused::For(Refusal::NotAllowed));
            }
            Err(error) => return Err(Refused::For(said(&error))),
        }
        let added = self
            .gateway
            .add_any_port(udp, inside, lifetime_s, DESCRIPTION);
        added.await.map_err(|error| match error {
            AddAnyPortError::OnlyPermanentLeasesSupported => Refused::OnlyForever,
            AddAnyPortError::ActionNotAuthorized => Refused::For(Refusal::NotAllowed),
            AddAnyPortError::NoPortsAvailable | AddAnyPortError::ExternalPortInUse => {
                Refused::For(Refusal::NoRoom)
            }
            error => Refused::For(said(&error)),
        })
    }
}

/// Why a port was not opened.
enum Refused {
    /// The router knows no mappings that end.
    OnlyForever,
    For(Refusal),
}

async fn within<T>(action: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
    let done = tokio::time::timeout(ACTION_TIME, action).await;
    done.unwrap_or_else(|_| Err(Refusal::Said("it does not answer".to_owned())))
}

/// An error and its causes, as far as they fit a line.
fn said(error: &dyn std::error::Error) -> Refusal {
    const LONGEST: usize = 200;
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    Refusal::Said(text.chars().take(LONGEST).collect())
}
