//! Addresses and ports that a server listens on.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use mtplx_server::is_loopback;
use tokio::net::TcpListener;

use crate::args::ServeArgs;
use crate::error::{Exit, Failure};

/// Ports after the wanted one that are tried.
const PORTS: u16 = 64;

/// Listens at each address, at the same port.
pub async fn bind(addresses: &[SocketAddr], wanted: u16, next_port: bool) -> anyhow::Result<(Vec<TcpListener>, u16)> {
    let last = if next_port { wanted.saturating_add(PORTS) } else { wanted };
    'ports: for candidate in wanted..=last {
        let (mut listeners, mut port) = (Vec::new(), candidate);
        for (place, mut address) in addresses.iter().copied().enumerate() {
            address.set_port(port);
            match TcpListener::bind(address).await {
                Ok(listener) => {
                    port = listener.local_addr()?.port();
                    listeners.push(listener);
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse && candidate < last => continue 'ports,
                // A machine may have no IPv6.
                Err(_) if place > 0 && address.is_ipv6() => {}
                Err(error) => {
                    let what = format!("{address}: {error}");
                    let hint = "--port PORT takes another port, 0 any that is free";
                    return Err(Failure::new(Exit::Failed, what).hint(hint).into());
                }
            }
        }
        return Ok((listeners, port));
    }
    Err(Failure::new(Exit::Failed, format!("no port from {wanted} to {last} is free")).into())
}

/// Addresses to listen on, without their port.
pub fn addresses(args: &ServeArgs, has_key: bool) -> Result<Vec<SocketAddr>, Failure> {
    let at = |address: IpAddr| SocketAddr::new(address, 0);
    if args.host == "localhost" {
        return Ok(vec![at(Ipv4Addr::LOCALHOST.into()), at(Ipv6Addr::LOCALHOST.into())]);
    }
    let typed = args.host.trim_start_matches('[').trim_end_matches(']');
    let address: IpAddr = typed.parse().map_err(|_| {
        Failure::usage(
            format!("--host {}: expected an address or localhost", args.host),
            "0.0.0.0 is every address of this machine",
        )
    })?;
    if !is_loopback(typed) && !has_key {
        let what = format!("--host {}: other machines reach this address, and there is no key", args.host);
        return Err(Failure::usage(what, "--api-key or --api-key-file sets one"));
    }
    Ok(vec![at(address)])
}

/// An address as it stands in a URL.
pub fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}
